"""Runs in the background, the logs of their events, and responses that go before the usual time."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the three tables."""
    _runs()
    _events()
    op.create_table(
        "expiry",
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.PrimaryKeyConstraint("response_id", name="pk_expiry"),
        _of_response("expiry"),
    )
    op.create_index("ix_expiry_expires_at", "expiry", ["expires_at"])


def _runs() -> None:
    op.create_table(
        "run",
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("node", sa.Text, comment="the process that works on it"),
        sa.Column(
            "epoch",
            sa.Integer,
            nullable=False,
            comment="fencing token: rises with every claim and with cancelling",
        ),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("progress", sa.Text, comment="JSON; what a worker noted"),
        sa.Column("job", sa.Text, nullable=False, comment="JSON; what a worker needs"),
        sa.PrimaryKeyConstraint("response_id", name="pk_run"),
        _of_response("run"),
        sa.CheckConstraint("status IN ('queued', 'in_progress', 'cancelled', 'ended')", name=op.f("ck_run_status")),
    )
    op.create_index("ix_run_status_owner", "run", ["status", "owner"])


def _events() -> None:
    op.create_table(
        "event",
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("first", sa.Integer, nullable=False, comment="number of the first event"),
        sa.Column("last", sa.Integer, nullable=False, comment="number of the last event"),
        sa.Column("packed", sa.Integer, nullable=False, comment="1 when data is compressed (zlib)"),
        sa.Column("data", sa.LargeBinary, nullable=False, comment="events as JSON, a line each"),
        sa.PrimaryKeyConstraint("response_id", "first", name="pk_event"),
        _of_response("event"),
        sqlite_with_rowid=False,
    )


def _of_response(table: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_response_id"
    return sa.ForeignKeyConstraint(["response_id"], ["response.id"], name=name, ondelete="CASCADE")
