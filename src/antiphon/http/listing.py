"""Lists as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from antiphon.store import Page, Slice
from antiphon.wire import Json
from antiphon.wire.kinds import KINDS
from antiphon.wire.lists import ItemList
from antiphon.wire.queries import PageQuery

L = TypeVar("L")
R = TypeVar("R")


def list_page(kind: Callable[..., L], page: Slice[R], show: Callable[[R], Any]) -> L:
    """The list object of a page, each row as ``show`` makes it; what is shown has an ``id``."""
    data = [show(row) for row in page.found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return kind(data=data, first_id=first, last_id=last, has_more=page.has_more)


def item_list(items: Sequence[Json], query: PageQuery, has_more: bool) -> ItemList:
    """The list object of items, each with what the request includes."""
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    data = [apply_include(item, query) for item in items]
    return ItemList(data=data, first_id=first, last_id=last, has_more=has_more)


def item_page(page: Page, query: PageQuery) -> ItemList:
    """The list object of a store's page."""
    return item_list([msgspec.json.decode(item.doc) for item in page.items], query, page.has_more)


def apply_include(item: Json, query: PageQuery) -> Json:
    """The item without its large members, unless the request includes them."""
    for hidden in KINDS[item["type"]].hidden:
        if hidden.include not in query.include and item.get(hidden.member) is not None:
            item = item | {hidden.member: _without(item[hidden.member], hidden.part)}
    return item


def _without(member: Any, part: str | None) -> Any:
    """What is left of a member: nothing, or all but a part of it."""
    if part is None:
        return None
    if isinstance(member, list):
        return [_without(entry, part) for entry in cast("list[Any]", member)]
    if not isinstance(member, dict):
        return member
    whole = cast(Json, member)
    return {**whole, part: None} if part in whole else whole
