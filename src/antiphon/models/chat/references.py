"""References in schemas that move, or that a sampler does not follow. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from antiphon.wire import Json

_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose members are named by the caller, each holding a schema."""
_DATA: Final = frozenset({"const", "enum", "default", "example", "examples"})
"""Keywords that hold data, in which ``$ref`` means nothing."""
_OF_DOCUMENT: Final = frozenset({"$schema", "$id", "id", "$defs", "definitions"})
"""Keywords that a copy of the document below itself does not need."""


def rebase(schema: Json, root: str) -> Json:
    """The schema with its references turned to ``root``, below which it will stand."""
    return _turn(schema, lambda ref: root + ref[1:] if ref == "#" or ref.startswith("#/") else ref)


def name_root(schema: Json) -> Json:
    """The schema without references to the document itself (``#``), which llama.cpp refuses: they lead to a definition
    that is like it.
    """
    named: Any = schema.get("$defs")
    definitions = cast(Json, named) if isinstance(named, dict) else {}
    name = "root"
    while name in definitions:
        name += "_"
    turned = _turn(schema, lambda ref: f"#/$defs/{name}" if ref == "#" else ref)
    if turned == schema:
        return schema
    root = {keyword: value for keyword, value in turned.items() if keyword not in _OF_DOCUMENT}
    return {**turned, "$defs": {**(turned.get("$defs") or {}), name: root}}


def _turn(node: Any, turn: Callable[[str], str]) -> Any:
    if isinstance(node, list):
        return [_turn(one, turn) for one in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    return {key: _turn_member(key, value, turn) for key, value in cast(Json, node).items()}


def _turn_member(key: str, value: Any, turn: Callable[[str], str]) -> Any:
    if key in _DATA:
        return value
    if key == "$ref" and isinstance(value, str):
        return turn(value)
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: _turn(one, turn) for name, one in cast(Json, value).items()}
    return _turn(value, turn)
