"""Bounds for what a schema leaves free, so that an answer held to it comes to its end within its tokens. Pure.

A sampler that may write one more character, digit, blank or item lets a small model repeat itself for ever. So each
text, list and map gets a share of the answer's tokens. What fits the bounded schema fits the schema as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from antiphon.models.chat.references import change_schemas
from antiphon.wire import Json

CHARS_PER_TOKEN: Final = 2
"""Words have four, but digits and signs, which small models like to repeat, hardly more than one."""
CHARS_MIN: Final = 24
"""No text is held shorter than what names a thing."""
FORMAT_CHARS_MIN: Final = 256
"""The same for a text of some format: an address may be long, and none has to be longer."""
FORMAT_CHARS_LEAST: Final = 64
"""No format has to be longer than this to be one: a time or an identifier has its length."""
NUMBER_MAX: Final = 10**18
NUMBER_STEP: Final = 1e-9
"""How finely a number is written that has a fraction."""
SIDES: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_NUMBER_RANGE_MIN: Final = 1e-3
"""What of a caller's own is narrower is left as it is."""
_TEXT_TOKENS, _OTHER_TOKENS = 14, 7
"""What a text or anything else takes at least, with what is around it."""
_CHARS_OF_NAMES_PER_TOKEN: Final = 4
_DEPTH_MAX: Final = 32
_FIXED: Final = ("enum", "const", "pattern")
_COMBINED: Final = ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "unevaluatedProperties")
"""Keywords by which an object has members beside its own."""
BRANCHES: Final = ("anyOf", "oneOf")
_DEFINITIONS: Final = ("$defs", "definitions")


def bound(schema: Json, tokens: int) -> Json:
    """The schema with bounds for an answer of ``tokens``."""
    return _bound(schema, tokens, 0)


def bound_lightly(schema: Json, tokens: int) -> Json:
    """The schema with bounds on the digits of its numbers and on texts that cannot end anywhere, and no members beside
    those that it names.
    """
    return change_schemas(schema, lambda node: _bound_one_lightly(node, tokens))


