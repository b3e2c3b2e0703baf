"""Responses and their items."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the two tables. Written out: a migration must not change when the schema module does."""
    op.create_table(
        "response",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("previous_response_id", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("deleted_at", sa.BigInteger, comment="Unix seconds; hidden since"),
        sa.Column("doc", sa.Text, nullable=False, comment="JSON of the response with an empty output"),
        sa.PrimaryKeyConstraint("id", name="pk_response"),
    )
    has_parent = sa.text("previous_response_id IS NOT NULL")
    op.create_index(
        "ix_response_previous_response_id",
        "response",
        ["previous_response_id"],
        sqlite_where=has_parent,
        postgresql_where=has_parent,
    )
    op.create_table(
        "item",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("dir", sa.Text, nullable=False),
        sa.Column("pos", sa.Integer, nullable=False, comment="0, 1, … within response and dir"),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("doc", sa.Text, nullable=False, comment="JSON of the item, whole"),
        sa.PrimaryKeyConstraint("pk", name="pk_item"),
        sa.UniqueConstraint("response_id", "dir", "pos", name="uq_item_response_id_dir_pos"),
        sa.CheckConstraint("dir IN ('in', 'out')", name=op.f("ck_item_dir")),
        sa.ForeignKeyConstraint(["response_id"], ["response.id"], ondelete="CASCADE", name="fk_item_response_id"),
    )
    op.create_index("ix_item_owner_id", "item", ["owner", "id"])
