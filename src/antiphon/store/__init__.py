"""What the rest of the system asks of a store. The spine imports this file alone.

Every call takes the ``owner``; another owner's id is answered exactly as a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from antiphon.store.deliveries import DeliveryStore
from antiphon.store.keys import KeyStore
from antiphon.store.runs import RunStore
from antiphon.telemetry.meter import StoreStats
from antiphon.wire import Id
from antiphon.wire.listing import ListQuery

T = TypeVar("T")


class StoredItem(msgspec.Struct, frozen=True):
    """One item: ``doc`` is its JSON, whole, as the API shows it."""

    id: Id
    type: str
    doc: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A response as it is kept: the envelope without ``output``, and its items.

    Attributes:
        doc: JSON of the Response object with ``"output": []``.
        input: this request's own input items, in order; nothing of the chain before it.
        output: the final output items, in order.
        created_at: Unix seconds.
        conversation_id: the conversation that the response continues, and that its items are added to. A response
            with a conversation has no ``previous_response_id``.
        key_id: the key that it was made with; None without one.
    """

    id: Id
    owner: str
    created_at: int
    status: str
    model: str
    previous_response_id: Id | None
    doc: bytes
    input: Sequence[StoredItem]
    output: Sequence[StoredItem]
    conversation_id: Id | None = None
    key_id: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as it is kept, without its items.

    Attributes:
        created_at: Unix seconds.
        used_at: Unix seconds; when it was made, or the last response in it began, or items were last added.
    """

    id: Id
    owner: str
    created_at: int
    used_at: int
    metadata: dict[str, str]


class Page(msgspec.Struct, frozen=True):
    """A page of a list, in the order asked for."""

    items: Sequence[StoredItem]
    has_more: bool


class Slice(msgspec.Struct, Generic[T], frozen=True):
    """A page of responses, or of conversations, in the order asked for."""

    found: Sequence[T]
    has_more: bool


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which visible responses are meant: those for which all of it holds; all there are when nothing is said.

    A condition that is not known must never be passed over: more would go than was asked for.

    Attributes:
        before: created before that time, in Unix seconds.
        expired: kept for a time of their own that was over then, in Unix seconds.
        ended: True for those that do not run in the background any more.
        owner: of that owner.
        user: whose request named that ``user`` or ``safety_identifier``.
        key_id: made with that key.
    """

    before: int | None = None
    expired: int | None = None
    ended: Literal[True] | None = None
    owner: str | None = None
    user: str | None = None
    key_id: str | None = None


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to go for ever.

    Attributes:
        selection: which responses.
        conversations: whether conversations go too: those last used before ``selection.before``; all where that is not
            said.
    """

    selection: Selection
    conversations: bool = False


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge did: how much went, and whether nothing of it is left in the store's files."""

    responses: int = 0
    conversations: int = 0
    scrubbed: bool = False

    @property
    def any(self) -> bool:
        """Whether something went."""
        return bool(self.responses or self.conversations)

    def __add__(self, later: Purged) -> Purged:
        """Both together."""
        responses, conversations = self.responses + later.responses, self.conversations + later.conversations
        return Purged(responses=responses, conversations=conversations, scrubbed=later.scrubbed)


class UnknownCursor(Exception):
    """``after`` names nothing in that list."""


class DuplicateResponse(Exception):
    """A response of that id is kept already, visible or hidden; nothing was changed."""


class UnknownConversation(Exception):
    """There is no conversation of that id to add to; nothing was changed."""


class DuplicateItem(Exception):
    """The conversation has an item of that id already; nothing was changed. ``id`` is the first such id."""

    def __init__(self, id: Id) -> None:
        super().__init__(id)
        self.id = id


class ConversationLocked(Exception):
    """Somebody else writes to the conversation."""


class StillRunning(Exception):
    """The response runs in the background and has not ended, so that nothing can continue it yet."""


