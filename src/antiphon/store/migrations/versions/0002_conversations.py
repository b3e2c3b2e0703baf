"""Conversations, and items that a conversation holds; an index for lists by time."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import op
from alembic.operations.base import BatchOperations

revision = "0002"
down_revision = "0001"

_VISIBLE = sa.text("deleted_at IS NULL")
_ENTRY = sa.text("conversation_id IS NOT NULL")


def upgrade() -> None:
    """Make the table of conversations; let responses name one, and items belong to one."""
    _conversations()
    _responses()
    _items()


def _conversations() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("deleted_at", sa.BigInteger, comment="Unix seconds; hidden since"),
        sa.Column("next_pos", sa.BigInteger, nullable=False, comment="the place of the next item"),
        sa.Column("metadata", sa.Text, nullable=False, comment="JSON object of strings"),
        sa.PrimaryKeyConstraint("id", name="pk_conversation"),
    )
    _by_time("conversation")


def _responses() -> None:
    before = "its context were the conversation's items before this place"
    with op.batch_alter_table("response", recreate=_recreate()) as table:
        # Before the document, which a walk along a chain shall not read through.
        _add(table, sa.Column("conversation_id", sa.Text), "created_at")
        _add(table, sa.Column("conversation_pos", sa.BigInteger, comment=before), "created_at")
        table.create_foreign_key("fk_response_conversation_id", "conversation", ["conversation_id"], ["id"])
    op.create_index(
        "ix_response_conversation_id", "response", ["conversation_id"], sqlite_where=_ENTRY, postgresql_where=_ENTRY
    )
    _by_time("response")


def _items() -> None:
    rising = "rising within the conversation"
    with op.batch_alter_table("item", recreate=_recreate()) as table:
        for name, kind in (("response_id", sa.Text), ("dir", sa.Text), ("pos", sa.Integer)):
            table.alter_column(name, existing_type=kind(), nullable=True)
        _add(table, sa.Column("conversation_id", sa.Text), "id")
        _add(table, sa.Column("conversation_pos", sa.BigInteger, comment=rising), "id")
        table.create_foreign_key(
            "fk_item_conversation_id", "conversation", ["conversation_id"], ["id"], ondelete="CASCADE"
        )
        held = "response_id IS NOT NULL OR conversation_id IS NOT NULL"
        table.create_check_constraint(op.f("ck_item_held"), held)
    for column in ("conversation_pos", "id"):
        op.create_index(
            f"ix_item_conversation_id_{column}",
            "item",
            ["conversation_id", column],
            unique=True,
            sqlite_where=_ENTRY,
            postgresql_where=_ENTRY,
        )


def _by_time(table: str) -> None:
    op.create_index(
        f"ix_{table}_owner_created_at_id",
        table,
        ["owner", "created_at", "id"],
        sqlite_where=_VISIBLE,
        postgresql_where=_VISIBLE,
    )


def _alters() -> bool:
    """Whether the database can alter a table in place; SQLite's is made anew."""
    return op.get_bind().dialect.name != "sqlite"


def _recreate() -> Literal["always", "never"]:
    return "never" if _alters() else "always"


def _add(table: BatchOperations, column: sa.Column[Any], before: str) -> None:
    if _alters():
        table.add_column(column)
    else:
        table.add_column(column, insert_before=before)
