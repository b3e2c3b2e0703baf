"""``/v1/chat/completions`` as the official SDK reads it: another dialect of the same engine."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import APIError, AsyncOpenAI, BadRequestError, NotFoundError, RateLimitError
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from antiphon.config import Config
from antiphon.models import Call, Finish, Reasoning, Refusal, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving
from antiphon.wire.errors import RateLimited, UpstreamError

DONE = Finish("stop", Usage(input=7, cached=2, output=3, reasoning=1))
LOGPROBS = ({"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []},)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
ASK: Any = [{"role": "user", "content": "Hi"}]
DOT = "data:image/png;base64,AA=="


@asynccontextmanager
async def client_of(model: ScriptedModel, **settings: Any) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, config=Config(**settings)) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


async def test_an_answer() -> None:
    async with client_of(ScriptedModel([Reasoning("hm"), Text("Hi.", LOGPROBS), DONE])) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK, logprobs=True, top_logprobs=1)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(answer.id.replace("chatcmpl-", "resp_"))
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hi.", "stop")
    assert choice.message.model_extra == {"reasoning_content": "hm"}
    assert choice.logprobs and choice.logprobs.content and choice.logprobs.content[0].token == "Hi"
    assert answer.usage is not None and answer.usage.total_tokens == 10
    assert answer.usage.prompt_tokens_details and answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"


async def test_a_stream_and_what_it_used() -> None:
    model = ScriptedModel([Reasoning("hm"), Text("Hi "), Text("you."), DONE])
    async with client_of(model) as client:
        stream = await client.chat.completions.create(
            model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Hi you."
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "hm"
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_and_their_results(streamed: bool) -> None:
    calls = [Call(0, "weather", '{"city":', "c1"), Call(1, "weather", '{"city":"Rome"}', "c2")]
    calls.append(Call(0, arguments='"Paris"}'))
    model = ScriptedModel([*calls, DONE], [Text("Sunny."), DONE])
    async with client_of(model) as client:
        asked: Any = {"model": "m", "messages": ASK, "tools": [WEATHER]}
        if streamed:
            async with client.chat.completions.stream(**asked) as stream:
                async for _ in stream:
                    pass
                (choice,) = (await stream.get_final_completion()).choices
        else:
            (choice,) = (await client.chat.completions.create(**asked)).choices
        assert choice.finish_reason == "tool_calls"
        made = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]  # type: ignore[union-attr]
        assert made == [("c1", "weather", '{"city":"Paris"}'), ("c2", "weather", '{"city":"Rome"}')]
        history = [
            *ASK,
            choice.message.model_dump(exclude_none=True, exclude={"parsed", "annotations"}),
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "rain"}]},
        ]
        for message in history:
            for call in message.get("tool_calls", ()):
                call["function"].pop("parsed_arguments", None)
                call.pop("index", None)
        done = await client.chat.completions.create(model="m", messages=history, tools=[WEATHER])
    assert done.choices[0].message.content == "Sunny."
    told = [item["type"] for item in model.prompts[1].items]
    assert told == ["message", *["function_call"] * 2, *["function_call_output"] * 2]
    assert [item.get("output") for item in model.prompts[1].items[3:]] == ["sun", "rain"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_the_request_does_not_allow_is_never_shown(streamed: bool) -> None:
    model = ScriptedModel([Call(0, "weather", "{}", "c1"), DONE], [Text("No."), DONE])
    asked: Any = {"model": "m", "messages": ASK, "tools": [WEATHER], "tool_choice": "none"}
    async with client_of(model) as client:
        if streamed:
            stream = await client.chat.completions.create(**asked, stream=True)
            deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
            assert not any(delta.tool_calls for delta in deltas)
            assert "".join(delta.content or "" for delta in deltas) == "No."
        else:
            (choice,) = (await client.chat.completions.create(**asked)).choices
            assert (choice.message.tool_calls, choice.message.content) == (None, "No.")


async def test_a_call_in_the_history_may_have_no_arguments() -> None:
    model = ScriptedModel([Text("Ok."), DONE])
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f"}},
        {"id": "c2", "type": "function", "function": {"name": "f", "arguments": None}},
    ]
    outputs: Any = [{"role": "tool", "tool_call_id": call["id"], "content": ""} for call in calls]
    messages: Any = [*ASK, {"role": "assistant", "tool_calls": calls}, *outputs]
    async with client_of(model) as client:
        await client.chat.completions.create(model="m", messages=messages)
    assert [item["arguments"] for item in model.prompts[0].items if "arguments" in item] == ["{}", "{}"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_custom_tools(streamed: bool) -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[ab]+"}}
    tools: Any = [{"type": "custom", "custom": {"name": "note", "format": grammar}}]
    asked: Any = {"model": "m", "messages": ASK, "tools": tools}
    asked["tool_choice"] = {"type": "custom", "custom": {"name": "note"}}
    model = ScriptedModel([Call(0, "note", '{"input":"ab"}', "c1"), DONE], [Text("Ok."), DONE])
    async with client_of(model) as client:
        if streamed:
            chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
            pieces: Any = [call for chunk in chunks for call in (chunk.choices[0].delta.tool_calls or ())]
            assert (pieces[0].id, pieces[0].type, pieces[0].custom["name"]) == ("c1", "custom", "note")
            assert "".join(piece.custom["input"] for piece in pieces) == "ab"
            assert chunks[-1].choices[0].finish_reason == "tool_calls"
        else:
            (choice,) = (await client.chat.completions.create(**asked)).choices
            (call,) = choice.message.tool_calls or ()
            assert call.model_dump() == {"id": "c1", "type": "custom", "custom": {"name": "note", "input": "ab"}}
            made: Any = [choice.message.model_dump(exclude_none=True, exclude={"annotations"})]
            history = [*ASK, *made, {"role": "tool", "tool_call_id": "c1", "content": "noted"}]
            await client.chat.completions.create(model="m", messages=history, tools=tools)
            assert [item["type"] for item in model.prompts[1].items[-2:]] == ["function_call", "function_call_output"]
            assert model.prompts[1].items[-2]["arguments"] == '{"input":"ab"}'


async def test_what_a_function_shows_reaches_the_model() -> None:
    """A result may hold images, as tools of other protocols return them, or be nothing."""
    model = ScriptedModel([Text("Ok."), DONE])
    calls = [{"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for id in ("c1", "c2")]
    shown = [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": DOT, "detail": "original"}}]
    outputs = [
        {"role": "tool", "tool_call_id": "c1", "content": shown},
        {"role": "tool", "tool_call_id": "c2", "content": None},
    ]
    messages: Any = [*ASK, {"role": "assistant", "tool_calls": calls}, *outputs]
    async with client_of(model) as client:
        await client.chat.completions.create(model="m", messages=messages)
    first, second = (item["output"] for item in model.prompts[0].items[-2:])
    assert [part["type"] for part in first] == ["input_text", "input_image"]
    assert (first[1]["image_url"], first[1]["detail"], second) == (DOT, "original", "")


async def test_allowed_tools_in_this_dialects_form() -> None:
    model = ScriptedModel([Text("Ok."), DONE])
    allowed: Any = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    async with client_of(model) as client:
        choice: Any = {"type": "allowed_tools", "allowed_tools": allowed}
        await client.chat.completions.create(model="m", messages=ASK, tools=[WEATHER], tool_choice=choice)
    assert model.prompts[0].tool_choice.names == ("weather",)


async def test_a_tool_whose_calls_would_be_lost_is_refused() -> None:
    async with client_of(ScriptedModel()) as client:
        with pytest.raises(BadRequestError) as caught:
            tools: Any = [WEATHER, {"type": "apply_patch"}]
            await client.chat.completions.create(model="m", messages=ASK, tools=tools)
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "tools[1].type")


async def test_a_message_is_named_by_its_own_place() -> None:
    """One message may become several items."""
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ("c1", "c2")]
    said = {"role": "assistant", "content": "So.", "reasoning_content": "hm", "tool_calls": calls}
    outputs = [{"role": "tool", "tool_call_id": call["id"], "content": ""} for call in calls]
    file = [{"type": "file", "file": {"file_id": "file-nope"}}]
    async with client_of(ScriptedModel()) as client:
        for older, place in (([], 0), ([*ASK, said, *outputs], 4)):
            messages: Any = [*older, {"role": "user", "content": file}]
            with pytest.raises(NotFoundError) as caught:
                await client.chat.completions.create(model="m", messages=messages)
            assert caught.value.param == f"messages[{place}].content[0]"


async def test_every_kind_of_message_and_part() -> None:
    model = ScriptedModel([Text("Ok."), DONE])
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Really."}]},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "See:"},
                {"type": "image_url", "image_url": {"url": DOT, "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": "A square.", "refusal": None},
        {"role": "assistant", "content": [{"type": "text", "text": "Or "}, {"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "Sure?"},
    ]
    async with client_of(model) as client:
        await client.chat.completions.create(
            model="m", messages=messages, max_tokens=99, temperature=0.5, reasoning_effort="low", seed=1
        )
    prompt = model.prompts[0]
    assert [item["role"] for item in prompt.items] == [message["role"] for message in messages]
    assert prompt.items[2]["content"][1]["detail"] == "low"
    assert (prompt.max_output_tokens, prompt.temperature, prompt.effort) == (99, 0.5, "low")


class Point(BaseModel):
    x: int
    y: int


async def test_an_answer_of_a_shape() -> None:
    async with client_of(ScriptedModel([Text('{"x":1,"y":2}'), DONE], [Text("{}"), DONE])) as client:
        answer = await client.chat.completions.parse(model="m", messages=ASK, response_format=Point)
        assert answer.choices[0].message.parsed == Point(x=1, y=2)
        with pytest.raises(APIError, match="does not keep to the format that was asked for"):
            await client.chat.completions.parse(model="m", messages=ASK, response_format=Point)


@pytest.mark.parametrize(
    ("finish", "reason"), [(Finish("length"), "length"), (Finish("content_filter"), "content_filter")]
)
async def test_an_answer_that_was_cut(finish: Finish, reason: str) -> None:
    async with client_of(ScriptedModel([Text("Hi"), finish], [Refusal("No."), DONE])) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].finish_reason == reason
        refused = await client.chat.completions.create(model="m", messages=ASK)
        message = refused.choices[0].message
        assert (message.refusal, message.content) == ("No.", None)


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"n": 2}, "unsupported_value", "n"),
        ({"temperature": 9}, "decimal_above_max_value", "temperature"),
        ({"tools": [{"type": "function", "function": {}}]}, "missing_required_parameter", "tools[0].function.name"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "missing_required_parameter", "tools[0].custom.name"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function"}},
            "missing_required_parameter",
            "tool_choice.function.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": 1}}}},
            "invalid_json_schema",
            "response_format.json_schema.schema",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]},
            None,
            "messages",
        ),
    ],
)
async def test_what_is_wrong_has_its_name_in_this_dialect(members: Any, code: str | None, param: str) -> None:
    async with client_of(ScriptedModel()) as client:
        body = {"model": "m", "messages": ASK} | members
        with pytest.raises(BadRequestError) as caught:
            await client.post("/chat/completions", body=body, cast_to=object)
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize("name", ["input", "text", "max_output_tokens"])
async def test_what_this_dialect_does_not_know_keeps_its_name(name: str) -> None:
    async with serving(ScriptedModel(), config=Config(strict=True)) as url, aiohttp.ClientSession() as session:
        asked = {"model": "m", "messages": ASK, name: 1}
        async with session.post(f"{url}/chat/completions", json=asked) as answer:
            error = (await answer.json())["error"]
    assert (error["param"], error["message"]) == (name, f"Unknown parameter: '{name}'.")


async def test_a_strict_server_takes_what_the_official_api_documents() -> None:
    members = {
        "max_tokens": 1,
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
        "moderation": {"model": "omni-moderation-latest"},
        "web_search_options": {},
    }
    part = {"type": "text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [part]}], **members}
    async with client_of(ScriptedModel([Text("Ok."), DONE]), strict=True) as client:
        answer = await client.chat.completions.with_raw_response.create(**body)  # type: ignore[arg-type]
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(model="m", messages=ASK, extra_body={"top_q": 1})
    assert answer.headers["x-antiphon-ignored"] == "modalities, prediction, web_search_options"


async def test_what_every_server_of_this_dialect_knows_is_passed_on() -> None:
    asked: Any = {"model": "m", "stop": ["\nObservation:"], "seed": 7, "logit_bias": {"9": -100}}
    model = ScriptedModel([Text("Ok."), DONE], [Text("Ok."), DONE])
    async with client_of(model) as client:
        passed = await client.chat.completions.with_raw_response.create(messages=ASK, extra_body={"top_q": 1}, **asked)
        named = await client.responses.with_raw_response.create(model="m", input="Hi", extra_body={"seed": 7})
    assert model.prompts[0].extra == {name: asked[name] for name in ("stop", "seed", "logit_bias")}
    assert passed.headers["x-antiphon-ignored"] == "top_q"
    assert model.prompts[1].extra == {}
    assert named.headers["x-antiphon-ignored"] == "seed"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_strict_server_takes_its_own_answers_back_as_the_sdk_holds_them(streamed: bool) -> None:
    model = ScriptedModel([Reasoning("hm"), Call(0, "weather", '{"city":"Rome"}', "c1"), DONE], [Text("{}"), DONE])
    strict: Any = {**PARAMETERS, "additionalProperties": False}
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": strict, "strict": True}}]
    async with client_of(model, strict=True) as client:
        if streamed:
            async with client.chat.completions.stream(model="m", messages=ASK, tools=tools) as stream:
                (choice,) = (await stream.get_final_completion()).choices
        else:
            (choice,) = (await client.chat.completions.parse(model="m", messages=ASK, tools=tools)).choices
        messages = [*ASK, choice.message.model_dump(), {"role": "tool", "tool_call_id": "c1", "content": "sun"}]
        last = await client.chat.completions.with_raw_response.create(model="m", messages=messages, tools=tools)
    assert last.parse().choices[0].message.content == "{}"
    assert "x-antiphon-ignored" not in last.headers


async def test_a_failure_in_mid_stream_is_an_error_of_the_stream() -> None:
    async with client_of(ScriptedModel([Text("Hi"), UpstreamError("It broke.")])) as client:
        stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
        seen: list[ChatCompletionChunk] = []
        with pytest.raises(APIError, match="It broke"):
            async for chunk in stream:
                seen.append(chunk)
    assert any(chunk.choices[0].delta.content == "Hi" for chunk in seen)


async def test_a_stream_that_is_silent_says_so_in_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.http.sse._SILENT_S", 0.3)
    said = asyncio.Event()
    async with serving(ScriptedModel([said, Text("Hi"), DONE]), config=Config(heartbeat_s=0)) as url:
        asked = {"model": "m", "messages": ASK, "stream": True}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=asked) as answer:
            lines: list[str] = []
            async for line in answer.content:
                lines.append(line.decode())
                if lines[-1].startswith(":"):
                    said.set()
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert any(line.startswith(":") for line in lines), "nothing kept the client waiting"
    assert [chunk["object"] for chunk in data] == ["chat.completion.chunk"] * len(data)
    assert lines[-2:] == ["data: [DONE]\n", "\n"]


async def test_a_refusal_keeps_its_status_until_there_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients try again by the status of an answer, and by its ``Retry-After``; never in the middle of a stream."""
    monkeypatch.setattr("antiphon.http.sse.FLUSH_AFTER_S", 0)
    refused = asyncio.Event()
    slow_down = RateLimited("Slow down.", headers={"Retry-After": "3"})
    async with client_of(ScriptedModel([refused, slow_down])) as client:
        asyncio.get_running_loop().call_later(0.8, refused.set)
        with pytest.raises(RateLimitError) as caught:
            await client.chat.completions.create(model="m", messages=ASK, stream=True)
    assert caught.value.response.headers["retry-after"] == "3"