class StoreUnavailable(Exception):
    """The store cannot take the write, or cannot be read: disk full, read-only, corrupt, closed. The text
    says which.

    Attributes:
        reason: the same for callers of the API, without names of files; empty when there is nothing to say.
    """

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class ResponseStore(Protocol):
    """Where responses outlive the process.

    Every method may raise ``StoreUnavailable``. A method that returned has done all of its work durably
    (memory stores excepted); one that raised has done nothing.
    """

    async def commit(self, record: Record) -> None:
        """Keep a finished response: one transaction, durable when it returns.

        Its input and its output are added to its conversation in the same transaction, if it has one. A
        ``previous_response_id`` that is not kept (removed meanwhile, or another owner's) adds nothing to the
        history. A caller that is cancelled while it waits does not know whether the response was kept.

        Raises:
            DuplicateResponse: the id is taken.
            UnknownConversation: its conversation is gone.
            DuplicateItem: its conversation has one of its items.
        """
        ...

    async def get(self, owner: str, id: Id) -> Record | None:
        """The response with its output; ``input`` is empty here (page through ``items``)."""
        ...

    async def items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """A page of the response's own input items; None when there is no such response.

        Args:
            after: the id of the last item of the page before; where an id occurs more than once, its last
                occurrence in ``order`` counts, so that paging always ends.
            limit: how many items at most; 1 or more.

        Raises:
            UnknownCursor: ``after`` is not one of them.
        """
        ...

    async def history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """The whole context up to and including response ``id``: input and output of every response of its
        chain, oldest first, input before output, in one query. None when ``id`` is missing or deleted; a
        deleted ancestor still contributes. Where the chain's first response continued a conversation, the
        conversation's items up to that response come first, those that have been removed from it excepted. A response
        that is kept for a short time only counts as missing.

        Raises:
            StillRunning: it has not ended.
        """
        ...

    async def context(self, owner: str, id: Id) -> list[StoredItem] | None:
        """The same for a response that runs in the background itself, up to its own input."""
        ...

    async def responses(self, owner: str, query: ListQuery) -> Slice[Record]:
        """A page of the visible responses that ``query`` selects, each with its output, by time and id.

        Raises:
            UnknownCursor: ``after`` is no visible response.
        """
        ...

    async def delete(self, owner: str, id: Id) -> bool:
        """Hide the response for ever; its children keep working. False when there is none. If it runs in the
        background, that ends; its log goes.

        What no visible response's chain needs any more is removed from the store in the same transaction.
        """
        ...

    async def purge(self, selection: Selection, limit: int) -> int:
        """Delete, as ``delete`` does, up to ``limit`` of the selected responses of all owners, oldest first; says how
        many; 0 when there are none. One short transaction, behind a search that holds up no write.
        """
        ...

    async def records(self, *, after: Id | None, limit: int) -> list[Record]:
        """Visible responses of all owners, whole, in the order of their ids: the first ``limit`` behind ``after``."""
        ...

    async def shrink(self, keep_bytes: int) -> int:
        """Give free space beyond ``keep_bytes`` back to the system, in one short step; says how many bytes. Call it
        until it says 0.
        """
        ...

    async def scrub(self) -> bool:
        """Leave nothing of what was deleted where the store's files can still be read for it. False when that could not
        be done now: somebody reads what was there before.
        """
        ...

    async def stats(self) -> StoreStats:
        """How large and how busy it is."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of everything."""
        ...


class Claim(Protocol):
    """The right to write to a conversation, held by one at a time."""

    async def release(self) -> None:
        """Give it back. Never fails; harmless when given back already, so that every way out can end with it."""
        ...


class ConversationStore(Protocol):
    """Where conversations outlive the process; one object with the ``ResponseStore``, since a response and what it
    adds to its conversation are one transaction. Promises of durability and failure are the same.

    Within a conversation an item's id is unique, and its place never changes. An item that came with a response
    is one item in two lists: it stays in either when it leaves the other.
    """

    async def create_conversation(self, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """Keep a new conversation and its first items; its id is fresh.

        Raises:
            DuplicateItem: an id occurs twice.
        """
        ...

    async def conversation(self, owner: str, id: Id) -> Conversation | None:
        """The visible conversation."""
        ...

    async def conversations(self, owner: str, query: ListQuery) -> Slice[Conversation]:
        """A page of the visible conversations that ``query`` selects, by time and id; ``model`` and ``status`` are
        passed over.

        Raises:
            UnknownCursor: ``after`` is no visible conversation.
        """
        ...

    async def update_conversation(self, owner: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
        """Replace the metadata; the conversation as it is now, or None when there is none."""
        ...

    async def delete_conversation(self, owner: str, id: Id) -> bool:
        """Hide the conversation for ever. False when there is none.

        Stored responses keep the items that they hold, and responses that continued it keep it in their history. It
        is removed from the store with the last of them.
        """
        ...

    async def append(self, owner: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        """Add items at the end, in order; ``at`` is now, in Unix seconds.

        Raises:
            UnknownConversation: there is none of that id.
            DuplicateItem: the conversation has one of them, or one occurs twice.
        """
        ...

    async def conversation_items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """A page of the conversation's items; None when there is no such conversation.

        Raises:
            UnknownCursor: ``after`` is not one of them.
        """
        ...

    async def conversation_history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """All items in order, in one query; None when there is no such conversation."""
        ...

    async def conversation_item(self, owner: str, id: Id, item_id: Id) -> StoredItem | None:
        """One item of a visible conversation."""
        ...

    async def remove_item(self, owner: str, id: Id, item_id: Id) -> bool:
        """Take an item out of a visible conversation; False when it is not there."""
        ...

    async def idle(self, limit: int) -> list[Conversation]:
        """The ``limit`` visible conversations, of all owners, that have not been used for longest; those come first."""
        ...

    async def referenced(self, owner: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
        """Those of the items that a visible response or conversation holds, by id; where several have one id, the
        newest.
        """
        ...

    async def claim(self, owner: str, id: Id) -> Claim:
        """Become the one who writes to the conversation; whether it exists is not looked at. A claim ends with
        ``release``, or with the process. ``append``, ``commit`` and ``remove_item`` do not ask for it.

        Raises:
            ConversationLocked: somebody else is.
        """
        ...


class Store(ResponseStore, ConversationStore, RunStore, Protocol):
    """All that is kept, in one place."""

    @property
    def deliveries(self) -> DeliveryStore:
        """Webhooks that responses in the background brought about."""
        ...

    @property
    def keys(self) -> KeyStore:
        """Keys, and what they used."""
        ...
