"""Whatever a model says, in whatever pieces and order: the stream is valid, and its replay is the live response."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from antiphon.assembler import Assembler
from antiphon.cli.check_stream import check_stream
from antiphon.http.sse import frame
from antiphon.log import encode
from antiphon.models import Call, Delta, Finish, Reasoning, Refusal, Text
from antiphon.run import end_response
from antiphon.state import State
from antiphon.testing import CountingIds
from antiphon.tools.sampled import CallRules
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.response import Response
from antiphon.writer import Writer

pieces = st.text(max_size=8)
deltas = st.lists(
    st.one_of(
        st.builds(Text, pieces),
        st.builds(Reasoning, pieces),
        st.builds(Refusal, pieces),
        st.builds(Call, st.integers(0, 3), st.just("f"), pieces, st.just("")),
    ),
    max_size=30,
)
finishes = st.builds(Finish, st.sampled_from(["stop", "length", "content_filter"]))


def played(said: list[Delta], finish: Finish, calls_max: int | None) -> tuple[Writer, list[Json]]:
    events: list[Json] = []
    ids = CountingIds()
    writer = Writer(events.append, ids)
    writer.start(Response(id="resp_1", created_at=0, model="m"))
    assembler = Assembler(writer, ids, CallRules(calls_max=calls_max))
    assembler.feed([*said, finish])
    assembler.end()
    writer.end(end_response(writer.state.response, finish, finish.usage, 1))
    return writer, events


@given(deltas, finishes, st.sampled_from([None, 1]))
def test_every_stream_is_valid_and_replays_as_it_was(said: list[Delta], finish: Finish, calls_max: int | None) -> None:
    writer, events = played(said, finish, calls_max)
    report = check_stream(b"".join(frame(event, obfuscate=True) for event in events))
    assert report.findings == []
    assert report.response is not None
    assert report.response.output == msgspec.json.decode(msgspec.json.encode(writer.state.response.output))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@given(deltas, finishes)
def test_no_character_is_lost_or_moved(said: list[Delta], finish: Finish) -> None:
    writer, _ = played(said, finish, None)
    spoken = "".join(delta.text for delta in said if isinstance(delta, Text))
    thought = "".join(delta.text for delta in said if isinstance(delta, Reasoning))
    output = writer.state.response.output
    parts = [part for item in output for part in item.get("content", ())]
    assert "".join(part["text"] for part in parts if part["type"] == "output_text") == spoken
    assert "".join(part["text"] for part in parts if part["type"] == "reasoning_text") == thought
    calls = [item["arguments"] for item in output if item["type"] == "function_call"]
    assert sorted(calls) == sorted(
        "".join(d.arguments for d in said if isinstance(d, Call) and d.key == key)
        for key in {d.key for d in said if isinstance(d, Call)}
    )


@given(deltas)
def test_a_failure_at_any_moment_still_ends_the_stream_well(said: list[Delta]) -> None:
    events: list[Json] = []
    ids = CountingIds()
    writer = Writer(events.append, ids)
    writer.start(Response(id="resp_1", created_at=0, model="m"))
    Assembler(writer, ids).feed(said)
    writer.fail(UpstreamError("gone", code=""), "server_error")
    assert check_stream(b"".join(frame(event, obfuscate=False) for event in events)).findings == []
    assert events[-2]["code"]
    assert writer.state.response.status == "failed"
    assert all(item["status"] != "in_progress" for item in writer.state.response.output if "status" in item)


@given(deltas, finishes, st.data())
def test_a_stream_with_an_event_missing_or_twice_is_found_out(
    said: list[Delta], finish: Finish, data: st.DataObject
) -> None:
    _, events = played(said, finish, None)
    at = data.draw(st.integers(0, len(events) - 1))
    wrong = data.draw(st.sampled_from([events[:at] + events[at + 1 :], events[: at + 1] + events[at:]]))
    assert check_stream(b"".join(frame(event, obfuscate=False) for event in wrong)).findings != []


@given(deltas, finishes)
def test_folding_the_encoded_events_gives_the_same_response(said: list[Delta], finish: Finish) -> None:
    writer, events = played(said, finish, None)
    state = State()
    for event in events:
        decoded = msgspec.json.decode(encode(event))
        if "response" in decoded:
            decoded["response"] = msgspec.convert(decoded["response"], Response)
        state.fold(decoded)
    assert encode(state.response) == encode(writer.state.response)
