"""What is stored belongs to a project: the columns that said ``owner`` take the word that keys and settings use."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

TABLES = ("conversation", "response", "item", "run", "file", "upload", "vector_store")
VISIBLE = ("conversation", "response")
"""Those whose pages leave out what is hidden."""


def upgrade() -> None:
    """Rename the columns, and the indexes that are named after them."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN owner TO project")
    for table in (*VISIBLE, "file", "vector_store"):
        where: dict[str, Any] = {f"{each}_where": sa.text("deleted_at IS NULL") for each in ("sqlite", "postgresql")}
        _rename(table, "created_at_id", ["project", "created_at", "id"], where if table in VISIBLE else {})
    _rename("item", "id", ["project", "id"], {})
    op.drop_index("ix_run_status_owner", "run")
    op.create_index("ix_run_status_project", "run", ["status", "project"])


def _rename(table: str, rest: str, columns: list[str], where: dict[str, Any]) -> None:
    op.drop_index(f"ix_{table}_owner_{rest}", table)
    op.create_index(f"ix_{table}_project_{rest}", table, columns, **where)
