"""``make_strict``: a JSON schema in the strict subset that structured output and strict functions ask for.

In that subset every object is closed and requires all its keys. Python types rarely say it like that, so a schema made
of one is put into that form: keywords that only explain or check (which the reader of the answer checks again) are
left out, and what has another spelling is spelled anew. A schema that still has what the subset does not know stays as
it was, and is not strict.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, cast

from antiphon.wire.strict import FORMATS, NOT_PERMITTED, refusal

_STRUCTURE: Final = {
    "oneOf", "allOf", "not", "if", "then", "else", "prefixItems", "contains", "patternProperties", "propertyNames",
    "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
}  # fmt: skip
_DROPPED: Final = (NOT_PERMITTED - _STRUCTURE) | {"discriminator", "default"}
"""Keywords without which the schema admits more, but has the same shape. A default says nothing where each member has
to be given, and servers of before 2026 refuse it.
"""

Json = dict[str, Any]


def make_strict(schema: Mapping[str, Any]) -> tuple[Json, bool]:
    """The schema to send, and whether it is strict. What was passed in is left alone."""
    original = copy.deepcopy(dict(schema))
    strict = _StrictRewriter(original).rewrite()
    return (strict, True) if refusal(strict) is None else (original, False)


class _StrictRewriter:
    """One schema on its way, with its definitions."""

    def __init__(self, schema: Json) -> None:
        self._root = schema

    def rewrite(self) -> Json:
        root = self._root
        if "$ref" in root:
            root = {**self._target(root["$ref"]), **{key: value for key, value in root.items() if key != "$ref"}}
        return self._schema(root)

    def _schema(self, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        members = {key: value for key, value in cast(Json, schema).items() if key not in _DROPPED}
        if "$ref" in members:
            return self._reference(members)
        if members.get("format", "date") not in FORMATS:
            del members["format"]
        return self._object(self._make_members_strict(_normalize_unions(members)))

    def _reference(self, schema: Json) -> Json:
        """A reference stands alone; what describes it is merged with what it refers to, unless that would never end."""
        if schema.keys() == {"$ref"}:
            return schema
        target = self._target(schema["$ref"])
        if _mentions(target, schema["$ref"]):
            return {"$ref": schema["$ref"]}
        return self._schema({**target, **{key: value for key, value in schema.items() if key != "$ref"}})

    def _target(self, reference: str) -> Json:
        found: Any = self._root
        for key in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(key, {}) if key else found
        return found

    def _make_members_strict(self, schema: Json) -> Json:
        for key in ("properties", "$defs", "definitions"):
            if isinstance(schema.get(key), dict):
                schema[key] = {name: self._schema(inner) for name, inner in schema[key].items()}
        for key in ("anyOf",):
            if isinstance(schema.get(key), list):
                schema[key] = [self._schema(inner) for inner in schema[key]]
        if "items" in schema:
            schema["items"] = self._schema(schema["items"])
        return schema

    def _object(self, schema: Json) -> Json:
        if schema.get("type") == "object":
            schema.setdefault("properties", {})
            schema["required"] = list(schema["properties"])
            schema.setdefault("additionalProperties", False)
        return schema


def _normalize_unions(schema: Json) -> Json:
    """``oneOf`` as ``anyOf``, and an ``allOf`` of one as what it holds: the same to a writer."""
    if "oneOf" in schema and "anyOf" not in schema:
        schema["anyOf"] = schema.pop("oneOf")
    match schema.get("allOf"):
        case [dict()]:
            return {**schema.pop("allOf")[0], **schema}
        case _:
            return schema


def _mentions(schema: Any, reference: str) -> bool:
    if isinstance(schema, dict):
        members = cast(Json, schema)
        return members.get("$ref") == reference or any(_mentions(inner, reference) for inner in members.values())
    return isinstance(schema, list) and any(_mentions(inner, reference) for inner in cast("list[Any]", schema))
