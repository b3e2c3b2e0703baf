"""What requests read of the store: a few at a time, and counted before others read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final, TypeVar

import msgspec

from antiphon.engine.room import take_room
from antiphon.store import ContextTooLarge, Page, Record, Slice, StoredItem
from antiphon.store.availability import ask_store
from antiphon.wire import Json
from antiphon.wire.counting import VALUE_BYTES, count_values
from antiphon.wire.errors import InvalidRequest

READS_MAX: Final = 4
"""How many may have been read and not been counted yet; each is bounded by the store."""

T = TypeVar("T")


class Reads:
    """The reads of one engine. What they give counts as a body does, until the request is over.

    A request of a hundred bytes can name a context of a hundred megabytes.
    """

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(READS_MAX)

    async def context(
        self, read: Callable[[], Awaitable[Collection[StoredItem] | None]], param: str
    ) -> list[Json] | None:
        """Stored items of a context, decoded; None where the store says so.

        Args:
            param: what of the request names them.

        Raises:
            InvalidRequest: ``context_length_exceeded``: no model reads so much.
            antiphon.wire.errors.Unavailable: there is no room for them now, or the store cannot be read.
        """
        try:
            found = await self._ask(read, lambda items: (item.doc for item in items or ()))
        except ContextTooLarge as error:
            text = "The stored context is larger than any that a model reads. Please begin a new one."
            raise InvalidRequest(text, code="context_length_exceeded", param=param) from error
        return None if found is None else [msgspec.json.decode(item.doc) for item in found]

    async def page(self, read: Callable[[], Awaitable[Page | None]]) -> Page | None:
        """A page of items.

        Raises:
            antiphon.wire.errors.Unavailable: as above.
        """
        return await self._ask(read, lambda page: (item.doc for item in page.items) if page else ())

    async def records(self, read: Callable[[], Awaitable[Slice[Record]]]) -> Slice[Record]:
        """A page of responses.

        Raises:
            antiphon.wire.errors.Unavailable: as above.
        """
        return await self._ask(read, lambda page: (doc for record in page.found for doc in _docs(record)))

    async def record(self, read: Callable[[], Awaitable[Record | None]]) -> Record | None:
        """One response.

        Raises:
            antiphon.wire.errors.Unavailable: as above.
        """
        return await self._ask(read, lambda record: _docs(record) if record else ())

    async def _ask(self, read: Callable[[], Awaitable[T]], docs_of: Callable[[T], Iterable[bytes]]) -> T:
        async with self._gate:
            found = await ask_store(read())
            take_room(sum(len(doc) + VALUE_BYTES * count_values(doc) for doc in docs_of(found)))
            return found


def _docs(record: Record) -> Iterable[bytes]:
    yield record.doc
    for item in record.output:
        yield item.doc
