"""What all pages of a list have in common. Source: the official SDK's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from antiphon.wire import Id

T = TypeVar("T")


class ListPage(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list, in the order asked for."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    first_id: Id | None
    last_id: Id | None
    has_more: bool
