"""Whatever bytes an upstream sends, cut anywhere: an answer, or an error that is documented, and never a good answer
lost.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scripted_upstream import delta, finish, text, usage

from antiphon.models import Call, ContextTooLong, Delta, Finish, Function, Prompt, Reasoning, Text
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.stream import ChatStream
from antiphon.wire.errors import ApiError

CONFIG = ChatConfig(base_url="http://model/v1", model="m", line_bytes_max=100_000)
PROMPT = Prompt(items=(), functions=(Function(name="f"), Function(name="f_g")))
PLAIN = Prompt(items=(), top_logprobs=1)

SAID = st.sampled_from(
    ["stop", "length", "error", "null", "f", "f_", "g", "{", '{"a": ', "'b'}", "True", "}", "done", "[]"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud83d") | SAID
WORDS = """
id index function name arguments content role delta message choices finish_reason usage error code type detail logprobs
token tool_calls reasoning reasoning_details refusal function_call prompt_tokens total_tokens text thinking thought
parts value data args input tokens logprob token_logprobs top_logprobs completion_tokens inputTokens cached_tokens
done status finishReason stop_reason custom summary x_groq usageMetadata raw metadata event
"""
NAMES = st.sampled_from(WORDS.split())
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5))
DELTA = st.dictionaries(NAMES, JSON, max_size=4)
FUNCTION = st.fixed_dictionaries({}, optional={"name": SAID, "arguments": SAID | JSON})
CALL = st.fixed_dictionaries({}, optional={"index": st.integers(-1, 2), "id": SAID, "function": FUNCTION})
CALLS = st.fixed_dictionaries({"tool_calls": st.lists(CALL, max_size=3)})
CHOICE = st.fixed_dictionaries(
    {}, optional={"delta": DELTA | CALLS, "message": DELTA | CALLS | JSON, "finish_reason": SAID | JSON, "index": JSON}
)
CHUNK = st.fixed_dictionaries({"choices": st.lists(CHOICE, max_size=2)}, optional={"usage": JSON, "error": JSON})
PREFIX = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"",
        b"event: error\ndata: ",
        b"error: ",
        b": ",
        b"\xef\xbb\xbfdata: ",
        b"\0data: ",
        b"event: end\n",
    ]
)
END = st.sampled_from([b"\n\n", b"\n", b"\r\n\r\n", b"\r", b"", b"\x1f\x8b", b",", b"\0\n\n"])
FRAME = st.tuples(PREFIX, (JSON | CHUNK).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), END)
BODY = st.lists(FRAME.map(b"".join) | st.binary(max_size=20) | st.just(b"data: [DONE]\n\n"), max_size=8).map(b"".join)
BODY |= st.lists(CHUNK, max_size=4).map(lambda chunks: json.dumps(chunks).encode())
CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places) if a != b]


def read(data: bytes, cuts: list[int], prompt: Prompt = PROMPT) -> list[Delta]:
    stream = ChatStream(prompt, CONFIG)
    out: list[Delta] = []
    for piece in pieces(data, cuts):
        if not stream.finished:
            out += stream.feed(piece)
    return out + stream.end()


def joined(deltas: list[Delta]) -> Any:
    texts = ["".join(one.text for one in deltas if isinstance(one, kind)) for kind in (Text, Reasoning)]
    calls: dict[int, list[str]] = {}
    for one in deltas:
        if isinstance(one, Call):
            calls.setdefault(one.key, []).append(one.name + one.arguments)
    return texts, {key: "".join(parts) for key, parts in calls.items()}, deltas[-1]


def outcome(data: bytes, cuts: list[int], prompt: Prompt) -> Any:
    try:
        return joined(read(data, cuts, prompt))
    except (ApiError, ContextTooLong) as error:
        return type(error).__name__


@given(BODY, CUTS, st.sampled_from([PROMPT, PLAIN]))
def test_any_bytes_are_an_answer_or_a_documented_error(data: bytes, cuts: list[int], prompt: Prompt) -> None:
    found = outcome(data, cuts, prompt)
    assert found == outcome(data, [], prompt), "where the bytes are cut says nothing"
    if isinstance(found, tuple):
        json.dumps(found[:2], ensure_ascii=False).encode()  # no half of a surrogate pair left


NOISE = st.sampled_from(
    ["", ": x", "data:", "data: ping", "data: []", "data: {}", "event: ping\ndata: {}", 'data: {"x": NaN}', "retry: 1"]
)


@given(st.text(max_size=30), st.lists(NOISE, min_size=6, max_size=6), CUTS, st.booleans(), st.binary(max_size=30))
def test_a_good_answer_survives(answer: str, noise: list[str], cuts: list[int], escaped: bool, after: bytes) -> None:
    half = len(answer) // 2
    call = delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a": 1}'}}])
    chunks = (text("x" + answer[:half]), text(answer[half:]), call, finish(), usage(3, 2))
    frames = (
        f"data: {json.dumps(chunk, ensure_ascii=escaped)}\n\n{other}\n\n"
        for chunk, other in zip(chunks, noise, strict=False)
    )
    body = "".join(frames).encode()
    deltas = read(body + b"data: [DONE]\n\n" + after, cuts)
    texts, calls, last = joined(deltas)
    assert (texts[0], list(calls.values())) == ("x" + answer, ['f{"a": 1}'])
    assert isinstance(last, Finish)
    assert last.usage is not None


ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=6), ARGUMENTS, max_size=4), st.sampled_from([json.dumps, repr]), CUTS)
def test_arguments_say_the_same_wherever_they_are_cut(value: Any, write: Any, cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(written := write(value))})
    parts = [part for a, b in itertools.pairwise(places) if (part := written[a:b])]
    chunks = [delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": part}}]) for part in parts[:1]]
    chunks += [delta(tool_calls=[{"index": 0, "function": {"arguments": part}}]) for part in parts[1:]]
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in (*chunks, finish("tool_calls")))
    [call] = joined(read(body, []))[1].values()
    assert json.loads(call.removeprefix("f")) == value
