"""A chat-completions server as a client meets it: over real sockets, in good and bad moods."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from scripted_upstream import (
    Answer,
    Upstream,
    failure,
    finish,
    frames,
    plain,
    split,
    sse,
    text,
    usage,
)

from antiphon.models import (
    Call,
    ContextTooLong,
    Delta,
    Finish,
    Function,
    Grammar,
    Model,
    Prompt,
    Text,
    TextFormat,
    ToolChoice,
    Usage,
)
from antiphon.models.chat.carried import Aside, load
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.scripted import ScriptedModel
from antiphon.wire.errors import ApiError, InvalidRequest, RateLimited, Unavailable, UpstreamError, UpstreamTimeout

PROMPT = Prompt(items=({"type": "message", "role": "user", "content": "Hi"},))
F = Function(name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}})
FORCED = Prompt(items=PROMPT.items, functions=(F,), tool_choice=ToolChoice(mode="required"))
ANSWER = (text("Hel"), text("lo"), finish(), usage(5, 2))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def model(upstream: Upstream) -> AsyncIterator[ChatModel]:
    one = ChatModel(ChatConfig(base_url=upstream.url, model="m", api_key="sk-secret"))
    yield one
    await one.close()


async def read(model: Model, prompt: Prompt = PROMPT) -> list[Delta]:
    async with model.sample(prompt) as batches:
        return [delta async for batch in batches for delta in batch]


def said(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


async def with_config(upstream: Upstream, prompt: Prompt = PROMPT, **fields: Any) -> list[Delta]:
    one = ChatModel(ChatConfig(base_url=upstream.url, model="m", **fields))
    try:
        return await read(one, prompt)
    finally:
        await one.close()


async def test_one_answer(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(sse(*ANSWER))
    deltas = await read(model)
    assert said(deltas) == "Hello"
    assert deltas[-1] == Finish("stop", Usage(5, 0, 2, 0))
    [asked] = upstream.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert asked.json["stream"] is True


async def test_each_read_is_one_batch_that_is_never_empty(upstream: Upstream, model: ChatModel) -> None:
    gate = asyncio.Event()
    upstream.play(Answer(steps=(frames(text("a"), text("b"), done=False), gate, frames(finish()))))
    async with model.sample(PROMPT) as batches:
        assert await anext(batches) == [Text("a"), Text("b")]
        gate.set()
        assert await anext(batches) == [Finish()]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


@pytest.mark.parametrize("size", [1, 7])
async def test_bytes_in_any_pieces(upstream: Upstream, model: ChatModel, size: int) -> None:
    upstream.play(Answer(steps=split(frames(text("Grüße 🌍"), finish()), size)))
    assert said(await read(model)) == "Grüße 🌍"


async def test_a_connection_serves_again(upstream: Upstream, model: ChatModel) -> None:
    gate = asyncio.Event()
    upstream.play(Answer(steps=(frames(*ANSWER), gate)), sse(*ANSWER))
    await read(model)
    gate.set()  # only now comes the end of the body
    await upstream.asked[0].answered.wait()
    await asyncio.sleep(0.05)  # for the client to see it
    await read(model)
    assert [asked.connection for asked in upstream.asked] == [0, 0]


async def test_a_session_passed_in_is_used_and_not_closed(upstream: Upstream) -> None:
    upstream.play(sse(*ANSWER))
    async with aiohttp.ClientSession(headers={"x-mine": "1"}) as session:
        model = ChatModel(ChatConfig(base_url=upstream.url, model="m"), session)
        await read(model)
        await model.close()
        assert not session.closed
    assert upstream.asked[0].headers["x-mine"] == "1"


async def test_leaving_stops_the_server_at_once(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(Answer(steps=(frames(text("a"), done=False), "hang")))
    async with model.sample(PROMPT) as batches:
        assert await anext(batches) == [Text("a")]
    await upstream.asked[0].left.wait()


async def test_cancelling_stops_the_server_before_it_answered(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(Answer(steps=("hang",)))
    task = asyncio.create_task(read(model))
    await upstream.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.asked[0].left.wait()


@pytest.mark.parametrize("steps", [(frames(text("a"), done=False), "cut"), (frames(text("a"), done=False),)])
async def test_a_stream_that_is_cut(upstream: Upstream, model: ChatModel, steps: Any) -> None:
    upstream.play(Answer(steps=steps))
    got: list[Delta] = []
    with pytest.raises(UpstreamError, match="ended mid-stream"):
        async with model.sample(PROMPT) as batches:
            async for batch in batches:
                got += batch
    assert got == [Text("a")]


async def test_an_error_in_the_stream(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(sse(text("a"), {"error": {"message": "out of memory", "code": 500}}))
    with pytest.raises(UpstreamError, match="out of memory"):
        await read(model)


async def test_an_answer_in_one_document(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(plain({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}))
    assert await read(model) == [Text("Hi"), Finish()]


async def test_silence(upstream: Upstream) -> None:
    upstream.play(Answer(steps=(frames(text("a"), done=False), "hang")))
    with pytest.raises(UpstreamTimeout):
        await with_config(upstream, idle_s=0.05)


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: refused
        model = ChatModel(ChatConfig(base_url=f"http://me:word@127.0.0.1:{taken.getsockname()[1]}/v1", model="m"))
        with pytest.raises(Unavailable) as caught:
            await read(model)
        await model.close()
    assert "127.0.0.1" not in caught.value.message
    assert "word" not in caught.value.message + caught.value.internal


async def test_a_connection_closed_while_idle_is_tried_again(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(Answer(status=0), sse(*ANSWER))
    assert said(await read(model)) == "Hello"


async def test_several_connections_closed_while_idle_are_passed_over(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(*[Answer(status=0)] * 3, sse(*ANSWER))
    assert said(await read(model)) == "Hello"


async def test_a_server_that_always_hangs_up(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(*[Answer(status=0)] * 4)
    with pytest.raises(Unavailable):
        await read(model)


async def test_refusals(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(failure(401, "bad key sk-secret"))
    with pytest.raises(UpstreamError) as caught:
        await read(model)
    assert "sk-secret" not in caught.value.message + caught.value.internal
    upstream.play(plain({}, 429, {"Retry-After": "3"}))
    with pytest.raises(RateLimited) as limited:
        await read(model)
    assert limited.value.headers == {"Retry-After": "3"}
    upstream.play(failure(500, "x" * 1_000_000))
    with pytest.raises(UpstreamError) as failed:
        await read(model)
    assert len(failed.value.message) < 600


async def test_the_key_is_not_carried_to_another_place(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(plain({}, 307, {"Location": "/elsewhere"}))
    with pytest.raises(UpstreamError):
        await read(model)
    assert len(upstream.asked) == 1


async def test_a_prompt_that_is_too_long(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(failure(400, "long", type="exceed_context_size_error", n_prompt_tokens=900, n_ctx=512))
    with pytest.raises(ContextTooLong) as caught:
        await read(model)
    assert (caught.value.prompt_tokens, caught.value.context_tokens) == (900, 512)


async def test_a_bound_beyond_the_window_is_cut_to_it(upstream: Upstream, model: ChatModel) -> None:
    message = "maximum context length is 4096 tokens and your request has 4000 input tokens"
    upstream.play(failure(400, message), sse(*ANSWER))
    await read(model, Prompt(items=PROMPT.items, max_output_tokens=1000))
    assert [asked.json["max_tokens"] for asked in upstream.asked] == [1000, 96]


async def test_a_large_prompt(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(sse(*ANSWER))
    await read(model, Prompt(items=({"role": "user", "content": "x" * 2_000_000},)))
    assert len(upstream.asked[0].json["messages"][0]["content"]) == 2_000_000


async def test_a_forced_call(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(sse(text('{"name":"f","argu'), text('ments":{"a":"b"}}'), finish()))
    deltas = await read(model, FORCED)
    assert deltas == [Call(0, "f"), Call(0, "", '{"a":"b"}'), Finish()]
    assert "tools" not in upstream.asked[0].json


A = '{"a": 1}'


async def test_a_server_that_takes_no_schema_is_asked_its_own_way_from_then_on(
    upstream: Upstream, model: ChatModel
) -> None:
    called = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": A}}]}
    native = sse({"choices": [{"delta": called}]}, finish("tool_calls"))
    upstream.play(failure(400, "response_format is not supported"), native, native)
    for _ in range(2):
        assert await read(model, FORCED) == [Call(0, "f", A, "1"), Finish()]
    assert [asked.json.get("tool_choice") for asked in upstream.asked] == [None, "required", "required"]


async def test_one_schema_that_is_refused_does_not_speak_for_others(upstream: Upstream, model: ChatModel) -> None:
    answer = sse(text("no call"), finish())
    upstream.play(failure(400, "failed to parse grammar"), answer, failure(400, "failed to parse grammar"), answer)
    for _ in range(2):
        assert said(await read(model, FORCED)) == "no call"
    assert ["response_format" in asked.json for asked in upstream.asked] == [True, False, True, False]


async def test_a_grammar_that_the_server_does_not_take_gives_way_to_a_schema(upstream: Upstream) -> None:
    vllm = ChatModel(ChatConfig(base_url=upstream.url, model="m", grammars="vllm"))
    function = Function("note", grammar=Grammar("lark", 'start: "x"'))
    prompt = Prompt(items=(), functions=(function,), tool_choice=ToolChoice("required", ("note",)))
    written = sse(text('{"name":"note","arguments":{"input":"x"}}'), finish())
    upstream.play(failure(400, "invalid grammar"), written, sse(text("x"), finish()))
    for _ in range(2):
        deltas = await read(vllm, prompt)
        assert "".join(delta.arguments for delta in deltas if isinstance(delta, Call)) == '{"input":"x"}'
    sent = [asked.json.keys() & {"structured_outputs", "response_format", "tools"} for asked in upstream.asked]
    assert sent == [{"structured_outputs"}, {"response_format"}, {"structured_outputs"}]
    await vllm.close()


YEAR = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
IN_A_FORMAT = Prompt(items=PROMPT.items, format=TextFormat("json_schema", "x", YEAR), max_output_tokens=100)


@pytest.fixture
async def by_grammar(upstream: Upstream) -> AsyncIterator[ChatModel]:
    """A model of llama.cpp's server, as the embedded one."""
    config = ChatConfig(
        base_url=upstream.url,
        model="m",
        grammars="llamacpp",
        schemas="llguidance",
        supports_prefill="llamacpp",
        bounds_schemas=True,
    )
    model = ChatModel(config)
    yield model
    await model.close()


