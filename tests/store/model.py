"""What a store promises of responses and conversations, in dictionaries: plain, to compare the real one with."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal, TypeVar

import msgspec

from antiphon.store import (
    Conversation,
    DuplicateItem,
    DuplicateResponse,
    Page,
    Record,
    Selection,
    Slice,
    StoredItem,
    UnknownConversation,
    UnknownCursor,
)
from antiphon.wire import Id, Json
from antiphon.wire.queries import ListQuery


class _Kept(msgspec.Struct):
    """A response; ``before`` is the first of its places in its conversation."""

    record: Record
    before: int = 0
    hidden: bool = False


class _Named(msgspec.Struct):
    """Whom a response was made for, as its request said."""

    user: str | None = None
    safety_identifier: str | None = None


class Model:
    """Responses and conversations. Knows neither runs nor bounds."""

    def __init__(self) -> None:
        self._kept: dict[Id, _Kept] = {}
        self._children: Counter[tuple[str, Id | None]] = Counter()
        self._shelf = Shelf()
        # By project and id, who holds the item, the newest last.
        self._holders: dict[tuple[str, Id], dict[Id, StoredItem]] = {}
        # Where what was deleted stood: times of responses and conversations, by project; places, by conversation.
        self._times: dict[tuple[type[Record] | type[Conversation], str, Id], int] = {}
        self._places: dict[tuple[Id, Id], int] = {}

    def __len__(self) -> int:
        """How many responses and conversations are kept, hidden ones included."""
        return len(self._kept) + len(self._shelf)

    async def commit(self, record: Record) -> None:
        """See ``ResponseStore.commit``; here it lasts as long as the process."""
        items, conversation = (*record.input, *record.output), record.conversation_id
        shelved = self._shelf.check(record.project, conversation, items) if conversation else None
        if record.id in self._kept:
            raise DuplicateResponse(record.id)
        before = append(shelved, items, record.created_at) if shelved else 0
        self._kept[record.id] = _Kept(record, before)
        self._children[record.project, record.previous_response_id] += 1
        self._hold(record.project, record.id, items)
        if conversation:
            self._shelf.users[conversation] += 1
            self._hold(record.project, conversation, items)

    async def get(self, project: str, id: Id) -> Record | None:
        """See ``ResponseStore.get``."""
        record = self._visible(project, id)
        return msgspec.structs.replace(record, input=()) if record else None

    async def items(
        self, project: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ResponseStore.items``."""
        record = self._visible(project, id)
        if record is None:
            return None
        return page(record.input, after, limit, order)

    async def history(self, project: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.history``."""
        record = self._visible(project, id)
        if record is None:
            return None
        oldest_first = list(self._chain(record))[::-1]
        first = oldest_first[0]
        said = self._shelf.before(first.conversation_id, self._kept[first.id].before) if first.conversation_id else ()
        return [*said, *chain.from_iterable((*turn.input, *turn.output) for turn in oldest_first)]

    async def responses(self, project: str, query: ListQuery) -> Slice[Record]:
        """See ``ResponseStore.responses``."""
        seen = [kept.record for kept in self._kept.values() if not kept.hidden and kept.record.project == project]
        gone = self._gone(Record, project, query)
        found = selected(seen, query, gone, lambda record: _is_asked(record, query))
        return msgspec.structs.replace(found, found=[msgspec.structs.replace(each, input=()) for each in found.found])

    async def delete(self, project: str, id: Id) -> bool:
        """See ``ResponseStore.delete``."""
        record = self._visible(project, id)
        if record is None:
            return False
        self._delete(record)
        return True

    def _gone(self, kind: type[Record] | type[Conversation], project: str, query: ListQuery) -> int | None:
        return self._times.get((kind, project, query.after)) if query.after else None

    def _delete(self, record: Record) -> None:
        self._times[Record, record.project, record.id] = record.created_at
        self._kept[record.id].hidden = True
        self._let_go(record.project, record.id, (*record.input, *record.output))
        for turn in list(self._chain(record)):
            if not self._kept[turn.id].hidden or self._children[record.project, turn.id]:
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

    async def create_conversation(self, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """See ``ConversationStore.create_conversation``."""
        refuse_twice(items)
        self._shelf.add(conversation)
        self._append(conversation.project, conversation.id, items, conversation.used_at)

    async def conversation(self, project: str, id: Id) -> Conversation | None:
        """See ``ConversationStore.conversation``."""
        shelved = self._shelved(project, id)
        return shelved and shelved.conversation

    async def conversations(self, project: str, query: ListQuery) -> Slice[Conversation]:
        """See ``ConversationStore.conversations``."""
        seen = [shelved.conversation for shelved in self._shelf if shelved.conversation.project == project]
        gone = self._gone(Conversation, project, query)
        return selected(seen, query, gone, lambda each: query.metadata.items() <= each.metadata.items())

    async def update_conversation(self, project: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
        """See ``ConversationStore.update_conversation``."""
        shelved = self._shelved(project, id)
        if shelved is None:
            return None
        shelved.conversation = msgspec.structs.replace(shelved.conversation, metadata=metadata)
        return shelved.conversation

    async def delete_conversation(self, project: str, id: Id) -> bool:
        """See ``ConversationStore.delete_conversation``."""
        shelved = self._shelved(project, id)
        if shelved is None:
            return False
        shelved.hidden = True
        self._times[Conversation, project, id] = shelved.conversation.created_at
        self._let_go(project, id, shelved.entries.values())
        self._shelf.remove_unneeded(id)
        return True

    async def append(self, project: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        """See ``ConversationStore.append``."""
        self._shelf.check(project, id, items)
        self._append(project, id, items, at)

    async def conversation_items(
        self, project: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ConversationStore.conversation_items``."""
        shelved = self._shelved(project, id)
        if shelved is None:
            return None
        listed, place = list(shelved.entries.values()), self._places.get((id, after)) if after else None
        if place is None or any(item.id == after for item in listed):
            return page(listed, after, limit, order)
        behind = [item for pos, item in shelved.entries.items() if (pos > place) == (order == "asc")]
        return page(behind, None, limit, order)

    async def conversation_history(self, project: str, id: Id) -> list[StoredItem] | None:
        """See ``ConversationStore.conversation_history``."""
        shelved = self._shelved(project, id)
        return list(shelved.entries.values()) if shelved else None

    async def conversation_item(self, project: str, id: Id, item_id: Id) -> StoredItem | None:
        """See ``ConversationStore.conversation_item``."""
        shelved = self._shelved(project, id)
        found = shelved.entries.values() if shelved else ()
        return next((item for item in found if item.id == item_id), None)

    async def remove_item(self, project: str, id: Id, item_id: Id) -> bool:
        """See ``ConversationStore.remove_item``."""
        shelved = self._shelved(project, id)
        entries = shelved.entries if shelved else {}
        place = next((pos for pos, item in entries.items() if item.id == item_id), None)
        if place is None:
            return False
        item = entries.pop(place)
        self._places[id, item_id] = place
        self._let_go(project, id, [item])
        return True

    async def idle(self, limit: int) -> list[Conversation]:
        """See ``ConversationStore.idle``."""
        return heapq.nsmallest(limit, (shelved.conversation for shelved in self._shelf), key=lambda each: each.used_at)

    async def referenced(self, project: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
        """See ``ConversationStore.referenced``."""
        held = {id: self._holders.get((project, id)) for id in ids}
        return {id: list(holders.values())[-1] for id, holders in held.items() if holders}

    def _visible(self, project: str, id: Id) -> Record | None:
        kept = self._kept.get(id)
        return kept.record if kept and not kept.hidden and kept.record.project == project else None

    def _all_visible(self) -> Iterator[Record]:
        return (kept.record for kept in self._kept.values() if not kept.hidden)

    def _chain(self, record: Record) -> Iterator[Record]:
        """The record and what came before it, newest first, to where the project changes or a link is gone."""
        link: Id | None = record.id
        # No chain is longer than what is kept, not even a ring.
        for _ in range(len(self._kept)):
            kept = self._kept.get(link) if link else None
            if kept is None or kept.record.project != record.project:
                return
            yield kept.record
            link = kept.record.previous_response_id

    def _remove(self, record: Record) -> None:
        del self._kept[record.id]
        parent = (record.project, record.previous_response_id)
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]
        if record.conversation_id:
            self._shelf.users[record.conversation_id] -= 1
            self._shelf.remove_unneeded(record.conversation_id)

    def _shelved(self, project: str, id: Id) -> Shelved | None:
        return self._shelf.visible(project, id)

    def _append(self, project: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        append(self._shelf.check(project, id, items), items, at)
        self._hold(project, id, items)

    def _hold(self, project: str, holder: Id, items: Iterable[StoredItem]) -> None:
        for item in items:
            self._holders.setdefault((project, item.id), {})[holder] = item

    def _let_go(self, project: str, holder: Id, items: Iterable[StoredItem]) -> None:
        for item in items:
            holders = self._holders.get((project, item.id), {})
            holders.pop(holder, None)
            if not holders:
                self._holders.pop((project, item.id), None)


def _is_chosen(record: Record, selection: Selection) -> bool:
    if selection.before is not None and record.created_at >= selection.before:
        return False
    if selection.project is not None and record.project != selection.project:
        return False
    if selection.key_id is not None and record.key_id != selection.key_id:
        return False
    if selection.user is None:
        return True
    named = msgspec.json.decode(record.doc, type=_Named)
    return selection.user in (named.user, named.safety_identifier)


def _is_asked(record: Record, query: ListQuery) -> bool:
    metadata: Json = msgspec.json.decode(record.doc).get("metadata", {}) if query.metadata else {}
    return (
        query.model in (None, record.model)
        and query.status in (None, record.status)
        and query.metadata.items() <= metadata.items()
    )


class Shelved(msgspec.Struct):
    """A conversation; ``entries`` are its items by place, in order, since places only rise."""

    conversation: Conversation
    entries: dict[int, StoredItem] = {}
    next_pos: int = 0
    hidden: bool = False


class Shelf:
    """The conversations, and how many kept responses continued each: ``users``."""

    def __init__(self) -> None:
        self._kept: dict[Id, Shelved] = {}
        self.users: Counter[Id] = Counter()

    def __len__(self) -> int:
        """How many are kept, hidden ones included."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Shelved]:
        """The visible ones."""
        return (shelved for shelved in self._kept.values() if not shelved.hidden)

    def add(self, conversation: Conversation) -> None:
        """Keep a new one."""
        self._kept[conversation.id] = Shelved(conversation)

    def visible(self, project: str, id: Id) -> Shelved | None:
        """The one of that id, if the owner may see it."""
        found = self._kept.get(id)
        return found if found and not found.hidden and found.conversation.project == project else None

    def before(self, id: Id, place: int) -> list[StoredItem]:
        """The items before a place, of a hidden conversation as well."""
        found = self._kept[id].entries
        return [item for pos, item in found.items() if pos < place]

    def check(self, project: str, id: Id, items: Sequence[StoredItem]) -> Shelved:
        """The conversation, when the items can be appended.

        Raises:
            UnknownConversation, DuplicateItem: they cannot.
        """
        found = self.visible(project, id)
        if found is None:
            raise UnknownConversation(id)
        refuse_twice(items)
        there = {item.id for item in found.entries.values()}
        for item in items:
            if item.id in there:
                raise DuplicateItem(item.id)
        return found

    def remove_unneeded(self, id: Id) -> None:
        """Remove it if it is hidden and no response continued it."""
        if self._kept[id].hidden and not self.users[id]:
            del self._kept[id]


def refuse_twice(items: Sequence[StoredItem]) -> None:
    """An id may occur once.

    Raises:
        DuplicateItem: it does not.
    """
    seen: set[Id] = set()
    for item in items:
        if item.id in seen:
            raise DuplicateItem(item.id)
        seen.add(item.id)


def append(shelved: Shelved, items: Sequence[StoredItem], at: int) -> int:
    """Give the items the next places, at that time; the first of them."""
    used_at = max(shelved.conversation.used_at, at)
    shelved.conversation = msgspec.structs.replace(shelved.conversation, used_at=used_at)
    first = shelved.next_pos
    shelved.entries |= dict(enumerate(items, first))
    shelved.next_pos += len(items)
    return first


_Listed = TypeVar("_Listed", Record, Conversation)


def page(items: Sequence[StoredItem], after: Id | None, limit: int, order: Literal["asc", "desc"]) -> Page:
    """A page of the items.

    Raises:
        UnknownCursor: ``after`` is none of them.
    """
    listed = items if order == "asc" else items[::-1]
    rest = listed if after is None else _behind(after, listed)
    return Page(tuple(rest[:limit]), len(rest) > limit)


def _behind(after: Id, listed: Sequence[StoredItem]) -> Sequence[StoredItem]:
    places = [place for place, item in enumerate(listed) if item.id == after]
    if not places:
        raise UnknownCursor(after)
    return listed[places[-1] + 1 :]


def selected(
    seen: list[_Listed], query: ListQuery, gone: int | None, asked: Callable[[_Listed], bool]
) -> Slice[_Listed]:
    """The page of ``query`` from all that the project may see. ``gone``: when what ``after`` names was made, should it
    have been deleted.

    Raises:
        UnknownCursor: its ``after`` is none of them.
    """
    is_down = query.order == "desc"
    seen.sort(key=lambda each: (each.created_at, each.id), reverse=is_down)
    if query.after is not None:
        at = next((each.created_at for each in seen if each.id == query.after), gone)
        if at is None:
            raise UnknownCursor(query.after)
        place = (at, query.after)
        seen = [each for each in seen if (each.created_at, each.id) != place]
        seen = [each for each in seen if ((each.created_at, each.id) < place) == is_down]
    low, high = query.created_after, query.created_before
    found = [
        each
        for each in seen
        if (low is None or each.created_at > low) and (high is None or each.created_at < high) and asked(each)
    ]
    return Slice(found[: query.limit], len(found) > query.limit)