def _bound_one_lightly(node: Json, tokens: int) -> Json:
    types = kinds(node)
    if "object" in types and node.get("properties"):
        node = _close(node)
    if "string" in types and ("format" in node or "pattern" in node):
        chars = min(FORMAT_CHARS_MIN, max(tokens // 2, FORMAT_CHARS_LEAST))
        node = _lower_bound(node, "maxLength", chars, least=number(node, "minLength"))
    return _bound_number(node, 0, 0) if "number" in types or "integer" in types else node


def _bound(node: Json, tokens: int, depth: int) -> Json:
    if depth > _DEPTH_MAX:
        return node
    for keyword in BRANCHES:
        if isinstance(node.get(keyword), list):
            node = {**node, keyword: [_each(one, tokens, depth) for one in node[keyword]]}
    for keyword in _DEFINITIONS:
        if isinstance(node.get(keyword), dict):
            # How often they are used is not counted.
            node = {**node, keyword: {name: _each(one, tokens // 4, depth) for name, one in node[keyword].items()}}
    for kind in kinds(node):
        node = _BY_KIND[kind](node, tokens, depth) if kind in _BY_KIND else node
    return node


def kinds(node: Json) -> list[str]:
    """The types that the schema names."""
    types: Any = node.get("type")
    named = cast("list[Any]", types) if isinstance(types, list) else [types]
    return [kind for kind in named if isinstance(kind, str)]


def _each(node: Any, tokens: int, depth: int) -> Any:
    return _bound(cast(Json, node), tokens, depth + 1) if isinstance(node, dict) else node


def _bound_text(node: Json, tokens: int, depth: int) -> Json:
    if any(keyword in node for keyword in _FIXED):
        return node
    chars = max(tokens * CHARS_PER_TOKEN, FORMAT_CHARS_MIN if "format" in node else CHARS_MIN)
    return _lower_bound(node, "maxLength", chars, least=number(node, "minLength"))


def _bound_number(node: Json, tokens: int, depth: int) -> Json:
    """Between numbers of 18 digits, where nothing else is said of that side, and with nine digits of a fraction."""
    if "enum" in node or "const" in node:
        return node
    lows = [node[name] for name in SIDES[:2] if isinstance(node.get(name), int | float)]
    highs = [node[name] for name in SIDES[2:] if isinstance(node.get(name), int | float)]
    low, high = max(lows, default=-NUMBER_MAX), min(highs, default=NUMBER_MAX)
    if high - low < _NUMBER_RANGE_MIN:
        return node
    node = node if lows else {**node, "minimum": low}
    node = node if highs else {**node, "maximum": high}
    return {"multipleOf": NUMBER_STEP, **node} if "number" in kinds(node) else node


def _bound_list(node: Json, tokens: int, depth: int) -> Json:
    items: Any = node.get("items")
    fit = max(tokens // least(items, depth), 1)
    node = _lower_bound(node, "maxItems", fit, least=number(node, "minItems"))
    if not isinstance(items, dict):
        return node
    return {**node, "items": _each(items, tokens // max(number(node, "maxItems"), 1), depth)}


def _bound_object(node: Json, tokens: int, depth: int) -> Json:
    properties: Any = node.get("properties")
    if not isinstance(properties, dict) or not properties:
        return _bound_map(node, tokens, depth)
    needs = {name: least(one, depth) for name, one in cast(Json, properties).items()}
    spare = max(tokens - sum(needs.values()), 0)
    free = [name for name, one in cast(Json, properties).items() if _is_free(one)]
    share = spare // len(free) if free else 0
    bounded = {n: _each(one, needs[n] + share, depth) for n, one in cast(Json, properties).items()}
    return _close({**node, "properties": bounded})


def _close(node: Json) -> Json:
    """The object without members beside those it names, where nothing is said of them."""
    return node if any(keyword in node for keyword in _COMBINED) else {"additionalProperties": False, **node}


def _bound_map(node: Json, tokens: int, depth: int) -> Json:
    """An object whose members have no names of their own."""
    if any(keyword in node for keyword in _COMBINED) or node.get("additionalProperties") is False:
        return node
    values: Any = node.get("additionalProperties")
    fit = max(tokens // (_TEXT_TOKENS + least(values, depth)), 1)
    node = _lower_bound(node, "maxProperties", fit, least=number(node, "minProperties"))
    if not isinstance(values, dict):
        return node
    return {**node, "additionalProperties": _each(values, tokens // max(number(node, "maxProperties"), 1), depth)}


_BY_KIND: Final[dict[str, Callable[[Json, int, int], Json]]] = {
    "string": _bound_text,
    "integer": _bound_number,
    "number": _bound_number,
    "array": _bound_list,
    "object": _bound_object,
}


def _lower_bound(node: Json, keyword: str, value: int, *, least: int) -> Json:
    """With the bound; a given one is lowered, but to no less than ``least``."""
    given: Any = node.get(keyword)
    return {**node, keyword: max(min(given, value) if isinstance(given, int) else value, least)}


def number(node: Json, keyword: str) -> int:
    """A bound that the schema gives; 0 for none."""
    value: Any = node.get(keyword)
    return value if isinstance(value, int) else 0


def _is_free(node: Any) -> bool:
    """Whether how long it is written is not given by the schema."""
    if not isinstance(node, dict) or "enum" in node or "const" in node:
        return False
    types = kinds(cast(Json, node))
    return not types or not {"string", "array", "object"}.isdisjoint(types)


def least(node: Any, depth: int = 0) -> int:
    """How many tokens it takes at least."""
    if not isinstance(node, dict) or depth > _DEPTH_MAX:
        return _OTHER_TOKENS
    known = cast(Json, node)
    properties, items = known.get("properties"), known.get("items")
    if isinstance(properties, dict):
        members = cast(Json, properties)
        names = sum(map(len, members)) // _CHARS_OF_NAMES_PER_TOKEN
        return _OTHER_TOKENS + names + sum(least(one, depth + 1) for one in members.values())
    if isinstance(items, dict):
        return _OTHER_TOKENS + max(number(known, "minItems"), 1) * least(items, depth + 1)
    for keyword in BRANCHES:
        if isinstance(known.get(keyword), list):
            return max((least(one, depth + 1) for one in known[keyword]), default=_OTHER_TOKENS)
    return _TEXT_TOKENS if _is_free(known) else _OTHER_TOKENS
