"""Query strings, read into structs: of one response, of lists of items, and of the lists for people.

The lists for people, ``GET /v1/responses`` and ``GET /v1/conversations``, are an extension of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta
from msgspec.inspect import BoolType, DictType, Field, IntType, ListType, StructType, UnionType, type_info

from antiphon.wire import Json
from antiphon.wire.response import Status
from antiphon.wire.validation import check, wrong_type
from antiphon.wire.values import INT_MAX, Include

_INT_CHARS_MAX = 12
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
Time = Annotated[int, Meta(ge=0, le=INT_MAX * 100)]
Q = TypeVar("Q", bound=msgspec.Struct)


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of a listing: items after the id ``after``; ``limit`` is a count of items, 1 to 100."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    include: list[Include] = []


class RetrieveQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of one response: its stream behind event number ``starting_after`` instead of the object, with padded
    deltas unless ``include_obfuscation`` is false.
    """

    include: list[Include] = []
    stream: bool = False
    starting_after: Annotated[int, Meta(ge=-1, le=INT_MAX)] = -1
    include_obfuscation: bool = True


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


def read_query(params: Iterable[tuple[str, str]], kind: type[Q]) -> Q:
    """The query from its decoded ``(key, value)`` pairs; unknown keys are ignored.

    A list may come as ``include[]=a&include[]=b``, ``include=a&include=b`` or ``include=a,b``, a map as
    ``metadata[key]=value``, which may come many times.

    Raises:
        InvalidRequest: a value that is not of its member's type, out of bounds, or none of the known ones.
    """
    types = _types(kind)
    raw: Json = {}
    for key, value in params:
        name, bracket, inner = key.partition("[")
        match types.get(name):
            case ListType() if inner in ("", "]"):
                raw.setdefault(name, []).extend(part for part in value.split(",") if part)
            case DictType():
                if inner.endswith("]"):
                    raw.setdefault(name, {})[inner[:-1]] = value
            case IntType() if not bracket:
                raw[name] = _integer(name, value)
            case BoolType() if not bracket:
                raw[name] = _boolean(name, value)
            case _:
                raw[key] = value
    return check(raw, kind, strict=False)[0]


@cache
def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    info = type_info(kind)
    assert isinstance(info, StructType)
    return {field.name: _type_of(field) for field in info.fields}


def _type_of(field: Field) -> Any:
    """The type of a member, which may be null besides."""
    return field.type.types[0] if isinstance(field.type, UnionType) else field.type


def _integer(key: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _INT_CHARS_MAX):
        raise wrong_type((key,), "an integer", text).error()
    return int(text)


def _boolean(key: str, text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise wrong_type((key,), "a boolean", text).error()
    return _BOOLEANS[text.lower()]
