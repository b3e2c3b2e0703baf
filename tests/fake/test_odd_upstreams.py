"""What model servers send, over real sockets: an answer is lost only where it cannot be understood."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from antiphon.models import Call, ContextTooLong, Delta, Finish, Function, Prompt, Reasoning, Text, Usage
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.model import ChatModel
from antiphon.models.chat.upstream import upstream_models
from antiphon.testing.upstream import Answer, Upstream, delta, finish, frames, plain, sse, text, usage
from antiphon.wire.errors import ApiError, InvalidRequest, Unavailable, UpstreamError, UpstreamTimeout

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTIONS = tuple(Function(name=name, parameters=CITY) for name in ("get_weather", "get_time", "ping", "get"))
PROMPT = Prompt(items=({"type": "message", "role": "user", "content": "Hi"},), functions=FUNCTIONS)
WHOLE = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections whose last bytes are still to come are closed soon, and so before their session is."""
    monkeypatch.setattr("antiphon.models.chat.model._TRAILER_S", 0.01)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


async def read(upstream: Upstream, prompt: Prompt = PROMPT, **fields: Any) -> list[Delta]:
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", **fields))
    try:
        async with asyncio.timeout(8), model.sample(prompt) as batches:
            return [one async for batch in batches for one in batch]
    finally:
        await asyncio.sleep(0.02)
        await model.close()


def said(deltas: list[Delta]) -> str:
    return "".join(one.text for one in deltas if isinstance(one, Text))


def thought(deltas: list[Delta]) -> str:
    return "".join(one.text for one in deltas if isinstance(one, Reasoning))


def used(deltas: list[Delta]) -> Usage | None:
    last = deltas[-1]
    assert isinstance(last, Finish)
    return last.usage


def calls(deltas: list[Delta]) -> list[tuple[str, str]]:
    keys = dict.fromkeys(one.key for one in deltas if isinstance(one, Call))
    pieces = [[one for one in deltas if isinstance(one, Call) and one.key == key] for key in keys]
    return [(each[0].name, "".join(one.arguments for one in each)) for each in pieces]


