"""The items of responses and conversations in SQLite. Each read is one statement, hence one consistent view."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import chain
from typing import Literal

import msgspec

from antiphon.store.errors import StillRunning
from antiphon.store.responses import Page, StoredItem
from antiphon.store.sqlite.listing import fetch_page, to_context, to_items
from antiphon.store.sqlite.port import Port, reading
from antiphon.store.sqlite.responses import CHAIN_RESPONSES_MAX
from antiphon.store.transitions import UNFINISHED
from antiphon.wire import Id

# The first column is NULL when ``after`` is unknown, the item's are when the page is empty; without any row
# there is no such response.
_ITEMS = """
WITH here(id, pos) AS (
  SELECT r.id, CASE WHEN :after IS NULL THEN {start} ELSE (
    SELECT {last}(pos) FROM item
    WHERE project = :project AND id = :after AND response_id = r.id AND dir = 'in') END
  FROM response r WHERE r.id = :id AND r.project = :project AND r.deleted_at IS NULL)
SELECT here.pos, i.id, i.type, CAST(i.doc AS BLOB)
FROM here LEFT JOIN item i ON i.response_id = here.id AND i.dir = 'in' AND i.pos {behind} here.pos
ORDER BY i.pos {order} LIMIT :limit + 1"""

_PAGES = {
    "asc": _ITEMS.format(start="-1", last="max", behind=">", order="ASC"),
    "desc": _ITEMS.format(start="1 << 62", last="min", behind="<", order="DESC"),
}

# What a conversation said before the chain began stands in front of the chain; a chain within none has no such rows.
# The rows are put in order without their documents, which are read one by one: a sort would hold them all in memory.
# ``LIMIT -1`` keeps the order that the subquery has.
_HISTORY = f"""
WITH RECURSIVE chain(id, previous, conversation_id, before, depth) AS (
  SELECT id, previous_response_id, conversation_id, conversation_pos, 0 FROM response
  WHERE id = :id AND project = :project AND deleted_at IS NULL
  UNION ALL
  SELECT r.id, r.previous_response_id, r.conversation_id, r.conversation_pos, chain.depth + 1
  FROM chain JOIN response r ON r.id = chain.previous
  WHERE r.project = :project AND chain.depth < {CHAIN_RESPONSES_MAX})
SELECT id, type, (SELECT CAST(doc AS BLOB) FROM item WHERE item.pk = ordered.pk),
  (SELECT status FROM run WHERE response_id = :id), EXISTS (SELECT 1 FROM expiry WHERE response_id = :id)
FROM (
  SELECT chain.depth AS depth, i.dir AS dir, i.pos AS pos, i.id AS id, i.type AS type, i.pk AS pk
  FROM chain LEFT JOIN item i ON i.response_id = chain.id
  UNION ALL
  SELECT chain.depth, '', i.conversation_pos, i.id, i.type, i.pk
  FROM chain JOIN item i ON i.conversation_id = chain.conversation_id AND i.conversation_pos < chain.before
  ORDER BY depth DESC, dir, pos LIMIT -1) ordered"""

_REFERENCED = """
SELECT id, type, (SELECT CAST(doc AS BLOB) FROM item WHERE item.pk = ordered.pk)
FROM (
  SELECT i.id AS id, i.type AS type, i.pk AS pk
  FROM json_each(:ids) e JOIN item i ON i.project = :project AND i.id = e.value
  WHERE EXISTS (SELECT 1 FROM response r WHERE r.id = i.response_id AND r.deleted_at IS NULL)
     OR EXISTS (SELECT 1 FROM conversation c WHERE c.id = i.conversation_id AND c.deleted_at IS NULL)
  ORDER BY i.pk LIMIT -1) ordered"""


def read_input(
    db: sqlite3.Connection,
    project: str,
    response_id: Id,
    *,
    after: Id | None,
    limit: int,
    order: Literal["asc", "desc"],
) -> Page | None:
    """A page of the visible response's input.

    Raises:
        UnknownCursor: ``after`` is not in it.
    """
    return fetch_page(db, _PAGES[order], {"project": project, "id": response_id, "after": after, "limit": limit})


def load_history(db: sqlite3.Connection, project: str, response_id: Id) -> list[StoredItem] | None:
    """The items of the visible response's whole chain, for a response that continues it.

    Raises:
        StillRunning: it has not ended.
        ContextTooLarge: they are more than a context may have.
    """
    with closing(_read_history(db, project, response_id)) as rows:
        first = rows.fetchone()
        if first is None or first[4]:
            return None
        if first[3] in UNFINISHED:
            raise StillRunning(response_id)
        return to_context(row[:3] for row in chain([first], rows))


def load_context(db: sqlite3.Connection, project: str, response_id: Id) -> list[StoredItem] | None:
    """The same up to the response's own input, for the response itself; it was small enough when that came."""
    rows = _read_history(db, project, response_id).fetchall()
    return to_items(row[:3] for row in rows) if rows else None


def _read_history(db: sqlite3.Connection, project: str, id: Id) -> sqlite3.Cursor:
    return db.execute(_HISTORY, {"project": project, "id": id})


def find(db: sqlite3.Connection, project: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
    """The visible items of those ids; of several rows the last one counts.

    Raises:
        ContextTooLarge: they are more than a context may have.
    """
    named = {"project": project, "ids": msgspec.json.encode(list(ids)).decode()}
    with closing(db.execute(_REFERENCED, named)) as rows:
        return {found.id: found for found in to_context(rows)}


class SqliteItems(Port):
    """An ``ItemStore`` on the threads of a ``SqliteStore``."""

    read_input = reading(read_input)
    load_history = reading(load_history)
    load_context = reading(load_context)
    find = reading(find)
