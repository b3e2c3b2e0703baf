"""What model servers write, read without a network: an answer is lost only where it cannot be understood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from odd import FUNCTIONS, PROMPT, calls, said, thought, tool, used

from antiphon.models import Call, Delta, Finish, Prompt, Text, Usage
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.stream import ChatStream
from antiphon.testing.upstream import delta, finish, frames, text, usage
from antiphon.wire.errors import ApiError, UpstreamError

CONFIG = ChatConfig(base_url="http://model/v1", model="m")


def read(body: bytes, prompt: Prompt = PROMPT) -> list[Delta]:
    """The deltas of an answer, which are the same in what they say wherever its bytes are cut."""
    found = [_read(body, prompt, size) for size in (len(body), 7)]
    assert _joined(found[0]) == _joined(found[1])
    return found[0]


def _read(body: bytes, prompt: Prompt, size: int) -> list[Delta]:
    stream, out = ChatStream(prompt, CONFIG), list[Delta]()
    for at in range(0, len(body), size):
        if not stream.finished:
            out += stream.feed(body[at : at + size])
    return out if stream.finished else out + stream.end()


def _joined(deltas: list[Delta]) -> Any:
    return said(deltas), thought(deltas), calls(deltas), used(deltas)


def pieces(*chunks: Any) -> Any:
    """The pieces of calls of several chunks in one."""
    return delta(tool_calls=[piece for chunk in chunks for piece in chunk["choices"][0]["delta"]["tool_calls"]])


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
    ([tool(1, "a", "get_weather", A), tool(2, "b", "get_time", B)], ["get_weather", "get_time"]),
    ([tool(-1, "a", "get_weather", A), tool(-1, "b", "get_time", B)], ["get_weather", "get_time"]),
    ([tool(0, "a", None, '{"city"'), tool(0, None, None, ': "A"}'), tool(0, None, "ping", "")], ["ping"]),
    ([tool(0, None, "ping", '{"city"'), tool(0, "late", None, ': "A"}')], ["ping"]),
    ([tool(0, "a", "ping", A), tool(0, None, "ping", {"city": "A"})], ["ping"]),
    ([tool(0, "a", "ping", A), delta(tool_calls=[None, {"index": 0, "function": None}])], ["ping"]),
    ([tool(0, "a", "ping", '{"ci'), tool(0, "a", "ping", '{"city": '), tool(0, None, None, A)], ["ping"]),
    ([tool(0, "a", "ping", "{}"), tool(0, None, None, '{"city": '), tool(0, None, None, '"A"}')], ["ping"]),
    ([tool(0, "a", "ping", {}), tool(0, None, None, A)], ["ping"]),
    *(
        ([tool(0, "a", name, A)], ["ping"])
        for name in ("functions.ping", "default_api:ping", " ping\n", '"ping"', "ping()", "Ping", "ping<|channel|>json")
    ),
    *(
        (
            [
                tool(index, "x", "ping", '{"city'),
                tool(index, "y", "get_time", '{"city'),
                tool(index, "x", None, '": "A"}'),
                tool(index, "y", None, '": "B"}'),
            ],
            ["ping", "get_time"],
        )
        for index in (None, 0)
    ),
    (
        [
            tool(0, "x", "ping", '{"city'),
            tool(0, "y", "ping", '{"city'),
            tool(0, "x", None, '": "A"}'),
            tool(0, "y", None, '": "B"}'),
        ],
        ["ping", "ping"],
    ),
    ([tool(0, "a", "ping", f"```json\n{A}\n```")], ["ping"]),
    ([tool(0, "a", "ping", [{"city": "A"}])], ["ping"]),
    ([delta(tool_calls=[{"index": 0, "function": {"name": "ping", "parameters": {"city": "A"}}}])], ["ping"]),
    ([delta(tool_calls=[{"index": 0, "name": "ping", "input": {"city": "A"}}])], ["ping"]),
    ([delta(tool_calls=json.dumps([{"function": {"name": "ping", "arguments": A}}]))], ["ping"]),
    ([delta(tool_calls=[{"index": 0, "function": json.dumps({"name": "ping", "arguments": A})}])], ["ping"]),
    ([pieces(tool(None, None, "ping", A), tool(None, None, "ping", A))], ["ping", "ping"]),
    (
        [
            pieces(tool(0, "a", "get_weather", A), tool(1, "b", "get_time", B)),
            pieces(tool(0, None, "get_weather", A), tool(0, None, "get_time", B)),
        ],
        ["get_weather", "get_time"],
    ),
    (
        [
            tool(0, "a", "get_weather", A),
            tool(1, "b", "get_time", B),
            tool(0, None, "get_weather", ""),
            tool(1, None, "get_time", ""),
        ],
        ["get_weather", "get_time"],
    ),
    (
        [
            tool(0, "a", "get_weather", A),
            {
                "choices": [
                    {"message": {"content": "", "tool_calls": [{"id": "a", "function": {"name": "get_weather"}}]}}
                ]
            },
        ],
        ["get_weather"],
    ),
]


@pytest.mark.parametrize(("chunks", "names"), PARALLEL)
def test_calls_are_told_apart(chunks: list[Any], names: list[str]) -> None:
    deltas = read(frames(*chunks, finish("tool_calls")))
    found = calls(deltas)
    assert [name for name, _ in found] == names
    assert json.loads(found[0][1])["city"] == "A"
    ids = [one.call_id for one in deltas if isinstance(one, Call) and one.call_id]
    assert len(ids) == len(set(ids)), "an id names one call of an answer"


def test_an_argument_that_looks_like_the_whole_is_no_repetition() -> None:
    whole = '{"a": {"a": 1}}'
    body = frames(tool(0, "a", "ping", whole[:6]), tool(0, None, None, whole[6:]), finish())
    assert calls(read(body)) == [("ping", whole)]


@pytest.mark.parametrize("arguments", ["{}", {}, "", " \n", "null", "  null ", None])
def test_blank_arguments_are_an_empty_object(arguments: Any) -> None:
    assert calls(read(frames(tool(0, "a", "ping", arguments), finish("tool_calls")))) == [("ping", "{}")]


def test_the_one_function_there_is_need_not_be_named() -> None:
    body = frames(tool(0, "a", None, A), finish("tool_calls"))
    one = Prompt(items=PROMPT.items, functions=FUNCTIONS[2:3])
    assert calls(read(body, one)) == [("ping", A)]
    with pytest.raises(UpstreamError, match="without a name"):
        read(body)


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
    'data: {"choices": []} {"choices": [{"delta": {}}]}',
    'data: {"choices": [null, 7], "usage": []} trailing',
    'data: {"choices": [{"index": "0", "delta": "x", "finish_reason": false}]}',
    'data: {"choices": {"0": {"delta": []}}, "error": {"message": null, "code": null}}',
    'data: {"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}}',
    'data: {"code": 200, "message": "ok"}',
    "event: keepalive",
    "  data: {}",
)


@pytest.mark.parametrize("frame", ODD)
@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
def test_frames_that_say_nothing_are_passed_over(frame: str, eol: str) -> None:
    body = (HEL + frame.encode() + b"\n\n" + LO).replace(b"\n", eol.encode())
    for whole in (body, b"\xef\xbb\xbf" + body):
        deltas = read(whole)
        assert (said(deltas), used(deltas)) == ("Hello", Usage(3, 0, 2, 0))


TEXT, END = json.dumps(text("Hello")), json.dumps(finish())
FORMS: list[str] = [
    f"DATA: {TEXT}\n\nDATA: {END}\n\n",
    f"data: data: {TEXT}\n\ndata: data: {END}\n\n",
    f"data: {TEXT}data: {END}\n\n",
    f"data: {json.dumps(TEXT)}\n\ndata: {json.dumps(END)}\n\n",
    *(f'data: {{"{name}": {TEXT}}}\n\ndata: {{"{name}": {END}}}\n\n' for name in ("data", "result", "response")),
    '{"data": {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}}',
    *(
        f"data: {json.dumps(one)}\n\ndata: {END}\n\n"
        for one in (
            {"choices": [{"index": 0, "text": "Hello"}]},
            delta(text="Hello"),
            delta(content={"parts": [{"text": "Hello"}]}),
        )
    ),
]


@pytest.mark.parametrize("body", FORMS)
def test_other_forms_of_the_same(body: str) -> None:
    assert said(read(body.encode())) == "Hello"


def test_a_number_is_a_text() -> None:
    assert said(read(frames(delta(content=42), finish()))) == "42"


REASONS = {
    "length": ("MAX_TOKENS", "maxTokens", "FINISH_REASON_MAX_TOKENS", "token_limit", "context-length", "max_length"),
    "content_filter": ("SAFETY", "content-filter", "guardrail_intervened", "SPII", "refusal"),
    "stop": ("STOP", "end_turn", "FINISH_REASON_STOP", "stop_sequence", "toolCalls"),
}


@pytest.mark.parametrize(("reason", "said"), [(known, one) for known, words in REASONS.items() for one in words])
def test_why_an_answer_ends_in_every_servers_words(reason: str, said: str) -> None:
    last = read(frames(text("Hello"), {"choices": [{"index": 0, "delta": {}, "finish_reason": said}]}))[-1]
    assert isinstance(last, Finish)
    assert last.reason == reason


@pytest.mark.parametrize(
    "body",
    [
        "[THINK]Hm[/THINK]Hello",
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hello",
    ],
)
def test_reasoning_in_a_models_own_marks(body: str) -> None:
    deltas = read(frames(*(text(piece) for piece in (body[:9], body[9:])), finish()))
    assert (thought(deltas), said(deltas)) == ("Hm", "Hello")


def test_data_on_several_lines() -> None:
    lines = json.dumps(text("Hello"), indent=1).replace("\n", "\ndata: ")
    assert said(read(f"data: {lines}\n\n".encode() + frames(finish()))) == "Hello"


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
def test_characters(body: bytes, expected: str) -> None:
    assert said(read(body + frames(finish()), Prompt(items=PROMPT.items))) == expected


def test_characters_in_arguments() -> None:
    pieces = [tool(0, "a", "ping", '{"city": "'), tool(0, None, None, "\ud83d"), tool(0, None, None, '\ude00"}')]
    body = b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in pieces)
    assert calls(read(body + frames(finish()))) == [("ping", '{"city": "\U0001f600"}')]


REASONING: list[Any] = [
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
    {"content": [{"type": "thinking", "thinking": "Hm"}]},
    {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
    {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
    {"reasoning": {"text": "Hm"}},
    {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
    {"reasoning_content": [{"type": "text", "text": "Hm"}]},
    {"thinking": "Hm"},
    {"thinking_blocks": [{"type": "thinking", "thinking": "Hm"}]},
    {"reasoning_content": "Hm", "thinking_blocks": [{"type": "thinking", "thinking": "Hm"}]},
    {"reasoning_details": {"type": "reasoning.text", "text": "Hm"}},
    {
        "reasoning": {"content": [{"type": "text", "text": "Hm"}]},
        "reasoning_details": [{"type": "reasoning.encrypted"}],
    },
    {"reasoning": False, "reasoning_content": ["H", "m"]},
    {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}]},
]


@pytest.mark.parametrize("fields", REASONING)
def test_reasoning(fields: Any) -> None:
    deltas = read(frames(delta(**fields), delta(content=[{"type": "text", "text": "Hello"}]), finish()))
    assert (thought(deltas), said(deltas)) == ("Hm", "Hello")


FULL = {"prompt_tokens": 3, "completion_tokens": 2}
COUNTS: list[Any] = [
    ([{"input_tokens": 3, "output_tokens": 2}], (3, 2)),
    ([{"prompt_tokens": "3", "completion_tokens": 2.0}], (3, 2)),
    ([{"completion_tokens": 2, "total_tokens": 5}], (3, 2)),
    ([{"prompt_tokens": 3, "completion_tokens": None, "total_tokens": 5}], (3, 2)),
    ([{"inputTokens": 3, "outputTokens": 2}], (3, 2)),
    ([{"promptTokens": 3, "completionTokens": "2"}], (3, 2)),
    ([{"prompt_eval_count": 3, "eval_count": 2}], (3, 2)),
    ([{"total_tokens": 5}], None),
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
def test_usage(counts: Any, expected: Any) -> None:
    found = used(read(frames(text("Hello"), finish(), *({"choices": [], "usage": one} for one in counts))))
    assert (found and (found.input, found.output)) == expected


def test_usage_in_other_places() -> None:
    for chunk in ({"choices": [], "x_groq": {"usage": FULL}}, {"usage": FULL}):
        assert used(read(frames(text("Hello"), finish(), chunk))) == Usage(3, 0, 2, 0)
    last = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop", "usage": FULL}]}
    assert used(read(frames(last))) == Usage(3, 0, 2, 0)


def test_probabilities_that_json_does_not_know() -> None:
    chunk = text("Hi")
    tokens = [{"token": "x", "logprob": float("-inf"), "bytes": None}, None]
    chunk["choices"][0]["logprobs"] = {"content": [{"token": "Hi", "logprob": -1, "top_logprobs": tokens}, 7]}
    body = f"data: {json.dumps(chunk)}\n\n".encode() + frames(finish())
    first = read(body, Prompt(items=(), top_logprobs=1))[0]
    assert isinstance(first, Text)
    assert first.logprobs[0]["top_logprobs"] == [{"token": "x", "logprob": -9999.0, "bytes": [120]}]


def test_choices_of_another_number() -> None:
    other, mine = text("NO"), text("Hello")
    other["choices"][0]["index"] = 1
    both = {"choices": [*other["choices"], *mine["choices"]]}
    alone = {"choices": [{"index": 2, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
    for chunks in ((other, mine, finish()), (both, finish()), (alone,)):
        assert said(read(frames(*chunks))) == "Hello"


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
    json.dumps({"Message": W}),
    json.dumps({"fault": {"faultstring": W}}),
    json.dumps({"errors": [W]}),
    json.dumps({"exception": W}),
    json.dumps({"error": {"error": {"message": W}}}),
    json.dumps({"type": "response.failed", "response": {"error": {"message": W}}}),
    json.dumps([{"error": {"code": 503, "message": W, "status": "UNAVAILABLE"}}]),
    json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"message": W}}]}),
    json.dumps({"choices": [{"delta": {}, "finish_reason": "error"}], "error": {"code": 502, "message": W}}),
    W,
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("prefix", ["data: ", "event: error\ndata: ", "error: ", ""])
def test_errors_in_a_stream_keep_their_words(frame: str, prefix: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(HEL + f"{prefix}{frame}\n\n".encode())
    assert W in caught.value.message
