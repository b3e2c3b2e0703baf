"""The tables, once, for every SQL dialect. The migrations must produce exactly these; a test compares them.

Imported when a database is made or upgraded, and by tests; never on the way of a request.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
"""Every constraint has a name, so that a later migration can drop it in any dialect."""

response = Table(
    "response",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("model", Text, nullable=False),
    # No foreign key: the parent may be removed while its child is still being answered.
    Column("previous_response_id", Text),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("deleted_at", BigInteger, comment="Unix seconds; hidden since"),
    # Last, so that a walk along a chain does not read through it.
    Column("doc", Text, nullable=False, comment="JSON of the response with an empty output"),
)

_has_parent = response.c.previous_response_id.is_not(None)
Index(
    "ix_response_previous_response_id",
    response.c.previous_response_id,
    sqlite_where=_has_parent,
    postgresql_where=_has_parent,
)

# For what goes first when time or room is over.
Index(
    "ix_response_created_at",
    response.c.created_at,
    sqlite_where=response.c.deleted_at.is_(None),
    postgresql_where=response.c.deleted_at.is_(None),
)

item = Table(
    "item",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE"), nullable=False),
    # "in" sorts before "out": a response's input comes first in its history.
    Column("dir", Text, nullable=False),
    Column("pos", Integer, nullable=False, comment="0, 1, … within response and dir"),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("doc", Text, nullable=False, comment="JSON of the item, whole"),
    UniqueConstraint("response_id", "dir", "pos"),
    CheckConstraint("dir IN ('in', 'out')", name="dir"),
    Index("ix_item_owner_id", "owner", "id"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, comment="SHA-256 of the secret, hexadecimal"),
    Column("hint", Text, nullable=False, comment="the secret's last four characters"),
    Column("name", Text, nullable=False),
    Column("project", Text, nullable=False, comment="owner of what is stored with the key"),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("revoked_at", BigInteger, comment="Unix seconds; opens nothing since"),
    Column("rpm", BigInteger, comment="responses per minute"),
    Column("tpm", BigInteger, comment="tokens per minute"),
    Column("budget_tokens_per_day", BigInteger, comment="tokens per UTC day"),
    UniqueConstraint("digest"),
)

key_usage = Table(
    "key_usage",
    metadata,
    Column("day", Text, primary_key=True, comment="UTC, YYYY-MM-DD"),
    # No foreign key: requests without a key are counted too, under the empty id.
    Column("key_id", Text, primary_key=True, comment="empty for requests without a key"),
    Column("requests", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
)
