"""Pages of what a store keeps in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from antiphon.store import Conversation, Page, Record, Slice, StoredItem, UnknownCursor
from antiphon.wire import Id
from antiphon.wire.listing import ListQuery

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


def selected(seen: list[_Listed], query: ListQuery, asked: Callable[[_Listed], bool]) -> Slice[_Listed]:
    """The page of ``query`` from all that the owner may see.

    Raises:
        UnknownCursor: its ``after`` is none of them.
    """
    seen.sort(key=lambda each: (each.created_at, each.id), reverse=query.order == "desc")
    if query.after is not None:
        place = next((n for n, each in enumerate(seen) if each.id == query.after), None)
        if place is None:
            raise UnknownCursor(query.after)
        seen = seen[place + 1 :]
    low, high = query.created_after, query.created_before
    found = [
        each
        for each in seen
        if (low is None or each.created_at > low) and (high is None or each.created_at < high) and asked(each)
    ]
    return Slice(found[: query.limit], len(found) > query.limit)
