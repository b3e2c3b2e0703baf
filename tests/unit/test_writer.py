"""The only code that builds events, and the ends that it can write; what the fold refuses of them."""

from typing import Any

import msgspec
import pytest

from antiphon.state import GrammarError
from antiphon.testing import CountingIds
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.response import Response
from antiphon.writer import Writer


def begun() -> tuple[Writer, list[Json]]:
    events: list[Json] = []
    writer = Writer(events.append, CountingIds())
    writer.start(Response(id="resp_1", created_at=1, model="m"))
    return writer, events


def ended(writer: Writer, **fields: Any) -> Response:
    return msgspec.structs.replace(writer.state.response, status="completed", **fields)


def test_numbers_and_indexes_are_read_from_the_fold() -> None:
    writer, events = begun()
    writer.item("message").grow("a", "output_text")
    writer.item("function_call", call_id="c", name="f").grow("{}")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["output_index"] for event in events if "output_index" in event] == [0, 0, 0, 1, 1]


def test_the_end_holds_what_the_events_made_and_nothing_else() -> None:
    writer, _ = begun()
    item = writer.item("message")
    item.grow("a", "output_text")
    item.done()
    other = [msgspec.json.decode(msgspec.json.encode(each)) for each in writer.state.output]
    other[0]["content"][0]["text"] = "b"
    with pytest.raises(GrammarError, match="differs from what the events made"):
        writer.end(ended(writer, output=other))
    with pytest.raises(GrammarError, match="where the events made"):
        writer.end(ended(writer, output=[]))
    writer.end(ended(writer))


@pytest.mark.parametrize(
    ("name", "value"), [("id", "resp_2"), ("model", "n"), ("store", False), ("metadata", {"a": "b"})]
)
def test_what_was_asked_does_not_change(name: str, value: Any) -> None:
    writer, _ = begun()
    with pytest.raises(GrammarError, match=f"changed its {name}"):
        writer.end(ended(writer, **{name: value}))


def test_a_failure_shows_what_was_open_as_incomplete() -> None:
    writer, events = begun()
    writer.item("message").grow("Hal", "output_text")
    writer.fail(UpstreamError("It broke."), "server_error")
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    (item,) = writer.state.response.output
    assert (item["status"], item["content"][0]["text"]) == ("incomplete", "Hal")


def test_a_cancellation_is_folded_like_every_event() -> None:
    writer, events = begun()
    done = writer.item("message")
    done.grow("Whole.", "output_text")
    done.done()
    writer.item("message").grow("Hal", "output_text")
    writer.cancel()
    assert events[-1]["type"] == "response.cancelled"
    response = writer.state.response
    assert (response.status, writer.state.ended, len(response.output)) == ("cancelled", True, 2)
    with pytest.raises(GrammarError, match="after the terminal event"):
        writer.cancel()
