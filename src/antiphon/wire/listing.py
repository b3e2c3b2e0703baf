"""The query of the lists for people, ``GET /v1/responses`` and ``GET /v1/conversations``: an extension of ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.request import INT_MAX
from antiphon.wire.response import Status
from antiphon.wire.validation import checked, wrong_type

_INTEGERS: Final = ("limit", "created_after", "created_before")
_METADATA: Final = "metadata["
Time = Annotated[int, Meta(ge=0, le=INT_MAX * 100)]


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to list: at most ``limit`` (1 to 100) behind the id ``after``, newest first unless ``order`` is ``asc``.

    Attributes:
        created_after, created_before: Unix seconds; neither end is included.
        metadata: pairs that must all be there.
    """

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    model: str | None = None
    status: Status | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    metadata: dict[str, str] = {}


def list_query(params: Iterable[tuple[str, str]]) -> ListQuery:
    """The query from its decoded pairs; ``metadata[key]=value`` may come many times, unknown keys are passed over.

    Raises:
        InvalidRequest: a number that is none or out of bounds, or an unknown order or status.
    """
    raw: Json = {}
    metadata: dict[str, str] = {}
    for key, value in params:
        if key.startswith(_METADATA) and key.endswith("]"):
            metadata[key[len(_METADATA) : -1]] = value
        elif key != "metadata":
            raw[key] = _integer(key, value) if key in _INTEGERS else value
    return checked(raw | {"metadata": metadata}, ListQuery, strict=False)[0]


def _integer(key: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 13):
        raise wrong_type((key,), "an integer", text).error()
    return int(text)
