"""What the rest of the system asks of a store. The spine imports this file alone.

Every call takes the ``owner``; another owner's id is answered exactly as a missing one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from antiphon.metrics import Histogram
from antiphon.wire import Id


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


class Page(msgspec.Struct, frozen=True):
    """A page of a list, in the order asked for."""

    items: Sequence[StoredItem]
    has_more: bool


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which visible responses are meant: those for which all of it holds; all there are when nothing is said.

    Attributes:
        before: created before that time, in Unix seconds.
        owner: of that owner.
        user: whose request named that ``user`` or ``safety_identifier``.
    """

    before: int | None = None
    owner: str | None = None
    user: str | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How large and how busy a store is.

    Attributes:
        used_bytes: what its content takes, free space within files not counted.
        file_bytes: what it takes of the disk; 0 for a store in memory.
        writes: writes that wait or are under way; and ``reads``.
        groups: how many requests shared each transaction; None where there are no transactions.
    """

    used_bytes: int
    file_bytes: int = 0
    writes: int = 0
    reads: int = 0
    groups: Histogram | None = None


class UnknownCursor(Exception):
    """``after`` names nothing in that list."""


class DuplicateResponse(Exception):
    """A response of that id is kept already, visible or hidden; nothing was changed."""


class StoreUnavailable(Exception):
    """The store cannot take the write, or cannot be read: disk full, read-only, corrupt, closed. The text
    says which.
    """


class ResponseStore(Protocol):
    """Where responses outlive the process.

    Every method may raise ``StoreUnavailable``. A method that returned has done all of its work durably
    (memory stores excepted); one that raised has done nothing.
    """

    async def commit(self, record: Record) -> None:
        """Keep a finished response: one transaction, durable when it returns.

        A ``previous_response_id`` that is not kept (removed meanwhile, or another owner's) adds nothing to
        the history. A caller that is cancelled while it waits does not know whether the response was kept.

        Raises:
            DuplicateResponse: the id is taken.
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
        deleted ancestor still contributes.
        """
        ...

    async def delete(self, owner: str, id: Id) -> bool:
        """Hide the response for ever; its children keep working. False when there is none.

        What no visible response's chain needs any more is removed from the store in the same transaction.
        """
        ...

    async def purge(self, selection: Selection, limit: int) -> int:
        """Delete, as ``delete`` does, up to ``limit`` of the selected responses of all owners, oldest first; says how
        many. One short transaction: for many, call it until it says 0.
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

    async def figures(self) -> Figures:
        """How large and how busy it is."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of everything."""
        ...
