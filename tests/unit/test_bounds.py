"""What a schema gets so that an answer held to it comes to its end."""

from typing import Any

import jsonschema_rs
import pytest
from llguidance import LLMatcher, LLTokenizer

from antiphon.models import Function, Prompt, TextFormat, ToolChoice
from antiphon.models.chat.body import body, limit_answer
from antiphon.models.chat.bounds import CHARS_PER_TOKEN, FORMAT_CHARS_MIN, NUMBER_MAX, bound, bound_lightly
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


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "enum": ["a"]},
        {"type": "string", "pattern": "^a+$"},
        {"type": "string", "maxLength": 5},
        {"type": "string", "minLength": 900, "maxLength": 900},
        {"type": "integer", "enum": [1]},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
        {"type": "object", "additionalProperties": False},
        {"type": "number", "enum": [1.5]},
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


@pytest.mark.parametrize(
    ("schema", "endless"),
    [
        (TEXT, '"' + "word " * 9000),
        ({"type": "string", "format": "email"}, '"' + "a" * 9000),
        ({"type": "integer"}, "1" * 9000),
        ({"type": "integer", "minimum": 0}, "1" * 9000),
        ({"type": "number"}, "1" * 9000),
        ({"type": "number"}, "0." + "1" * 9000),
        ({"type": "number"}, "1e" + "1" * 9000),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0." + "1" * 9000),
        ({"type": "array", "items": TEXT}, "[" + '"a",' * 9000),
        ({"type": "array"}, "[" + "1," * 9000),
        (thing(a=TEXT), '{"a":"b"' + "".join(f',"{n}":1' for n in range(3000))),
        ({"type": "object", "additionalProperties": TEXT}, "{" + "".join(f'"{n}":"a",' for n in range(3000))),
        ({"type": "object"}, "{" + "".join(f'"{n}":"a",' for n in range(3000))),
        ({"$ref": "#/definitions/t", "definitions": {"t": TEXT}}, '"' + "word " * 9000),
    ],
)
def test_no_repetition_goes_on_for_ever(schema: dict[str, Any], endless: str) -> None:
    def taken(schema: dict[str, Any]) -> int:
        matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_json_schema(schema))
        assert not matcher.get_error()
        return matcher.try_consume_tokens(list(endless.encode()))

    assert taken(schema) >= 9000
    assert taken(bound(schema, 1000)) <= 1000 * CHARS_PER_TOKEN * 3


def test_a_text_of_a_format_may_be_as_long_as_one_has_to_be() -> None:
    assert bound({"type": "string", "format": "uuid"}, 1)["maxLength"] == FORMAT_CHARS_MIN


def test_integers_that_people_use_are_none_too_large() -> None:
    assert bound({"type": "integer"}, 10)["maximum"] == NUMBER_MAX > 9_999_999_999_999_999


@pytest.mark.parametrize("number", ["0", "-12.5", "0.000000001", "299792458", "602214076000000000", "1", "19.99"])
@pytest.mark.parametrize("kind", ["number", ["number", "null"]])
def test_numbers_that_people_use_can_be_written(number: str, kind: Any) -> None:
    grammar = LLMatcher.grammar_from_json_schema(bound({"type": kind}, 10))
    matcher = LLMatcher(LLTokenizer("byte"), grammar)
    assert matcher.try_consume_tokens(list(number.encode())) == len(number)
    assert matcher.is_accepting()


@pytest.mark.parametrize(
    "sides",
    [
        {"minimum": 1e30},
        {"exclusiveMaximum": -1e300},
        {"exclusiveMinimum": 0, "maximum": 1e-12},
        {"minimum": 1e-12, "exclusiveMaximum": 1e-9},
        {"exclusiveMinimum": 0, "maximum": 0.5},
        {"minimum": 3.14159265358979},
        {"minimum": -90.0, "maximum": 90.0, "multipleOf": 0.5},
    ],
)
@pytest.mark.parametrize("kind", ["number", "integer"])
def test_bounds_of_its_own_leave_a_number_to_write(kind: str, sides: dict[str, Any]) -> None:
    def fault(schema: dict[str, Any]) -> str:
        return LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_json_schema(schema)).get_error()

    schema = {"type": kind, **sides}
    assert bool(fault(bound(schema, 10))) == bool(fault(schema))


@pytest.mark.parametrize("keyword", ["$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties"])
def test_an_object_with_members_from_elsewhere_is_not_closed(keyword: str) -> None:
    assert "additionalProperties" not in bound({**thing(a=TEXT), keyword: []}, 50)


def test_an_answer_that_is_held_to_a_schema_has_a_limit() -> None:
    config = ChatConfig(base_url="", model="m", bounds_schemas=True, context_tokens=8192)
    f = Function("f", None, thing(a=TEXT))
    held = Prompt(items=(), format=TextFormat("json_schema", "x", thing(a=TEXT)))
    called = Prompt(items=(), functions=(f,), tool_choice=ToolChoice("required"))
    for prompt in (held, called, Prompt(items=(), format=TextFormat("json_object"))):
        assert limit_answer(prompt, config).max_output_tokens == 1024
        assert limit_answer(prompt, ChatConfig(base_url="", model="m")) == prompt
    for prompt in (Prompt(items=()), Prompt(items=(), max_output_tokens=7, format=held.format)):
        assert limit_answer(prompt, config) == prompt


def test_light_bounds_are_on_digits_formats_and_unnamed_members_alone() -> None:
    inner = thing(n={"type": "number"}, texts={"type": "array", "items": TEXT}, enum={"type": "integer"})
    schema = {"anyOf": [{"$ref": "#/$defs/t"}, {"type": "null"}], "$defs": {"t": inner}, "default": {"type": "number"}}
    bounded = bound_lightly(schema, 100)
    properties = bounded["$defs"]["t"]["properties"]
    assert "maximum" in properties["n"]
    assert "maximum" in properties["enum"]
    assert properties["texts"] == inner["properties"]["texts"]
    assert bounded["$defs"]["t"]["additionalProperties"] is False
    assert bounded["default"] == {"type": "number"}
    assert bound_lightly({"type": "object", "additionalProperties": TEXT}, 100) == {
        "type": "object",
        "additionalProperties": TEXT,
    }


@pytest.mark.parametrize(("tokens", "chars"), [(1, 64), (200, 100), (4096, FORMAT_CHARS_MIN)])
def test_a_text_of_a_format_or_pattern_has_half_the_tokens_where_they_are_few(tokens: int, chars: int) -> None:
    assert bound_lightly({"type": "string", "format": "email"}, tokens)["maxLength"] == chars
    assert bound_lightly({"type": "string", "format": "email", "maxLength": 9}, tokens)["maxLength"] == 9
    assert bound_lightly({"type": "string", "pattern": "a"}, tokens)["maxLength"] == chars


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
