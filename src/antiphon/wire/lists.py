"""The small objects around responses: pages, deletions, models, health. Source: the official SDK's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from antiphon.wire import Id, Json
from antiphon.wire.response import Response


class ItemList(msgspec.Struct, kw_only=True):
    """A page of items, in the order asked for."""

    object: Literal["list"] = "list"
    data: list[Json]
    first_id: Id | None
    last_id: Id | None
    has_more: bool


class ResponseList(msgspec.Struct, kw_only=True):
    """A page of responses, in the order asked for."""

    object: Literal["list"] = "list"
    data: Sequence[Response]
    first_id: Id | None
    last_id: Id | None
    has_more: bool


class Deleted(msgspec.Struct):
    """What is gone."""

    id: Id
    object: Literal["response.deleted"] = "response.deleted"
    deleted: bool = True


class Model(msgspec.Struct):
    """A model that requests may name. ``created`` is 0: nobody knows."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "antiphon"


class ModelList(msgspec.Struct):
    """All models."""

    data: list[Model]
    object: Literal["list"] = "list"


class Health(msgspec.Struct):
    """How the server is."""

    status: Literal["ok", "ready"]
