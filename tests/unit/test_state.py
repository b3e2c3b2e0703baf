"""The fold refuses what the grammar forbids, and leaves the state as it was."""

from collections.abc import Callable

import pytest

from antiphon.grammar import EVENTS
from antiphon.state import GrammarError, State
from antiphon.testing import CountingIds
from antiphon.wire import Json
from antiphon.wire.kinds import KINDS
from antiphon.wire.response import Response
from antiphon.writer import Writer


def begun() -> Writer:
    writer = Writer(lambda event: None, CountingIds())
    writer.start(Response(id="resp_1", created_at=0, model="m"))
    return writer


def said(text: str = "hi") -> Writer:
    writer = begun()
    writer.item("message").grow(text, "output_text")
    return writer


TEXT: Json = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
MESSAGE: Json = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": []}

FORBIDDEN: list[tuple[str, Callable[[], Writer], str, Json, str]] = [
    ("unknown type", begun, "response.song.delta", {}, "unknown event type"),
    ("created twice", begun, "response.created", {"response": Response(id="resp_1", created_at=0, model="m")}, "once"),
    ("other id", begun, "response.in_progress", {"response": Response(id="x", created_at=0, model="m")}, "its id"),
    ("gap in indexes", begun, "response.output_item.added", {"output_index": 1, "item": MESSAGE}, "where 0 is due"),
    ("unknown item", begun, "response.output_item.added", {"output_index": 0, "item": {"type": "song"}}, "item type"),
    ("id in use", said, "response.output_item.added", {"output_index": 1, "item": MESSAGE}, "in use"),
    ("delta of nothing", begun, "response.output_text.delta", TEXT | {"delta": "x"}, "no open item"),
    ("delta of another", said, "response.output_text.delta", TEXT | {"item_id": "z", "delta": "x"}, "is not msg_1"),
    ("delta of no part", said, "response.output_text.delta", TEXT | {"content_index": 1, "delta": "x"}, "no open part"),
    ("wrong stream", said, "response.refusal.delta", TEXT | {"delta": "x"}, "does not belong"),
    ("wrong item", said, "response.function_call_arguments.delta", TEXT | {"delta": "x"}, "does not belong"),
    ("other whole", said, "response.output_text.done", TEXT | {"text": "ho", "logprobs": []}, "differs"),
    (
        "early part",
        said,
        "response.content_part.done",
        TEXT | {"part": {"type": "output_text", "text": "hi"}},
        "before",
    ),
    ("early item", said, "response.output_item.done", {"output_index": 0, "item": MESSAGE}, "part of it is open"),
    ("other part", said, "response.content_part.added", TEXT | {"part": {"type": "reasoning_text"}}, "has no part"),
    ("part gap", said, "response.content_part.added", TEXT | {"content_index": 2, "part": {"type": "refusal"}}, "due"),
    ("foreign note", said, "response.file_search_call.searching", {"output_index": 0}, "does not belong"),
    (
        "early end",
        said,
        "response.completed",
        {"response": Response(id="resp_1", created_at=0, model="m", status="completed")},
        "items are open",
    ),
    (
        "wrong end",
        begun,
        "response.completed",
        {"response": Response(id="resp_1", created_at=0, model="m", status="failed")},
        "carries status",
    ),
    (
        "invented output",
        begun,
        "response.completed",
        {"response": Response(id="resp_1", created_at=0, model="m", status="completed", output=[MESSAGE])},
        "the final output holds",
    ),
]


@pytest.mark.parametrize(
    ("start", "type", "fields", "why"), [row[1:] for row in FORBIDDEN], ids=[r[0] for r in FORBIDDEN]
)
def test_forbidden(start: Callable[[], Writer], type: str, fields: Json, why: str) -> None:
    writer = start()
    seq, before = writer.state.seq, writer.state.response
    with pytest.raises(GrammarError, match=why):
        writer.emit(type, **fields)
    assert (writer.state.seq, writer.state.response) == (seq, before)


def test_nothing_before_created_and_nothing_after_the_end() -> None:
    with pytest.raises(GrammarError, match=r"before response\.created"):
        State().fold({"type": "response.output_item.added", "sequence_number": 0})
    with pytest.raises(GrammarError, match=r"begins with response\.created"):
        _ = State().response
    writer = begun()
    writer.end(Response(id="resp_1", created_at=0, model="m", status="completed"))
    with pytest.raises(GrammarError, match="after the terminal"):
        writer.item("message")


def test_numbers_have_no_gap() -> None:
    state = State()
    with pytest.raises(GrammarError, match="where 0 is due"):
        state.fold(
            {"type": "response.created", "sequence_number": 1, "response": Response(id="r", created_at=0, model="m")}
        )


def test_a_snapshot_does_not_change_later() -> None:
    writer = said("a")
    before = writer.state.response
    item = writer.item("function_call", call_id="c", name="f")
    item.grow("{}")
    assert len(before.output) == 1
    assert writer.state.response.output[1]["arguments"] == "{}"


def test_annotations_are_folded_into_their_part() -> None:
    writer = said("a")
    note = {"type": "url_citation", "url": "https://example.org", "title": "t", "start_index": 0, "end_index": 1}
    writer.emit("response.output_text.annotation.added", **TEXT, annotation_index=0, annotation=note)
    assert writer.state.response.output[0]["content"][0]["annotations"] == [note]


def test_the_table_covers_every_kind() -> None:
    for kind in KINDS.values():
        for part in kind.parts.values():
            assert EVENTS[part.added].op == "open part"
            assert EVENTS[part.stream.delta].part is part
        if kind.stream:
            assert EVENTS[kind.stream.done].op == "whole"
