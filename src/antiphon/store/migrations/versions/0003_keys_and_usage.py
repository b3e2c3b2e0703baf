"""Keys, and what they used per day."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the two tables. Written out: a migration must not change when the schema module does."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, comment="SHA-256 of the secret, hexadecimal"),
        sa.Column("hint", sa.Text, nullable=False, comment="the secret's last four characters"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False, comment="owner of what is stored with the key"),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("revoked_at", sa.BigInteger, comment="Unix seconds; opens nothing since"),
        sa.Column("rpm", sa.BigInteger, comment="responses per minute"),
        sa.Column("tpm", sa.BigInteger, comment="tokens per minute"),
        sa.Column("budget_tokens_per_day", sa.BigInteger, comment="tokens per UTC day"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
    )
    op.create_table(
        "key_usage",
        sa.Column("day", sa.Text, nullable=False, comment="UTC, YYYY-MM-DD"),
        sa.Column("key_id", sa.Text, nullable=False, comment="empty for requests without a key"),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "key_id", name="pk_key_usage"),
    )
