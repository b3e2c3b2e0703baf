"""The tables, once, for every SQL dialect. The migrations must produce exactly these; a test compares them.

Imported when a database is made or upgraded, and by tests; never on the way of a request.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from antiphon.store.transitions import RUN_STATUSES, join_for_sql

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


def _index(name: str, *columns: Column[Any], where: ColumnElement[bool], unique: bool = False) -> None:
    """An index of the rows that fulfil a condition, in every dialect that has such."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


conversation = Table(
    "conversation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("deleted_at", BigInteger, comment="Unix seconds; hidden since"),
    # A counter, not the last item's place: the place of an item that was removed is not given to another.
    Column("next_pos", BigInteger, nullable=False, comment="the place of the next item"),
    Column("metadata", Text, nullable=False, comment="JSON object of strings"),
    # No index: it would be written with every turn, and is asked for only where there is no room.
    Column("used_at", BigInteger, nullable=False, server_default="0", comment="Unix seconds; last use"),
)

_conversation_visible = conversation.c.deleted_at.is_(None)
_index(
    "ix_conversation_project_created_at_id",
    conversation.c.project,
    conversation.c.created_at,
    conversation.c.id,
    where=_conversation_visible,
)

response = Table(
    "response",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("model", Text, nullable=False),
    # No foreign key: the parent may be removed while its child is still being answered.
    Column("previous_response_id", Text),
    Column("conversation_id", Text, ForeignKey("conversation.id")),
    Column("conversation_pos", BigInteger, comment="its context were the conversation's items before this place"),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("deleted_at", BigInteger, comment="Unix seconds; hidden since"),
    # Last, so that a walk along a chain does not read through it.
    Column("doc", Text, nullable=False, comment="JSON of the response with an empty output"),
    # No index: it would be written with every response, and is asked for only by hand.
    Column("key_id", Text, comment="the key it was made with"),
)

_has_parent = response.c.previous_response_id.is_not(None)
_index("ix_response_previous_response_id", response.c.previous_response_id, where=_has_parent)

_in_conversation = response.c.conversation_id.is_not(None)
_index("ix_response_conversation_id", response.c.conversation_id, where=_in_conversation)
_response_visible = response.c.deleted_at.is_(None)
_index(
    "ix_response_project_created_at_id",
    response.c.project,
    response.c.created_at,
    response.c.id,
    where=_response_visible,
)
# For what goes first when time or room is over.
_index("ix_response_created_at", response.c.created_at, where=_response_visible)

item = Table(
    "item",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("project", Text, nullable=False),
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE")),
    # "in" sorts before "out": a response's input comes first in its history.
    Column("dir", Text),
    Column("pos", Integer, comment="0, 1, … within response and dir"),
    Column("conversation_id", Text, ForeignKey("conversation.id", ondelete="CASCADE")),
    Column("conversation_pos", BigInteger, comment="rising within the conversation"),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("doc", Text, nullable=False, comment="JSON of the item, whole"),
    UniqueConstraint("response_id", "dir", "pos"),
    CheckConstraint("dir IN ('in', 'out')", name="dir"),
    CheckConstraint("response_id IS NOT NULL OR conversation_id IS NOT NULL", name="held"),
    Index("ix_item_project_id", "project", "id"),
)
"""An item is held by a response, by a conversation, or by one of each."""

_is_entry = item.c.conversation_id.is_not(None)
_index(
    "ix_item_conversation_id_conversation_pos",
    item.c.conversation_id,
    item.c.conversation_pos,
    where=_is_entry,
    unique=True,
)
_index("ix_item_conversation_id_id", item.c.conversation_id, item.c.id, where=_is_entry, unique=True)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False, comment="SHA-256 of the secret, hexadecimal"),
    Column("hint", Text, nullable=False, comment="the secret's last four characters"),
    Column("name", Text, nullable=False),
    Column("project", Text, nullable=False, comment="owner of what is stored with the key"),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("revoked_at", BigInteger, comment="Unix seconds; revoked since"),
    Column("rpm", BigInteger, comment="responses per minute"),
    Column("tpm", BigInteger, comment="tokens per minute"),
    Column("budget_tokens_per_day", BigInteger, comment="tokens per UTC day"),
    UniqueConstraint("digest"),
)


