"""The stream checker finds what breaks clients, and says where."""

import pytest

from antiphon.cli.check_stream import check_stream

CREATED = (
    'event: response.created\ndata: {"type":"response.created","sequence_number":0,'
    '"response":{"id":"r","status":"in_progress","output":[]}}\n\n'
)
ENDED = (
    'event: response.completed\ndata: {"type":"response.completed","sequence_number":1,'
    '"response":{"id":"r","status":"completed","output":[]}}\n\n'
)


def test_a_good_stream() -> None:
    report = check_stream((": hello\n\n" + CREATED + ENDED + "data: [DONE]\n\n").encode())
    assert (report.events, report.findings) == (2, [])
    assert report.response is not None
    assert report.response.status == "completed"


def test_carriage_returns_are_read() -> None:
    assert check_stream((CREATED + ENDED).replace("\n", "\r\n").encode()).findings == []


@pytest.mark.parametrize(
    ("stream", "finding"),
    [
        ("", "line 1: the stream ends without a terminal event"),
        (CREATED, "line 1: the stream ends without a terminal event"),
        (ENDED, "line 1: sequence_number 1 where 0 is due"),
        (CREATED + CREATED, "line 4: sequence_number 0 where 1 is due"),
        ("event: x\n" + CREATED.split("\n", 1)[1], "line 1: event: 'x' over data of type 'response.created'"),
        (CREATED + "event: a\ndata: {\n\n", "line 4: data is not JSON"),
        (CREATED + 'event: a\ndata: {"type":"a"}\n\n', "line 4: unknown event type 'a'"),
        (CREATED + ENDED + "data: [DONE]\n\n" + ENDED, "line 9: an event after [DONE]"),
    ],
)
def test_findings(stream: str, finding: str) -> None:
    (found,) = check_stream(stream.encode()).findings
    assert str(found).startswith(finding)


def test_not_text() -> None:
    (found,) = check_stream(b"\xff").findings
    assert "not UTF-8" in found.text
