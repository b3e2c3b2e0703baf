"""What a prompt is sent as, and what the bytes that come back mean. No network, no asyncio."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from scripted_upstream import delta, finish, frames, split, text, usage

from antiphon.models import (
    Call,
    ContextTooLong,
    Delta,
    Finish,
    Function,
    Prompt,
    Reasoning,
    Refusal,
    Text,
    TextFormat,
    ToolChoice,
    Usage,
)
from antiphon.models.chat import forced as forced_calls
from antiphon.models.chat.body import body, object_text
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.errors import error_of_answer
from antiphon.models.chat.stream import ChatStream
from antiphon.wire.errors import (
    ApiError,
    BodyTooLarge,
    InvalidRequest,
    RateLimited,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)

CONFIG = ChatConfig(base_url="http://model/v1", model="m")
F = Function(name="f", description="Does f.", parameters={"type": "object", "properties": {"a": {"type": "string"}}})
G = Function(name="g", parameters=None, strict=False)
REQUIRED = ToolChoice(mode="required")


def config(**fields: Any) -> ChatConfig:
    return ChatConfig(base_url="http://model/v1", model="m", **fields)


def say(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def call(call_id: str, arguments: str = "{}", name: str = "f") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: str, said: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def messages(*items: dict[str, Any], with_config: ChatConfig = CONFIG, **fields: Any) -> list[Any]:
    return body(Prompt(items=items, **fields), with_config)["messages"]


def asked(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


# What is sent.


def test_a_plain_prompt() -> None:
    prompt = Prompt(items=(say("user", [{"type": "input_text", "text": "Hi"}]),), instructions="Be kind.")
    assert body(prompt, CONFIG) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_no_prompt_is_an_empty_one() -> None:
    assert messages() == [{"role": "user", "content": ""}]


def test_sampling_is_sent_where_somebody_asks_for_it() -> None:
    prompt = Prompt(items=(say("user", "Hi"),), top_p=0.5)
    sent = body(prompt, config(sampling={"temperature": 0.7, "top_p": 1.0}))
    assert (sent["temperature"], sent["top_p"]) == (0.7, 0.5)
    assert "temperature" not in body(prompt, config(sampling={"temperature": 0.7}, extra={"temperature": None}))


def test_every_knob() -> None:
    prompt = Prompt(
        items=(say("user", "Hi"),),
        functions=(F, G),
        parallel_tool_calls=False,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        max_output_tokens=7,
        top_logprobs=2,
        effort="low",
        user="u",
    )
    sent = body(prompt, config(effort="field", extra={"top_k": 20}))
    expected = {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "max_tokens": 7,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "top_k": 20,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "Does f.",
                    "parameters": F.parameters,
                    "strict": True,
                },
            },
            {
                "type": "function",
                "function": {"name": "g", "parameters": {"type": "object", "properties": {}}, "strict": False},
            },
        ],
    }
    assert {key: sent[key] for key in expected} == expected
    assert set(sent) == set(expected) | {"model", "messages", "stream", "stream_options"}


def test_effort_for_the_template_joins_the_operators_own_fields() -> None:
    sent = body(Prompt(items=(), effort="none"), config(effort="template", extra={"chat_template_kwargs": {"a": 1}}))
    assert sent["chat_template_kwargs"] == {"reasoning_effort": "none", "enable_thinking": False, "a": 1}
    assert "reasoning_effort" not in body(Prompt(items=(), effort="low"), CONFIG)


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (TextFormat(), None),
        (TextFormat(type="json_object"), {"type": "json_object"}),
        (
            TextFormat(type="json_schema", name="n", schema={"type": "object"}, strict=True),
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_the_answers_format(wanted: TextFormat, sent: Any) -> None:
    assert body(Prompt(items=(), format=wanted), CONFIG).get("response_format") == sent


def test_tool_choice_leaves_some_functions_or_none() -> None:
    none = body(Prompt(items=(), functions=(F,), tool_choice=ToolChoice(mode="none")), CONFIG)
    assert "tools" not in none
    assert "tool_choice" not in none
    some = body(Prompt(items=(), functions=(F, G), tool_choice=ToolChoice(names=("g",))), CONFIG)
    assert [tool["function"]["name"] for tool in some["tools"]] == ["g"]


def test_required_calls_of_the_servers_own() -> None:
    native = config(forced_calls="native")
    prompt = Prompt(items=(), functions=(F, G), tool_choice=REQUIRED)
    assert body(prompt, native)["tool_choice"] == "required"
    one = Prompt(items=(), functions=(F, G), tool_choice=ToolChoice(mode="required", names=("g",)))
    assert body(one, native)["tool_choice"] == {"type": "function", "function": {"name": "g"}}


def test_a_required_call_is_had_by_a_schema() -> None:
    prompt = Prompt(
        items=(say("user", "Hi"),),
        instructions="Be kind.",
        functions=(F,),
        tool_choice=REQUIRED,
        parallel_tool_calls=False,
    )
    sent = body(prompt, CONFIG)
    assert "tools" not in sent
    assert sent["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": ["f"]}, "arguments": F.parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    system, _ = sent["messages"]
    assert system["content"].startswith("Be kind.\n\nCall one of these functions now:\n{")
    assert '"description":"Does f."' in system["content"]


def test_no_schema_that_is_sent_refers_to_itself_as_a_whole() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    held = Prompt(items=(), format=TextFormat("json_schema", "t", tree))
    functions = (Function("t", None, tree),)
    called = Prompt(items=(), functions=functions)
    for prompt in (held, called, Prompt(items=(), functions=functions, tool_choice=ToolChoice("required"))):
        sent = json.dumps(body(prompt, CONFIG))
        assert '"$ref": "#/$defs/' in sent and '"$ref": "#"' not in sent


def test_references_in_a_functions_schema_still_resolve() -> None:
    tree: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/tree",
        "type": "object",
        "properties": {
            "node": {"$ref": "#/$defs/Node"},
            "self": {"$ref": "#"},
            "default": {"enum": [{"$ref": "#"}, "x"]},
        },
        "required": ["node"],
        "additionalProperties": False,
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}},
                "additionalProperties": False,
            }
        },
    }
    functions = (Function(name="t", parameters=tree), Function(name="u", parameters=tree), G)
    validator = jsonschema_rs.validator_for(forced_calls.schema(functions))
    good = {"node": {"next": {"next": {"name": "n"}}}, "self": {"node": {}}, "default": {"$ref": "#"}}
    for name in ("t", "u"):
        assert validator.is_valid({"name": name, "arguments": good})
        assert not validator.is_valid({"name": name, "arguments": {"node": {"next": {"next": 1}}}})
        assert not validator.is_valid({"name": name, "arguments": {"node": {}, "self": {}}})
    assert validator.is_valid({"name": "g", "arguments": {"any": 1}})


def test_system_texts_in_front_become_one() -> None:
    items = (say("developer", "B"), say("system", "C"), say("user", "Hi"), say("developer", "D"))
    assert messages(*items, instructions="A") == [
        {"role": "system", "content": "A\n\nB\n\nC"},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "D"},
    ]
    apart = config(one_system=False, developer_role=True, late_system_role="user")
    assert [(one["role"], one["content"]) for one in messages(*items, instructions="A", with_config=apart)] == [
        ("system", "A"),
        ("developer", "B"),
        ("system", "C"),
        ("user", "Hi"),
        ("user", "D"),
    ]


def test_parts_become_text_and_pictures_only_for_a_model_that_sees() -> None:
    parts = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "original"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
    ]
    assert messages(say("user", parts)) == [{"role": "user", "content": "Look"}]
    assert messages(say("user", parts), with_config=config(supports_images=True))[0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
    ]


def test_an_answer_and_a_refusal_are_said_by_the_assistant() -> None:
    parts = [{"type": "output_text", "text": "A"}, {"type": "refusal", "refusal": "B"}]
    assert messages(say("assistant", parts)) == [{"role": "assistant", "content": "AB"}]


def test_calls_join_the_message_before_them_and_outputs_follow_directly() -> None:
    items = (
        say("user", "Q"),
        say("assistant", "Let me see."),
        call("1", '{"a": "x"}'),
        call("2"),
        say("user", "Hurry."),
        output("2", [{"type": "input_text", "text": "two"}]),
        output("1", "one"),
        call("3"),
        output("3"),
    )
    assert messages(*items) == [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [asked("1", '{"a": "x"}'), asked("2")]},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "user", "content": "Hurry."},
        {"role": "assistant", "content": None, "tool_calls": [asked("3")]},
        {"role": "tool", "tool_call_id": "3", "content": "ok"},
    ]


def test_an_id_that_comes_again_names_the_next_call() -> None:
    sent = messages(call("c"), output("c", "one"), call("c"), output("c", "two"))
    assert [one["content"] for one in sent if one["role"] == "tool"] == ["one", "two"]


def test_an_output_that_comes_twice_is_not_taken_for_the_next_calls() -> None:
    told = messages(call("x"), output("x", "1"), output("x", "1 again"), call("x"), output("x", "2"))
    assert [message["content"] for message in told if message["role"] == "tool"] == ["1", "2"]
    assert len(told) == 4


def test_an_output_without_its_call_is_told_by_the_user() -> None:
    assert messages(output("gone", "late")) == [
        {"role": "user", "content": "Output of an earlier function call:\nlate"}
    ]


def test_pictures_in_an_output_follow_it() -> None:
    picture = {"type": "input_image", "image_url": "https://x/y.png"}
    sent = messages(call("1"), output("1", [picture]), with_config=config(supports_images=True))
    assert sent[1:] == [
        {"role": "tool", "tool_call_id": "1", "content": ""},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
    ]


def test_reasoning_is_sent_back_only_where_asked_for_and_unknown_items_never() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
    items = (thought, {"type": "web_search_call"}, say("assistant", "A"))
    assert messages(*items) == [{"role": "assistant", "content": "A"}]
    assert messages(*items, with_config=config(replays_reasoning=True)) == [
        {"role": "assistant", "content": "A", "reasoning_content": "Hm"}
    ]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        (None, "{}"),
        ({"a": 1}, '{"a":1}'),
        ("[1]", '{"_raw":"[1]"}'),
        ('{"a": ', '{"_raw":"{\\"a\\": "}'),
        ('{"a": NaN}', '{"_raw":"{\\"a\\": NaN}"}'),
    ],
)
def test_arguments_are_always_an_object(written: Any, sent: str) -> None:
    assert object_text(written) == sent
    assert isinstance(json.loads(object_text(written)), dict)


def test_a_begun_answer_stands_last() -> None:
    prompt = Prompt(items=(say("user", "Q"),), prefix="Once")
    assert body(prompt, config(supports_prefill="llamacpp"))["messages"][-1] == {"role": "assistant", "content": "Once"}
    sent = body(prompt, config(supports_prefill="vllm"))
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)


def test_the_key_is_not_in_the_configs_repr() -> None:
    assert "secret" not in repr(config(api_key="secret"))


# What comes back.


def read(*pieces: bytes, prompt: Prompt | None = None, with_config: ChatConfig = CONFIG, **options: Any) -> list[Delta]:
    stream = ChatStream(prompt or Prompt(items=()), with_config, **options)
    out = [one for piece in pieces for one in stream.feed(piece)] + stream.end()
    assert stream.finished
    assert [one for one in out if isinstance(one, Finish)] == out[-1:]
    return out


ANSWER = frames(text("Hé"), text("llo"), finish("stop"), usage(5, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_any_cut_of_the_bytes(size: int) -> None:
    assert read(*split(ANSWER, size)) == [Text("Hé"), Text("llo"), Finish("stop", Usage(5, 0, 2, 0))]


def test_lines_of_every_kind() -> None:
    loose = b": comment\r\nevent: message\r\nid: 1\r\n" + ANSWER.replace(b"data: ", b"data:").replace(b"\n", b"\r\n")
    assert read(loose)[-1] == Finish("stop", Usage(5, 0, 2, 0))
    assert read(b'data: {"choices":null}\n\n' + frames(text("a"), finish(), done=False)[:-2])[0] == Text("a")


def test_usage_may_come_with_the_finish_with_details_or_never() -> None:
    details = {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert read(frames(finish("length", details))) == [Finish("length", Usage(5, 4, 3, 2))]
    assert read(frames(finish("eos"))) == [Finish("stop", None)]
    assert read(frames(finish("content_filter"))) == [Finish("content_filter", None)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_and_refusal_fields(field: str) -> None:
    chunks = (delta(role="assistant", content=None, **{field: "Hm"}), delta(refusal="No."), finish())
    assert read(frames(*chunks)) == [Reasoning("Hm"), Refusal("No."), Finish()]


def tool(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    piece = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return delta(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


@pytest.mark.parametrize(
    "chunks",
    [
        [tool(0, "a", "f", ""), tool(0, None, None, '{"a":'), tool(1, "b", "g", "{}"), tool(0, None, None, "1}")],
        [tool(0, "a", "f", '{"a":1}'), tool(0, "b", "g", "{}")],
        [tool(None, "a", "f", '{"a":1}'), tool(None, "b", "g", "{}")],
        [tool(0, "a", "f", {"a": 1}), tool(1, "b", "g", {})],
        [tool(0, "a", None, '{"a"'), tool(0, "a", "f", ":1}"), tool(1, "b", "g", None)],
        [tool(0, "a", "f", '{"a"'), tool(0, "a", "f", ":1}"), tool(1, "b", "g", "")],
    ],
)
def test_calls_however_they_are_numbered(chunks: list[Any]) -> None:
    deltas = [one for one in read(frames(*chunks, finish("tool_calls"))) if isinstance(one, Call)]
    keys = sorted({one.key for one in deltas})
    joined = {key: "".join(one.arguments for one in deltas if one.key == key) for key in keys}
    assert list(joined.values()) == ['{"a":1}', "{}"]
    firsts = [next(one for one in deltas if one.key == key) for key in keys]
    assert [(one.name, one.call_id) for one in firsts] == [("f", "a"), ("g", "b")]
    assert sum(bool(one.name) for one in deltas) == 2


def test_calls_without_ids_and_numbers_are_told_apart_by_their_names() -> None:
    chunks = (tool(None, None, "f", "{}"), tool(None, None, "g", "{"), tool(None, None, None, "}"))
    expected = [Call(0, "f"), Call(1, "g", "{"), Call(1, "", "}"), Call(0, "", "{}")]
    assert read(frames(*chunks, finish()))[:-1] == expected, "{} is kept, in case the object proper follows it"


A = '{"city": "A"}'


def test_only_the_first_call_when_there_may_be_one() -> None:
    prompt = Prompt(items=(), functions=(F, G), parallel_tool_calls=False)
    chunks = (tool(0, "a", "f", A), tool(1, "b", "g", A), finish())
    assert read(frames(*chunks), prompt=prompt)[:-1] == [Call(0, "f", A, "a")]


def test_the_older_way_to_call() -> None:
    chunks = (delta(function_call={"name": "f", "arguments": "{"}), delta(function_call={"arguments": "}"}))
    assert read(frames(*chunks, finish("function_call")))[:-1] == [Call(0, "f", "{"), Call(0, "", "}")]


def test_a_call_as_text_where_functions_are_declared() -> None:
    prompt = Prompt(items=(), functions=(F,))
    chunks = (text("<tool_"), text('call>{"name": "f", "arguments": {"a": "b"}}</tool_call>'), finish())
    assert read(frames(*chunks), prompt=prompt)[:-1] == [Call(0, "f", '{"a":"b"}')]
    off = config(text_calls=False)
    assert isinstance(read(frames(*chunks), prompt=prompt, with_config=off)[0], Text)


def test_spaces_in_front_of_a_servers_call_are_no_answer() -> None:
    chunks = (text("\n\n"), tool(0, "a", "f", A), finish())
    assert read(frames(*chunks))[:-1] == [Call(0, "f", A, "a")]


def entry(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, "top_logprobs": [{"token": token, "logprob": -0.5, "bytes": [1]}]}


def test_logprobs_when_they_were_asked_for() -> None:
    chunk = text("é")
    chunk["choices"][0]["logprobs"] = {"content": [entry("é")]}
    expected = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [{"token": "é", "logprob": -0.5, "bytes": [1]}],
    }
    assert read(frames(chunk, finish()), prompt=Prompt(items=(), top_logprobs=1))[0] == Text("é", (expected,))
    assert read(frames(chunk, finish()))[0] == Text("é")


def test_logprobs_of_a_token_without_text_go_with_the_next() -> None:
    silent, said = text(""), text("é")
    silent["choices"][0]["logprobs"] = {"content": [entry("")]}
    said["choices"][0]["logprobs"] = {"content": [entry("é")]}
    first = read(frames(silent, said, finish()), prompt=Prompt(items=(), top_logprobs=0))[0]
    assert isinstance(first, Text)
    assert [one["token"] for one in first.logprobs] == ["", "é"]


def test_an_answer_in_one_document() -> None:
    message = {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}
    document = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    deltas = read(*split(json.dumps(document, indent=1).encode(), 5))
    assert deltas == [Text("Hi"), Call(0, "f", "", "a"), Call(0, "", "{}"), Finish("stop", Usage(1))]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames(text("a"), done=False), "upstream_ended"),
        (frames(), "upstream_ended"),
        (b"", "upstream_ended"),
        (frames({"error": {"message": "CUDA"}}), "upstream_error"),
        (b'error: {"message": "CUDA"}\n\n', "upstream_error"),
        (b"data: {nonsense}\n\n", "upstream_error"),
        (frames(finish("abort")), "upstream_error"),
    ],
)
def test_a_stream_that_fails(data: bytes, code: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(data)
    assert caught.value.code == code


def test_a_line_is_bounded() -> None:
    with pytest.raises(UpstreamError):
        read(b"data: " + b"x" * 100, b"x" * 100, with_config=config(line_bytes_max=150))


def test_a_repeated_beginning_is_taken_off() -> None:
    prompt, repeats = Prompt(items=(), prefix="Once upon"), config(supports_prefill="llamacpp")
    for chunks in ((text("Once upon a time"),), (text("Once"), text(" upon"), text(" a time"))):
        deltas = read(frames(*chunks, finish()), prompt=prompt, with_config=repeats)
        assert deltas == [Text(" a time"), Finish()]
    assert read(frames(text("O"), text(" a time"), finish()), prompt=prompt, with_config=repeats)[0] == Text("O a time")
    trimmed = Prompt(items=(), prefix="Once \n")
    assert read(frames(text("Once upon"), finish()), prompt=trimmed, with_config=repeats)[0] == Text(" upon")
    vllm = config(supports_prefill="vllm")
    assert read(frames(text("Once upon"), finish()), prompt=prompt, with_config=vllm)[0] == Text("Once upon")


# A call that must be made.


def forced(*pieces: str, reason: str = "stop", functions: tuple[Function, ...] = (F, G)) -> list[Delta]:
    prompt = Prompt(items=(), functions=functions, tool_choice=REQUIRED)
    return read(frames(*map(text, pieces), finish(reason)), prompt=prompt, forced=True)[:-1]


def joined(deltas: list[Delta]) -> tuple[str, str]:
    calls = [one for one in deltas if isinstance(one, Call)]
    assert len(calls) == len(deltas)
    assert {one.key for one in calls} == {0}
    return calls[0].name, "".join(one.arguments for one in calls)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"name":"f","arguments":{"a":"}\\"{\\\\"}}', '{"a":"}\\"{\\\\"}'),
        ('{ "name" : "f" ,\n"arguments" : { "a": "é" } }\n', '{ "a": "é" }'),
        ('{"arguments": {"a": "b"}, "name": "f"}', '{"a": "b"}'),
    ],
)
def test_the_arguments_are_exactly_what_was_written(written: str, arguments: str, size: int) -> None:
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    assert joined(forced(*pieces)) == ("f", arguments)


def test_the_arguments_stream() -> None:
    deltas = forced('{"name":"f","arguments":{"a":', '"b', '"}}')
    assert deltas == [Call(0, "f"), Call(0, "", '{"a":'), Call(0, "", '"b'), Call(0, "", '"}')]


def test_a_forced_call_that_is_cut_gives_what_there_is() -> None:
    assert joined(forced('{"name":"f","arguments":{"a":"b\\', reason="length")) == ("f", '{"a":"b\\')
    assert forced('{"na', reason="length") == []


@pytest.mark.parametrize(
    "written",
    [
        "Sure, I call f.",
        '{"name":"other","arguments":{}}',
        '{"name":"f","arguments":{"a":1}}',
        '{"name":"f","arguments":[]}',
        '{"name":"f","arguments":{"a":"b"}',
        '{"name":"f","arguments":{"a":b}}',
        '{"name":"f","arguments":{}} and more',
    ],
)
def test_an_answer_that_is_no_call_is_an_error(written: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        forced(written)
    assert caught.value.code == "invalid_tool_call"


def test_only_a_strict_function_insists_on_its_schema() -> None:
    loose = Function(name="f", parameters=F.parameters, strict=False)
    assert joined(forced('{"name":"f","arguments":{"a":1}}', functions=(loose,))) == ("f", '{"a":1}')


def test_reasoning_in_front_of_a_forced_call() -> None:
    deltas = forced("<think>Hm</think>", '{"name":"g","arguments":{}}')
    assert deltas[0] == Reasoning("Hm")
    assert joined(deltas[1:]) == ("g", "{}")


def test_a_server_that_calls_by_itself_when_forced() -> None:
    prompt = Prompt(items=(), functions=(F,), tool_choice=REQUIRED)
    deltas = read(frames(tool(0, "a", "f", A), finish("tool_calls")), prompt=prompt, forced=True)
    assert deltas == [Call(0, "f", A, "a"), Finish()]


TWO = '[{"name":"f","arguments":{"a":"]}"}}, {"name": "g", "arguments": {} } ]'


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_several_calls_are_read_as_they_come(size: int) -> None:
    calls = [one for one in forced(*(TWO[at : at + size] for at in range(0, len(TWO), size))) if isinstance(one, Call)]
    assert [one.name for one in calls if one.name] == ["f", "g"]
    assert ["".join(one.arguments for one in calls if one.key == key) for key in (0, 1)] == ['{"a":"]}"}', "{}"]


def test_several_calls_whose_members_come_in_another_order() -> None:
    first, second = '{"name":"f","arguments":{"a":"x"}}', '{"arguments":{},"name":"g"}'
    for written in (f"[{second},{first}]", f"[{first},{second}]"):
        assert {one.name for one in forced(written) if isinstance(one, Call) and one.name} == {"f", "g"}


@pytest.mark.parametrize(
    "written", ["[]x", '[{"name":"f","arguments":{"a":1}},{"name":"g","arguments":{}}]', TWO + "]", TWO[:-1]]
)
def test_a_list_that_is_none_of_calls_is_an_error(written: str) -> None:
    with pytest.raises(UpstreamError):
        forced(written)


def test_a_list_that_is_cut_gives_what_there_is() -> None:
    assert {one.key for one in forced(TWO[:-4], reason="length") if isinstance(one, Call)} == {0, 1}
    assert {one.key for one in forced(TWO[:45], reason="length") if isinstance(one, Call)} == {0}


@pytest.mark.parametrize(
    ("fields", "options", "kind"),
    [
        ({}, {}, "array"),
        ({"parallel_tool_calls": False}, {}, "object"),
        ({"tool_choice": ToolChoice("required", ("f",))}, {}, "object"),
        ({}, {"forced_several": False}, "object"),
    ],
)
def test_several_calls_may_be_required_where_they_are_allowed(
    fields: dict[str, Any], options: dict[str, Any], kind: str
) -> None:
    prompt = Prompt(**{"items": (), "functions": (F,), "tool_choice": REQUIRED, **fields})
    sent = body(prompt, config(**options))
    assert sent["response_format"]["json_schema"]["schema"]["type"] == kind


# What comes back instead.


def failed(status: int, error: Any, headers: dict[str, str] | None = None) -> ApiError | ContextTooLong:
    data = error if isinstance(error, bytes) else json.dumps(error).encode()
    return error_of_answer(status, data, headers or {}, "sk-secret")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, UpstreamError, "upstream_refused_key"),
        (403, UpstreamError, "upstream_refused_key"),
        (404, UpstreamError, "upstream_model_not_found"),
        (400, InvalidRequest, "upstream_rejected"),
        (422, InvalidRequest, "upstream_rejected"),
        (429, RateLimited, "rate_limit_exceeded"),
        (500, UpstreamError, "upstream_error"),
        (503, Unavailable, "unavailable"),
        (529, Unavailable, "unavailable"),
        (408, UpstreamTimeout, "upstream_timeout"),
        (413, BodyTooLarge, "upstream_rejected"),
        (504, UpstreamTimeout, "upstream_timeout"),
        (302, UpstreamError, "upstream_error"),
    ],
)
def test_statuses(status: int, kind: type[ApiError], code: str) -> None:
    error = failed(status, {"error": {"message": "invalid API key or model: sk-secret " + "x" * 1000}})
    assert isinstance(error, kind)
    assert error.code == code
    assert "sk-secret" not in error.message + error.internal
    assert len(error.message) < 600


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"error": "plain"}, "plain"),
        ({"message": "flat"}, "flat"),
        ({"detail": "of validation"}, "of validation"),
        (b"just text", "just text"),
        ([1], "[1]"),
        (b"<html>Bad gateway</html>", "."),
    ],
)
def test_shapes_of_errors(error: Any, words: str) -> None:
    caught = failed(400, error)
    assert isinstance(caught, InvalidRequest)
    assert caught.message.endswith(words)


def test_when_to_come_again_is_passed_on() -> None:
    caught = failed(429, {}, {"Retry-After": "7"})
    assert isinstance(caught, RateLimited)
    assert caught.headers == {"Retry-After": "7"}


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        (
            {"message": "x", "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512},
            (900, 512),
        ),
        ({"message": "too much", "code": "context_length_exceeded"}, (None, None)),
        (
            {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
                "(4500 in the messages, 500 in the completion)."
            },
            (4500, 4096),
        ),
        (
            {
                "message": "'max_tokens' is too large: 1000. This model's maximum context length is 4096 tokens and "
                "your request has 3500 input tokens (1000 > 4096 - 3500)."
            },
            (3500, 4096),
        ),
        ({"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}, (5000, 4096)),
    ],
)
def test_a_prompt_that_is_too_long(error: Any, numbers: tuple[int | None, int | None]) -> None:
    caught = failed(400, {"error": error})
    assert isinstance(caught, ContextTooLong)
    assert (caught.prompt_tokens, caught.context_tokens) == numbers
    with pytest.raises(ContextTooLong):
        read(frames({"error": error}))