def _counts() -> list[Column[int]]:
    """What is counted of responses that have ended, but for their cost."""
    names = ("requests", "estimated", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    return [Column(name, BigInteger, nullable=False) for name in names]


key_usage = Table(
    "key_usage",
    metadata,
    Column("day", Text, primary_key=True, comment="UTC, YYYY-MM-DD"),
    # No foreign key: requests without a key are counted too, under the empty id.
    Column("key_id", Text, primary_key=True, comment="empty for requests without a key"),
    *_counts(),
    Column("cost_micros", BigInteger, nullable=False, server_default="0", comment="millionths of a currency"),
)

charge = Table(
    "charge",
    metadata,
    # No foreign key: what a response used is known of those too that were not stored, or are gone.
    Column("response_id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("model", Text, nullable=False, comment="the name that was asked for"),
    Column("settled_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("day", Text, nullable=False, comment="UTC, YYYY-MM-DD"),
    Column("key_id", Text, nullable=False, comment="empty for requests without a key"),
    *_counts(),
    Column("cost_micros", BigInteger, nullable=False, comment="millionths of a currency"),
    Index("ix_charge_project_settled_at_response_id", "project", "settled_at", "response_id"),
    Index("ix_charge_settled_at", "settled_at"),
)

run = Table(
    "run",
    metadata,
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE"), primary_key=True),
    Column("project", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("node", Text, comment="the process that works on it"),
    Column("epoch", Integer, nullable=False, comment="fencing token: rises with every claim and with cancelling"),
    Column("attempt", Integer, nullable=False),
    Column("progress", Text, comment="JSON; what a worker noted"),
    Column("job", Text, nullable=False, comment="JSON; what a worker needs"),
    CheckConstraint(f"status IN {join_for_sql(RUN_STATUSES)}", name="status"),
    Index("ix_run_status_project", "status", "project"),
)
"""What runs in the background, and nothing else: a row goes when its response has ended and its log is sealed."""

event = Table(
    "event",
    metadata,
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE"), primary_key=True),
    Column("first", Integer, primary_key=True, comment="number of the first event"),
    Column("last", Integer, nullable=False, comment="number of the last event"),
    Column("packed", Integer, nullable=False, comment="1 when data is compressed (zlib)"),
    Column("data", LargeBinary, nullable=False, comment="events as JSON, a line each"),
    sqlite_with_rowid=False,
)
"""The logs of responses that ran in the background, a row for what was committed together."""

expiry = Table(
    "expiry",
    metadata,
    Column("response_id", Text, ForeignKey("response.id", ondelete="CASCADE"), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, comment="Unix seconds"),
    Index("ix_expiry_expires_at", "expires_at"),
)
"""Responses that go before the usual time."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False, comment="the URL that it goes to"),
    Column("event_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    # No foreign key: a response may go before its webhook has been delivered.
    Column("response_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("due_at", BigInteger, comment="Unix seconds; next attempt, while it waits"),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("outcome", Text, nullable=False, comment="of the last attempt, or why it was given up"),
    Column("settled_at", BigInteger, comment="Unix seconds; no further attempt since"),
    CheckConstraint("status IN ('waiting', 'delivered', 'given_up')", name="status"),
    Index("ix_delivery_created_at_id", "created_at", "id"),
)
"""Webhooks, one row for each endpoint that is told of an event."""

_waits, _settled = delivery.c.due_at.is_not(None), delivery.c.settled_at.is_not(None)
_index("ix_delivery_endpoint_due_at", delivery.c.endpoint, delivery.c.due_at, where=_waits)
_index("ix_delivery_settled_at", delivery.c.settled_at, where=_settled)

delivery_attempt = Table(
    "delivery_attempt",
    metadata,
    Column("delivery_id", Text, ForeignKey("delivery.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, comment="from 1"),
    Column("at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("outcome", Text, nullable=False, comment="HTTP status, or the kind of the error"),
    sqlite_with_rowid=False,
)
"""What came of each attempt to deliver a webhook."""

file = Table(
    "file",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("expires_at", BigInteger, comment="Unix seconds; NULL for ever"),
    Index("ix_file_project_created_at_id", "project", "created_at", "id"),
    Index("ix_file_expires_at", "expires_at"),
)
"""Files; their bytes are blobs."""

upload = Table(
    "upload",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("expires_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("file_expires_after_s", BigInteger),
    Column("file_id", Text),
    CheckConstraint("status IN ('pending', 'completed', 'cancelled', 'expired')", name="status"),
    Index("ix_upload_status_expires_at", "status", "expires_at"),
)
"""Files that come in parts."""

upload_part = Table(
    "upload_part",
    metadata,
    Column("id", Text, primary_key=True),
    Column("upload_id", Text, ForeignKey("upload.id", ondelete="CASCADE"), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Index("ix_upload_part_upload_id", "upload_id"),
)
"""Parts of pending uploads; their bytes are blobs."""

vector_store = Table(
    "vector_store",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("metadata", Text, nullable=False, comment="JSON object of strings"),
    Column("expires_days", Integer),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("last_active_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("embedder", Text, nullable=False, comment="whose vectors it holds; empty for none"),
    Column("version", BigInteger, nullable=False, comment="rises with every change of what can be found"),
    Column("untidy", Integer, nullable=False, comment="1 while its full text holds what was deleted"),
    Index("ix_vector_store_project_created_at_id", "project", "created_at", "id"),
)
"""Vector stores. Each has a full-text table of its own, fts_<pk>."""

store_file = Table(
    "store_file",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("store_pk", BigInteger, ForeignKey("vector_store.pk", ondelete="CASCADE"), nullable=False),
    Column("file_id", Text, ForeignKey("file.id", ondelete="CASCADE"), nullable=False),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text, nullable=False),
    Column("attributes", Text, nullable=False, comment="JSON object"),
    Column("chunk_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("is_auto", Integer, nullable=False, comment="1 when no chunking was asked for"),
    Column("usage_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("generation", Integer, nullable=False, comment="of what is being written"),
    Column("live", Integer, comment="the generation that can be found; NULL for none"),
    Column("attempts", Integer, nullable=False),
    Column("run_after", BigInteger, nullable=False, comment="Unix seconds; leased, or put off, until then"),
    Column("stage", Text, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    CheckConstraint("status IN ('in_progress', 'completed', 'failed', 'cancelled')", name="status"),
    UniqueConstraint("store_pk", "file_id"),
    Index("ix_store_file_file_id", "file_id"),
    Index("ix_store_file_status_run_after", "status", "run_after"),
)
"""Files in vector stores, and the queue of those that are to be taken in."""

file_batch = Table(
    "file_batch",
    metadata,
    Column("id", Text, primary_key=True),
    Column("store_pk", BigInteger, ForeignKey("vector_store.pk", ondelete="CASCADE"), nullable=False),
    Column("created_at", BigInteger, nullable=False, comment="Unix seconds"),
    Column("is_cancelled", Integer, nullable=False),
    Index("ix_file_batch_store_pk", "store_pk"),
)
"""Batches of files."""

batch_file = Table(
    "batch_file",
    metadata,
    Column("batch_id", Text, ForeignKey("file_batch.id", ondelete="CASCADE"), primary_key=True),
    Column("store_file_pk", BigInteger, ForeignKey("store_file.pk", ondelete="CASCADE"), primary_key=True),
    Index("ix_batch_file_store_file_pk", "store_file_pk"),
    sqlite_with_rowid=False,
)
"""Which files belong to which batch."""

chunk = Table(
    "chunk",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("store_file_pk", BigInteger, ForeignKey("store_file.pk", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("start", BigInteger, nullable=False, comment="in characters of the file's text"),
    Column("end", BigInteger, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("page", Integer),
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
    UniqueConstraint("store_file_pk", "generation", "ordinal"),
)
"""Chunks of files. Their words are in the full-text table of their vector store, by pk."""

passage = Table(
    "passage",
    metadata,
    Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("store_file_pk", BigInteger, ForeignKey("store_file.pk", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("first", Integer, nullable=False, comment="ordinal of the first chunk that it belongs to"),
    Column("last", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="of the model and the text"),
    Column("vector", LargeBinary, nullable=False, comment="float16, little-endian"),
    UniqueConstraint("store_file_pk", "generation", "first", "last", "digest"),
    Index("ix_passage_digest", "digest"),
)
"""Vectors of short passages, which chunks are found by."""
