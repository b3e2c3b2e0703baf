"""The official SDK's types as the judge: what it documents is accepted, what is echoed it accepts back."""

import types
from itertools import count
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import pydantic
import pytest
from openai.types.responses import Response as OfficialResponse
from openai.types.responses import ResponseInputItem, ResponseItem, ResponseOutputItem, Tool

from antiphon.intake import Defaults, plan
from antiphon.tools.selection import UNSUPPORTED_TOOLS
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.kinds import KINDS
from antiphon.wire.request import CreateRequest


def planned(**members: object):
    numbers = count()
    body = {"model": "m", "input": "hi"} | members
    return plan(body, defaults=Defaults(strict=True), ids=lambda prefix: f"{prefix}_{next(numbers):x}", now=1)


def variants(union: Any) -> list[type[pydantic.BaseModel]]:
    """The classes of a union of models, however it is nested and annotated."""
    origin = get_origin(union)
    if origin is Annotated:
        return variants(get_args(union)[0])
    if origin in (Union, types.UnionType):
        return [model for member in get_args(union) for model in variants(member)]
    return [union] if isinstance(union, type) and issubclass(union, pydantic.BaseModel) else []


def least(annotation: Any) -> Any:
    """The smallest JSON value that an annotation allows."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arguments[0]
    if origin in (Annotated, Union, types.UnionType):
        return least(arguments[0])
    if origin in (list, dict):
        return origin()
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return instance(annotation)
    return {str: "x", int: 1, float: 1.0, bool: True, object: {}}.get(annotation, {})


def instance(model: type[pydantic.BaseModel], full: bool = False) -> Json:
    fields = {name: field for name, field in model.model_fields.items() if full or field.is_required()}
    made = {field.alias or name: least(field.annotation) for name, field in fields.items()}
    kind = model.model_fields.get("type")
    return made | ({"type": least(kind.annotation)} if kind else {})


def named(models: list[type[pydantic.BaseModel]]) -> Any:
    return pytest.mark.parametrize("model", models, ids=lambda model: model.__name__)


@named(variants(ResponseInputItem))
@pytest.mark.parametrize("full", [False, True])
def test_every_documented_input_item_is_accepted(model: type[pydantic.BaseModel], full: bool):
    sent = instance(model, full)
    if "phase" in sent:
        sent["role"] = "assistant"
    (item,) = planned(input=[sent]).input
    assert item["id"]
    assert item["type"] in KINDS


@named(variants(ResponseOutputItem))
def test_every_output_item_comes_back_as_input(model: type[pydantic.BaseModel]):
    item = instance(model, full=True)
    if item["type"] == "additional_tools":
        item["role"] = "developer"
    assert planned(input=[item]).input[0].items() >= {k: v for k, v in item.items() if v is not None}.items()


LISTED = pydantic.TypeAdapter(ResponseItem)
# Items whose listed form has members that only the maker of the item can know.
UNLISTED = {"compaction_trigger", "item_reference", "tool_search_call", "tool_search_output"}


@named([m for m in variants(ResponseInputItem) if least(m.model_fields["type"].annotation) not in UNLISTED])
def test_normal_items_are_listable(model: type[pydantic.BaseModel]):
    (item,) = planned(input=[instance(model)]).input
    LISTED.validate_python(item)


def test_all_kinds_that_are_stored_are_of_a_type_that_lists_have():
    stored = {kind.type for kind in KINDS.values() if kind.stored} - {"item_reference"}  # what it names stands for it
    assert stored == {least(model.model_fields["type"].annotation) for model in variants(ResponseItem)}


def test_normal_items_are_a_fixpoint():
    first = planned(input=[instance(m) | {"id": f"i{n}"} for n, m in enumerate(variants(ResponseInputItem))])
    assert planned(input=list(first.input)).input == first.input


@named(variants(Tool))
@pytest.mark.parametrize("full", [False, True])
def test_every_documented_tool_is_accepted_or_said_to_be_missing(model: type[pydantic.BaseModel], full: bool):
    tool = instance(model, full)
    if tool["type"] == "function":
        tool["parameters"] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    if tool["type"] in UNSUPPORTED_TOOLS:
        with pytest.raises(InvalidRequest) as refused:
            planned(tools=[tool])
        assert (refused.value.code, refused.value.param) == ("unsupported_value", "tools[0].type")
    else:
        official(planned(tools=[tool]).response)


def test_every_documented_parameter_is_known():
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    documented = set(ResponseCreateParamsBase.__annotations__)
    assert documented <= set(CreateRequest.__struct_fields__)


def official(response: object) -> OfficialResponse:
    """The response as the SDK reads it, with nothing coerced and no member unknown to a closed type."""
    return OfficialResponse.model_validate_json(msgspec.json.encode(response), strict=True)


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
BODIES: list[Json] = [
    {},
    {"input": {"role": "user", "content": "hi"}},
    {"instructions": "be brief", "max_output_tokens": 16, "max_tool_calls": 1, "metadata": {"a": "b"}},
    {"reasoning": {"effort": "max", "summary": "auto", "mode": "pro", "context": "auto"}, "verbosity": "low"},
    {"reasoning": {"generate_summary": "concise"}, "truncation": "auto", "store": False},
    {"image": {"context_compression": "auto"}, "access_programs": {"cyber": "standard"}},
    {"prompt_cache_options": {"prewarm": True}, "prompt_cache_retention": "in-memory", "prompt_cache_key": "k"},
    {"moderation": {"model": "omni"}, "safety_identifier": "s", "user": "u", "service_tier": "ultrafast"},
    {"temperature": 0, "top_p": 1, "top_logprobs": 20, "presence_penalty": 1, "frequency_penalty": -1},
    {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
    {"text": {"format": {"type": "json_object"}}, "input": "json"},
    {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
    {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]}},
    {"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://h/p?k=1", "authorization": "t"}]},
    {"previous_response_id": "resp_1", "stream": True, "stream_options": {"include_obfuscation": True}},
    {"include": ["reasoning.encrypted_content"], "context_management": [{"type": "compaction"}]},
]


@pytest.mark.parametrize("members", BODIES, ids=str)
def test_the_echo_is_an_official_response(members: Json):
    read = official(planned(**members).response)
    assert read.object == "response"
    assert read.output == []
