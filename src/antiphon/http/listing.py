"""Lists as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.store import Page
from antiphon.wire import Id, Json
from antiphon.wire.lists import ItemList
from antiphon.wire.request import PageQuery

_IMAGE = "message.input_image.image_url"


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
    """The item without its images' data, unless the request includes it."""
    content: str | list[Json] | None = item.get("content")
    if _IMAGE in query.include or not isinstance(content, list):
        return item
    return item | {"content": [part | {"image_url": None} if "image_url" in part else part for part in content]}
