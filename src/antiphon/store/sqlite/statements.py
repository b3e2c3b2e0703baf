"""The hot statements, by hand. Each read is one statement, hence one consistent view."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import msgspec

from antiphon.store import DuplicateResponse, Page, Record, Selection, Slice, StillRunning, StoredItem
from antiphon.store.runs import UNFINISHED
from antiphon.store.sqlite import conversations, listing
from antiphon.store.sqlite.listing import page, stored
from antiphon.wire import Id
from antiphon.wire.listing import ListQuery

CHAIN_RESPONSES_MAX = 100_000
"""Where a walk along a chain ends, should a damaged file hold a ring."""

_INSERT_RESPONSE = """
INSERT INTO response
  (id, owner, status, model, previous_response_id, conversation_id, conversation_pos, created_at, doc, key_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""

_INSERT_ITEM = """
INSERT INTO item (owner, response_id, dir, pos, conversation_id, conversation_pos, id, type, doc)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# The document is large: it comes with the first row alone.
_GET = """
SELECT r.status, r.model, r.previous_response_id, r.conversation_id, r.created_at, r.key_id,
       CASE WHEN i.pos > 0 THEN NULL ELSE CAST(r.doc AS BLOB) END, i.id, i.type, CAST(i.doc AS BLOB)
FROM response r LEFT JOIN item i ON i.response_id = r.id AND i.dir = 'out'
WHERE r.id = :id AND r.owner = :owner AND r.deleted_at IS NULL
ORDER BY i.pos"""

# The first column is NULL when ``after`` is unknown, the item's are when the page is empty; without any row
# there is no such response.
_ITEMS = """
WITH here(id, pos) AS (
  SELECT r.id, CASE WHEN :after IS NULL THEN {start} ELSE (
    SELECT {last}(pos) FROM item
    WHERE owner = :owner AND id = :after AND response_id = r.id AND dir = 'in') END
  FROM response r WHERE r.id = :id AND r.owner = :owner AND r.deleted_at IS NULL)
SELECT here.pos, i.id, i.type, CAST(i.doc AS BLOB)
FROM here LEFT JOIN item i ON i.response_id = here.id AND i.dir = 'in' AND i.pos {behind} here.pos
ORDER BY i.pos {order} LIMIT :limit + 1"""

_PAGES = {
    "asc": _ITEMS.format(start="-1", last="max", behind=">", order="ASC"),
    "desc": _ITEMS.format(start="1 << 62", last="min", behind="<", order="DESC"),
}

# What a conversation said before the chain began stands in front of the chain; a chain within none has no such rows.
_HISTORY = f"""
WITH RECURSIVE chain(id, previous, conversation_id, before, depth) AS (
  SELECT id, previous_response_id, conversation_id, conversation_pos, 0 FROM response
  WHERE id = :id AND owner = :owner AND deleted_at IS NULL
  UNION ALL
  SELECT r.id, r.previous_response_id, r.conversation_id, r.conversation_pos, chain.depth + 1
  FROM chain JOIN response r ON r.id = chain.previous
  WHERE r.owner = :owner AND chain.depth < {CHAIN_RESPONSES_MAX})
SELECT id, type, doc, (SELECT status FROM run WHERE response_id = :id), EXISTS (
  SELECT 1 FROM expiry WHERE response_id = :id) FROM (
  SELECT chain.depth AS depth, i.dir AS dir, i.pos AS pos, i.id AS id, i.type AS type, CAST(i.doc AS BLOB) AS doc
  FROM chain LEFT JOIN item i ON i.response_id = chain.id
  UNION ALL
  SELECT chain.depth, '', i.conversation_pos, i.id, i.type, CAST(i.doc AS BLOB)
  FROM chain JOIN item i ON i.conversation_id = chain.conversation_id AND i.conversation_pos < chain.before)
ORDER BY depth DESC, dir, pos"""

_HIDE = """
UPDATE response SET deleted_at = CAST(strftime('%s', 'now') AS INTEGER)
WHERE id = :id AND owner = :owner AND deleted_at IS NULL"""

# From a hidden response without children upwards, as long as the next one is hidden and has no other child.
_DOOMED = f"""
WITH RECURSIVE doomed(id, previous, depth) AS (
  SELECT id, previous_response_id, 0 FROM response
  WHERE id = :id AND NOT EXISTS (
    SELECT 1 FROM response child WHERE child.previous_response_id = :id AND child.owner = :owner)
  UNION ALL
  SELECT r.id, r.previous_response_id, doomed.depth + 1 FROM doomed JOIN response r ON r.id = doomed.previous
  WHERE r.owner = :owner AND r.deleted_at IS NOT NULL AND doomed.depth < {CHAIN_RESPONSES_MAX}
    AND NOT EXISTS (
      SELECT 1 FROM response child
      WHERE child.previous_response_id = r.id AND child.owner = :owner AND child.id <> doomed.id))
SELECT response.id, response.conversation_id FROM doomed JOIN response ON response.id = doomed.id"""

_REMOVE = "DELETE FROM response WHERE id = ?"

_FORGET = [f"DELETE FROM {table} WHERE response_id = ?" for table in ("run", "event", "expiry")]
"""What is nobody's any more once a response is hidden: it is stopped, and cannot be replayed."""

_LIST = """
WITH page(id) AS (
  SELECT r.id FROM response r WHERE r.owner = :owner AND r.deleted_at IS NULL {filters}
  ORDER BY r.created_at {order}, r.id {order} LIMIT :limit + 1)
SELECT r.id, r.status, r.model, r.previous_response_id, r.conversation_id, r.created_at, r.key_id,
       CASE WHEN i.pos > 0 THEN NULL ELSE CAST(r.doc AS BLOB) END, i.id, i.type, CAST(i.doc AS BLOB)
FROM page JOIN response r ON r.id = page.id LEFT JOIN item i ON i.response_id = r.id AND i.dir = 'out'
ORDER BY r.created_at {order}, r.id {order}, i.pos"""


# The newest rows have the largest rowid: of one second, the first that came is the oldest.
_OLDEST = """
SELECT owner, id FROM response
WHERE deleted_at IS NULL AND {conditions} ORDER BY created_at, rowid LIMIT :limit"""

_CONDITIONS = {
    "before": "created_at < :before",
    "expired": "id IN (SELECT response_id FROM expiry WHERE expires_at <= :expired)",
    "ended": "NOT EXISTS (SELECT 1 FROM run WHERE run.response_id = response.id AND run.status <> 'ended')",
    "owner": "owner = :owner",
    "key_id": "key_id = :key_id",
    "user": ":user IN (json_extract(doc, '$.user'), json_extract(doc, '$.safety_identifier'))",
}

# A document is large: it comes with the first row of each side alone.
_RECORDS = """
SELECT page.id, page.owner, page.status, page.model, page.previous_response_id, page.conversation_id,
       page.created_at, page.key_id,
       CASE WHEN i.pos > 0 THEN NULL ELSE CAST(page.doc AS BLOB) END, i.dir, i.id, i.type, CAST(i.doc AS BLOB)
FROM (SELECT * FROM response WHERE deleted_at IS NULL AND id > :after ORDER BY id LIMIT :limit) page
LEFT JOIN item i ON i.response_id = page.id
ORDER BY page.id, i.dir, i.pos"""


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
        first = conversations.reserve(db, record.owner, record.conversation_id, ids, record.created_at)
    if not insert(db, record, first):
        raise DuplicateResponse(record.id)
    insert_items(db, record, {"in": record.input, "out": record.output}, first)


def insert(db: sqlite3.Connection, record: Record, place: int | None) -> bool:
    """Insert a response without its items, in front of that place of its conversation; False when the id is taken."""
    row = (
        record.id,
        record.owner,
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
            rows.append((record.owner, record.id, side, pos, *joined, item.id, item.type, item.doc.decode()))
    db.executemany(_INSERT_ITEM, rows)


def get(db: sqlite3.Connection, owner: str, id: Id) -> Record | None:
    """The visible response with its output."""
    rows = db.execute(_GET, {"owner": owner, "id": id}).fetchall()
    return _record(owner, id, rows) if rows else None


def responses(db: sqlite3.Connection, owner: str, query: ListQuery) -> Slice[Record]:
    """A page of visible responses.

    Raises:
        UnknownCursor: ``after`` is none of them.
    """
    chosen = listing.selected("response", db, owner, query)
    rows = db.execute(_LIST.format(filters=chosen.filters, order=query.order), chosen.values).fetchall()
    found = [_record(owner, id, [row[1:] for row in group]) for id, group in groupby(rows, key=itemgetter(0))]
    return Slice(found[: query.limit], len(found) > query.limit)


def items(
    db: sqlite3.Connection, owner: str, id: Id, after: Id | None, limit: int, order: Literal["asc", "desc"]
) -> Page | None:
    """A page of the visible response's input.

    Raises:
        UnknownCursor: ``after`` is not in it.
    """
    return page(db, _PAGES[order], {"owner": owner, "id": id, "after": after, "limit": limit})


def history(db: sqlite3.Connection, owner: str, id: Id) -> list[StoredItem] | None:
    """The items of the visible response's whole chain, for a response that continues it.

    Raises:
        StillRunning: it has not ended.
    """
    rows = _history(db, owner, id)
    if rows and rows[0][3] in UNFINISHED:
        raise StillRunning(id)
    return stored(row[:3] for row in rows) if rows and not rows[0][4] else None


def context(db: sqlite3.Connection, owner: str, id: Id) -> list[StoredItem] | None:
    """The same up to the response's own input, for the response itself."""
    rows = _history(db, owner, id)
    return stored(row[:3] for row in rows) if rows else None


def _history(db: sqlite3.Connection, owner: str, id: Id) -> list[tuple[Any, ...]]:
    return db.execute(_HISTORY, {"owner": owner, "id": id}).fetchall()


def delete(db: sqlite3.Connection, owner: str, id: Id) -> bool:
    """Hide the response, then remove what nobody needs any more; items go with their response."""
    named = {"owner": owner, "id": id}
    if not db.execute(_HIDE, named).rowcount:
        return False
    for statement in _FORGET:
        db.execute(statement, (id,))
    doomed: list[tuple[Id, Id | None]] = db.execute(_DOOMED, named).fetchall()
    in_conversations = [(id, conversation) for id, conversation in doomed if conversation is not None]
    conversations.keep_entries(db, [id for id, _ in in_conversations])
    db.executemany(_REMOVE, [(id,) for id, _ in doomed])
    conversations.remove_unneeded(db, {conversation for _, conversation in in_conversations})
    return True


def chosen(db: sqlite3.Connection, selection: Selection, limit: int) -> list[tuple[str, Id]]:
    """Owners and ids of the oldest of the selected responses."""
    named = {name: getattr(selection, name) for name in _CONDITIONS} | {"limit": limit}
    return db.execute(oldest(selection), named).fetchall()


def delete_all(db: sqlite3.Connection, ids: Sequence[tuple[str, Id]]) -> int:
    """Delete the responses, as ``delete`` does; says how many were there."""
    return sum(delete(db, owner, id) for owner, id in ids)


def oldest(selection: Selection) -> str:
    """The statement that finds them. Only the conditions that are asked for, so that each finds its index."""
    asked = [text for name, text in _CONDITIONS.items() if getattr(selection, name) is not None]
    return _OLDEST.format(conditions=" AND ".join(asked or ["TRUE"]))


def records(db: sqlite3.Connection, after: Id | None, limit: int) -> list[Record]:
    """Visible responses behind ``after``, whole."""
    rows = db.execute(_RECORDS, {"after": after or "", "limit": limit}).fetchall()
    return [_whole(list(group)) for _, group in groupby(rows, key=itemgetter(0))]


def _whole(rows: Sequence[Sequence[Any]]) -> Record:
    """A response from its rows, one for each item of either side."""
    id, owner = rows[0][:2]
    sides = {side: stored(row[10:] for row in rows if row[9] == side) for side in ("in", "out")}
    record = _record(owner, id, [rows[0][2:9]])
    return msgspec.structs.replace(record, input=sides["in"], output=sides["out"])


def _record(owner: str, id: Id, rows: Sequence[Sequence[Any]]) -> Record:
    """A response from its rows, one for each output item, of which the first carries the document."""
    status, model, previous_response_id, conversation_id, created_at, key_id, doc, *_ = rows[0]
    return Record(
        id=id,
        owner=owner,
        created_at=created_at,
        status=status,
        model=model,
        previous_response_id=previous_response_id,
        doc=doc,
        input=(),
        output=stored(row[7:] for row in rows if len(row) > 7),
        conversation_id=conversation_id,
        key_id=key_id,
    )
