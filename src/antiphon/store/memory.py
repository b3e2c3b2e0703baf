"""Responses in this process's memory: for tests, and for ``store = memory``. Nothing outlives the process."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

import msgspec

from antiphon.store import (
    DuplicateResponse,
    Figures,
    Page,
    Record,
    Selection,
    StoredItem,
    StoreUnavailable,
    UnknownCursor,
)
from antiphon.wire import Id

BYTES_MAX = 1 << 30
"""How many bytes of documents one memory store keeps, unless told."""


class _Kept(msgspec.Struct):
    record: Record
    hidden: bool = False


class _Named(msgspec.Struct):
    """Whom a response was made for, as its request said."""

    user: str | None = None
    safety_identifier: str | None = None


class MemoryStore:
    """A ``ResponseStore`` of dictionaries.

    Args:
        bytes_max: bound on the bytes of all documents; a commit past it raises ``StoreUnavailable``.
    """

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[Id, _Kept] = {}
        self._children: Counter[tuple[str, Id | None]] = Counter()
        self._closed = False

    def __len__(self) -> int:
        """How many responses are kept, hidden ones included."""
        return len(self._kept)

    async def commit(self, record: Record) -> None:
        """See ``ResponseStore.commit``; here it lasts as long as the process."""
        self._refuse_when_closed()
        if record.id in self._kept:
            raise DuplicateResponse(record.id)
        size = _bytes_of(record)
        if self._bytes + size > self._bytes_max:
            raise StoreUnavailable(f"The memory store is full: it holds {self._bytes_max} bytes at most.")
        self._bytes += size
        self._kept[record.id] = _Kept(record)
        self._children[record.owner, record.previous_response_id] += 1

    async def get(self, owner: str, id: Id) -> Record | None:
        """See ``ResponseStore.get``."""
        record = self._visible(owner, id)
        return msgspec.structs.replace(record, input=()) if record else None

    async def items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ResponseStore.items``."""
        record = self._visible(owner, id)
        if record is None:
            return None
        listed = record.input if order == "asc" else record.input[::-1]
        rest = listed if after is None else _behind(after, listed)
        return Page(tuple(rest[:limit]), len(rest) > limit)

    async def history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.history``."""
        record = self._visible(owner, id)
        if record is None:
            return None
        oldest_first = reversed(list(self._chain(record)))
        return list(chain.from_iterable((*turn.input, *turn.output) for turn in oldest_first))

    async def delete(self, owner: str, id: Id) -> bool:
        """See ``ResponseStore.delete``."""
        record = self._visible(owner, id)
        if record is None:
            return False
        self._delete(record)
        return True

    def _delete(self, record: Record) -> None:
        self._kept[record.id].hidden = True
        for turn in list(self._chain(record)):
            if not self._kept[turn.id].hidden or self._children[record.owner, turn.id]:
                break
            self._remove(turn)

    async def purge(self, selection: Selection, limit: int) -> int:
        """See ``ResponseStore.purge``."""
        chosen = (record for record in self._all_visible() if _is_chosen(record, selection))
        oldest = heapq.nsmallest(limit, chosen, key=lambda record: record.created_at)
        for record in oldest:
            self._delete(record)
        return len(oldest)

    async def records(self, *, after: Id | None, limit: int) -> list[Record]:
        """See ``ResponseStore.records``."""
        behind = (record for record in self._all_visible() if record.id > (after or ""))
        return heapq.nsmallest(limit, behind, key=lambda record: record.id)

    async def shrink(self, keep_bytes: int) -> int:
        """See ``ResponseStore.shrink``; the interpreter looks after its memory itself."""
        return 0

    async def figures(self) -> Figures:
        """See ``ResponseStore.figures``."""
        return Figures(used_bytes=self._bytes)

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        self._kept.clear()
        self._children.clear()

    def _visible(self, owner: str, id: Id) -> Record | None:
        self._refuse_when_closed()
        kept = self._kept.get(id)
        return kept.record if kept and not kept.hidden and kept.record.owner == owner else None

    def _all_visible(self) -> Iterator[Record]:
        self._refuse_when_closed()
        return (kept.record for kept in self._kept.values() if not kept.hidden)

    def _chain(self, record: Record) -> Iterator[Record]:
        """The record and what came before it, newest first, to where the owner changes or a link is gone."""
        link: Id | None = record.id
        # No chain is longer than what is kept, not even a ring.
        for _ in range(len(self._kept)):
            kept = self._kept.get(link) if link else None
            if kept is None or kept.record.owner != record.owner:
                return
            yield kept.record
            link = kept.record.previous_response_id

    def _remove(self, record: Record) -> None:
        del self._kept[record.id]
        self._bytes -= _bytes_of(record)
        parent = (record.owner, record.previous_response_id)
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")


def _is_chosen(record: Record, selection: Selection) -> bool:
    if selection.before is not None and record.created_at >= selection.before:
        return False
    if selection.owner is not None and record.owner != selection.owner:
        return False
    if selection.user is None:
        return True
    named = msgspec.json.decode(record.doc, type=_Named)
    return selection.user in (named.user, named.safety_identifier)


def _behind(after: Id, listed: Sequence[StoredItem]) -> Sequence[StoredItem]:
    places = [place for place, item in enumerate(listed) if item.id == after]
    if not places:
        raise UnknownCursor(after)
    return listed[places[-1] + 1 :]


def _bytes_of(record: Record) -> int:
    return len(record.doc) + sum(len(item.doc) for item in chain(record.input, record.output))
