"""The small objects around responses: pages, deletions, models, health. Source: the official SDK's types."""

from __future__ import annotations

from typing import Literal

import msgspec

from antiphon.wire import Id, Json
from antiphon.wire.paging import ListPage
from antiphon.wire.response import Response


class ItemList(ListPage[Json], frozen=True):
    """A page of items."""


class ResponseList(ListPage[Response], frozen=True):
    """A page of responses."""


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
