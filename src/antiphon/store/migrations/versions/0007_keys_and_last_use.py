"""Which key a response was made with, and when a conversation was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"


def upgrade() -> None:
    """Add a column to each; conversations of old were last used with their last response."""
    op.add_column("response", sa.Column("key_id", sa.Text, comment="the key it was made with"))
    last_use = sa.Column("used_at", sa.BigInteger, nullable=False, server_default="0", comment="Unix seconds; last use")
    op.add_column("conversation", last_use)
    op.execute("""
        UPDATE conversation SET used_at = coalesce(
          (SELECT max(response.created_at) FROM response WHERE response.conversation_id = conversation.id),
          conversation.created_at)""")
