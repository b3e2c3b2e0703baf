"""Responses and their items, as the rest of the system asks a store for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, Literal, Protocol, TypeVar

import msgspec

from antiphon.wire import Id
from antiphon.wire.queries import ListQuery

T = TypeVar("T")

CONTEXT_BYTES_MAX: Final = 128 << 20
"""What the items of one context may have together: beside it, what the model's server reads is small."""
PAGE_BYTES_MAX: Final = 16 << 20
"""Where a page of a list ends, however many more were asked for; it has one entry at least."""


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
    project: str
    created_at: int
    status: str
    model: str
    previous_response_id: Id | None
    doc: bytes
    input: Sequence[StoredItem]
    output: Sequence[StoredItem]
    conversation_id: Id | None = None
    key_id: str | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of a list, in the order asked for."""

    items: Sequence[StoredItem]
    has_more: bool


class Slice(msgspec.Struct, Generic[T], frozen=True):
    """A page of responses, or of conversations, in the order asked for."""

    found: Sequence[T]
    has_more: bool


class ResponseStore(Protocol):
    """Where responses outlive the process. Needs no single process: every call is one transaction."""

    async def commit(self, record: Record) -> None:
        """Keep a finished response: one transaction, durable when it returns.

        Its input and its output are added to its conversation in the same transaction, if it has one. A
        ``previous_response_id`` that is not kept (removed meanwhile, or another project's) adds nothing to the
        history. A caller that is cancelled while it waits does not know whether the response was kept.

        Raises:
            DuplicateResponse: the id is taken.
            UnknownConversation: its conversation is gone.
            DuplicateItem: its conversation has one of its items.
        """
        ...

    async def get(self, project: str, id: Id) -> Record | None:
        """The response with its output; ``input`` is empty here (page through ``ItemStore.read_input``)."""
        ...

    async def read_page(self, project: str, query: ListQuery) -> Slice[Record]:
        """A page of the visible responses that ``query`` selects, each with its output, by time and id.

        Raises:
            UnknownCursor: ``after`` is no visible response, nor one that was deleted lately.
        """
        ...

    async def delete(self, project: str, id: Id) -> bool:
        """Hide the response for ever; its children keep working. False when there is none. If it runs in the
        background, that ends; its log goes.

        What no visible response's chain needs any more is removed from the store in the same transaction.
        """
        ...


class ItemStore(Protocol):
    """The items that responses and conversations hold. Needs no single process: every call is one consistent read."""

    async def read_input(
        self, project: str, response_id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """A page of the response's own input items; None when there is no such response.

        Args:
            after: the id of the last item of the page before; where an id occurs more than once, its last
                occurrence in ``order`` counts, so that paging always ends.
            limit: how many items at most; 1 or more. Fewer where they are large.

        Raises:
            UnknownCursor: ``after`` is not one of them.
        """
        ...

    async def load_history(self, project: str, response_id: Id) -> list[StoredItem] | None:
        """The whole context up to and including the response: input and output of every response of its
        chain, oldest first, input before output, in one query. None when it is missing or deleted; a
        deleted ancestor still contributes. Where the chain's first response continued a conversation, the
        conversation's items up to that response come first, those that have been removed from it excepted. A response
        that is kept for a short time only counts as missing.

        Raises:
            StillRunning: it has not ended.
            ContextTooLarge: there is more than can be read.
        """
        ...

    async def load_context(self, project: str, response_id: Id) -> list[StoredItem] | None:
        """The same for a response that runs in the background itself, up to its own input."""
        ...

    async def find(self, project: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
        """Those of the items that a visible response or conversation holds, by id; where several have one id, the
        newest.

        Raises:
            ContextTooLarge: there is more than can be read.
        """
        ...