@pytest.mark.parametrize("functions", [False, True])
async def test_a_stream_that_is_silent_repeats_that_it_goes_on(functions: bool) -> None:
    """Clients count chunks while they wait, and give up; comments do not help."""
    first, second = asyncio.Event(), asyncio.Event()
    model = ScriptedModel([first, Text("Hi "), second, Text("you."), DONE])
    asked: Any = {"model": "m", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}}
    if functions:
        asked["functions"] = [WEATHER["function"]]
    async with client_of(model, heartbeat_s=0.05) as client:
        chunks: list[ChatCompletionChunk] = []
        async for chunk in await client.chat.completions.create(**asked):
            chunks.append(chunk)
            if len(chunks) == 3:
                first.set()
            if "Hi " in [each.choices[0].delta.content for each in chunks[-2:-1] if each.choices]:
                second.set()
    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in chunks if chunk.choices]
    assert deltas[0]["role"] == "assistant" and deltas[1:3] == [{}, {}]
    spoken = deltas.index({"content": "Hi "})
    assert deltas[spoken + 1] == {} and deltas[-2:] == [{"content": "you."}, {}]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-2:] == [None, "stop"]
    assert chunks[-1].usage is not None and len({chunk.id for chunk in chunks}) == 1


async def test_what_is_kept_only_when_that_is_asked_for() -> None:
    async with client_of(ScriptedModel([Text("Hi"), DONE])) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK, store=True)
        kept = await client.responses.retrieve(answer.id.replace("chatcmpl-", "resp_"))
    assert kept.output_text == "Hi"