def tool(index: Any, id: Any, name: Any, arguments: Any) -> Any:
    piece: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "index": index, "id": id}
    piece["function"] = {key: value for key, value in piece["function"].items() if value is not None}
    return delta(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


def raw(*parts: bytes) -> Answer:
    return Answer(steps=parts)


A, B = '{"city": "A"}', '{"city": "B"}'
PARALLEL: list[Any] = [
    ([tool(0, None, "get_weather", A), tool(0, None, "get_time", B)], ["get_weather", "get_time"]),
    ([tool(0, "", "ping", A), tool(0, "", "ping", B)], ["ping", "ping"]),
    ([tool(None, None, "ping", A), tool(None, None, "ping", B)], ["ping", "ping"]),
    ([tool(None, "x", "ping", A), tool(None, "y", "ping", B)], ["ping", "ping"]),
    ([tool(0, "x", "ping", A), tool(0, "y", "ping", A)], ["ping", "ping"]),
    ([tool(0, "x", "ping", A), tool(1, "x", "ping", B)], ["ping", "ping"]),
    (
        [
            tool(0, None, "ping", ""),
            tool(0, None, None, A),
            tool(0, None, "ping", ""),
            tool(0, None, None, B),
        ],
        ["ping", "ping"],
    ),
    ([tool(0, "x", "get_weather", '{"city": '), tool(None, None, "get_weather", '"A"}')], ["get_weather"]),
    ([tool(0, "x", "ping", A), tool(0, "x", "ping", ""), tool(0, None, "ping", "")], ["ping"]),
    ([tool(0, "x", "ping", '{"city": '), tool(0, None, None, '"A"}'), tool(0, "x", "ping", A)], ["ping"]),
    ([tool(0, "a", "ping", '{"ci'), tool(0, "b", None, 'ty": '), tool(0, "c", None, '"A"}')], ["ping"]),
    ([tool(0, "a", "ping", '{"ci'), tool(0, "b", "ping", 'ty": '), tool(0, "c", "ping", '"A"}')], ["ping"]),
    ([tool(0, "a", "get_", ""), tool(0, None, "weather", ""), tool(0, None, None, A)], ["get_weather"]),
    ([tool(0, "a", "get_", ""), tool(0, None, "weather", A)], ["get_weather"]),
    ([tool(0, "a", "get", ""), tool(0, None, "_time", A)], ["get_time"]),
    ([tool(0, "a", "get_", ""), tool(0, "a", "get_time", A)], ["get_time"]),
    ([tool(0, "a", "get", ""), tool(0, None, None, A)], ["get"]),
    ([tool(0, "a", "ping", A + "}")], ["ping"]),
    ([tool("0", 7, "ping", A)], ["ping"]),
    ([delta(tool_calls={"index": 0, "function": {"name": "ping", "arguments": A}})], ["ping"]),
    ([delta(tool_calls=[{"index": 0, "name": "ping", "arguments": A}])], ["ping"]),
    ([tool(0, "a", "ping", json.dumps(A))], ["ping"]),
    ([tool(0, "a", "ping", {"city": "A"})], ["ping"]),
]


@pytest.mark.parametrize(("chunks", "names"), PARALLEL)
async def test_calls_are_told_apart(upstream: Upstream, chunks: list[Any], names: list[str]) -> None:
    upstream.play(sse(*chunks, finish("tool_calls")))
    deltas = await read(upstream)
    found = calls(deltas)
    assert [name for name, _ in found] == names
    assert json.loads(found[0][1])["city"] == "A"
    ids = [one.call_id for one in deltas if isinstance(one, Call) and one.call_id]
    assert len(ids) == len(set(ids)), "an id names one call of an answer"


@pytest.mark.parametrize("arguments", ["", " \n", "null", "  null ", None])
async def test_blank_arguments_are_an_empty_object(upstream: Upstream, arguments: Any) -> None:
    upstream.play(sse(tool(0, "a", "ping", arguments), finish("tool_calls")))
    assert calls(await read(upstream)) == [("ping", "{}")]


async def test_the_one_function_there_is_need_not_be_named(upstream: Upstream) -> None:
    chunks = (tool(0, "a", None, A), finish("tool_calls"))
    upstream.play(sse(*chunks), sse(*chunks))
    one = Prompt(items=PROMPT.items, functions=FUNCTIONS[2:3])
    assert calls(await read(upstream, one)) == [("ping", A)]
    with pytest.raises(UpstreamError, match="without a name"):
        await read(upstream)


END: list[Any] = [
    ("cut",),
    (frames(usage(3, 2), done=False), "cut"),
    (frames(usage(3, 2), done=False), "hang"),
    ("hang",),
    (b": keep-alive\n\n",) * 40 + ("hang",),
    (b'data: {"error": {"message": "too late"}}\n\n',),
    (b'data: {"choi',),
]


@pytest.mark.parametrize("end", END)
@pytest.mark.parametrize("called", [False, True])
async def test_an_answer_is_complete_once_it_says_why_it_ends(upstream: Upstream, end: Any, called: bool) -> None:
    begin = tool(0, "a", "ping", A) if called else text("Hello")
    upstream.play(raw(frames(begin, finish(), done=False), *end))
    deltas = await read(upstream)
    assert calls(deltas) == [("ping", A)] if called else said(deltas) == "Hello"
    assert used(deltas) == (Usage(3, 0, 2, 0) if isinstance(end[0], bytes) and b"usage" in end[0] else None)


async def test_usage_is_waited_for_and_a_server_that_ends_too_early_is_heard_out(upstream: Upstream) -> None:
    gate = asyncio.Event()
    upstream.play(raw(frames(text("Hel"), finish(), done=False), gate, frames(text("lo"), finish(), usage(3, 2))))
    asyncio.get_running_loop().call_later(0.3, gate.set)
    deltas = await read(upstream)
    assert (said(deltas), used(deltas)) == ("Hello", Usage(3, 0, 2, 0))


@pytest.mark.parametrize("tail", [(), ("cut",), (b"data: [DONE]\n\n",)])
async def test_an_answer_that_does_not_say_why_it_ends_is_none(upstream: Upstream, tail: Any) -> None:
    upstream.play(raw(frames(text("Hel"), done=False), *tail))
    with pytest.raises(UpstreamError, match="ended mid-stream"):
        await read(upstream)


HEL, LO = frames(text("Hel"), done=False), frames(text("lo"), finish(), usage(3, 2))
ODD = (
    "data:",
    "data: ",
    "event: ping\ndata: ",
    "data: ping",
    "data: []",
    "data: {}",
    "data: null",
    "data: 7",
    ": comment",
    "id: 1",
    "retry: 5",
    'event: ping\ndata: {"type": "ping"}',
    'data: {"choices": null}',
    'data: {"choices": []}',
    'data: {"choices": [], "prompt_filter_results": [{}]}',
    'data: {"choices": [{"index": 1, "delta": {"content": "NO"}, "finish_reason": "stop"}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": false, "refusal": 0, "tool_calls": {}}}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": ""}]}',
    'data: {"choices": [{"index": 0, "delta": {"content": null}, "finish_reason": "null"}], "error": {"code": 0}}',
    'data: {"choices": [{"delta": {"function_call": ""}, "logprobs": []}], "timing": NaN, "usage": true}',
    'data: {"choices": [{"delta": null, "message": null}], "usage": null, "x": Infinity}',
)


@pytest.mark.parametrize("frame", ODD)
@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
async def test_frames_that_say_nothing_are_passed_over(upstream: Upstream, frame: str, eol: str) -> None:
    body = (HEL + frame.encode() + b"\n\n" + LO).replace(b"\n", eol.encode())
    upstream.play(raw(body), raw(b"\xef\xbb\xbf" + body))
    for _ in range(2):
        deltas = await read(upstream)
        assert (said(deltas), used(deltas)) == ("Hello", Usage(3, 0, 2, 0))


async def test_data_on_several_lines(upstream: Upstream) -> None:
    lines = json.dumps(text("Hello"), indent=1).replace("\n", "\ndata: ")
    upstream.play(raw(f"data: {lines}\n\n".encode() + frames(finish())))
    assert said(await read(upstream)) == "Hello"


FORMS: list[Any] = [
    (frames(text("Hello"), finish()), "application/json"),
    (frames(text("Hello"), finish()), "Text/Event-Stream; charset=UTF-8"),
    (json.dumps(WHOLE).encode(), "text/event-stream"),
    (json.dumps(WHOLE, indent=2).encode(), "text/plain"),
    (b"\n\n  " + json.dumps(WHOLE).encode(), "Application/JSON"),
    (b"".join(json.dumps(one).encode() + b"\n" for one in (text("Hel"), text("lo"), finish())), "application/x-ndjson"),
    (json.dumps([text("Hel"), text("lo"), finish()]).encode(), "application/json"),
    (json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode(), "application/json"),
]


@pytest.mark.parametrize(("body", "kind"), FORMS)
@pytest.mark.parametrize("status", [200, 201])
async def test_the_body_says_what_it_is(upstream: Upstream, body: bytes, kind: str, status: int) -> None:
    upstream.play(Answer(steps=(body,), content_type=kind, status=status))
    assert said(await read(upstream)) == "Hello"


DEFLATE = zlib.compressobj(wbits=-15)
PACKED: list[Any] = [
    (gzip.compress(frames(text("Hello"), finish())), "gzip"),
    (gzip.compress(HEL) + gzip.compress(LO), "GZIP"),
    (gzip.compress(frames(text("Hello"), finish())), ""),
    (zlib.compress(frames(text("Hello"), finish())), "deflate"),
    (DEFLATE.compress(frames(text("Hello"), finish())) + DEFLATE.flush(), "deflate"),
    (frames(text("Hello"), finish()), "gzip"),
    (frames(text("Hello"), finish()), "identity"),
]


@pytest.mark.parametrize(("body", "encoding"), PACKED)
async def test_packed_answers(upstream: Upstream, body: bytes, encoding: str) -> None:
    pieces = tuple(body[at : at + 9] for at in range(0, len(body), 9))
    upstream.play(Answer(steps=pieces, headers={"Content-Encoding": encoding} if encoding else {}))
    assert said(await read(upstream)) == "Hello"


async def test_a_packing_that_is_not_understood_is_named(upstream: Upstream) -> None:
    upstream.play(Answer(steps=(b"\x00\x01",), headers={"Content-Encoding": "br"}))
    with pytest.raises(UpstreamError, match="packed its answer with br"):
        await read(upstream)


async def test_a_small_answer_that_unpacks_to_a_large_one_is_bounded(upstream: Upstream) -> None:
    upstream.play(Answer(steps=(gzip.compress(b"data: " + b" " * 50_000_000),)))
    with pytest.raises(UpstreamError):
        await read(upstream, answer_bytes_max=1_000_000)


async def test_long_and_many_headers(upstream: Upstream) -> None:
    many = {f"X-{n}": "a" for n in range(300)} | {"Content-Security-Policy": "a" * 40_000}
    upstream.play(Answer(steps=(frames(text("Hello"), finish()),), headers=many))
    assert said(await read(upstream)) == "Hello"


def escaped(content: str, field: str = "content") -> bytes:
    return b"data: " + json.dumps(delta(**{field: content})).encode() + b"\n\n"


CHARACTERS: list[Any] = [
    (escaped("\ud83d") + escaped("\ude00"), "\U0001f600"),
    (escaped("a\ud83d") + escaped("b"), "a\ufffdb"),
    (escaped("\ude00\ud83d"), "\ufffd\ufffd"),
    (escaped("\ud83d") + frames(text(""), done=False) + escaped("\ude00"), "\U0001f600"),
    (escaped("\ud83d", "reasoning_content") + escaped("Hi"), "Hi"),
    (escaped("XX").replace(b"XX", b"\xf0\x9f\x98"), "\ufffd"),
    (escaped("XX").replace(b"XX", b"a\xffb"), "a\ufffdb"),
    (escaped("XX").replace(b"XX", b"a\x01b"), "a\x01b"),
]


@pytest.mark.parametrize(("body", "expected"), CHARACTERS)
async def test_characters(upstream: Upstream, body: bytes, expected: str) -> None:
    upstream.play(raw(body + frames(finish())))
    assert said(await read(upstream, Prompt(items=PROMPT.items))) == expected


async def test_characters_in_arguments(upstream: Upstream) -> None:
    pieces = [tool(0, "a", "ping", '{"city": "'), tool(0, None, None, "\ud83d"), tool(0, None, None, '\ude00"}')]
    upstream.play(raw(*(f"data: {json.dumps(one)}\n\n".encode() for one in pieces), frames(finish())))
    assert calls(await read(upstream)) == [("ping", '{"city": "\U0001f600"}')]


REASONING: list[Any] = [
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
    {"content": [{"type": "thinking", "thinking": "Hm"}]},
    {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
    {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
    {"reasoning": {"text": "Hm"}},
    {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
    {"reasoning_content": [{"type": "text", "text": "Hm"}]},
    {"thinking": "Hm"},
]


@pytest.mark.parametrize("fields", REASONING)
async def test_reasoning(upstream: Upstream, fields: Any) -> None:
    upstream.play(sse(delta(**fields), delta(content=[{"type": "text", "text": "Hello"}]), finish()))
    deltas = await read(upstream)
    assert (thought(deltas), said(deltas)) == ("Hm", "Hello")


FULL = {"prompt_tokens": 3, "completion_tokens": 2}
COUNTS: list[Any] = [
    ([{"input_tokens": 3, "output_tokens": 2}], (3, 2)),
    ([{"prompt_tokens": "3", "completion_tokens": 2.0}], (3, 2)),
    ([{"completion_tokens": 2, "total_tokens": 5}], (3, 2)),
    ([FULL, {}], (3, 2)),
    ([FULL, {"prompt_tokens": 0, "completion_tokens": 0}], (3, 2)),
    ([FULL, {"prompt_tokens_details": {"cached_tokens": 0}}], (3, 2)),
    ([{"prompt_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": 1}, FULL], (3, 2)),
    ([{**FULL, "prompt_tokens_details": 0, "completion_tokens_details": []}], (3, 2)),
    ([{"prompt_tokens": None, "completion_tokens": None}], None),
    ([{"prompt_tokens": 0, "completion_tokens": 0}], None),
    ([{"prompt_tokens": -1, "completion_tokens": True}], None),
    ([True], None),
]


@pytest.mark.parametrize(("counts", "expected"), COUNTS)
async def test_usage(upstream: Upstream, counts: Any, expected: Any) -> None:
    upstream.play(sse(text("Hello"), finish(), *({"choices": [], "usage": one} for one in counts)))
    found = used(await read(upstream))
    assert (found and (found.input, found.output)) == expected


async def test_probabilities_that_json_does_not_know(upstream: Upstream) -> None:
    chunk = text("Hi")
    tokens = [{"token": "x", "logprob": float("-inf"), "bytes": None}, None]
    chunk["choices"][0]["logprobs"] = {"content": [{"token": "Hi", "logprob": -1, "top_logprobs": tokens}, 7]}
    upstream.play(raw(f"data: {json.dumps(chunk)}\n\n".encode() + frames(finish())))
    first = (await read(upstream, Prompt(items=(), top_logprobs=1)))[0]
    assert isinstance(first, Text)
    assert first.logprobs[0]["top_logprobs"] == [{"token": "x", "logprob": -9999.0, "bytes": [120]}]


async def test_choices_of_another_number(upstream: Upstream) -> None:
    other, mine = text("NO"), text("Hello")
    other["choices"][0]["index"] = 1
    both = {"choices": [*other["choices"], *mine["choices"]]}
    alone = {"choices": [{"index": 2, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
    upstream.play(sse(other, mine, finish()), sse(both, finish()), sse(alone))
    for _ in range(3):
        assert said(await read(upstream)) == "Hello"


W = "model runner has stopped: out of memory"
FRAMES: list[Any] = [
    json.dumps({"error": {"message": W}}),
    json.dumps({"error": W}),
    json.dumps({"error": [{"message": W}]}),
    json.dumps({"error": {"message": "Provider error", "metadata": {"raw": W}}}),
    json.dumps({"object": "error", "message": W, "code": 500}),
    json.dumps({"type": "error", "error": {"type": "api_error", "message": W}}),
    json.dumps({"choices": None, "error_type": "X", "error_message": W}),
    json.dumps({"detail": W, "status": 500}),
    json.dumps({"errors": [{"message": W}]}),
    json.dumps({"base_resp": {"status_msg": W, "status_code": 500}}),
    json.dumps({"message": W}),
    json.dumps({"detail": [{"loc": ["body"], "msg": W}]}),
    W,
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("prefix", ["data: ", "event: error\ndata: ", "error: ", ""])
async def test_errors_in_a_stream_keep_their_words(upstream: Upstream, frame: str, prefix: str) -> None:
    upstream.play(raw(HEL + f"{prefix}{frame}\n\n".encode()))
    with pytest.raises(UpstreamError) as caught:
        await read(upstream)
    assert W in caught.value.message


REFUSALS: list[Any] = [
    (404, "No provider of this model takes tools.", 404, "upstream_rejected"),
    (404, "The model `m` does not exist.", 502, "upstream_model_not_found"),
    (403, "The input was flagged by moderation.", 403, "upstream_rejected"),
    (403, "Invalid API key.", 502, "upstream_refused_key"),
    (403, "<html>Just a moment…</html>", 502, "upstream_error"),
    (400, "cl\ufffd refus\ufffde", 400, "upstream_rejected"),
]


@pytest.mark.parametrize(("status", "words", "shown", "code"), REFUSALS)
async def test_refusals_keep_their_reason(upstream: Upstream, status: int, words: str, shown: int, code: str) -> None:
    body = json.dumps({"error": {"message": words}}) if words[0] != "<" else words
    upstream.play(Answer(steps=(body.encode(),), status=status))
    with pytest.raises(ApiError) as caught:
        await read(upstream)
    assert (caught.value.status, caught.value.code) == (shown, code)
    if code == "upstream_rejected":
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (529, Unavailable), (408, UpstreamTimeout), (504, UpstreamTimeout)]
)
async def test_when_to_come_again(upstream: Upstream, status: int, kind: type[ApiError]) -> None:
    upstream.play(plain({"error": {"message": "Loading model"}}, status, {"Retry-After": "7"}))
    with pytest.raises(kind) as caught:
        await read(upstream)
    assert caught.value.headers == {"Retry-After": "7"}
    assert "Loading model" in caught.value.message


TOO_LONG: list[Any] = [
    (
        "You passed 5001 input tokens and requested 200 output tokens. However, the model's "
        "context length is only 4096 tokens.",
        5001,
        4096,
    ),
    ("Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens).", 9000, 8192),
    (
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You "
        "requested a total of 5000 tokens: 4500 tokens from the input messages and 500 tokens for the completion.",
        4500,
        4096,
    ),
    ("the request exceeds the available context size, try increasing it", None, None),
    ("request (900 tokens) exceeds the available context size (512 tokens), try increasing it", 900, 512),
    ("Context size has been exceeded.", None, None),
    (
        "Trying to keep the first 5000 tokens when context the overflows. However, the model "
        "is loaded with context length of only 4096 tokens",
        5000,
        4096,
    ),
    ("Cannot truncate prompt with n_keep (5000) >= n_ctx (4096)", 5000, 4096),
    (
        "Reached context length of 4096 tokens with model that does not support mid-generation context overflow",
        None,
        4096,
    ),
    ("prompt too long; exceeded max context length by 123 tokens", None, None),
    ("the input length exceeds the context length", None, None),
    ("Input validation error: `inputs` must have less than 4095 tokens. Given: 5000", 5000, 4095),
    (
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`",
        5000,
        4096,
    ),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
    (
        "Unable to submit request because the input token count is 2097152 but model only supports up to 1048576",
        2097152,
        1048576,
    ),
    ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", 140000, 131072),
    ("too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.", 5000, 4081),
    ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", 190000, 200000),
    ("Input is too long for requested model.", None, None),
    (
        "This endpoint's maximum context length is 8192 tokens. However, you requested about "
        "9000 tokens (8500 of text input, 500 in the output).",
        8500,
        8192,
    ),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        40000,
        32768,
    ),
    ("Please reduce the length of the messages or completion.", None, None),
    ("The prompt is too long: 140000, model maximum context length: 131071", 140000, 131071),
    ("Range of input length should be [1, 30720]", None, 30720),
    ("Invalid request: Your request exceeded model token limit: 8192", None, 8192),
    ("invalid params, context window exceeds limit (2013)", None, None),
    ("Prompt exceeds max length", None, None),
    ("Requested tokens (5000) exceed context window of 4096", 5000, 4096),
    ("Prompt length 5000 is greater than max_seq_len 4096", 5000, 4096),
    ("Prompt length (5000) exceeds maximum input length (4096).", 5000, 4096),
    (
        "The estimated number of input and maximum output tokens (5000) exceeded this model "
        "context window limit (4096)",
        5000,
        4096,
    ),
    ("prompt token count of 5000 exceeds the limit of 4096", 5000, 4096),
    ("Request body too large for gpt-4o model. Max size: 8000 tokens.", None, 8000),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 5000, 4096),
    ("Too many input tokens. Max input tokens: 8192, request input token count: 9000", 9000, 8192),
    ("Your input exceeds the context window of this model.", None, None),
    (
        "The provided prompt is 4000 tokens long, so generating 1000 tokens requires 5000, "
        "but the maximum supported sequence length is just 4096!",
        4000,
        4096,
    ),
]


@pytest.mark.parametrize(("words", "prompt", "window"), TOO_LONG)
async def test_too_long_in_every_servers_words(upstream: Upstream, words: str, prompt: Any, window: Any) -> None:
    error = {"error": {"message": words, "code": 400}}
    upstream.play(plain(error, 400), plain(error, 413), sse(error), raw(f"data: {words}\n\n".encode()))
    for _ in range(4):
        with pytest.raises(ContextTooLong) as caught:
            await read(upstream)
        assert (caught.value.prompt_tokens, caught.value.context_tokens) == (prompt, window)


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64.",
        "The tool name is longer than allowed.",
        "Image is too large: 9000 pixels.",
        "temperature must be less than 2",
        "Invalid value for context",
    ],
)
async def test_other_things_that_are_too_long(upstream: Upstream, words: str) -> None:
    upstream.play(plain({"error": {"message": words}}, 400))
    with pytest.raises(InvalidRequest):
        await read(upstream)


MODELS: list[Any] = [
    ([{"id": "m"}], ["m"]),
    (["m", "n"], ["m", "n"]),
    ({"data": [{"id": "m"}, {"name": "x"}, None, {"id": 7}, {}, True]}, ["m", "x", "7"]),
    ({"models": [{"name": "m"}, {"model": "n"}]}, ["m", "n"]),
    ({"data": {"m": {}}}, ["m"]),
    ({"data": [{"id": "m"}, {"id": "m"}], "x": float("nan")}, ["m"]),
    ({"object": "list", "data": None}, None),
    ({}, None),
    (7, None),
]


@pytest.mark.parametrize(("listed", "names"), MODELS)
@pytest.mark.parametrize("packed", [False, True])
async def test_lists_of_models(upstream: Upstream, listed: Any, names: list[str] | None, packed: bool) -> None:
    body = json.dumps(listed).encode()
    headers = {"Content-Encoding": "gzip"} if packed else {}
    upstream.play(Answer(steps=(gzip.compress(body) if packed else body,), headers=headers))
    roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options={})
    try:
        assert list(await roster.names()) == (names or [])
        assert await roster.ready()
        assert (await roster.find("any" if names is None else names[-1])).name == (
            "any" if names is None else names[-1]
        )
    finally:
        await roster.close()
