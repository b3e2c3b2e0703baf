"""Lists as the API shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from antiphon.store import Page
from antiphon.wire import Id, Json
from antiphon.wire.lists import ItemList
from antiphon.wire.request import PageQuery

Hide: TypeAlias = Callable[[Json], Json]


def ends(ids: Sequence[Id]) -> tuple[Id | None, Id | None]:
    """The first and the last of a page's ids."""
    return (ids[0], ids[-1]) if ids else (None, None)


def item_list(items: Sequence[Json], query: PageQuery, has_more: bool) -> ItemList:
    """The list object of items, each with what the request includes."""
    first, last = ends([item["id"] for item in items])
    return ItemList(data=[shown(item, query) for item in items], first_id=first, last_id=last, has_more=has_more)


def item_page(page: Page, query: PageQuery) -> ItemList:
    """The list object of a store's page."""
    return item_list([msgspec.json.decode(item.doc) for item in page.items], query, page.has_more)


def shown(item: Json, query: PageQuery) -> Json:
    """The item without what is large, unless the request includes it."""
    for include, hide in _LARGE.get(item["type"], ()):
        if include not in query.include:
            item = hide(item)
    return item


def _without_images(message: Json) -> Json:
    content: list[Json] = message["content"]
    if not any("image_url" in part for part in content):
        return message
    return message | {"content": [part | {"image_url": None} if "image_url" in part else part for part in content]}


def _without(member: str, part: str | None = None) -> Hide:
    """Hides a member of an item, or a part of it."""

    def hide(item: Json) -> Json:
        whole = item.get(member)
        if part is None:
            return item | {member: None}
        return item | {member: whole | {part: None}} if isinstance(whole, dict) and part in whole else item

    return hide


_LARGE: dict[str, tuple[tuple[str, Hide], ...]] = {
    "message": (("message.input_image.image_url", _without_images),),
    "computer_call_output": (("computer_call_output.output.image_url", _without("output", "image_url")),),
    "file_search_call": (("file_search_call.results", _without("results")),),
    "web_search_call": (("web_search_call.action.sources", _without("action", "sources")),),
    "code_interpreter_call": (("code_interpreter_call.outputs", _without("outputs")),),
}
"""By an item's type: what ``include`` calls it, and how it is left out. Source: the reference of ``include``."""
