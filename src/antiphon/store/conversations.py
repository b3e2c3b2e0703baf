"""Conversations, as the rest of the system asks a store for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from antiphon.store.responses import Page, Slice, StoredItem
from antiphon.wire import Id
from antiphon.wire.queries import ListQuery


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is kept, without its items.

    Attributes:
        created_at: Unix seconds.
        used_at: Unix seconds; when it was made, or the last response in it began, or items were last added.
    """

    id: Id
    project: str
    created_at: int
    used_at: int
    metadata: dict[str, str]


class ConversationLock(Protocol):
    """The right to write to a conversation, held by one at a time."""

    async def release(self) -> None:
        """Give it back. Never fails; harmless when given back already, so that every way out can end with it."""
        ...


class ConversationStore(Protocol):
    """Where conversations outlive the process. One store with the ``ResponseStore``, since a response and what it adds
    to its conversation are one transaction.

    Within a conversation an item's id is unique, and its place never changes. An item that came with a response
    is one item in two lists: it stays in either when it leaves the other.

    Needs a single process: ``lock`` alone. The locks of a store that one process owns are that process's; a store of
    several nodes has to keep them where all see them, and end those of a node that died. ``create``, ``append``,
    ``remove_item`` and ``delete`` are one transaction each and need nothing of the kind.
    """

    async def create(self, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """Keep a new conversation and its first items; its id is fresh.

        Raises:
            DuplicateItem: an id occurs twice.
        """
        ...

    async def get(self, project: str, id: Id) -> Conversation | None:
        """The visible conversation."""
        ...

    async def read_page(self, project: str, query: ListQuery) -> Slice[Conversation]:
        """A page of the visible conversations that ``query`` selects, by time and id; ``model`` and ``status`` are
        passed over.

        Raises:
            UnknownCursor: ``after`` is no visible conversation, nor one that was deleted lately.
        """
        ...

    async def update(self, project: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
        """Replace the metadata; the conversation as it is now, or None when there is none."""
        ...

    async def delete(self, project: str, id: Id) -> bool:
        """Hide the conversation for ever. False when there is none.

        Stored responses keep the items that they hold, and responses that continued it keep it in their history. It
        is removed from the store with the last of them.
        """
        ...

    async def append(self, project: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        """Add items at the end, in order; ``at`` is now, in Unix seconds.

        Raises:
            UnknownConversation: there is none of that id.
            DuplicateItem: the conversation has one of them, or one occurs twice.
        """
        ...

    async def read_items(
        self, project: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """A page of the conversation's items; None when there is no such conversation.

        Raises:
            UnknownCursor: ``after`` is not one of them, nor one that was removed lately.
        """
        ...

    async def load_history(self, project: str, id: Id) -> list[StoredItem] | None:
        """All items in order, in one query; None when there is no such conversation.

        Raises:
            ContextTooLarge: there is more than can be read.
        """
        ...

    async def get_item(self, project: str, id: Id, item_id: Id) -> StoredItem | None:
        """One item of a visible conversation."""
        ...

    async def remove_item(self, project: str, id: Id, item_id: Id) -> bool:
        """Take an item out of a visible conversation; False when it is not there."""
        ...

    async def lock(self, project: str, id: Id) -> ConversationLock:
        """Become the one who writes to the conversation; whether it exists is not looked at. A lock ends with
        ``release``, or with the process. ``append``, ``commit`` and ``remove_item`` do not ask for it.

        Raises:
            ConversationLocked: somebody else is.
        """
        ...
