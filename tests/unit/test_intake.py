# ruff: noqa: E501  (one line per refusal)
"""Every refusal of a create request: code, path and the API's own words; and what the members become."""

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.intake import Defaults, Plan, plan
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.request import CreateRequest

ITEM = {"role": "user", "content": "hi"}
MANY = {f"k{i}": "v" for i in range(17)}
STRICT_OBJECT = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def counting_ids():
    numbers = count()
    return lambda prefix: f"{prefix}_{next(numbers):032x}"


def planned(_body: object = None, /, strict: bool = False, **members: object) -> Plan:
    """A plan for ``members`` on top of a model and an input."""
    body = {"model": "m", "input": "hi"} | members if _body is None else _body
    return plan(body, defaults=Defaults(strict=strict), ids=counting_ids(), now=1_700_000_000)


def below(name: str, least: int, got: object, word: str = "integer") -> str:
    return f"Invalid '{name}': {word} below minimum value. Expected a value >= {least}, but got {got} instead."


def above(name: str, most: int, got: object, word: str = "integer") -> str:
    return f"Invalid '{name}': {word} above maximum value. Expected a value <= {most}, but got {got} instead."


def typing(name: str, expected: str, got: str) -> str:
    return f"Invalid type for '{name}': expected {expected}, but got {got} instead."


DEEP: Json = {}
for _ in range(200):
    DEEP = {"not": DEEP}
