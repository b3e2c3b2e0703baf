"""What lists have in common: rows as items, and the conditions of the lists for people."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from antiphon.store.errors import UnknownCursor
from antiphon.store.responses import Page, StoredItem
from antiphon.store.sqlite.places import Places
from antiphon.wire.queries import ListQuery

_CURSOR = "SELECT created_at FROM {table} WHERE id = ? AND project = ? AND deleted_at IS NULL"

# Both sides of a comparison were written by one encoder, so keys with escapes compare as well.
_METADATA = """NOT EXISTS (
  SELECT 1 FROM json_each(:metadata) wanted WHERE NOT EXISTS (
    SELECT 1 FROM json_each(r.{column}) given WHERE given.key = wanted.key AND given.value = wanted.value))"""

_METADATA_OF = {
    "response": _METADATA.format(column="doc, '$.metadata'"),
    "conversation": _METADATA.format(column="metadata"),
}


class Conditions(NamedTuple):
    """The conditions on a table ``r``, beginning with AND, and the values of their names."""

    filters: str
    values: dict[str, Any]


def build_conditions(
    table: Literal["response", "conversation"],
    db: sqlite3.Connection,
    places: Places,
    project: str,
    query: ListQuery,
) -> Conditions:
    """What ``query`` asks for. The cursor's time never changes, so that it may be looked up beforehand.

    Raises:
        UnknownCursor: ``after`` is nothing visible, and nothing that was deleted lately.
    """
    values = msgspec.structs.asdict(query) | {
        "project": project,
        "metadata": msgspec.json.encode(query.metadata).decode(),
        "at": None if query.after is None else _time(table, db, places, project, query.after),
    }
    return Conditions("".join(f" AND {condition}" for condition in _conditions(table, query)), values)


def _time(table: str, db: sqlite3.Connection, places: Places, project: str, after: str) -> int:
    row = db.execute(_CURSOR.format(table=table), (after, project)).fetchone() or places.find(table, project, after)
    if row is None:
        raise UnknownCursor(after)
    return row[0]


def _conditions(table: Literal["response", "conversation"], query: ListQuery) -> Iterator[str]:
    if query.after is not None:
        yield f"(r.created_at, r.id) {'<' if query.order == 'desc' else '>'} (:at, :after)"
    if query.created_after is not None:
        yield "r.created_at > :created_after"
    if query.created_before is not None:
        yield "r.created_at < :created_before"
    if table == "response" and query.model is not None:
        yield "r.model = :model"
    if table == "response" and query.status is not None:
        yield "r.status = :status"
    if query.metadata:
        yield _METADATA_OF[table]


def to_items(rows: Iterable[Sequence[Any]]) -> list[StoredItem]:
    """The rows ``(id, type, doc)`` as items; a left join's empty row is none."""
    return [StoredItem(id, type, doc) for id, type, doc in rows if id is not None]


def fetch_page(db: sqlite3.Connection, statement: str, named: dict[str, Any]) -> Page | None:
    """The page that ``statement`` finds: rows of (cursor, id, type, doc), one more than ``limit`` where more follow.

    Raises:
        UnknownCursor: the cursor is NULL: ``after`` is not in the list.
    """
    rows = db.execute(statement, named).fetchall()
    if not rows:
        return None
    if rows[0][0] is None:
        raise UnknownCursor(named["after"])
    limit: int = named["limit"]
    return Page(to_items(row[1:] for row in rows[:limit]), len(rows) > limit)
