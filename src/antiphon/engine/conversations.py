"""Conversations: what the eight endpoints do, and what a response takes from the store before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from antiphon import context
from antiphon.access.sealing import Sealer
from antiphon.engine.reads import Reads
from antiphon.run import to_stored_items
from antiphon.store import (
    Conversation,
    ConversationLock,
    ConversationLocked,
    ConversationStore,
    DuplicateItem,
    ItemStore,
    Page,
    Slice,
    StoredItem,
    UnknownConversation,
    UnknownCursor,
)
from antiphon.store.availability import ask_store
from antiphon.wire import Id, Json
from antiphon.wire.conversation import ConversationParams
from antiphon.wire.errors import InvalidRequest, NotFound
from antiphon.wire.items import duplicate
from antiphon.wire.queries import ListQuery, PageQuery

T = TypeVar("T")


WAITING_MAX = 100
"""How many changes may wait for others of the same conversation."""
WAIT_S = 10.0


class _Queue:
    """Who changes one conversation, and how many wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class Conversations:
    """The conversations of a store. Every method takes the ``project`` it acts for; ``clock`` gives Unix seconds.

    A conversation that is missing, deleted or another's is the same ``NotFound``. Whoever adds or takes away items is
    alone in doing so, as a running response is: they wait for each other, and get ``conversation_locked`` beside a
    response.
    """

    def __init__(
        self,
        store: ConversationStore,
        items: ItemStore,
        ids: Callable[[str], Id],
        clock: Callable[[], float],
        sealer: Sealer,
        reads: Reads,
    ) -> None:
        self._sealer = sealer
        self._reads = reads
        self._store = store
        self._items = items
        self._ids = ids
        self._clock = clock
        self._queues: WeakValueDictionary[tuple[str, Id], _Queue] = WeakValueDictionary()

    async def create(self, project: str, params: ConversationParams) -> Conversation:
        """A new conversation with its first items."""
        now = int(self._clock())
        metadata = dict(params.metadata)
        context.refuse_foreign(params.items, partial(self._sealer.open, project=project))
        new = Conversation(id=self._ids("conv"), project=project, created_at=now, used_at=now, metadata=metadata)
        items = await self.resolve_references(project, params.items, "items")
        await ask_store(self._store.create(new, to_stored_items(items)))
        return new

    async def retrieve(self, project: str, id: Id) -> Conversation:
        """The conversation."""
        return _require(await ask_store(self._store.get(project, id)), id)

    async def list(self, project: str, query: ListQuery) -> Slice[Conversation]:
        """A page of all conversations."""
        try:
            return await ask_store(self._store.read_page(project, query))
        except UnknownCursor as error:
            raise unknown_cursor(query, "Conversation") from error

    async def update(self, project: str, id: Id, metadata: dict[str, str]) -> Conversation:
        """Replace the metadata."""
        return _require(await ask_store(self._store.update(project, id, metadata)), id)

    async def delete(self, project: str, id: Id) -> None:
        """Delete the conversation; stored responses keep their items."""
        async with self._claim(project, id):
            if not await ask_store(self._store.delete(project, id)):
                raise missing(id)

    async def add(self, project: str, id: Id, items: Sequence[Json]) -> Sequence[Json]:
        """Add items at the end; they are returned whole."""
        context.refuse_foreign(items, partial(self._sealer.open, project=project))
        async with self._claim(project, id):
            resolved = await self.resolve_references(project, items, "items")
            try:
                await ask_store(self._store.append(project, id, to_stored_items(resolved), int(self._clock())))
            except UnknownConversation as error:
                raise missing(id) from error
            except DuplicateItem as error:
                raise duplicate(error.id, "items") from error
            return resolved

    async def items(self, project: str, id: Id, query: PageQuery) -> Page:
        """A page of the items."""
        read = partial(self._store.read_items, project, id, after=query.after, limit=query.limit, order=query.order)
        try:
            return _require(await self._reads.page(read), id)
        except UnknownCursor as error:
            raise InvalidRequest(f"Item with id '{query.after}' not found in this list.", param="after") from error

    async def item(self, project: str, id: Id, item_id: Id) -> Json:
        """One item."""
        found = await ask_store(self._store.get_item(project, id, item_id))
        if found is None:
            raise await self._missing_item(project, id, item_id)
        return msgspec.json.decode(found.doc)

    async def remove(self, project: str, id: Id, item_id: Id) -> Conversation:
        """Take an item out; the conversation."""
        async with self._claim(project, id):
            if not await ask_store(self._store.remove_item(project, id, item_id)):
                raise await self._missing_item(project, id, item_id)
        return await self.retrieve(project, id)

    async def lock(self, project: str, id: Id) -> ConversationLock:
        """Become the one who writes to it, behind those who only change its items.

        Raises:
            InvalidRequest: ``conversation_locked``: a response is being made in it, or too many wait.
        """
        async with self._turn(project, id):
            return await self._take_lock(project, id)

    async def _take_lock(self, project: str, id: Id) -> ConversationLock:
        try:
            return await ask_store(self._store.lock(project, id))
        except ConversationLocked as error:
            raise _locked_error() from error

    @asynccontextmanager
    async def _turn(self, project: str, id: Id) -> AsyncGenerator[None]:
        """Changes that take milliseconds wait for each other, in their order."""
        queue = self._queues.setdefault((project, id), _Queue())
        if queue.waiting >= WAITING_MAX:
            raise _locked_error()
        queue.waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await queue.lock.acquire()
        except TimeoutError as error:
            raise _locked_error() from error
        finally:
            queue.waiting -= 1
        try:
            yield
        finally:
            queue.lock.release()

    async def history(self, project: str, id: Id) -> list[Json]:
        """All of its items, for a response that continues it.

        Raises:
            InvalidRequest: they are more than any model reads.
        """
        param = "conversation"
        items = await self._reads.context(lambda: self._store.load_history(project, id), param)
        return _require(items, id, param=param)

    async def resolve_references(self, project: str, items: Sequence[Json], member: str) -> tuple[Json, ...]:
        """The items with stored ones in place of references; ``member`` of the body holds them.

        Raises:
            NotFound: a reference to what the project has not stored.
            InvalidRequest: one item twice.
        """
        ids = context.references(items)
        if not ids:
            return tuple(items)
        found = await self._reads.context(lambda: self._find(project, ids), member)
        return context.resolve(items, {item["id"]: item for item in found or ()}, member=member)

    async def _find(self, project: str, ids: Sequence[Id]) -> Collection[StoredItem]:
        return (await self._items.find(project, ids)).values()

    @asynccontextmanager
    async def _claim(self, project: str, id: Id) -> AsyncGenerator[None]:
        async with self._turn(project, id):
            lock = await self._take_lock(project, id)
            try:
                yield
            finally:
                await lock.release()

    async def _missing_item(self, project: str, id: Id, item_id: Id) -> NotFound:
        await self.retrieve(project, id)
        return NotFound(f"Item with id '{item_id}' not found in conversation with id '{id}'.")


def _locked_error() -> InvalidRequest:
    text = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return InvalidRequest(text, code="conversation_locked", param="conversation")


def unknown_cursor(query: ListQuery, kind: str) -> InvalidRequest:
    """There is nothing of that kind and id to go on behind."""
    return InvalidRequest(f"{kind} with id '{query.after}' not found.", param="after")


def missing(id: Id, param: str | None = None) -> NotFound:
    """There is no conversation of that id."""
    return NotFound(f"Conversation with id '{id}' not found.", param=param)


def _require(found: T | None, id: Id, param: str | None = None) -> T:
    if found is None:
        raise missing(id, param)
    return found