UNVERIFIABLE: list[tuple[Json, str]] = [
    ({"type": "objekt"}, "\"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword"),
    ({"$ref": "#/nothing"}, "Pointer '/nothing' does not exist"),
    ({"type": "string", "pattern": "("}, '"(" is not a "regex"'),
    (DEEP, "the schema is nested deeper than 100 levels."),
]
REFUSALS: list[tuple[Json, str, str | None, str]] = [
    # types
    ({"model": 5}, "invalid_type", "model", typing("model", "a string", "an integer")),
    ({"model": None}, "invalid_type", "model", typing("model", "a string", "null")),
    ({"input": 5}, "invalid_type", "input", typing("input", "one of a string or an array of objects", "an integer")),
    ({"input": None}, "invalid_type", "input", typing("input", "one of a string or an array of objects", "null")),
    ({"input": ["hi"]}, "invalid_type", "input[0]", typing("input[0]", "an object", "a string")),
    ({"temperature": "hot"}, "invalid_type", "temperature", typing("temperature", "a decimal", "a string")),
    ({"temperature": True}, "invalid_type", "temperature", typing("temperature", "a decimal", "a boolean")),
    ({"stream": "yes"}, "invalid_type", "stream", typing("stream", "a boolean", "a string")),
    ({"max_output_tokens": 16.5}, "invalid_type", "max_output_tokens", typing("max_output_tokens", "an integer", "a decimal")),
    ({"metadata": []}, "invalid_type", "metadata", typing("metadata", "an object", "an array")),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata.a", typing("metadata.a", "a string", "an integer")),
    ({"include": "all"}, "invalid_type", "include", typing("include", "an array of strings", "a string")),
    ({"tools": {}}, "invalid_type", "tools", typing("tools", "an array of objects", "an object")),
    ({"tools": [5]}, "invalid_type", "tools[0]", typing("tools[0]", "an object", "an integer")),
    ({"instructions": ["x"]}, "invalid_type", "instructions", typing("instructions", "a string", "an array")),
    ({"tool_choice": 1}, "invalid_type", "tool_choice", typing("tool_choice", "one of 'auto', 'none', or 'required' or an object", "an integer")),
    ({"input": [{**ITEM, "content": {"a": 1}}]}, "invalid_type", "input[0].content", typing("input[0].content", "one of a string or an array of objects", "an object")),
    ({"input": [{**ITEM, "content": None}]}, "invalid_type", "input[0].content", typing("input[0].content", "one of a string or an array of objects", "null")),
    ({"input": [{"type": 5}]}, "invalid_type", "input[0].type", typing("input[0].type", "a string", "an integer")),
    # values
    ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role", "Invalid value: 'tool'. Supported values are: 'assistant', 'developer', 'system', and 'user'."),
    ({"input": [{**ITEM, "content": [{"type": "text", "text": "x"}]}]}, "invalid_value", "input[0].content[0].type", "Invalid value: 'text'. Supported values are: 'input_text', 'input_image', 'input_file', 'output_text', and 'refusal'."),
    ({"input": [{**ITEM, "content": [{"type": "output_text", "text": "x"}]}]}, "invalid_value", "input[0].content[0].type", "Invalid value: 'output_text'. Supported values are: 'input_text', 'input_image', and 'input_file'."),
    ({"input": [{**ITEM, "phase": "commentary"}]}, "invalid_value", "input[0].phase", "'phase' is allowed on messages of role 'assistant' only."),
    ({"truncation": "middle"}, "invalid_value", "truncation", "Invalid value: 'middle'. Supported values are: 'auto' and 'disabled'."),
    ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort", "Invalid value: 'huge'. Supported values are: 'high', 'low', 'max', 'medium', 'minimal', 'none', and 'xhigh'."),
    ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type", "Invalid value: 'xml'. Supported values are: 'text', 'json_object', and 'json_schema'."),
    ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "invalid_value", "text.format.name", "Invalid 'text.format.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."),
    # bounds
    ({"max_output_tokens": 0}, "integer_below_min_value", "max_output_tokens", below("max_output_tokens", 1, 0)),
    ({"max_tool_calls": 0}, "integer_below_min_value", "max_tool_calls", below("max_tool_calls", 1, 0)),
    ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs", above("top_logprobs", 20, 21)),
    ({"temperature": 3}, "decimal_above_max_value", "temperature", above("temperature", 2, 3, "decimal")),
    ({"temperature": -0.5}, "decimal_below_min_value", "temperature", below("temperature", 0, -0.5, "decimal")),
    ({"top_p": 1.5}, "decimal_above_max_value", "top_p", above("top_p", 1, 1.5, "decimal")),
    ({"presence_penalty": -3}, "decimal_below_min_value", "presence_penalty", below("presence_penalty", -2, -3, "decimal")),
    ({"frequency_penalty": 2.5}, "decimal_above_max_value", "frequency_penalty", above("frequency_penalty", 2, 2.5, "decimal")),
    ({"context_management": []}, "empty_array", "context_management", "Invalid 'context_management': empty array. Expected an array with minimum length 1, but got an empty array instead."),
    ({"context_management": [{"type": "compaction", "compact_threshold": 10}]}, "integer_below_min_value", "context_management[0].compact_threshold", below("context_management[0].compact_threshold", 1000, 10)),
    ({"metadata": MANY}, "object_above_max_properties", "metadata", "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with 17 properties instead."),
    ({"metadata": {"a": "v" * 513}}, "string_above_max_length", "metadata.a", "Invalid 'metadata.a': string too long. Expected a string with maximum length 512, but got a string with length 513 instead."),
    ({"prompt_cache_key": "k" * 65}, "string_above_max_length", "prompt_cache_key", "Invalid 'prompt_cache_key': string too long. Expected a string with maximum length 64, but got a string with length 65 instead."),
    ({"model": ""}, "empty_string", "model", "Invalid 'model': empty string. Expected a string with minimum length 1, but got an empty string instead."),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}", "call_id": ""}]}, "empty_string", "input[0].call_id", "Invalid 'input[0].call_id': empty string. Expected a string with minimum length 1, but got an empty string instead."),
    ({"input": [{"type": "function_call_output", "output": "", "call_id": "c" * 65537}]}, "string_above_max_length", "input[0].call_id", "Invalid 'input[0].call_id': string too long. Expected a string with maximum length 65536, but got a string with length 65537 instead."),
    # presence
    ({"input": []}, "missing_required_parameter", None, "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided."),
    ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content", "Missing required parameter: 'input[0].content'."),
    ({"input": [{"content": "hi"}]}, "missing_required_parameter", "input[0].type", "Missing required parameter: 'input[0].type'."),
    ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "missing_required_parameter", "input[0].call_id", "Missing required parameter: 'input[0].call_id'."),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "missing_required_parameter", "text.format.schema", "Missing required parameter: 'text.format.schema'."),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "missing_required_parameter", "text.format.name", "Missing required parameter: 'text.format.name'."),
    # what goes together
    ({"previous_response_id": "r", "conversation": "conv_1"}, "mutually_exclusive_parameters", "previous_response_id", "Mutually exclusive parameters. Ensure you are only providing one of: 'previous_response_id' or 'conversation'."),
    ({"stream_options": {"include_obfuscation": False}}, "invalid_value", "stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled."),
    ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "mutually_exclusive_parameters", "reasoning_effort", "Mutually exclusive parameters. 'reasoning_effort' and 'reasoning.effort' differ; provide one of them."),
    ({"verbosity": "low", "text": {"verbosity": "high"}}, "mutually_exclusive_parameters", "verbosity", "Mutually exclusive parameters. 'verbosity' and 'text.verbosity' differ; provide one of them."),
    ({"text": {"format": {"type": "json_object"}}}, "invalid_value", "input", "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'."),
    ({"background_options": {"completion_window": "2h"}}, "invalid_value", "background_options.completion_window", "Invalid value: '2h'. This completion window needs 'background' to be true, and no 'stream'."),
    ({"background": True, "stream": True, "background_options": {"completion_window": "8h"}}, "invalid_value", "background_options.completion_window", "Invalid value: '8h'. This completion window needs 'background' to be true, and no 'stream'."),
    # what is not served
    ({"messages": [ITEM]}, "unsupported_parameter", "messages", "Unsupported parameter: 'messages'. In the Responses API, this parameter has moved to 'input'. Try again with the new parameter. See the API documentation for more information: https://platform.openai.com/docs/api-reference/responses/create."),
    ({"conversation": "resp_1"}, "invalid_value", "conversation", "Invalid 'conversation': 'resp_1'. Expected an ID that begins with 'conv_'."),
    ({"conversation": {"id": "c"}}, "invalid_value", "conversation.id", "Invalid 'conversation.id': 'c'. Expected an ID that begins with 'conv_'."),
    ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt", "Unsupported parameter: 'prompt'. This server keeps no hosted prompts."),
    ({"multi_agent": {"enabled": True}}, "unsupported_parameter", "multi_agent", "Unsupported parameter: 'multi_agent'. One request runs one agent here."),
    # schemas
    ({"text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object", "properties": {}}}}}, "invalid_json_schema", "text.format.schema", "Invalid schema for response_format 'n': In context=(), 'additionalProperties' is required to be supplied and to be false."),
    *(({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}, "invalid_json_schema", "text.format.schema", f"Invalid schema for response_format 'n': {why}") for schema, why in UNVERIFIABLE),
    # one id, two items
    ({"input": [{**ITEM, "id": "msg_1"}, {**ITEM, "id": "msg_1"}]}, "invalid_value", "input", "Duplicate item found with id msg_1. Remove duplicate items from your input and try again."),
]  # fmt: skip


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("members", "code", "param", "message"), REFUSALS, ids=lambda value: str(value)[:60])
def test_refusals(members: Json, code: str, param: str | None, message: str, strict: bool):
    with pytest.raises(InvalidRequest) as refused:
        planned(strict=strict, **members)
    assert (refused.value.code, refused.value.param, refused.value.message) == (code, param, message)


