"""References of schemas that move, and those to the document itself."""

import json

import jsonschema_rs

from antiphon.models.chat.references import name_root, rebase
from antiphon.wire import Json

TREE: Json = {
    "$schema": "x",
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}


def test_a_document_that_refers_to_itself_refers_to_a_definition_that_is_like_it() -> None:
    named = name_root(TREE)
    assert named["properties"]["children"]["items"] == {"$ref": "#/$defs/root"}
    assert '"#"' not in json.dumps(named)
    assert "$schema" not in named["$defs"]["root"]
    del named["$schema"]
    check = jsonschema_rs.validator_for(named).is_valid
    assert check({"name": "a", "children": [{"name": "b", "children": []}]})
    assert not check({"name": "a", "children": [{"name": "b", "children": [{"name": 1, "children": []}]}]})


def test_a_name_that_is_taken_stays() -> None:
    taken = {**TREE, "$defs": {"root": {"type": "null"}}}
    assert name_root(taken)["$defs"]["root"] == {"type": "null"}
    assert name_root(taken)["properties"]["children"]["items"] == {"$ref": "#/$defs/root_"}


def test_other_schemas_stay_as_they_are() -> None:
    for schema in ({}, {"type": "string", "default": {"$ref": "#"}}, {"$ref": "#/$defs/a", "$defs": {"a": True}}):
        assert name_root(schema) is schema


def test_what_moves_takes_its_references_along() -> None:
    schema: Json = {"items": [{"$ref": "#/$defs/a"}, {"$ref": "#"}, {"$ref": "x#"}], "properties": {"$ref": {"a": 1}}}
    moved = {"items": [{"$ref": "#/p/$defs/a"}, {"$ref": "#/p"}, {"$ref": "x#"}], "properties": {"$ref": {"a": 1}}}
    assert rebase(schema, "#/p") == moved
