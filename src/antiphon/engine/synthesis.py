"""Events that no model's words were behind: the stream of a response whose own was not kept, and the snapshot of one.

A stream is told again from the response's items, numbered from 0. What was said in many deltas comes in one for each
part; everything else is as it was. The same bytes every time.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from antiphon.log import encode
from antiphon.state import State, complete_items
from antiphon.wire import Json
from antiphon.wire.kinds import KINDS, Part
from antiphon.wire.response import Response
from antiphon.writer import Item, Writer

_ANNOTATION = "response.output_text.annotation.added"


def synthesize(response: Response) -> list[bytes]:
    """The events of a response that has ended, as JSON."""
    lines: list[bytes] = []
    writer = Writer(lambda event: lines.append(encode(event)), _own_ids)
    writer.start(
        msgspec.structs.replace(
            response,
            status="in_progress",
            completed_at=None,
            error=None,
            incomplete_details=None,
            output=[],
            usage=None,
        )
    )
    for item in response.output:
        _synthesize_item(writer, item)
    writer.end(response)
    return lines


def take_snapshot(events: Iterable[Json]) -> list[bytes]:
    """What stands for events that a reader has: the response without items, and each item as it was at the last of
    them, open or not. All bear that event's number. Items that were broken off, and begun anew, are left out.
    """
    state = State()
    for event in events:
        state.fold(event)
    number = {"sequence_number": state.seq - 1}
    response = msgspec.structs.replace(state.envelope, output=[])
    added = {"type": "response.output_item.added", **number}
    items = [added | {"output_index": i, "item": item} for i, item in enumerate(state.output) if complete_items([item])]
    return [encode(event) for event in ({"type": "response.created", **number, "response": response}, *items)]


def _own_ids(prefix: str) -> str:
    """Every item has its own id already."""
    return ""


def _synthesize_item(writer: Writer, doc: Json) -> None:
    kind = KINDS[doc["type"]]
    rest = {name: value for name, value in doc.items() if name not in {"status", *kind.lists}}
    item = writer.show(rest)
    for name in sorted(kind.lists):
        for place, part in enumerate(doc.get(name) or ()):
            _synthesize_part(writer, item, kind.parts[part["type"]], part, place)
    item.done(doc.get("status") or "completed")


def _synthesize_part(writer: Writer, item: Item, kind: Part, doc: Json, place: int) -> None:
    item.begin(kind.type)
    text = doc.get(kind.stream.field)
    if text:
        item.grow(text, kind.type, doc.get("logprobs") or ())
    annotations: Iterable[Json] = doc.get("annotations") or ()
    for index, annotation in enumerate(annotations):
        item.note(_ANNOTATION, annotation=annotation, annotation_index=index, **{kind.index: place})
