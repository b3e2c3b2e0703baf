"""Schemas as trees: their nodes, and references that move or that a sampler does not follow. Pure."""

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


def change_schemas(schema: Json, change: Callable[[Json], Json]) -> Json:
    """The schema with ``change`` made to it, after it was made to each schema in it."""
    return change({keyword: _change_in(keyword, value, change) for keyword, value in schema.items()})


def _change_in(keyword: str, value: Any, change: Callable[[Json], Json]) -> Any:
    if keyword in _DATA:
        return value
    if isinstance(value, list):
        return [_change_in("", one, change) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    if keyword in _NAMED_SCHEMAS:
        return {name: _change_in("", one, change) for name, one in cast(Json, value).items()}
    return change_schemas(cast(Json, value), change)


def _turn(schema: Json, turn: Callable[[str], str]) -> Json:
    def turn_one(node: Json) -> Json:
        return {**node, "$ref": turn(node["$ref"])} if isinstance(node.get("$ref"), str) else node

    return change_schemas(schema, turn_one)
