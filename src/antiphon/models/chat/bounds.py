"""Bounds for what a schema leaves free, so that an answer held to it comes to its end within its tokens. Pure.

A sampler that may write one more character, or one more item, lets a small model repeat itself for ever. So each text
and each list gets a share of the answer's tokens. What fits the bounded schema fits the schema as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from antiphon.wire import Json

CHARS_PER_TOKEN: Final = 3
CHARS_MIN: Final = 24
"""No text is held shorter than what names a thing."""
CHARS_MAX: Final = 1500
ITEMS_MAX: Final = 500
"""What is longer is more than samplers can count, and is not bound."""
_TEXT_TOKENS, _OTHER_TOKENS = 12, 4
"""What a text or anything else takes at least, its name included."""
_DEPTH_MAX: Final = 32
_FIXED: Final = ("enum", "const", "format", "pattern")
_BRANCHES: Final = ("anyOf", "oneOf")


def bound(schema: Json, tokens: int | None) -> Json:
    """The schema with bounds for an answer of ``tokens``; as it is where there is no such limit."""
    return schema if tokens is None else _bound(schema, tokens, 0)


def _bound(node: Json, tokens: int, depth: int) -> Json:
    if depth > _DEPTH_MAX:
        return node
    for keyword in _BRANCHES:
        if isinstance(node.get(keyword), list):
            node = {**node, keyword: [_each(one, tokens, depth) for one in node[keyword]]}
    if isinstance(node.get("$defs"), dict):
        # How often they are used is not counted.
        node = {**node, "$defs": {name: _each(one, tokens // 4, depth) for name, one in node["$defs"].items()}}
    for kind in _kinds(node):
        node = _BY_KIND[kind](node, tokens, depth) if kind in _BY_KIND else node
    return node


def _kinds(node: Json) -> list[str]:
    """The types that the schema names."""
    kinds: Any = node.get("type")
    named = cast("list[Any]", kinds) if isinstance(kinds, list) else [kinds]
    return [kind for kind in named if isinstance(kind, str)]


def _each(node: Any, tokens: int, depth: int) -> Any:
    return _bound(cast(Json, node), tokens, depth + 1) if isinstance(node, dict) else node


def _bound_text(node: Json, tokens: int, depth: int) -> Json:
    if any(keyword in node for keyword in _FIXED):
        return node
    chars = max(tokens * CHARS_PER_TOKEN, CHARS_MIN)
    return _lower_bound(node, "maxLength", chars, most=CHARS_MAX, least=_number(node, "minLength"))


def _bound_list(node: Json, tokens: int, depth: int) -> Json:
    items: Any = node.get("items")
    if not isinstance(items, dict):
        return node
    fit = max(tokens // _least(items, depth), 1)
    node = _lower_bound(node, "maxItems", fit, most=ITEMS_MAX, least=_number(node, "minItems"))
    return {**node, "items": _each(items, tokens // max(_number(node, "maxItems") or fit, 1), depth)}


def _bound_object(node: Json, tokens: int, depth: int) -> Json:
    properties: Any = node.get("properties")
    if not isinstance(properties, dict) or not properties:
        return node
    least = {name: _least(one, depth) for name, one in cast(Json, properties).items()}
    spare = max(tokens - sum(least.values()), 0)
    free = [name for name, one in cast(Json, properties).items() if _is_free(one)]
    share = spare // len(free) if free else 0
    return {**node, "properties": {n: _each(one, least[n] + share, depth) for n, one in cast(Json, properties).items()}}


_BY_KIND: Final[dict[str, Callable[[Json, int, int], Json]]] = {
    "string": _bound_text,
    "array": _bound_list,
    "object": _bound_object,
}


def _lower_bound(node: Json, keyword: str, value: int, *, most: int, least: int) -> Json:
    """With the bound, where it is no more than ``most``; a given one is lowered, but to no less than ``least``."""
    given: Any = node.get(keyword)
    value = max(min(given, value) if isinstance(given, int) else value, least)
    return {**node, keyword: value} if value <= most else node


def _number(node: Json, keyword: str) -> int:
    value: Any = node.get(keyword)
    return value if isinstance(value, int) else 0


def _is_free(node: Any) -> bool:
    """Whether how long it is written is not given by the schema."""
    if not isinstance(node, dict) or "enum" in node or "const" in node:
        return False
    kinds = _kinds(cast(Json, node))
    return not kinds or not {"string", "array", "object"}.isdisjoint(kinds)


def _least(node: Any, depth: int) -> int:
    """How many tokens it takes at least."""
    if not isinstance(node, dict) or depth > _DEPTH_MAX:
        return _OTHER_TOKENS
    known = cast(Json, node)
    properties, items = known.get("properties"), known.get("items")
    if isinstance(properties, dict):
        return _OTHER_TOKENS + sum(_least(one, depth + 1) for one in cast(Json, properties).values())
    if isinstance(items, dict):
        return _OTHER_TOKENS + max(_number(known, "minItems"), 1) * _least(items, depth + 1)
    return _TEXT_TOKENS if _is_free(known) else _OTHER_TOKENS
