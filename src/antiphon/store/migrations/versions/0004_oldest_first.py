"""An index that finds the oldest visible responses, for those whose time is over."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the index."""
    visible = sa.text("deleted_at IS NULL")
    op.create_index(
        "ix_response_created_at", "response", ["created_at"], sqlite_where=visible, postgresql_where=visible
    )
