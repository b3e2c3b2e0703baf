"""Frames that differ in their text alone are joined before they are decoded; what is read of them stays the same."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_upstream import delta, finish, frames, text, usage

from antiphon.models import Finish, Prompt, Reasoning, Text
from antiphon.models.chat import stream
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.stream import ChatStream

CONFIG = ChatConfig(base_url="http://127.0.0.1:1/v1", model="m")


def deltas_of(*reads: bytes, streamed: bool) -> list[Any]:
    answer = ChatStream(Prompt(items=(), streamed=streamed), CONFIG)
    found = [each for read in reads for each in answer.feed(read)]
    return found + answer.end()


def said(deltas: list[Any]) -> list[tuple[Any, ...]]:
    """The deltas, pieces of one kind that follow each other as one."""
    runs = itertools.groupby(deltas, lambda each: (type(each), getattr(each, "key", None)))
    joined: list[tuple[Any, ...]] = []
    for (kind, key), run in runs:
        pieces = list(run)
        if kind is Finish:
            joined += [(each,) for each in pieces]
        else:
            joined.append((kind, key, "".join(getattr(each, "text", "") or each.arguments for each in pieces)))
    return joined


WORDS = [f" word{n}" for n in range(20)]
END = (finish(), usage(3, 20))


def test_a_run_of_frames_but_its_last_is_one_delta_where_nobody_streams() -> None:
    read = frames(*map(text, WORDS), *END)
    whole = [each.text for each in deltas_of(read, streamed=False) if isinstance(each, Text)]
    assert whole == ["".join(WORDS[:-1]), WORDS[-1]]
    assert [each.text for each in deltas_of(read, streamed=True) if isinstance(each, Text)] == WORDS


def test_far_fewer_frames_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    real = stream.decode
    monkeypatch.setattr(stream, "decode", lambda line: decoded.append(line) or real(line))
    deltas_of(frames(*map(text, WORDS), *END), streamed=False)
    assert len(decoded) < len(WORDS) / 2


ODD = [
    text('say "hi"'),
    text("a\\"),
    text("\\"),
    text('"},"finish_reason":null}]}'),
    text("data: x\n\n"),
    text("é\n\t😀"),
    text(""),
    delta(content="with a role", role="assistant"),
    delta(content="and thoughts", reasoning_content="beside it"),
    delta(reasoning_content="thought"),
    delta(reasoning_content="more thought"),
    delta(refusal="I will not"),
    delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"content":"x"}'}}]),
    delta(tool_calls=[{"index": 0, "function": {"arguments": '"content":"'}}]),
    {"choices": [{"index": 0, "delta": {"content": "other order"}, "finish_reason": None}], "id": "x"},
    {"choices": []},
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=4).map(text), st.sampled_from(ODD), st.just(text(" word"))), max_size=30),
    st.lists(st.integers(0, 4000), max_size=4),
)
def test_however_it_is_read_the_same_is_said(chunks: list[Any], cuts: list[int]) -> None:
    data = frames(*chunks, *END)
    at = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    reads = [data[begin:end] for begin, end in itertools.pairwise(at) if begin < end]
    assert said(deltas_of(*reads, streamed=False)) == said(deltas_of(*reads, streamed=True))


def test_reasoning_is_joined_by_itself() -> None:
    thoughts = [delta(reasoning_content=word) for word in WORDS]
    found = deltas_of(frames(*thoughts, done=False), frames(*map(text, WORDS), *END), streamed=False)
    assert found[0] == Reasoning("".join(WORDS[:-1])) and Text("".join(WORDS[:-1])) in found


def test_a_frame_that_cannot_be_read_is_still_an_error() -> None:
    read = frames(*map(text, WORDS), done=False) + b'data: {"choices": [}\n\n'
    with pytest.raises(Exception, match="cannot be read"):
        deltas_of(read, streamed=False)


def test_the_probe_is_not_read_where_the_text_stands_twice() -> None:
    chunk = msgspec.json.encode(text("x"))
    assert stream._only_text(chunk) == "x" and stream._only_text(b"{") is None