async def test_an_answer_by_a_grammar_is_begun_as_a_block_of_json(upstream: Upstream, by_grammar: ChatModel) -> None:
    upstream.play(sse(text("```json\n"), text('{"year": 1}'), finish()))
    assert said(await read(by_grammar, IN_A_FORMAT)) == '{"year": 1}'
    (asked,) = upstream.asked
    assert asked.json["messages"][-1] == {"role": "assistant", "content": "```json\n"}
    assert asked.json["grammar"].startswith("%llguidance {}\nstart: %json {")
    assert "response_format" not in asked.json


async def test_what_breaks_off_is_gone_on_with_where_it_stopped(upstream: Upstream, by_grammar: ChatModel) -> None:
    begun = "```json\n"
    upstream.play(
        sse(text(begun), text('{"year'), text('": 18'), finish("length"), usage(9, 60)),
        sse(text(begun + '{"year": 18'), text("42}"), finish(), usage(69, 3)),
    )
    deltas = await read(by_grammar, IN_A_FORMAT)
    assert said(deltas) == '{"year": 1842}'
    last = deltas[-1]
    assert isinstance(last, Finish) and last.reason == "stop" and last.usage == Usage(9, 0, 63, 0)
    first, second = upstream.asked
    assert second.json["messages"][-1]["content"] == begun + '{"year": 18'
    assert 0 < second.json["max_tokens"] <= 100 - 60 < first.json["max_tokens"] < 100
    assert "%json" not in second.json["grammar"], "the whole answer's grammar would begin it anew"


