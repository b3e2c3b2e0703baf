"""Conversations in SQLite.

An item that came with a response is one row in two lists; taking it out of one list clears that side of the row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Any, Literal

import msgspec

from antiphon.store.conversations import Conversation, ConversationLock
from antiphon.store.errors import DuplicateItem, UnknownConversation
from antiphon.store.responses import Page, Slice, StoredItem
from antiphon.store.sqlite import listing
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.listing import fetch_page, to_context
from antiphon.store.sqlite.locks import Locks
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.wire import Id
from antiphon.wire.queries import ListQuery

_INSERT = "INSERT INTO conversation (id, project, created_at, used_at, next_pos, metadata) VALUES (?, ?, ?, ?, 0, ?)"

_VISIBLE = "id = :id AND project = :project AND deleted_at IS NULL"

_GET = f"SELECT created_at, used_at, metadata FROM conversation WHERE {_VISIBLE}"

_LIST = """
SELECT r.id, r.created_at, r.used_at, r.metadata FROM conversation r
WHERE r.project = :project AND r.deleted_at IS NULL {filters}
ORDER BY r.created_at {order}, r.id {order} LIMIT :limit + 1"""

_UPDATE = f"UPDATE conversation SET metadata = :metadata WHERE {_VISIBLE}"

_HIDE = (
    f"UPDATE conversation SET deleted_at = CAST(strftime('%s', 'now') AS INTEGER) WHERE {_VISIBLE} RETURNING created_at"
)

_REMOVE = """
DELETE FROM conversation WHERE id = ? AND deleted_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM response r WHERE r.conversation_id = conversation.id)"""

_RESERVE = f"UPDATE conversation SET next_pos = next_pos + :count, used_at = max(used_at, :at) WHERE {_VISIBLE}"
_NEXT = "SELECT next_pos FROM conversation WHERE id = :id"

_TAKEN = """
SELECT e.value FROM json_each(:ids) e JOIN item i ON i.conversation_id = :id AND i.id = e.value
ORDER BY e.key LIMIT 1"""

_INSERT_ITEM = """
INSERT INTO item (project, conversation_id, conversation_pos, id, type, doc) VALUES (?, ?, ?, ?, ?, ?)"""

_HISTORY = """
SELECT i.id, i.type, CAST(i.doc AS BLOB)
FROM conversation c LEFT JOIN item i ON i.conversation_id = c.id
WHERE c.id = :id AND c.project = :project AND c.deleted_at IS NULL
ORDER BY i.conversation_pos"""

# As for a response's input: the first column is NULL when ``after`` is unknown, the item's are on an empty page.
# An item that was removed lately stood at ``place``.
_ITEMS = """
WITH here(id, pos) AS (
  SELECT c.id, CASE WHEN :after IS NULL THEN {start} ELSE coalesce((
    SELECT conversation_pos FROM item WHERE conversation_id = c.id AND id = :after), :place) END
  FROM conversation c WHERE c.id = :id AND c.project = :project AND c.deleted_at IS NULL)
