"""The response is the fold of its events. Whatever the grammar forbids is refused here, and only here.

``State.fold`` takes one event; ``State.response`` is the Response so far. Nothing else builds one. Pieces of a text
are kept apart until someone asks, so that a text of n pieces costs n and not n².
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, assert_never

import msgspec

from antiphon.grammar import EVENTS, TERMINAL, UNSENT, Op, Rule
from antiphon.wire import Json
from antiphon.wire.kinds import KINDS, Kind, Part, Stream
from antiphon.wire.response import Response

_CONSTANT: Final = (
    "id",
    "created_at",
    "model",
    "previous_response_id",
    "conversation",
    "store",
    "background",
    "metadata",
)
"""What a response keeps from its first event to its last."""
_constants_of: Final = attrgetter(*_CONSTANT)
_BROKEN_OFF = ("failed", "cancelled")
"""Statuses in which items may still be open, and are shown as ``incomplete``."""


class GrammarError(Exception):
    """An event that may not come here. From our own writer it is a bug; from a recorded stream, a finding."""


class Growing:
    """A text on its way: its pieces, and the log probabilities that came with them."""

    __slots__ = ("logprobs", "pieces", "stream", "whole")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.pieces: list[str] = []
        self.logprobs: list[Json] = []
        self.whole: str | None = None

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self.pieces) if self.whole is None else self.whole


@dataclass(slots=True)
class OpenPart:
    """A part that is not done. ``place`` is its index in its list."""

    part: Part
    place: int
    doc: Json
    text: Growing

    def snapshot(self) -> Json:
        """The part as it stands, as a new object."""
        doc = self.doc | {self.part.stream.field: self.text.text}
        return doc | {"logprobs": self.text.logprobs} if self.part.stream.logprobs else doc


class OpenItem:
    """An item that is not done: its open parts by (list, place), all its parts by list, and the text on the item
    itself.
    """

    __slots__ = ("doc", "index", "kind", "lists", "parts", "text")

    def __init__(self, index: int, kind: Kind, doc: Json) -> None:
        self.index = index
        self.kind = kind
        self.doc = doc
        self.text = Growing(kind.stream) if kind.stream else None
        self.parts: dict[tuple[str, int], OpenPart] = {}
        self.lists: dict[str, list[OpenPart | Json]] = {name: [] for name in kind.lists}

    def snapshot(self) -> Json:
        """The item as it stands, as a new object."""
        doc = dict(self.doc)
        if self.text is not None:
            doc[self.text.stream.field] = self.text.text
        for name, parts in self.lists.items():
            doc[name] = [part.snapshot() if isinstance(part, OpenPart) else part for part in parts]
        return doc

    def length(self, name: str) -> int:
        """How many parts the list ``name`` has."""
        return len(self.lists[name])


def complete_items(items: Iterable[Json]) -> list[Json]:
    """The items without those that were broken off, and begun anew further down."""
    return [item for item in items if item.get("status") != "incomplete"]


class State:
    """One response, folded from its events in order.

    Attributes:
        seq: the number the next event must bear.
        open: items that are not done, by output index.
        ended: whether a terminal event has been folded.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.open: dict[int, OpenItem] = {}
        self.ended = False
        self._items: list[Json] = []
        self._base: Response | None = None

    @property
    def length(self) -> int:
        """How many items the output has; the next item's index."""
        return len(self._items)

    @property
    def pieces(self) -> int:
        """How many pieces of text there are of what is open."""
        return sum(len(part.text.pieces) for item in self.open.values() for part in item.parts.values())

    @property
    def response(self) -> Response:
        """The Response so far, with a list of its own.

        Raises:
            GrammarError: nothing has been folded yet.
        """
        return self.envelope if self.ended else msgspec.structs.replace(self.envelope, output=self.output)

    @property
    def envelope(self) -> Response:
        """The Response without its items.

        Raises:
            GrammarError: nothing has been folded yet.
        """
        if self._base is None:
            raise GrammarError("a stream begins with response.created")
        return self._base

    @property
    def output(self) -> list[Json]:
        """The items so far, as a list of its own."""
        return [self.open[i].snapshot() if i in self.open else item for i, item in enumerate(self._items)]

    def fold(self, event: Json) -> None:
        """Take one event.

        Raises:
            GrammarError: the event may not come here; the state is as before.
        """
        rule = EVENTS.get(event["type"])
        if rule is None or event["sequence_number"] != self.seq or self.ended or self._base is None:
            rule = self._allow(rule, event)
        if rule.op == "grow":
            text = self._text(rule, event)
            text.pieces.append(event["delta"])
            if text.stream.logprobs and event["logprobs"]:
                text.logprobs.extend(event["logprobs"])
        else:
            self._apply(rule.op, rule, event)
        self.seq += 1

    def _apply(self, op: Op, rule: Rule, event: Json) -> None:
        match op:
            case "grow" | "error":
                pass
            case "whole":
                self._whole(rule, event)
            case "open item":
                self._open_item(event)
            case "close item":
                self._close_item(event)
            case "open part":
                self._open_part(event)
            case "close part":
                self._close_part(event)
            case "note":
                self._note(event)
            case "envelope":
                self._envelope(rule.status, event["response"])
            case _:
                assert_never(op)

    def _allow(self, rule: Rule | None, event: Json) -> Rule:
        """The rule of an event that is out of the ordinary: the first one, or one that may not come."""
        rule = rule or UNSENT.get(event["type"])
        if rule is None:
            raise GrammarError(f"unknown event type {event['type']!r}")
        if event["sequence_number"] != self.seq:
            raise GrammarError(f"sequence_number {event['sequence_number']} where {self.seq} is due")
        if self.ended:
            raise GrammarError(f"{event['type']} after the terminal event")
        if self._base is None and rule.status != "created":
            raise GrammarError(f"{event['type']} before response.created")
        return rule

    # Items

    def _open_item(self, event: Json) -> None:
        index, item = event["output_index"], event["item"]
        kind = KINDS.get(item["type"])
        if kind is None:
            raise GrammarError(f"unknown item type {item['type']!r}")
        if index != len(self._items):
            raise GrammarError(f"output_index {index} where {len(self._items)} is due")
        if any(item["id"] == other["id"] for other in self._items):
            raise GrammarError(f"item id {item['id']} is in use")
        self._items.append(item)
        self.open[index] = OpenItem(index, kind, item)

    def _item(self, event: Json) -> OpenItem:
        item = self.open.get(event["output_index"])
        if item is None:
            raise GrammarError(f"{event['type']}: no open item at output_index {event['output_index']}")
        if "item_id" in event and event["item_id"] != item.doc["id"]:
            raise GrammarError(f"{event['type']}: item_id {event['item_id']} is not {item.doc['id']}")
        return item

    def _close_item(self, event: Json) -> None:
        item, done = self._item(event), event["item"]
        for name in ("id", "type", "call_id", "name"):
            if name in item.doc and done.get(name) != item.doc[name]:
                raise GrammarError(f"item {item.doc['id']}: {name} changed between added and done")
        if item.parts:
            raise GrammarError(f"item {item.doc['id']} is done while a part of it is open")
        if done.get("status") == "in_progress":
            raise GrammarError(f"item {item.doc['id']} is done, yet in_progress")
        folded = item.snapshot()
        for name in self._folded_fields(item):
            if (done.get(name) or folded[name]) != folded[name]:
                raise GrammarError(f"item {item.doc['id']}: {name} differs from what its events said")
        self._items[item.index] = done
        del self.open[item.index]

    @staticmethod
    def _folded_fields(item: OpenItem) -> list[str]:
        texts = [item.text.stream.field] if item.text is not None and (item.text.pieces or item.text.whole) else []
        return texts + [name for name, parts in item.lists.items() if parts]

    def _note(self, event: Json) -> None:
        item = self._item(event)
        if event["type"] not in item.kind.notes:
            raise GrammarError(f"{event['type']} does not belong to a {item.kind.type}")
        listed = item.kind.listed
        if listed is not None and event["type"] == listed.done:
            held = item.doc[listed.member]
            item.doc = {**item.doc, listed.member: {**held, listed.list: [*held[listed.list], event[listed.field]]}}
        if "annotation" in event:
            part = self._part_at(item, ("content", event["content_index"]))
            part.doc = part.doc | {"annotations": [*part.doc.get("annotations", []), event["annotation"]]}

    # Parts and texts

    def _open_part(self, event: Json) -> None:
        item, doc = self._item(event), event["part"]
        part = item.kind.parts.get(doc["type"])
        if part is None or part.added != event["type"]:
            raise GrammarError(f"a {item.kind.type} has no part {doc['type']!r}")
        place = event[part.index]
        if place != item.length(part.list):
            raise GrammarError(f"{part.index} {place} where {item.length(part.list)} is due")
        opened = item.parts[part.list, place] = OpenPart(part, place, doc, Growing(part.stream))
        item.lists[part.list].append(opened)

    def _close_part(self, event: Json) -> None:
        item, doc = self._item(event), event["part"]
        known = item.kind.parts.get(doc["type"])
        if known is None or known.done != event["type"]:
            raise GrammarError(f"a {item.kind.type} has no part {doc['type']!r}")
        part = self._part_at(item, (known.list, event[known.index]))
        if part.part is not known:
            raise GrammarError(f"part {part.place} was opened as {part.part.type}, and closes as {doc['type']}")
        if part.text.whole is None:
            raise GrammarError(f"part {part.place} of {item.doc['id']} is done before its text is")
        if doc[known.stream.field] != part.text.text:
            raise GrammarError(f"part {part.place} of {item.doc['id']} differs from what its deltas said")
        item.lists[known.list][part.place] = doc
        del item.parts[known.list, part.place]

    @staticmethod
    def _part_at(item: OpenItem, key: tuple[str, int]) -> OpenPart:
        part = item.parts.get(key)
        if part is None:
            raise GrammarError(f"item {item.doc['id']} has no open part {key[1]} in {key[0]}")
        return part

    def _text(self, rule: Rule, event: Json) -> Growing:
        item = self._item(event)
        text = item.text if rule.part is None else self._part_at(item, (rule.part.list, event[rule.part.index])).text
        if text is None or text.stream is not rule.stream:
            raise GrammarError(f"{event['type']} does not belong there")
        if text.whole is not None:
            raise GrammarError(f"{event['type']} after the text was done")
        return text

    def _whole(self, rule: Rule, event: Json) -> None:
        text = self._text(rule, event)
        whole = event[text.stream.field]
        if text.pieces and whole != text.text:
            raise GrammarError(f"{event['type']} differs from what its deltas said")
        text.whole = whole

    # The envelope

    def _envelope(self, status: str, response: Response) -> None:
        if status == "created" and self._base is not None:
            raise GrammarError("response.created comes once, first")
        kept, sent = _constants_of(self._base or response), _constants_of(response)
        if sent != kept:
            changed = [name for name, old, new in zip(_CONSTANT, kept, sent, strict=True) if old != new]
            raise GrammarError(f"the response changed its {changed[0]}")
        if status in TERMINAL or status == "cancelled":
            self._end(status, response)
        self._base = response

    def _end(self, status: str, response: Response) -> None:
        if response.status != status:
            raise GrammarError(f"response.{status} carries status {response.status!r}")
        if self.open and status not in _BROKEN_OFF:
            raise GrammarError(f"response.{status} while items are open: {sorted(self.open)}")
        kept = [item["id"] for item in response.output]
        due = [item for item in self.output if item.get("status") != "incomplete" or item["id"] in kept]
        if kept != [item["id"] for item in due]:
            raise GrammarError(f"the final output holds {kept} where the events made {[item['id'] for item in due]}")
        for sent, made in zip(response.output, due, strict=True):
            if sent != made and (status not in _BROKEN_OFF or sent | {"status": made.get("status")} != made):
                raise GrammarError(f"item {sent['id']} of the final output differs from what the events made of it")
        self.ended = True
