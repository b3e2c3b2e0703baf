"""What lists have in common: rows as items, and the conditions of the lists for people."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from antiphon.store.errors import ContextTooLarge, UnknownCursor
from antiphon.store.responses import CONTEXT_BYTES_MAX, PAGE_BYTES_MAX, Page, StoredItem
from antiphon.store.sqlite.places import Places
from antiphon.wire.queries import ListQuery

T = TypeVar("T")

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


def to_context(rows: Iterable[Sequence[Any]]) -> list[StoredItem]:
    """The same of a whole context, whose rows are read one by one.

    Raises:
        ContextTooLarge: they have more than ``CONTEXT_BYTES_MAX`` bytes.
    """
    items: list[StoredItem] = []
    size = 0
    for id, type, doc in rows:
        if id is None:
            continue
        size += len(doc)
        if size > CONTEXT_BYTES_MAX:
            raise ContextTooLarge
        items.append(StoredItem(id, type, doc))
    return items


def fetch_page(db: sqlite3.Connection, statement: str, named: dict[str, Any]) -> Page | None:
    """The page that ``statement`` finds: rows of (cursor, id, type, doc), one more than ``limit`` where more follow.

    Raises:
        UnknownCursor: the cursor is NULL: ``after`` is not in the list.
    """
    with closing(db.execute(statement, named)) as rows:
        first = rows.fetchone()
        if first is None:
            return None
        if first[0] is None:
            raise UnknownCursor(named["after"])
        items = (StoredItem(*row[1:]) for row in chain([first], rows) if row[1] is not None)
        return Page(*cut_page(items, named["limit"], lambda item: len(item.doc)))


def cut_page(entries: Iterable[T], limit: int, size_of: Callable[[T], int]) -> tuple[list[T], bool]:
    """The first of ``entries``, as many as a page takes, and whether more follow. What is behind them is not read.

    Args:
        size_of: an entry's size in bytes: a page ends behind ``PAGE_BYTES_MAX``.
    """
    page: list[T] = []
    size = 0
    for entry in entries:
        size += size_of(entry)
        if len(page) == limit or (page and size > PAGE_BYTES_MAX):
            return page, True
        page.append(entry)
    return page, False
