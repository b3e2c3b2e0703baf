"""What a schema gets so that an answer held to it comes to its end."""

from typing import Any

import jsonschema_rs
import pytest

from antiphon.models import Function, Prompt, TextFormat, ToolChoice
from antiphon.models.chat.body import body
from antiphon.models.chat.bounds import CHARS_MAX, CHARS_PER_TOKEN, ITEMS_MAX, bound
from antiphon.models.chat.config import ChatConfig

TEXT: dict[str, Any] = {"type": "string"}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def longest(schema: Any) -> int:
    """Characters of the longest answer that is one of this schema's texts and lists."""
    if "properties" in schema:
        return sum(map(longest, schema["properties"].values()))
    if schema.get("type") == "array":
        return schema["maxItems"] * longest(schema["items"])
    return schema.get("maxLength", 0)


@pytest.mark.parametrize(
    "schema",
    [
        thing(a=TEXT),
        thing(a=TEXT, b=TEXT, c={"type": "integer"}),
        {"type": "array", "items": TEXT},
        thing(list={"type": "array", "items": thing(a=TEXT, b=TEXT)}),
        {"type": "array", "items": {"type": "array", "items": TEXT}},
    ],
)
def test_the_longest_answer_fits_its_tokens(schema: dict[str, Any]) -> None:
    assert 0 < longest(bound(schema, 300)) <= 300 * CHARS_PER_TOKEN
    assert longest(bound(schema, 300)) > longest(bound(schema, 100))


def test_without_a_limit_nothing_is_bound() -> None:
    assert bound(thing(a=TEXT), None) == thing(a=TEXT)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "enum": ["a"]},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "^a+$"},
        {"type": "string", "maxLength": 5},
        {"type": "string", "minLength": 900, "maxLength": 900},
        {"type": "integer"},
        {"type": "array"},
        {},
    ],
)
def test_what_is_bound_already_stays(schema: dict[str, Any]) -> None:
    assert bound(schema, 50) == schema


def test_what_has_a_least_keeps_it() -> None:
    schema = {"type": "array", "minItems": 30, "items": {"type": "string", "minLength": 400}}
    bounded = bound(schema, 20)
    assert bounded["maxItems"] == 30
    assert bounded["items"]["maxLength"] == 400


def test_what_is_more_than_a_sampler_counts_is_left_free() -> None:
    assert bound(TEXT, CHARS_MAX // CHARS_PER_TOKEN) == {**TEXT, "maxLength": CHARS_MAX}
    assert bound(TEXT, CHARS_MAX) == TEXT
    assert bound({"type": "array", "items": {"type": "null"}}, 100 * ITEMS_MAX) == {
        "type": "array",
        "items": {"type": "null"},
    }


def test_branches_and_definitions_are_bound_too() -> None:
    schema = {"anyOf": [TEXT, {"$ref": "#/$defs/t"}], "$defs": {"t": {"type": ["string", "null"]}}}
    bounded = bound(schema, 100)
    assert "maxLength" in bounded["anyOf"][0]
    assert "maxLength" in bounded["$defs"]["t"]
    jsonschema_rs.meta.validate(bounded)


def test_schemas_for_the_embedded_models_sampler_are_bound_and_others_not() -> None:
    f = Function("f", None, thing(a=TEXT))
    prompts = (
        Prompt(items=(), max_output_tokens=50, format=TextFormat("json_schema", "x", thing(a=TEXT))),
        Prompt(items=(), max_output_tokens=50, functions=(f,), tool_choice=ToolChoice("required", ("f",))),
    )
    for prompt in prompts:
        for bounds in (True, False):
            sent = body(prompt, ChatConfig(base_url="", model="m", bounds_schemas=bounds))
            assert ("maxLength" in str(sent["response_format"])) is bounds