async def test_a_schema_beyond_grammars_is_left_to_the_server(upstream: Upstream, by_grammar: ChatModel) -> None:
    upstream.play(failure(400, "failed to parse grammar"), sse(text('{"year": 1}'), finish()))
    assert said(await read(by_grammar, IN_A_FORMAT)) == '{"year": 1}'
    first, second = (asked.json for asked in upstream.asked)
    assert "grammar" in first and "response_format" in second and "grammar" not in second
    assert second["messages"][-1]["role"] == "user"


async def test_functions_beside_a_format_leave_it_to_the_server(upstream: Upstream, by_grammar: ChatModel) -> None:
    upstream.play(sse(text('{"year": 1}'), finish()))
    await read(by_grammar, msgspec.structs.replace(IN_A_FORMAT, functions=(Function("f"),)))
    assert "grammar" not in upstream.asked[0].json


async def test_a_call_by_a_grammar_is_begun_as_a_block_of_json(upstream: Upstream, by_grammar: ChatModel) -> None:
    upstream.play(sse(text("```json\n"), text('{"name": "f", "arguments": {}}'), finish()))
    (call, *_) = await read(by_grammar, FORCED)
    assert isinstance(call, Call) and call.name == "f"
    assert upstream.asked[0].json["messages"][-1]["content"] == "```json\n"


