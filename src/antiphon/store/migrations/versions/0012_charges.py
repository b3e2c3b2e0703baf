"""What single responses used and cost."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

COUNTS = ("requests", "estimated", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def upgrade() -> None:
    """Add a table; of what was used before, only the sums are known."""
    op.create_table(
        "charge",
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False, comment="the name that was asked for"),
        sa.Column("settled_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("day", sa.Text, nullable=False, comment="UTC, YYYY-MM-DD"),
        sa.Column("key_id", sa.Text, nullable=False, comment="empty for requests without a key"),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
        sa.Column("cost_micros", sa.BigInteger, nullable=False, comment="millionths of a currency"),
        sa.PrimaryKeyConstraint("response_id", name="pk_charge"),
    )
    op.create_index("ix_charge_project_settled_at_response_id", "charge", ["project", "settled_at", "response_id"])
    op.create_index("ix_charge_settled_at", "charge", ["settled_at"])
