"""The shortest values that fit a JSON schema. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast

from antiphon.models.chat import bounds
from antiphon.wire import Json
from antiphon.wire.pointers import look_up, steps_of

Refs: TypeAlias = frozenset[str]
_REFS_MAX: Final = 64
_BEYOND: Final = ("allOf", "if", "not", "patternProperties", "dependentSchemas", "propertyNames", "contains")
"""Keywords under which it is not known here what fits."""
_KEPT: Final = ("type", "minLength", "maxLength", "pattern", "format", "minItems", "multipleOf", *bounds.SIDES)
"""Keywords that hold of the shortest value too."""
_ANY: Final[Json] = {"type": ["string", "number", "boolean", "null"]}


class Endless(Exception):
    """No short value is known: the schema is beyond this, or has none."""


class Schemas:
    """Schemas of one document, with their references followed."""

    def __init__(self, root: Json) -> None:
        self._root = root

    def follow(self, node: Any, outer: Refs) -> tuple[Json, Refs]:
        """The schema, with what it refers to in its place, and the references that led to it.

        Args:
            outer: those that led to what it stands in.

        Raises:
            Endless: it refers to nothing, or in a circle.
        """
        for _ in range(_REFS_MAX):
            if node is True:
                return {}, outer
            if not isinstance(node, dict):
                raise Endless
            known = cast(Json, node)
            if "$ref" in known:
                node = {**self._target(known["$ref"]), **without(known, "$ref")}
                outer |= {known["$ref"]}
            elif isinstance(known.get("allOf"), list) and len(known["allOf"]) == 1:
                node = {**known["allOf"][0], **without(known, "allOf")}
            elif any(keyword in known for keyword in _BEYOND):
                raise Endless
            else:
                return known, outer
        raise Endless

    def _target(self, ref: Any) -> Json:
        node = look_up(self._root, steps_of(ref[1:])) if isinstance(ref, str) and ref.startswith("#") else None
        if not isinstance(node, dict):
            raise Endless
        return cast(Json, node)


class Shortest(Schemas):
    """Makes schemas of the shortest values that fit them, without references."""

    def __init__(self, root: Json, chars: int) -> None:
        super().__init__(root)
        self._chars = chars

    def of(self, node: Any, outer: Refs = frozenset()) -> Json:
        """The schema of the shortest values.

        Args:
            outer: the references that led to what it stands in. None of them is followed again.

        Raises:
            Endless: there is no such value, or none is found.
        """
        known, refs = self.follow(node, frozenset())
        if refs & outer:
            raise Endless
        outer |= refs
        if "const" in known or "enum" in known:
            return {keyword: known[keyword] for keyword in ("type", "const", "enum") if keyword in known}
        for keyword in bounds.BRANCHES:
            if isinstance(known.get(keyword), list):
                return {"anyOf": self._branches(known, keyword, outer)}
        return self._alone(known, outer)

    def _branches(self, node: Json, keyword: str, outer: Refs) -> list[Json]:
        beside = without(node, keyword)
        found: list[Json] = []
        for branch in node[keyword]:
            with suppress(Endless):
                found.append(self.of({**branch, **beside} if isinstance(branch, dict) else branch, outer))
        if not found:
            raise Endless
        return found

    def _alone(self, node: Json, outer: Refs) -> Json:
        kinds = bounds.kinds(node)
        if not kinds:
            node, kinds = {**_ANY, **node}, bounds.kinds(_ANY)
        short = {keyword: node[keyword] for keyword in _KEPT if keyword in node}
        if "string" in kinds and "pattern" not in node:
            chars = max(
                self._chars, bounds.FORMAT_CHARS_LEAST if "format" in node else 0, bounds.number(node, "minLength")
            )
            short["maxLength"] = min(chars, node.get("maxLength", chars))
        if "array" in kinds:
            short |= self._list(node, outer)
        if "object" in kinds:
            short |= self._object(node, outer)
        return bounds.bound_lightly(short, 0)

    def _list(self, node: Json, outer: Refs) -> Json:
        least = bounds.number(node, "minItems")
        if not least:
            return {"maxItems": 0}
        if node.get("prefixItems"):
            raise Endless
        return {"items": self.of(node.get("items", True), outer), "maxItems": least}

    def _object(self, node: Json, outer: Refs) -> Json:
        names = [name for name in properties(node) if name in required(node)]
        if len(names) < max(len(required(node)), bounds.number(node, "minProperties")):
            raise Endless
        short = {name: self.of(properties(node)[name], outer) for name in names}
        return {"properties": short, "required": names, "additionalProperties": False}


def without(node: Json, keyword: str) -> Json:
    """The schema but for one keyword."""
    return {name: one for name, one in node.items() if name != keyword}


def properties(node: Json) -> Json:
    """What the schema of an object says of its members."""
    found: Any = node.get("properties")
    return cast(Json, found) if isinstance(found, dict) else {}


def required(node: Json) -> Sequence[str]:
    """The names of the members that it must have."""
    found: Any = node.get("required")
    return cast("list[str]", found) if isinstance(found, list) else ()
