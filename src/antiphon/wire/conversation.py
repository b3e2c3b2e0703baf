"""Conversations as they cross the API: the object, and the three bodies.

Source: the official SDK's types (openai 3.54); at most 20 items a call.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.input_items import InputItem
from antiphon.wire.items import Ids, expand_short_form, normal
from antiphon.wire.kinds import KINDS
from antiphon.wire.paging import ListPage
from antiphon.wire.validation import Fault, check
from antiphon.wire.values import TEXT_CHARS_MAX, Metadata, StrictStruct

ITEMS_MAX = 20
_Items = Annotated[list[InputItem], Meta(max_length=ITEMS_MAX)]


class ConversationObject(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation; ``created_at`` is in Unix seconds."""

    id: Id
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class ConversationDeleted(msgspec.Struct, frozen=True):
    """What is gone."""

    id: Id
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True


class ConversationList(ListPage[ConversationObject], frozen=True):
    """A page of conversations."""


class NewConversation(StrictStruct, kw_only=True):
    items: _Items | None = None
    metadata: Metadata | None = None


class ChangedConversation(StrictStruct, kw_only=True):
    """``null`` for ``metadata`` takes all of it away."""

    metadata: Metadata | None


class NewItems(StrictStruct, kw_only=True):
    items: _Items


class ConversationParams(msgspec.Struct, frozen=True, kw_only=True):
    """What a body says: items in normal form, metadata, and the undocumented members that were passed over."""

    items: tuple[Json, ...] = ()
    metadata: dict[str, str] = {}
    ignored: tuple[str, ...] = ()


def new_conversation(body: object, ids: Ids, *, strict: bool) -> ConversationParams:
    """The body of ``POST /v1/conversations``; ``null`` means absent.

    Raises:
        InvalidRequest: the first thing wrong.
    """
    raw = {key: value for key, value in _object(body).items() if value is not None}
    params, ignored = check(_canonical(raw), NewConversation, strict=strict)
    return ConversationParams(items=_normal(raw.get("items", []), ids), metadata=params.metadata or {}, ignored=ignored)


def changed_conversation(body: object, *, strict: bool) -> ConversationParams:
    """The body of ``POST /v1/conversations/{id}``: metadata, which replaces all that was there.

    Raises:
        InvalidRequest: the first thing wrong.
    """
    params, ignored = check(_object(body), ChangedConversation, strict=strict)
    return ConversationParams(metadata=params.metadata or {}, ignored=ignored)


def new_items(body: object, ids: Ids, *, strict: bool) -> ConversationParams:
    """The body of ``POST /v1/conversations/{id}/items``.

    Raises:
        InvalidRequest: the first thing wrong.
    """
    raw = _object(body)
    _, ignored = check(_canonical(raw), NewItems, strict=strict)
    return ConversationParams(items=_normal(raw["items"], ids), ignored=ignored)


def _object(body: object) -> Json:
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    return cast(Json, body)


def _canonical(raw: Json) -> Json:
    items: Any = raw.get("items")
    return (
        raw | {"items": [expand_short_form(item) for item in cast("list[Any]", items)]}
        if isinstance(items, list)
        else raw
    )


def _normal(items: list[Any], ids: Ids) -> tuple[Json, ...]:
    found = normal([expand_short_form(item) for item in items], ids, chars_max=TEXT_CHARS_MAX, member="items")
    for index, item in enumerate(found):
        if not KINDS[item["type"]].stored:
            text = f"Invalid value: '{item['type']}'. It belongs to one request, and is not kept in a conversation."
            raise Fault(("items", index, "type"), "invalid_value", text).error()
    return found