LOGPROBS_REFUSED = "logprobs is not supported with tools + stream"


async def test_logprobs_beside_tools_are_asked_for_by_the_name_that_llama_server_takes(
    upstream: Upstream, model: ChatModel
) -> None:
    entry = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}
    chunk = text("Hi")
    chunk["choices"][0]["logprobs"] = {"content": [entry]}
    upstream.play(failure(400, LOGPROBS_REFUSED), sse(chunk, finish()), sse(chunk, finish()), sse(chunk, finish()))
    prompt = Prompt(items=PROMPT.items, functions=(Function(name="f"),), top_logprobs=0)
    for _ in range(2):
        (first, *_) = await read(model, prompt)
        assert isinstance(first, Text)
        assert [(one["token"], one["top_logprobs"]) for one in first.logprobs] == [("Hi", [])]
    await read(model, Prompt(items=PROMPT.items, top_logprobs=2))
    asked = [(sent.json.get("top_logprobs"), sent.json.get("n_probs")) for sent in upstream.asked]
    assert asked == [(1, None), (None, 1), (None, 1), (2, None)]


THOUGHT: Any = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]}
MADE: Any = [
    item
    for call_id in ("c0", "c1")
    for item in (
        {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": "ok"},
    )
]
STAND_IN = {"google": {"thought_signature": "skip_thought_signature_validator"}}
WANTED = {
    "Missing `reasoning_content` field in the assistant message at message index 2.": ["Hm", ""],
    "The `reasoning_content` in the thinking mode must be passed back to the API.": ["Hm", ""],
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2": ["Hm", ""],
    "Function call is missing a thought_signature in functionCall parts.": [STAND_IN, STAND_IN],
}


@pytest.mark.parametrize("words", WANTED)
async def test_what_a_server_wants_back_of_its_calls_is_sent_from_then_on(
    upstream: Upstream, model: ChatModel, words: str
) -> None:
    prompt = Prompt(items=(*PROMPT.items, THOUGHT, *MADE), functions=(F,))
    upstream.play(failure(400, words), sse(*ANSWER), sse(*ANSWER))
    for _ in range(2):
        assert said(await read(model, prompt)) == "Hello"
    sent = [
        [message.get("reasoning_content", message["tool_calls"][0].get("extra_content")) for message in messages]
        for asked in upstream.asked
        if (messages := [one for one in asked.json["messages"] if one["role"] == "assistant"])
    ]
    assert sent == [[None, None], WANTED[words], WANTED[words]]
    upstream.play(failure(400, words))
    with pytest.raises(InvalidRequest):
        await read(model, prompt)


UNASKED = [
    "stream_options is not supported",
    {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        ]
    },
    {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": None}},
]


@pytest.mark.parametrize("refusal", UNASKED)
async def test_a_server_that_does_not_know_stream_options_is_not_sent_them_again(
    upstream: Upstream, model: ChatModel, refusal: Any
) -> None:
    refused = failure(400, refusal) if isinstance(refusal, str) else plain(refusal, 422)
    upstream.play(refused, sse(*ANSWER), sse(*ANSWER))
    for _ in range(2):
        assert said(await read(model)) == "Hello"
    assert ["stream_options" in asked.json for asked in upstream.asked] == [True, False, False]


async def test_a_model_goes_on_without_thinking_where_its_server_misses_earlier_thoughts(upstream: Upstream) -> None:
    words = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
    upstream.play(failure(400, words), sse(*ANSWER))
    thinking = msgspec.structs.replace(PROMPT, effort="high")
    assert said(await with_config(upstream, thinking, effort="field")) == "Hello"
    assert [asked.json.get("reasoning_effort") for asked in upstream.asked] == ["high", None]
    upstream.play(failure(400, words))
    with pytest.raises(InvalidRequest):
        await with_config(upstream, PROMPT, effort="field")


REFUSED = {
    "property 'extra_content' is unsupported": {},
    "Extra inputs are not permitted": {},
    "Corrupted thought signature.": {"extra_content": STAND_IN},
}


@pytest.mark.parametrize("words", REFUSED)
async def test_what_came_with_the_calls_of_another_model_is_left_out_where_it_is_refused(
    upstream: Upstream, model: ChatModel, words: str
) -> None:
    aside = Aside({"google": {"thought_signature": "x"}})
    prompt = Prompt(items=(*PROMPT.items, *({**item, "call_id": load("c", aside, "")} for item in MADE)))
    upstream.play(failure(400, words), sse(*ANSWER), sse(*ANSWER))
    for _ in range(2):
        assert said(await read(model, prompt)) == "Hello"
    calls = [
        [message["tool_calls"][0] for message in asked.json["messages"] if message["role"] == "assistant"]
        for asked in upstream.asked
    ]
    made = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    signed, bare = {**made, "extra_content": aside.extra_content}, {**made, **REFUSED[words]}
    # The next prompt may be of the model's own.
    assert calls == [[signed, signed], [bare, bare], [signed, signed]]
    upstream.play(failure(400, next(iter(REFUSED))))
    with pytest.raises(InvalidRequest):
        await read(model, Prompt(items=(*PROMPT.items, *MADE)))


async def test_counting_as_llama_server_does(upstream: Upstream) -> None:
    llamacpp = ChatModel(ChatConfig(base_url=upstream.url, model="m", counter="llamacpp"))
    upstream.play(plain({"prompt": "<user>Hi"}), plain({"tokens": [1, 2, 3]}))
    assert await llamacpp.count(PROMPT) == 3
    assert [asked.path for asked in upstream.asked] == ["/apply-template", "/tokenize"]
    assert upstream.asked[1].json["content"] == "<user>Hi"
    await llamacpp.close()


async def test_counting_as_vllm_does(upstream: Upstream) -> None:
    vllm = ChatModel(ChatConfig(base_url=upstream.url, model="m", counter="vllm"))
    upstream.play(plain({"count": 4}))
    assert await vllm.count(PROMPT) == 4
    assert upstream.asked[0].json == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    await vllm.close()


PROBED = sse(text("H"), finish("length"), usage(7, 1))


async def test_counting_by_an_answer_of_one_token(upstream: Upstream) -> None:
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", counter="probe"))
    upstream.play(PROBED, sse(text("H"), finish("length")))
    assert await model.count(PROMPT) == 7
    assert upstream.asked[0].json["max_tokens"] == 1
    with pytest.raises(InvalidRequest) as caught:
        await model.count(PROMPT)
    assert caught.value.code == "unsupported_operation"
    await model.close()


async def test_one_token_is_counted_of_what_is_sampled_and_not_of_a_look_at_it(upstream: Upstream) -> None:
    helped = ChatConfig(
        base_url=upstream.url, model="m", counter="probe", tool_help="repair", tool_format="fenced", call_odds=0.1
    )
    model = ChatModel(helped)
    upstream.play(PROBED)
    assert await model.count(msgspec.structs.replace(PROMPT, functions=(F,))) == 7
    (asked,) = upstream.asked
    await asked.answered.wait()
    await asyncio.sleep(0.01)
    await model.close()


async def test_how_to_count_is_found_out_once(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(failure(404, "no such path"), plain({"detail": "Not Found"}, 404), PROBED, PROBED)
    assert [await model.count(PROMPT), await model.count(PROMPT)] == [7, 7]
    paths = ["/apply-template", "/tokenize", "/v1/chat/completions", "/v1/chat/completions"]
    assert [asked.path for asked in upstream.asked] == paths


async def test_a_server_that_is_away_does_not_decide_how_to_count(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(failure(503, "loading"), plain({"prompt": "Hi"}), plain({"tokens": [1, 2]}), failure(503, "busy"))
    for _ in range(2):
        with pytest.raises(ApiError):
            await model.count(PROMPT)
    upstream.play(plain({"prompt": "Hi"}), plain({"tokens": [1, 2]}), sse(text("H"), finish("length"), usage(2, 1)))
    assert await model.count(PROMPT) == 2


async def test_a_tokenizer_that_counts_otherwise_than_answers_report_is_left(
    upstream: Upstream, model: ChatModel
) -> None:
    counted = (plain({"prompt": "Hi"}), plain({"tokens": [1, 2]}))
    upstream.play(*counted, PROBED, PROBED)
    assert [await model.count(PROMPT), await model.count(PROMPT)] == [7, 7]
    assert [asked.path for asked in upstream.asked][2:] == ["/v1/chat/completions"] * 2


async def test_what_is_too_long_to_be_answered_is_counted_all_the_same(upstream: Upstream, model: ChatModel) -> None:
    counted = (plain({"prompt": "Hi"}), plain({"tokens": [1, 2, 3]}))
    too_long = failure(400, "the request exceeds the available context size", type="exceed_context_size_error")
    upstream.play(*counted, too_long, *counted, sse(text("H"), finish("length"), usage(3, 1)), *counted)
    assert [await model.count(PROMPT) for _ in range(3)] == [3, 3, 3]


async def test_what_is_counted_is_what_is_sampled(upstream: Upstream) -> None:
    config = ChatConfig(base_url=upstream.url, model="m", counter="llamacpp", effort="field")
    model = ChatModel(config)
    held = TextFormat("json_schema", "f", {"type": "object"})
    prompt = msgspec.structs.replace(PROMPT, functions=(F,), effort="low", format=held, temperature=0.5)
    upstream.play(plain({"prompt": ""}), plain({"tokens": []}), sse(text("{}"), finish()))
    await model.count(prompt)
    await read(model, prompt)
    counted, _, sampled = (asked.json for asked in upstream.asked)
    about_sampling = {"model", "stream", "stream_options", "temperature", "top_p"}
    assert counted == {name: value for name, value in sampled.items() if name not in about_sampling}
    await model.close()


async def test_images_are_counted_by_the_model_alone(upstream: Upstream) -> None:
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", counter="llamacpp", supports_images=True))
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    upstream.play(PROBED)
    assert await model.count(Prompt(items=({"type": "message", "role": "user", "content": [image]},))) == 7
    await upstream.asked[0].answered.wait()
    await asyncio.sleep(0.01)
    await model.close()


async def test_an_estimate_is_called_one(upstream: Upstream) -> None:
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", counter="estimate"))
    assert (await model.count(PROMPT), model.estimates_tokens, upstream.asked) == (1, True, [])
    await model.close()


async def test_many_at_once(upstream: Upstream, model: ChatModel) -> None:
    upstream.play(*(sse(*ANSWER) for _ in range(20)))
    assert [said(deltas) for deltas in await asyncio.gather(*(read(model) for _ in range(20)))] == ["Hello"] * 20


async def test_names() -> None:
    config = ChatConfig(base_url="http://x", model="m", supports_images=True, context_tokens=9, supports_prefill="vllm")
    one: Model = ChatModel(config)
    assert (one.name, one.supports_images, one.context_tokens) == ("m", True, 9)
    assert ChatModel(ChatConfig(base_url="http://x", model="m", name="shown")).name == "shown"


# The scripted model keeps the same promises.


async def test_scripts_play_in_order() -> None:
    gate = asyncio.Event()
    gate.set()
    model = ScriptedModel([[Text("a"), Text("b")], gate, "c"], "d", again=True)
    assert said(await read(model)) == "abc"
    assert await read(model) == await read(model) == [Text("d"), Finish()]
    assert model.prompts == [PROMPT] * 3
    assert [one.finished for one in model.samples] == [True] * 3
    assert await model.count(PROMPT) == len(json.dumps([None, *PROMPT.items], separators=(",", ":"))) // 4


async def test_scripts_fail_and_notice_who_leaves() -> None:
    model = ScriptedModel([UpstreamError("down")], ["a", UpstreamError("cut")], ["a", asyncio.Event()])
    with pytest.raises(UpstreamError, match="down"):
        await read(model)
    with pytest.raises(UpstreamError, match="cut"):
        await read(model)
    async with model.sample(PROMPT) as batches:
        assert await anext(batches) == (Text("a"),)
    assert [one.left_early for one in model.samples] == [True] * 3
    with pytest.raises(AssertionError, match="only 3 scripts"):
        await read(model)


async def test_a_choice_is_looked_at_and_made_over_http(upstream: Upstream) -> None:
    """What is asked first, and what then: the call that is begun for the model comes out whole."""

    def look(token: str, likely: str, logprob: float) -> Answer:
        entry = {"token": token, "logprob": -0.5, "top_logprobs": [{"token": likely, "logprob": logprob}]}
        chunk = {**text(token), "choices": [{**text(token)["choices"][0], "logprobs": {"content": [entry]}}]}
        return sse(chunk, finish("length"))

    named = look("f", "f", -0.1)
    upstream.play(look("To", "```", -1.0), named, sse(text('f", "arguments": {}}\n```'), finish()))
    config = ChatConfig(
        base_url=upstream.url,
        model="m",
        tool_help="repair",
        tool_format="fenced",
        call_odds=0.1,
        supports_prefill="llamacpp",
    )
    model = ChatModel(config)
    async with model.sample(Prompt(items=(), functions=(Function("f"),))) as batches:
        deltas = [delta async for batch in batches for delta in batch]
    await model.close()
    assert [(one.name, one.arguments) for one in deltas if isinstance(one, Call)] == [("f", "{}")]
    first, name, second = (asked.json for asked in upstream.asked)
    assert (first["max_tokens"], first["temperature"], first["logprobs"]) == (1, 0.0, True)
    assert (name["max_tokens"], name["messages"]) == (1, second["messages"])
    assert second["messages"][-1]["role"] == "assistant"
