"""What model servers write, read without a network: an answer is lost only where it cannot be understood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from odd import FUNCTIONS, PROMPT, calls, said, thought, tool, used
from scripted_upstream import delta, finish, frames, text, usage

from antiphon.models import Call, ContextTooLong, Delta, Finish, Prompt, Text, Usage
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.stream import ChatStream
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
    ([tool(0, "a", "ping", "{}"), tool(0, "a", "ping", A)], ["ping"]),
    ([delta(function_call={"name": "ping", "arguments": A}), tool(0, "a", "ping", A)], ["ping"]),
    ([tool(0, "a", "ping", A), delta(function_call={"name": "ping", "arguments": A})], ["ping"]),
    (
        [
            tool(0, "a", "ping", A),
            tool(1, "b", "get_time", B),
            {"choices": [{"message": pieces(tool(None, "x", "ping", A))["choices"][0]["delta"]}]},
        ],
        ["ping", "get_time"],
    ),
    *(
        ([delta(**{name: value})], ["ping"])
        for name, value in {
            "tool_call": {"index": 0, "id": "a", "function": {"name": "ping", "arguments": A}},
            "toolCalls": [{"index": 0, "id": "a", "function": {"name": "ping", "arguments": A}}],
            "content": [{"type": "tool_use", "id": "a", "name": "ping", "input": {"city": "A"}}],
        }.items()
    ),
    *(
        ([delta(tool_calls=[call])], ["ping"])
        for call in (
            [{"index": 0, "id": "a", "function": {"name": "ping", "arguments": A}}],
            {"index": 0, "id": "a", "function": [{"name": "ping", "arguments": A}]},
            {"index": 0, "id": "a", "function": "ping", "arguments": A},
            {"index": 0, "id": "a", "function": {"name": "ping", "args": {"city": "A"}}},
            {"index": 0, "id": "a", "function": {"name": "ping", "input": {"city": "A"}}},
        )
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


@pytest.mark.parametrize(
    "arguments", ["{}", {}, "", " \n", "null", "  null ", None, [], "[]", '""', "None", "undefined"]
)
def test_blank_arguments_are_an_empty_object(arguments: Any) -> None:
    assert calls(read(frames(tool(0, "a", "ping", arguments), finish("tool_calls")))) == [("ping", "{}")]


ARGUMENTS: list[Any] = [
    ("{'a': True, 'b': None}", {"a": True, "b": None}),
    ('{"a": True, "b": [False, {"c": None}]}', {"a": True, "b": [False, {"c": None}]}),
    ("{'a': \"it's\", 'b': 'say \"hi\"', 'c': 'it\\'s'}", {"a": "it's", "b": 'say "hi"', "c": "it's"}),
    ('{"a": "True, None and \\"NaN\\""}', {"a": 'True, None and "NaN"'}),
    ('{"a": NaN, "b": -Infinity, "c": undefined}', {"a": None, "b": None, "c": None}),
    ("{city: 'A', n: 1}", {"city": "A", "n": 1}),
    ('{"a": "one\ntwo\tthree\x00"}', {"a": "one\ntwo\tthree\x00"}),
    (r'{"a": "\d+ \x41 it\'s"}', {"a": r"\d+ A it's"}),
    ('{"a": [1, 2,], "b": 3,}', {"a": [1, 2], "b": 3}),
    ('{"a": {"b": 1', {"a": {"b": 1}}),
    ('[{"a": 1}]', {"a": 1}),
    ('\ufeff\u200b{"a": 1}', {"a": 1}),
    ('null{"a": 1}', {"a": 1}),
]


@pytest.mark.parametrize(("written", "meant"), ARGUMENTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_arguments_that_are_not_quite_json(written: str, meant: Any, size: int) -> None:
    pieces = [written[at : at + size] for at in range(0, len(written), size)]
    chunks = (tool(0, None if n else "a", None if n else "ping", piece) for n, piece in enumerate(pieces))
    [(name, arguments)] = calls(read(frames(*chunks, finish("tool_calls"))))
    assert (name, json.loads(arguments)) == ("ping", meant)


def test_arguments_are_passed_on_as_they_come_until_they_are_odd() -> None:
    stream, passed = ChatStream(PROMPT, CONFIG), list[str]()
    for piece in ('{"a": "x', '", "b": ', "Tr", "ue, ", '"c": 1}'):
        deltas = stream.feed(frames(tool(0, "a", "ping", piece), done=False))
        passed.append("".join(one.arguments for one in deltas if isinstance(one, Call)))
    assert passed == ['{"a": "x', '", "b": ', "", "", ""]


@pytest.mark.parametrize("written", ["A", '{"a": "', "{'a': b}"])
def test_arguments_that_nobody_understands_stay_as_they_are(written: str) -> None:
    assert calls(read(frames(tool(0, "a", "ping", written), finish("tool_calls")))) == [("ping", written)]


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
    "\0",
    'data: {"choices": [], "error": "null"}',
    'data: {"choices": [], "error": "ok"}',
    'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "in_progress"}]}',
    'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "FINISH_REASON_UNSPECIFIED"}]}',
    "event: usage\ndata: {}",
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
    *(
        f'data: {{"{name}": {TEXT}}}\n\ndata: {{"{name}": {END}}}\n\n'
        for name in ("data", "result", "response", "payload", "message", "event")
    ),
    f'data: {{"data": {TEXT}, "usage": {{"prompt_tokens": 3}}}}\n\ndata: {END}\n\n',
    f"data: {json.dumps({'data': TEXT})}\n\ndata: {json.dumps({'a': {'b': END}})}\n\n",
    f"data: {json.dumps(text('Hello'), indent=2)}\n\ndata: {json.dumps(finish(), indent=2)}\n\n",
    f"\0data: {TEXT}\0\n\n\ufeffdata: {END}\n\n",
    f"data: {json.dumps(text('Hel'))}\n\n\ufeffdata: {json.dumps(text('lo'))}\n\n\0data: {END}\n\n",
    f"[{json.dumps(text('Hel'))},\n{json.dumps(text('lo'))},\n{END}]",
    f"[ {TEXT},{END},",
    f"{TEXT}\n{END}\n[DONE]\n",
    json.dumps({"statusCode": 200, "body": json.dumps({"choices": [{"message": {"content": "Hello"}}]})}),
    json.dumps({"choices": [{"message": "Hello", "finish_reason": "stop"}]}),
    *(
        f"data: {json.dumps({'choices': [choice]})}\n\ndata: {END}\n\n"
        for choice in (
            {"index": 0, "delta": {}, "message": {"content": "Hello"}},
            {"index": 0, "delta": {"content": ""}, "message": {"content": "Hello"}},
            {"index": 0, "delta": {}, "text": "Hello"},
            {"index": 0, "delta": [{"content": "Hello"}]},
            {"index": 0, "message": "Hello"},
            {"index": 0, "content": "Hello"},
            [{"index": 0, "delta": {"content": "Hello"}}],
            json.dumps({"index": 0, "delta": {"content": "Hello"}}),
        )
    ),
    '{"data": {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}}',
    *(
        f"data: {json.dumps(one)}\n\ndata: {END}\n\n"
        for one in (
            {"choices": [{"index": 0, "text": "Hello"}]},
            delta(text="Hello"),
            delta(content={"parts": [{"text": "Hello"}]}),
            delta(content={"parts": ["Hello"]}),
            delta(content="", text="Hello"),
            delta(content=[["Hello"]]),
            delta(content={"value": "Hello"}),
            delta(content=[{"type": "text", "content": "Hello"}]),
            delta(content=[{"type": "text", "text": ["Hel", "lo"]}]),
        )
    ),
]


@pytest.mark.parametrize("body", FORMS)
def test_other_forms_of_the_same(body: str) -> None:
    assert said(read(body.encode())) == "Hello"


PIECES: list[Any] = [["Hel", "lo"], ["Hel", "Hello"], ["Hel", "Hello", "Hello"], ["Hello"], ["", "Hello"]]


@pytest.mark.parametrize("said_so_far", PIECES)
def test_pieces_may_be_called_messages(said_so_far: list[str]) -> None:
    chunks: list[Any] = [{"choices": [{"index": 0, "message": {"content": one}}]} for one in said_so_far]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    assert said(read(frames(*chunks))) == "Hello"


DONE = ["data: [done]", 'data: "[DONE]"', "data: DONE", "[DONE]", "data: [DONE][DONE]", "event: done\ndata: {}"]
DONE += ["event: end\ndata:", 'data: {"done": true}', 'data: {"type": "message_stop"}', 'data: {"status": "completed"}']


@pytest.mark.parametrize("last", DONE)
def test_other_words_for_the_last_frame(last: str) -> None:
    end = f"{last}\n\n".encode()
    assert said(read(HEL + end)) == "Hel"
    assert said(read(HEL + frames(finish(), done=False) + end)) == "Hel"
    with pytest.raises(UpstreamError, match="ended mid-stream"):
        read(frames(delta(role="assistant"), done=False) + end)


def test_words_in_front_of_an_answer_are_not_why_it_ends() -> None:
    assert said(read(b"data: still in the queue\n\n" + HEL + frames())) == "Hel"


def test_a_number_is_a_text() -> None:
    assert said(read(frames(delta(content=42), finish()))) == "42"


REASONS = {
    "length": (
        *("MAX_TOKENS", "maxTokens", "FINISH_REASON_MAX_TOKENS", "token_limit", "context-length", "max_length"),
        *("max_tokens_exceeded", "length_exceeded", "output_limit", "max_context", "ERROR_LIMIT"),
    ),
    "content_filter": (
        *("SAFETY", "content-filter", "guardrail_intervened", "SPII", "refusal"),
        *("ContentFiltered", "IMAGE_SAFETY", "policy_violation", "ERROR_TOXIC", "moderated", "flagged"),
    ),
    "stop": ("STOP", "end_turn", "FINISH_REASON_STOP", "stop_sequence", "toolCalls", "停止"),
}


@pytest.mark.parametrize(("reason", "said"), [(known, one) for known, words in REASONS.items() for one in words])
def test_why_an_answer_ends_in_every_servers_words(reason: str, said: str) -> None:
    last = read(frames(text("Hello"), {"choices": [{"index": 0, "delta": {}, "finish_reason": said}]}))[-1]
    assert isinstance(last, Finish)
    assert last.reason == reason


FULL_CONTEXT = ["model_context_window_exceeded", "context_length_exceeded", "contextWindowExceeded"]


@pytest.mark.parametrize("reason", FULL_CONTEXT)
def test_an_answer_that_ends_with_the_context_before_it_began(reason: str) -> None:
    last: Any = {"choices": [], "usage": {"prompt_tokens": 9000, "completion_tokens": 0}}
    with pytest.raises(ContextTooLong) as caught:
        read(frames(delta(role="assistant", content=""), finish(reason), last))
    assert caught.value.prompt_tokens == 9000
    for said_first in (text("Hello"), delta(reasoning_content="Hm"), tool(0, "a", "ping", "{}")):
        end = read(frames(said_first, finish(reason)))[-1]
        assert isinstance(end, Finish)
        assert end.reason == "length"


PLACES: list[Any] = [
    {"choices": [{"delta": {}, "finishReason": "length"}]},
    {"choices": [{"delta": {"finish_reason": "length"}}]},
    {"choices": [{"delta": {}, "stop_reason": "max_tokens"}]},
    {"choices": [{"delta": {}, "finish_details": {"type": "max_tokens"}}]},
    {"choices": [{"delta": {}, "finish_reason": ["length"]}]},
    {"choices": [], "finish_reason": "length"},
]


@pytest.mark.parametrize("chunk", PLACES)
def test_why_an_answer_ends_in_other_places(chunk: Any) -> None:
    last = read(frames(text("Hello"), chunk, done=False))[-1]
    assert isinstance(last, Finish)
    assert last.reason == "length"


@pytest.mark.parametrize("reason", ["ERROR", "server_error", "cancelled", "aborted", "failed", "engine_overloaded"])
def test_an_answer_that_was_given_up_is_none(reason: str) -> None:
    with pytest.raises(UpstreamError, match="gave up"):
        read(frames(text("Hello"), finish(reason)))


MARKED = [
    "[THINK]Hm[/THINK]Hello",
    "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hello",
    "<thought>Hm</thought>Hello",
    "<seed:think>Hm</seed:think>Hello",
    "<|START_THINKING|>Hm<|END_THINKING|>Hello",
    "<|begin_of_thought|>Hm<|end_of_thought|>Hello",
    "<unused94>thought\nHm<unused95>Hello",
    "◁think▷Hm◁/think▷Hello",
    "<think>H</think>\n\n<think>m</think>Hello",
]


@pytest.mark.parametrize("body", MARKED)
@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize("prompt", [PROMPT, Prompt(items=PROMPT.items)])
def test_reasoning_in_a_models_own_marks(body: str, size: int, prompt: Prompt) -> None:
    pieces = [text(body[at : at + size]) for at in range(0, len(body), size)]
    deltas = read(frames(*pieces, finish()), prompt)
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
    *({name: "Hm"} for name in ("reasoningContent", "reasoning_summary", "thought", "thoughts")),
    {"reasoningContent": {"reasoningText": {"text": "Hm"}}},
    {"provider_specific_fields": {"reasoning_content": "Hm"}},
    {"reasoning_content": [["Hm"]]},
    {"content": [{"thinking": "Hm"}]},
    {"content": [{"type": "text", "text": "Hm", "thought": True}]},
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
    ([{"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 5}], (3, 2)),
    ([{"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}, FULL], (3, 2)),
    *(
        ([counts], (3, 2))
        for counts in (
            {"promptTokenCount": 3, "candidatesTokenCount": 2},
            {"prompt_token_count": 3, "candidates_token_count": 2},
            {"inputTokenCount": 3, "outputTokenCount": 2},
            {"PromptTokens": 3, "CompletionTokens": 2},
            {"prompt_tokens": 3, "generated_tokens": 2},
            {"tokens_in": 3, "tokens_out": 2},
            {"usage": FULL},
            {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 3, "output_tokens": 2}},
            [FULL],
            json.dumps(FULL),
        )
    ),
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


DETAILS: list[Any] = [
    (
        {"prompt_tokens_details": {"cached_tokens": "1"}, "completion_tokens_details": {"reasoning_tokens": "1"}},
        (3, 1, 2, 1),
    ),
    ({"prompt_tokens": "3", "reasoning_tokens": 1, "num_cached_tokens": 1}, (3, 1, 2, 1)),
    ({"prompt_tokens": "3", "promptTokensDetails": {"cachedTokens": 1}}, (3, 1, 2, 0)),
    # Some leave out of one number what they say in another.
    ({"completion_tokens_details": {"reasoning_tokens": 5}}, (3, 0, 7, 5)),
    ({"completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 10}, (3, 0, 7, 5)),
    ({"completion_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 6}, (3, 0, 3, 1)),
    ({"prompt_tokens": "3", "cache_read_input_tokens": 10}, (13, 10, 2, 0)),
]


@pytest.mark.parametrize(("details", "expected"), DETAILS)
def test_what_usage_consists_of(details: Any, expected: tuple[int, int, int, int]) -> None:
    assert used(read(frames(text("Hello"), finish(usage={**FULL, **details})))) == Usage(*expected)


@pytest.mark.parametrize(
    "aside",
    [
        {"x_groq": {"usage": FULL}},
        {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}},
        {"token_usage": FULL},
        {"meta": {"tokens": {"input_tokens": 3, "output_tokens": 2}}},
        {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 2}}},
        {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 2}},
    ],
)
def test_usage_in_other_places(aside: Any) -> None:
    for chunk in ({"choices": [], **aside}, aside):
        assert used(read(frames(text("Hello"), finish(), chunk))) == Usage(3, 0, 2, 0)
    assert used(read(frames(text("Hello"), {**finish(), **aside}))) == Usage(3, 0, 2, 0)


def test_usage_beside_the_answer() -> None:
    assert used(read(frames(text("Hello"), finish(), {"usage": FULL}))) == Usage(3, 0, 2, 0)
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


FORMS_OF_LOGPROBS: list[Any] = [
    {"content": [{"token": "Hi", "logprob": -1, "top_logprobs": {"Hi": -1, "Ho": -2}}]},
    {"content": {"token": "Hi", "logprob": -1, "top_logprobs": [{"token": "Hi", "logprob": -1}]}},
    [{"token": "Hi", "logprob": -1, "top_logprobs": [{"token": "Hi", "logprob": -1}]}],
    {"tokens": ["Hi"], "token_logprobs": [-1], "top_logprobs": [{"Hi": -1}]},
]


@pytest.mark.parametrize("logprobs", FORMS_OF_LOGPROBS)
def test_probabilities_in_other_forms(logprobs: Any) -> None:
    chunk = text("Hi")
    chunk["choices"][0]["logprobs"] = logprobs
    first = read(frames(chunk, finish()), Prompt(items=(), top_logprobs=1))[0]
    assert isinstance(first, Text)
    token = {"token": "Hi", "logprob": -1, "bytes": [72, 105]}
    assert first.logprobs == ({**token, "top_logprobs": [token]},)


@pytest.mark.parametrize(
    "logprobs", [[], {}, "x", 7, {"content": "x"}, {"tokens": 1}, {"tokens": [1], "token_logprobs": 2}]
)
def test_probabilities_that_make_no_sense_cost_nothing(logprobs: Any) -> None:
    chunk = text("Hi")
    chunk["choices"][0]["logprobs"] = logprobs
    assert said(read(frames(chunk, finish()), Prompt(items=(), top_logprobs=1))) == "Hi"


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
    json.dumps({"error": {"code": "X", "message": None, "innererror": {"code": "Y", "text": W}}}),
    json.dumps({"error": {"id": 7, "causes": [{"why": W}]}}),
    W,
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("prefix", ["data: ", "event: error\ndata: ", "error: ", ""])
def test_errors_in_a_stream_keep_their_words(frame: str, prefix: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(HEL + f"{prefix}{frame}\n\n".encode())
    assert W in caught.value.message