async def test_functions_in_the_form_before_tools() -> None:
    call = [Call(0, "weather", '{"city":', "c1"), Call(0, arguments='"Rome"}'), DONE]
    model = ScriptedModel(call, call, *[[Text("Sunny."), DONE]] * 3)
    functions: Any = [WEATHER["function"]]
    async with client_of(model) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK, functions=functions)
        (choice,) = answer.choices
        assert choice.finish_reason == "function_call" and choice.message.tool_calls is None
        assert choice.message.function_call is not None
        stream = await client.chat.completions.create(model="m", messages=ASK, functions=functions, stream=True)
        chunks = [chunk async for chunk in stream]
        pieces = [piece for chunk in chunks if (piece := chunk.choices[0].delta.function_call)]
        assert (pieces[0].name, "".join(piece.arguments or "" for piece in pieces)) == ("weather", '{"city":"Rome"}')
        assert chunks[-1].choices[0].finish_reason == "function_call"
        output: Any = {"role": "function", "name": "weather", "content": "sun"}
        messages: Any = [*ASK, choice.message.model_dump(exclude_none=True), output]
        last = await client.chat.completions.create(
            model="m", messages=messages, functions=functions, function_call="none"
        )
        assert (last.choices[0].message.content, last.choices[0].finish_reason) == ("Sunny.", "stop")
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(model="m", messages=ASK, functions=[{"name": "no name!"}])
        # Half of a round may be all that a client has kept of it.
        for half in ([*messages[:-1], *ASK], [*ASK, output]):
            odd: Any = [{"name": "weather", "odd": 1}]
            raw = await client.chat.completions.with_raw_response.create(model="m", messages=half, functions=odd)
            assert raw.headers["x-antiphon-ignored"].endswith("functions[0].odd")
    assert model.prompts[2].items[-1]["output"] == "sun"
    assert not model.prompts[0].parallel_tool_calls
    assert caught.value.param == "functions[0].name"