SELECT here.pos, i.id, i.type, CAST(i.doc AS BLOB)
FROM here LEFT JOIN item i ON i.conversation_id = here.id AND i.conversation_pos {behind} here.pos
ORDER BY i.conversation_pos {order} LIMIT :limit + 1"""

_PAGES = {
    "asc": _ITEMS.format(start="-1", behind=">", order="ASC"),
    "desc": _ITEMS.format(start="1 << 62", behind="<", order="DESC"),
}

_ITEM = """
SELECT i.id, i.type, CAST(i.doc AS BLOB)
FROM conversation c JOIN item i ON i.conversation_id = c.id AND i.id = :item_id
WHERE c.id = :id AND c.project = :project AND c.deleted_at IS NULL"""

_ENTRY = """
SELECT i.pk, i.response_id IS NOT NULL, i.conversation_pos
FROM conversation c JOIN item i ON i.conversation_id = c.id AND i.id = :item_id
WHERE c.id = :id AND c.project = :project AND c.deleted_at IS NULL"""

_LEAVE = "UPDATE item SET conversation_id = NULL, conversation_pos = NULL WHERE pk = ?"
_DROP = "DELETE FROM item WHERE pk = ?"

_KEEP = """
UPDATE item SET response_id = NULL, dir = NULL, pos = NULL
WHERE response_id = ? AND conversation_id IS NOT NULL"""


def create(db: sqlite3.Connection, conversation: Conversation, items: Sequence[StoredItem]) -> None:
    """Insert a conversation and its first items.

    Raises:
        DuplicateItem: an id occurs twice.
    """
    times = (conversation.created_at, conversation.used_at)
    db.execute(_INSERT, (conversation.id, conversation.project, *times, _json(conversation.metadata)))
    append(db, conversation.project, conversation.id, items, conversation.used_at)


def get(db: sqlite3.Connection, project: str, id: Id) -> Conversation | None:
    """The visible conversation."""
    row = db.execute(_GET, {"project": project, "id": id}).fetchone()
    return build_conversation(project, id, *row) if row else None


def read_page(db: sqlite3.Connection, places: Places, project: str, query: ListQuery) -> Slice[Conversation]:
    """A page of visible conversations.

    Raises:
        UnknownCursor: ``after`` is none of them, nor one that was deleted lately.
    """
    chosen = listing.build_conditions("conversation", db, places, project, query)
    rows = db.execute(_LIST.format(filters=chosen.filters, order=query.order), chosen.values).fetchall()
    return Slice([build_conversation(project, *row) for row in rows[: query.limit]], len(rows) > query.limit)


def build_conversation(project: str, id: Id, created_at: int, used_at: int, metadata: str) -> Conversation:
    return Conversation(
        id=id, project=project, created_at=created_at, used_at=used_at, metadata=msgspec.json.decode(metadata)
    )


def update(db: sqlite3.Connection, project: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
    """Replace the metadata."""
    db.execute(_UPDATE, {"project": project, "id": id, "metadata": _json(metadata)})
    return get(db, project, id)


def delete(db: sqlite3.Connection, places: Places, project: str, id: Id) -> bool:
    """Hide the conversation; remove it at once if no response needs it."""
    hidden = db.execute(_HIDE, {"project": project, "id": id}).fetchone()
    if hidden is None:
        return False
    places.keep("conversation", project, id, hidden)
    remove_unneeded(db, {id})
    return True


def remove_unneeded(db: sqlite3.Connection, ids: Iterable[Id]) -> None:
    """Remove those that are hidden and that no response continued; items go with their conversation."""
    db.executemany(_REMOVE, [(id,) for id in ids])


def reserve(db: sqlite3.Connection, project: str, id: Id, item_ids: Sequence[Id], at: int) -> int:
    """Take places at the end for items of those ids, at that time; the first place.

    Raises:
        UnknownConversation: nothing visible.
        DuplicateItem: an id is there already, or twice among them.
    """
    if not db.execute(_RESERVE, {"project": project, "id": id, "count": len(item_ids), "at": at}).rowcount:
        raise UnknownConversation(id)
    _refuse_duplicates(db, id, item_ids)
    (end,) = db.execute(_NEXT, {"id": id}).fetchone()
    return end - len(item_ids)


def append(db: sqlite3.Connection, project: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
    """Insert items at the end, at that time.

    Raises:
        UnknownConversation: nothing visible.
        DuplicateItem: an id is there already, or twice among them.
    """
    first = reserve(db, project, id, [item.id for item in items], at)
    rows = [(project, id, pos, item.id, item.type, item.doc.decode()) for pos, item in enumerate(items, first)]
    db.executemany(_INSERT_ITEM, rows)


def load_history(db: sqlite3.Connection, project: str, id: Id) -> list[StoredItem] | None:
    """All items of the visible conversation.

    Raises:
        ContextTooLarge: they are more than a context may have.
    """
    with closing(db.execute(_HISTORY, {"project": project, "id": id})) as rows:
        first = rows.fetchone()
        return None if first is None else to_context(chain([first], rows))


def read_items(
    db: sqlite3.Connection,
    places: Places,
    project: str,
    id: Id,
    after: Id | None,
    limit: int,
    order: Literal["asc", "desc"],
) -> Page | None:
    """A page of the visible conversation's items.

    Raises:
        UnknownCursor: ``after`` is not one of them, nor one that was removed lately.
    """
    (place,) = places.find("item", id, after) or (None,)
    named = {"project": project, "id": id, "after": after, "limit": limit, "place": place}
    return fetch_page(db, _PAGES[order], named)


def get_item(db: sqlite3.Connection, project: str, id: Id, item_id: Id) -> StoredItem | None:
    """One item of the visible conversation."""
    row = db.execute(_ITEM, {"project": project, "id": id, "item_id": item_id}).fetchone()
    return StoredItem(*row) if row else None


def remove_item(db: sqlite3.Connection, places: Places, project: str, id: Id, item_id: Id) -> bool:
    """Take an item out; its row stays as long as a response holds it."""
    row = db.execute(_ENTRY, {"project": project, "id": id, "item_id": item_id}).fetchone()
    if row is None:
        return False
    pk, held, place = row
    places.keep("item", id, item_id, (place,))
    db.execute(_LEAVE if held else _DROP, (pk,))
    return True


def keep_entries(db: sqlite3.Connection, response_ids: Sequence[Id]) -> None:
    """Before responses are removed: what their conversations hold is the conversations' alone."""
    db.executemany(_KEEP, [(id,) for id in response_ids])


def _refuse_duplicates(db: sqlite3.Connection, id: Id, item_ids: Sequence[Id]) -> None:
    seen: set[Id] = set()
    for item_id in item_ids:
        if item_id in seen:
            raise DuplicateItem(item_id)
        seen.add(item_id)
    row = db.execute(_TAKEN, {"id": id, "ids": _json(list(item_ids))}).fetchone()
    if row:
        raise DuplicateItem(row[0])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class SqliteConversations(Port):
    """A ``ConversationStore`` on the threads of a ``SqliteStore``. One process owns the database: its locks need not be
    written down.
    """

    def __init__(self, read: Execute, write: Execute, places: Places) -> None:
        super().__init__(read, write)
        self._places = places
        self._locks = Locks()

    create = writing(create)
    get = reading(get)

    async def read_page(self, project: str, query: ListQuery) -> Slice[Conversation]:
        """See ``ConversationStore.read_page``."""
        return await self._read(partial(read_page, places=self._places, project=project, query=query))

    update = writing(update)

    async def delete(self, project: str, id: Id) -> bool:
        """See ``ConversationStore.delete``."""
        return await self._write(partial(delete, places=self._places, project=project, id=id))

    append = writing(append)

    async def read_items(
        self, project: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ConversationStore.read_items``."""
        return await self._read(
            partial(read_items, places=self._places, project=project, id=id, after=after, limit=limit, order=order)
        )

    load_history = reading(load_history)
    get_item = reading(get_item)

    async def remove_item(self, project: str, id: Id, item_id: Id) -> bool:
        """See ``ConversationStore.remove_item``."""
        return await self._write(partial(remove_item, places=self._places, project=project, id=id, item_id=item_id))

    async def lock(self, project: str, id: Id) -> ConversationLock:
        """See ``ConversationStore.lock``."""
        return self._locks.take(project, id)