def test_a_probe_is_answered_unless_strict():
    made = planned(input="", max_output_tokens=1)
    assert [part["text"] for part in made.input[0]["content"]] == [""]
    assert made.prompt.max_output_tokens == 1
    with pytest.raises(InvalidRequest) as refused:
        planned(strict=True, max_output_tokens=1)
    assert (refused.value.code, refused.value.message) == (
        "integer_below_min_value",
        below("max_output_tokens", 16, 1),
    )
    with pytest.raises(InvalidRequest) as refused:
        planned(strict=True, input="")
    assert refused.value.code == "missing_required_parameter"
    assert planned(input="", previous_response_id="resp_0").input == ()


def test_missing_model_comes_before_everything():
    with pytest.raises(InvalidRequest) as refused:
        planned({"input": 5, "messages": []})
    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", "model")


def test_missing_input():
    with pytest.raises(InvalidRequest) as refused:
        planned({"model": "m"})
    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", "input")


def test_default_model():
    made = plan({"input": "hi"}, defaults=Defaults(model="house"), ids=counting_ids(), now=1)
    assert made.response.model == "house"


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_a_body_is_an_object(body: object):
    with pytest.raises(InvalidRequest):
        plan(body, defaults=Defaults(), ids=counting_ids(), now=1)


def test_bounds_of_the_server():
    limits = Defaults(input_chars_max=3, items_max=1)
    bodies = [
        ({"input": "long"}, "string_above_max_length", "input"),
        ({"input": [{"role": "user", "content": "long"}]}, "string_above_max_length", "input[0].content"),
        ({"input": [ITEM, ITEM]}, "array_above_max_length", "input"),
    ]
    for body, code, param in bodies:
        with pytest.raises(InvalidRequest) as refused:
            plan({"model": "m", **body}, defaults=limits, ids=counting_ids(), now=1)
        assert (refused.value.code, refused.value.param) == (code, param)


UNKNOWN: list[tuple[Json, str, str]] = [
    ({"storee": True}, "storee", "Unknown parameter: 'storee'. Did you mean 'store'?"),
    ({"zzzzzzzz": 1}, "zzzzzzzz", "Unknown parameter: 'zzzzzzzz'."),
    ({"generate": False}, "generate", "Unknown parameter: 'generate'."),
    ({"input": [{**ITEM, "bogus": 1}]}, "input[0].bogus", "Unknown parameter: 'input[0].bogus'."),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "bogus": 1}]}]},
        "input[0].content[0].bogus",
        "Unknown parameter: 'input[0].content[0].bogus'.",
    ),
    (
        {"reasoning": {"efort": "low"}},
        "reasoning.efort",
        "Unknown parameter: 'reasoning.efort'. Did you mean 'effort'?",
    ),
    (
        {"tools": [{"type": "function", "name": "f", "x": 1}]},
        "tools[0].x",
        "Unknown parameter: 'tools[0].x'.",
    ),
]


