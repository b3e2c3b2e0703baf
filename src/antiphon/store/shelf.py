"""Conversations as the memory store keeps them: dictionaries, and which holder shows which item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from antiphon.store import Conversation, DuplicateItem, StoredItem, UnknownConversation
from antiphon.wire import Id


class Shelved(msgspec.Struct):
    """A conversation; ``entries`` are its items by place, in order, since places only rise."""

    conversation: Conversation
    entries: dict[int, StoredItem] = {}
    next_pos: int = 0
    hidden: bool = False

    def bytes(self) -> int:
        """The bytes of its items' documents."""
        return sum(len(item.doc) for item in self.entries.values())


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

    def visible(self, owner: str, id: Id) -> Shelved | None:
        """The one of that id, if the owner may see it."""
        found = self._kept.get(id)
        return found if found and not found.hidden and found.conversation.owner == owner else None

    def before(self, id: Id, place: int) -> list[StoredItem]:
        """The items before a place, of a hidden conversation as well."""
        found = self._kept[id].entries
        return [item for pos, item in found.items() if pos < place]

    def check(self, owner: str, id: Id, items: Sequence[StoredItem]) -> Shelved:
        """The conversation, when the items can be appended.

        Raises:
            UnknownConversation, DuplicateItem: they cannot.
        """
        found = self.visible(owner, id)
        if found is None:
            raise UnknownConversation(id)
        refuse_twice(items)
        there = {item.id for item in found.entries.values()}
        for item in items:
            if item.id in there:
                raise DuplicateItem(item.id)
        return found

    def remove_unneeded(self, id: Id) -> int:
        """Remove it if it is hidden and no response continued it; the bytes that this frees."""
        found = self._kept[id]
        if not found.hidden or self.users[id]:
            return 0
        del self._kept[id]
        return found.bytes()

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.users.clear()


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
