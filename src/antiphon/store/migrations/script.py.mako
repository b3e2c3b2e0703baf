"""${message}"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Expand only: add what the new code needs, break nothing that the old code reads."""
    ${upgrades if upgrades else "pass"}
