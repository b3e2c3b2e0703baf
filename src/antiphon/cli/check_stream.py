"""``antiphon check-stream``: checks a recorded stream against the grammar, with the fold that builds our own responses.

Reads the bytes of a ``text/event-stream`` body, ours or another server's, and reports what is wrong with it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from antiphon.cli.command import EXIT_FAILED, Options
from antiphon.config import ConfigError
from antiphon.grammar import EVENTS
from antiphon.state import GrammarError, State
from antiphon.wire import Json
from antiphon.wire.response import Response

_LINE_END = re.compile(r"\r\n|\n|\r")
"""The three line ends of the standard; the further ones that Unicode knows are text."""


class Frame(NamedTuple):
    """One SSE frame: the number of its first line, its ``event:`` name, its joined ``data:``."""

    line: int
    event: str
    data: str


class Finding(NamedTuple):
    """Something that would break a client, and the line it stands in."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Report(NamedTuple):
    """What a stream held. ``response`` is the fold, None when nothing could be folded."""

    events: int
    findings: list[Finding]
    response: Response | None


def add_parser(commands: Any) -> None:
    """Add ``check-stream`` to the commands of an ``argparse`` parser."""
    parser = commands.add_parser("check-stream", help="check a recorded event stream against the grammar")
    parser.add_argument("file", help="file of a text/event-stream body, or - for standard input")


def run(options: Options) -> int:
    """Check the file; returns the exit status.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        body = sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{options['file']}: {error.strerror}") from error
    report = check_stream(body)
    for finding in report.findings:
        print(finding)
    print(f"{report.events} events, {len(report.findings)} findings")
    return EXIT_FAILED if report.findings else 0


def check_stream(body: bytes) -> Report:
    """Check a whole stream; the fold stops at its first finding, because later ones would only follow from it."""
    state = State()
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return Report(0, [Finding(1, f"not UTF-8: {error}")], None)
    findings = list(_check(frames(_LINE_END.split(text)), state))
    return Report(state.seq, findings, state.response if state.seq else None)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Split lines into frames, as the SSE standard says; comments are passed over."""
    first, event, data = 0, "", list[str]()
    for number, line in enumerate((*lines, ""), 1):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and (data or event):
            yield Frame(first, event, "\n".join(data))
            first, event, data = 0, "", []
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        if line and not first and name:
            first = number


def _check(stream: Iterable[Frame], state: State) -> Iterator[Finding]:
    done = False
    line = 1
    for frame in stream:
        line = frame.line
        if done:
            yield Finding(line, "an event after [DONE]")
            return
        done = frame.data == "[DONE]"
        wrong = None if done else _fold(frame, state)
        if wrong is not None:
            yield Finding(line, wrong)
            return
    if not state.ended:
        yield Finding(line, "the stream ends without a terminal event")


def _fold(frame: Frame, state: State) -> str | None:
    try:
        event = msgspec.json.decode(frame.data)
        if frame.event != event["type"]:
            return f"event: {frame.event!r} over data of type {event['type']!r}"
        state.fold(_to_event(event))
    except msgspec.DecodeError as error:
        return f"data is not JSON: {error}"
    except KeyError as error:
        return f"{frame.event} lacks {error}"
    except (GrammarError, TypeError, AttributeError) as error:
        return str(error)
    return None


def _to_event(event: Json) -> Json:
    """The event as the fold takes it. Of the envelope only what the grammar speaks of is read."""
    rule = EVENTS.get(event["type"])
    if rule is None or rule.op != "envelope":
        return event
    sent: dict[str, Any] = event["response"]
    response = Response(
        id=sent["id"], created_at=0, model=sent.get("model", ""), status=sent["status"], output=sent["output"]
    )
    return event | {"response": response}
