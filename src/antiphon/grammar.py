"""What the table of kinds means as events. Writer, fold and stream checker read it; so do the docs.

A response holds items; an item holds texts that grow, some of them inside numbered parts. Every event of the API is
one of nine operations on that shape, and this table says which.
Source: the official SDK's stream event types, and their order as recorded from the official API.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from antiphon.wire.kinds import KINDS, Kind, Part, Stream

Op: TypeAlias = Literal[
    "envelope",  # the response changes its status
    "open item",  # an item joins the output
    "close item",  # an item is done
    "open part",  # a part joins an item
    "close part",  # a part is done
    "grow",  # a text grows
    "whole",  # a text is done
    "note",  # progress or a remark that belongs to an open item
    "error",  # what went wrong, before the response fails
]
"""What an event does to the response."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one event type means. ``part`` is set for the texts of parts, ``status`` for envelopes."""

    op: Op
    stream: Stream | None = None
    part: Part | None = None
    status: str = ""


TERMINAL = {"completed", "incomplete", "failed"}
"""The statuses in which a response ends by an event that its readers see."""
UNSENT = {"response.cancelled": Rule("envelope", status="cancelled")}
"""What is folded like every event, and never sent: whoever reads a stream that is cancelled sees it end."""


def _envelopes() -> Iterator[tuple[str, Rule]]:
    yield "response.created", Rule("envelope", status="created")
    for status in ("queued", "in_progress", *sorted(TERMINAL)):
        yield f"response.{status}", Rule("envelope", status=status)
    yield "error", Rule("error")
    yield "response.output_item.added", Rule("open item")
    yield "response.output_item.done", Rule("close item")


def _texts(stream: Stream, part: Part | None) -> Iterator[tuple[str, Rule]]:
    yield stream.delta, Rule("grow", stream, part)
    yield stream.done, Rule("whole", stream, part)


def _rules(kind: Kind) -> Iterator[tuple[str, Rule]]:
    if kind.stream:
        yield from _texts(kind.stream, None)
    for part in kind.parts.values():
        yield part.added, Rule("open part")
        yield part.done, Rule("close part")
        yield from _texts(part.stream, part)
    for note in kind.notes:
        yield note, Rule("note")


EVENTS: dict[str, Rule] = dict(_envelopes())
for _kind in KINDS.values():
    EVENTS.update(_rules(_kind))
"""Every event type of the API (audio, which no Responses model sends, aside) and what it means."""
