"""Responses in SQLite. The hot statements, by hand; each read is one statement, hence one consistent view."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from antiphon.store.errors import DuplicateResponse
from antiphon.store.responses import Record, Slice, StoredItem
from antiphon.store.sqlite import conversations, listing
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.listing import to_items
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.wire import Id
from antiphon.wire.queries import ListQuery

CHAIN_RESPONSES_MAX = 100_000
"""Where a walk along a chain ends, should a damaged file hold a ring."""

_INSERT_RESPONSE = """
INSERT INTO response
  (id, project, status, model, previous_response_id, conversation_id, conversation_pos, created_at, doc, key_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""

_INSERT_ITEM = """
INSERT INTO item (project, response_id, dir, pos, conversation_id, conversation_pos, id, type, doc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# The document is large: it comes with the first row alone.
_GET = """
SELECT r.status, r.model, r.previous_response_id, r.conversation_id, r.created_at, r.key_id,
       CASE WHEN i.pos > 0 THEN NULL ELSE CAST(r.doc AS BLOB) END, i.id, i.type, CAST(i.doc AS BLOB)
FROM response r LEFT JOIN item i ON i.response_id = r.id AND i.dir = 'out'
WHERE r.id = :id AND r.project = :project AND r.deleted_at IS NULL
ORDER BY i.pos"""

_HIDE = """
UPDATE response SET deleted_at = CAST(strftime('%s', 'now') AS INTEGER)
WHERE id = :id AND project = :project AND deleted_at IS NULL
RETURNING created_at"""

# From a hidden response without children upwards, as long as the next one is hidden and has no other child.
_DOOMED = f"""
WITH RECURSIVE doomed(id, previous, depth) AS (
  SELECT id, previous_response_id, 0 FROM response
  WHERE id = :id AND NOT EXISTS (
    SELECT 1 FROM response child WHERE child.previous_response_id = :id AND child.project = :project)
  UNION ALL
  SELECT r.id, r.previous_response_id, doomed.depth + 1 FROM doomed JOIN response r ON r.id = doomed.previous
  WHERE r.project = :project AND r.deleted_at IS NOT NULL AND doomed.depth < {CHAIN_RESPONSES_MAX}
    AND NOT EXISTS (
      SELECT 1 FROM response child
      WHERE child.previous_response_id = r.id AND child.project = :project AND child.id <> doomed.id))
SELECT response.id, response.conversation_id FROM doomed JOIN response ON response.id = doomed.id"""

_REMOVE = "DELETE FROM response WHERE id = ?"

_FORGET = [f"DELETE FROM {table} WHERE response_id = ?" for table in ("run", "event", "expiry")]
"""What is nobody's any more once a response is hidden: it is stopped, and cannot be replayed."""

# In order without the documents, which are read one by one; see the history of ``items``.
_LIST = """
WITH page(id) AS (
  SELECT r.id FROM response r WHERE r.project = :project AND r.deleted_at IS NULL {filters}
  ORDER BY r.created_at {order}, r.id {order} LIMIT :limit + 1)
SELECT id, status, model, previous_response_id, conversation_id, created_at, key_id,
       CASE WHEN pos > 0 THEN NULL ELSE (SELECT CAST(doc AS BLOB) FROM response WHERE response.id = ordered.id) END,
       item_id, type, (SELECT CAST(doc AS BLOB) FROM item WHERE item.pk = ordered.pk)
FROM (
  SELECT r.id AS id, r.status AS status, r.model AS model, r.previous_response_id AS previous_response_id,
         r.conversation_id AS conversation_id, r.created_at AS created_at, r.key_id AS key_id,
         i.pos AS pos, i.id AS item_id, i.type AS type, i.pk AS pk
  FROM page JOIN response r ON r.id = page.id LEFT JOIN item i ON i.response_id = r.id AND i.dir = 'out'
  ORDER BY r.created_at {order}, r.id {order}, i.pos LIMIT -1) ordered"""


def commit(db: sqlite3.Connection, record: Record) -> None:
    """Insert a response and its items, and give them their places in its conversation.

    Raises:
        UnknownConversation: its conversation is gone.
        DuplicateItem: its conversation has one of its items.
        DuplicateResponse: the id is taken.
    """
    first = None
    if record.conversation_id is not None:
        ids = [item.id for item in (*record.input, *record.output)]
        first = conversations.reserve(db, record.project, record.conversation_id, ids, record.created_at)
    if not insert(db, record, first):
        raise DuplicateResponse(record.id)
    insert_items(db, record, {"in": record.input, "out": record.output}, first)


def insert(db: sqlite3.Connection, record: Record, place: int | None) -> bool:
    """Insert a response without its items, in front of that place of its conversation; False when the id is taken."""
    row = (
        record.id,
        record.project,
        record.status,
        record.model,
        record.previous_response_id,
        record.conversation_id,
        place,
        record.created_at,
        record.doc.decode(),
        record.key_id,
    )
    return bool(db.execute(_INSERT_RESPONSE, row).rowcount)


def insert_items(
    db: sqlite3.Connection, record: Record, sides: Mapping[str, Sequence[StoredItem]], place: int | None
) -> None:
    """Insert a response's items, from that place of its conversation on; None for no conversation yet."""
    rows: list[tuple[object, ...]] = []
    for side, items in sides.items():
        for pos, item in enumerate(items):
            joined = (None, None) if place is None else (record.conversation_id, place + len(rows))
            rows.append((record.project, record.id, side, pos, *joined, item.id, item.type, item.doc.decode()))
    db.executemany(_INSERT_ITEM, rows)


def get(db: sqlite3.Connection, project: str, id: Id) -> Record | None:
    """The visible response with its output."""
    rows = db.execute(_GET, {"project": project, "id": id}).fetchall()
    return build_record(project, id, rows) if rows else None


def read_page(db: sqlite3.Connection, places: Places, project: str, query: ListQuery) -> Slice[Record]:
    """A page of visible responses.

    Raises:
        UnknownCursor: ``after`` is none of them, nor one that was deleted lately.
    """
    chosen = listing.build_conditions("response", db, places, project, query)
    statement = _LIST.format(filters=chosen.filters, order=query.order)
    with closing(db.execute(statement, chosen.values)) as rows:
        groups = groupby(rows, key=itemgetter(0))
        found = (build_record(project, id, [row[1:] for row in group]) for id, group in groups)
        return Slice(*listing.cut_page(found, query.limit, _size))


def _size(record: Record) -> int:
    return len(record.doc) + sum(len(item.doc) for item in record.output)


def delete(db: sqlite3.Connection, places: Places, project: str, id: Id) -> bool:
    """Hide the response, then remove what nobody needs any more; items go with their response."""
    named = {"project": project, "id": id}
    hidden = db.execute(_HIDE, named).fetchone()
    if hidden is None:
        return False
    places.keep("response", project, id, hidden)
    for statement in _FORGET:
        db.execute(statement, (id,))
    doomed: list[tuple[Id, Id | None]] = db.execute(_DOOMED, named).fetchall()
    in_conversations = [(id, conversation) for id, conversation in doomed if conversation is not None]
    conversations.keep_entries(db, [id for id, _ in in_conversations])
    db.executemany(_REMOVE, [(id,) for id, _ in doomed])
    conversations.remove_unneeded(db, {conversation for _, conversation in in_conversations})
    return True


def build_record(project: str, id: Id, rows: Sequence[Sequence[Any]]) -> Record:
    """A response from its rows, one for each output item, of which the first carries the document."""
    status, model, previous_response_id, conversation_id, created_at, key_id, doc, *_ = rows[0]
    return Record(
        id=id,
        project=project,
        created_at=created_at,
        status=status,
        model=model,
        previous_response_id=previous_response_id,
        doc=doc,
        input=(),
        output=to_items(row[7:] for row in rows if len(row) > 7),
        conversation_id=conversation_id,
        key_id=key_id,
    )


class SqliteResponses(Port):
    """A ``ResponseStore`` on the threads of a ``SqliteStore``."""

    def __init__(self, read: Execute, write: Execute, places: Places) -> None:
        super().__init__(read, write)
        self._places = places

    commit = writing(commit)
    get = reading(get)

    async def read_page(self, project: str, query: ListQuery) -> Slice[Record]:
        """See ``ResponseStore.read_page``."""
        return await self._read(partial(read_page, places=self._places, project=project, query=query))

    async def delete(self, project: str, id: Id) -> bool:
        """See ``ResponseStore.delete``."""
        return await self._write(partial(delete, places=self._places, project=project, id=id))
