"""Webhooks that are to be delivered, and a record of every attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "delivery",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False, comment="the URL that it goes to"),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("due_at", sa.BigInteger, comment="Unix seconds; next attempt, while it waits"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False, comment="of the last attempt, or why it was given up"),
        sa.Column("settled_at", sa.BigInteger, comment="Unix seconds; no attempt any more since"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.CheckConstraint("status IN ('waiting', 'delivered', 'given_up')", name=op.f("ck_delivery_status")),
    )
    waits, settled = sa.text("due_at IS NOT NULL"), sa.text("settled_at IS NOT NULL")
    op.create_index("ix_delivery_created_at_id", "delivery", ["created_at", "id"])
    op.create_index(
        "ix_delivery_endpoint_due_at",
        "delivery",
        ["endpoint", "due_at"],
        sqlite_where=waits,
        postgresql_where=waits,
    )
    op.create_index(
        "ix_delivery_settled_at", "delivery", ["settled_at"], sqlite_where=settled, postgresql_where=settled
    )
    op.create_table(
        "delivery_attempt",
        sa.Column("delivery_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="from 1"),
        sa.Column("at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("outcome", sa.Text, nullable=False, comment="HTTP status, or the kind of the error"),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_delivery_attempt"),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name="fk_delivery_attempt_delivery_id", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
