"""What the responses of a key cost."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a column; what was used before cost nothing that anybody knows."""
    cost = sa.Column(
        "cost_micros", sa.BigInteger, nullable=False, server_default="0", comment="millionths of a currency"
    )
    op.add_column("key_usage", cost)
