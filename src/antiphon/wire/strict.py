"""``refusal``: why a JSON schema is outside the strict subset, or None.

Source: the API's structured-output rules. Walks with a stack of its own, so that a schema as deep as the decoder
allows cannot exhaust Python's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

from antiphon.wire import Json

LEVELS_MAX = 10
PROPERTIES_MAX = 5000
NAME_CHARS_MAX = 120_000
ENUM_VALUES_MAX = 1000
LONG_ENUM_VALUES = 250
LONG_ENUM_CHARS_MAX = 15_000
STEPS_MAX = 64
"""Nesting of subschemas of any kind, so that ``anyOf`` in ``anyOf`` is bounded too."""

# ``default`` is accepted, as the API has done since 2026: the Agents SDK sends those of its users' functions along.
NOT_PERMITTED = frozenset(
    """allOf oneOf not if then else dependentRequired dependentSchemas dependencies patternProperties propertyNames
    minProperties maxProperties unevaluatedProperties uniqueItems contains minContains maxContains prefixItems
    unevaluatedItems""".split()  # noqa: SIM905
)
TYPES = frozenset(("string", "number", "integer", "boolean", "null", "object", "array"))
FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"))

Context: TypeAlias = tuple[str, ...]
Found: TypeAlias = tuple[Any, Context, int]
"""A subschema, the keys that lead to it, and how many objects and arrays enclose it (a definition starts anew)."""


def refusal(schema: Json) -> str | None:
    """The first rule of the strict subset that ``schema`` breaks, as the API words it; None if it breaks none."""
    if schema.get("type") != "object" or "anyOf" in schema:
        got = schema.get("type") if "anyOf" not in schema else "anyOf"
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{got}\"'."
    size = _Size()
    stack: list[Found] = [(schema, (), 0)]
    while stack:
        found = stack.pop()
        if _plain(found[0]):
            continue
        fault = _fault(*found) or size.add(found[0])
        if fault:
            return f"In context={str(found[1])[:512]}, {fault}"
        stack.extend(reversed(list(_inside(*found))))
    return None


_TYPING = ("type", "anyOf", "$ref", "enum", "const")
_NESTING = ("properties", "items")
_PLAIN_KEYS = frozenset(("type", "description", "title"))
_PLAIN_TYPES = ("string", "number", "integer", "boolean")


def _plain(schema: Any) -> bool:
    """Whether this is a bare scalar, as most subschemas are: nothing to check, nothing inside."""
    if not isinstance(schema, dict):
        return False
    members = cast(Json, schema)
    return members.get("type") in _PLAIN_TYPES and members.keys() <= _PLAIN_KEYS


class _Size:
    """Totals over a whole schema, each with its limit."""

    def __init__(self) -> None:
        self.properties = self.chars = self.enum_values = 0

    def add(self, schema: Json) -> str | None:
        properties: Json = schema.get("properties") or {}
        enum: list[Any] = schema.get("enum") or []
        enum_chars = sum(map(_chars, enum))
        self.properties += len(properties)
        self.enum_values += len(enum)
        self.chars += sum(map(len, properties)) + sum(map(len, schema.get("$defs") or ()))
        self.chars += enum_chars + _chars(schema.get("const"))
        if self.properties > PROPERTIES_MAX:
            return f"schema exceeds the limit of {PROPERTIES_MAX} object properties."
        if self.enum_values > ENUM_VALUES_MAX:
            return f"schema exceeds the limit of {ENUM_VALUES_MAX} enum values."
        if self.chars > NAME_CHARS_MAX:
            return f"schema exceeds the limit of {NAME_CHARS_MAX} characters in names, enum and const values."
        if len(enum) > LONG_ENUM_VALUES and enum_chars > LONG_ENUM_CHARS_MAX:
            return f"an enum of over {LONG_ENUM_VALUES} values exceeds {LONG_ENUM_CHARS_MAX} characters."
        return None


def _chars(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _fault(schema: Any, context: Context, level: int) -> str | None:
    if type(schema) is not dict:
        return "schema must be an object."
    members = cast(Json, schema)
    if (level > LEVELS_MAX and not members.keys().isdisjoint(_NESTING)) or len(context) > 2 * STEPS_MAX:
        return f"schema exceeds the limit of {LEVELS_MAX} levels of nesting."
    if not NOT_PERMITTED.isdisjoint(members):
        return f"'{next(key for key in members if key in NOT_PERMITTED)}' is not permitted."
    return _find_malformed(members) or _typing(members) or _object(members) or _array(members)


_SHAPES: dict[str, type] = {
    "properties": dict, "required": list, "enum": list, "anyOf": list, "$defs": dict, "definitions": dict, "$ref": str,
}  # fmt: skip


def _find_malformed(schema: Json) -> str | None:
    for key, shape in _SHAPES.items():
        if key in schema and type(schema[key]) is not shape:
            return f"'{key}' is malformed."
    return None


def _typing(schema: Json) -> str | None:
    if schema.keys().isdisjoint(_TYPING):
        return "schema must have a 'type' key."
    if any(kind not in TYPES for kind in _types(schema)):
        return f"'type' must be one of {', '.join(sorted(TYPES))}."
    ref, form = schema.get("$ref", "#"), schema.get("format")
    if not ref.startswith("#"):
        return "'$ref' must point into the same schema."
    return None if form is None or (type(form) is str and form in FORMATS) else f"'{form}' is not a valid format."


def _types(schema: Json) -> list[str]:
    kinds: Any = schema.get("type")
    entries: list[Any] = cast("list[Any]", kinds) if type(kinds) is list else [kinds]
    return [kind if type(kind) is str else "" for kind in entries] if "type" in schema else []


def _object(schema: Json) -> str | None:
    if "object" not in _types(schema) and "properties" not in schema:
        return None
    if schema.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    properties: Json = schema.get("properties", {})
    required = {key if isinstance(key, str) else "(not a string)" for key in schema.get("required", ())}
    wanted = "'required' is required to be supplied and to be an array including every key in properties."
    for key in properties:
        if key not in required:
            return f"{wanted} Missing '{key}'."
    extra = next((key for key in sorted(required) if key not in properties), None)
    return None if extra is None else f"{wanted} Extra required key '{extra}' supplied."


def _array(schema: Json) -> str | None:
    return "array schema missing items." if "array" in _types(schema) and "items" not in schema else None


def _inside(schema: Json, context: Context, level: int) -> Iterator[Found]:
    for word in ("$defs", "definitions"):
        for key, inner in schema.get(word, {}).items():
            yield inner, (*context, word, key), 0
    for key, inner in schema.get("properties", {}).items():
        yield inner, (*context, "properties", key), level + 1
    if "items" in schema:
        yield schema["items"], (*context, "items"), level + 1
    for index, inner in enumerate(schema.get("anyOf", ())):
        yield inner, (*context, "anyOf", str(index)), level