@pytest.mark.parametrize(("members", "path", "message"), UNKNOWN)
def test_undocumented_members(members: Json, path: str, message: str):
    with pytest.raises(InvalidRequest) as refused:
        planned(strict=True, **members)
    assert (refused.value.code, refused.value.param, refused.value.message) == ("unknown_parameter", path, message)
    assert planned(**members).ignored == (path,)


def test_ignored_members_of_items_are_kept_and_of_tools_are_not():
    made = planned(input=[{**ITEM, "bogus": 1}], tools=[{"type": "web_search", "x": 1}], client_metadata={})
    assert made.ignored == ("input[0].bogus", "tools[0].x", "client_metadata", "tools[0]:web_search")
    assert made.input[0]["bogus"] == 1
    assert made.response.tools == [{"type": "web_search"}]


def test_ignored_is_bounded_and_plain():
    made = planned(**{f"k\n{i}é": 1 for i in range(1000)})
    assert 0 < len(made.ignored) <= 64
    assert all(path.isascii() and path.isprintable() for path in made.ignored)


def test_a_real_fault_outranks_undocumented_members():
    with pytest.raises(InvalidRequest) as refused:
        planned(bogus=1, temperature=9)
    assert refused.value.param == "temperature"


def test_null_is_absent():
    plain = planned()
    names = set(msgspec.structs.asdict(plain.response)) - {"model", "input", "object"}
    assert planned(**dict.fromkeys(names & set(_members()))) == plain


def _members() -> tuple[str, ...]:
    return CreateRequest.__struct_fields__


def test_defaults_are_reported():
    response = planned().response
    assert response.text == {"format": {"type": "text"}, "verbosity": "medium"}
    assert response.reasoning == {"effort": None, "summary": None}
    assert (response.temperature, response.top_p, response.top_logprobs) == (1.0, 1.0, 0)
    assert (response.store, response.tool_choice, response.tools) == (True, "auto", [])
    assert (response.status, response.created_at, response.id) == ("in_progress", 1_700_000_000, f"resp_{0:032x}")


def test_aliases():
    made = planned(reasoning_effort="low", verbosity="high", prompt_cache_retention="in-memory", service_tier="fast")
    assert made.response.reasoning == {"effort": "low", "summary": None}
    assert made.prompt.effort == "low"
    assert made.response.text["verbosity"] == made.prompt.verbosity == "high"
    assert made.response.prompt_cache_retention == "in_memory"
    assert made.response.service_tier == "default"


def test_logprobs_need_their_include():
    assert planned(top_logprobs=3).prompt.top_logprobs is None
    assert planned(include=["message.output_text.logprobs"]).prompt.top_logprobs == 0
    assert planned(include=["message.output_text.logprobs"], top_logprobs=3).prompt.top_logprobs == 3


def test_obfuscation():
    assert planned(stream=True).obfuscate
    assert not planned(stream=True, stream_options={"include_obfuscation": False}).obfuscate


@pytest.mark.parametrize(
    "members",
    [
        {"input": "Reply in JSON."},
        {"instructions": "json, please"},
        {"previous_response_id": "resp_1"},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "a Json text"}]},
    ],
)
def test_json_object_wants_its_word(members: Json):
    made = planned(text={"format": {"type": "json_object"}}, **members)
    assert made.prompt.format.type == "json_object"


def test_json_schema():
    made = planned(text={"format": {"type": "json_schema", "name": "n", "schema": STRICT_OBJECT, "strict": True}})
    assert made.prompt.format.strict
    assert made.prompt.format.schema == STRICT_OBJECT
    assert made.response.text["format"]["name"] == "n"


def test_empty_input_is_enough_after_a_response():
    for body in ({"previous_response_id": "resp_1"}, {"previous_response_id": "resp_1", "input": []}):
        made = planned({"model": "m", **body})
        assert made.input == ()
        assert made.previous_response_id == "resp_1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([*_members(), "type", "role", "content", "name", "text", "messages", "format", "schema"])
TYPES = st.sampled_from(["message", "function_call", "reasoning", "function", "mcp", "computer_use", "input_text"])
SHAPED = st.recursive(
    JSON | TYPES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=30,
)
BODIES = JSON | SHAPED | st.builds(lambda body: {"model": "m", "input": "json", **body}, st.dictionaries(KEYS, SHAPED))


@given(body=BODIES, strict=st.booleans())
def test_any_json_is_planned_or_refused(body: object, strict: bool):
    defaults = Defaults(strict=strict, model="m")
    try:
        first = plan(body, defaults=defaults, ids=counting_ids(), now=1)
    except ApiError as refused:
        assert refused.message
        assert not refused.message.startswith("Invalid request:"), "msgspec refused what the walk let pass"
        return
    assert plan(body, defaults=defaults, ids=counting_ids(), now=1) == first
    msgspec.json.encode(first.response)
