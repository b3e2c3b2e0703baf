"""The only code that builds events.

Ids, indexes and texts are read back from the fold, never kept a second time: ``output_index`` is the length of the
output, a part's index the length of its list, and the sequence number the fold's own count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from antiphon.state import Growing, OpenItem, OpenPart, State, complete_items
from antiphon.wire import Json
from antiphon.wire.errors import ApiError
from antiphon.wire.kinds import KINDS, Stream
from antiphon.wire.response import Response, UsageTotal

Append = Callable[[Json], None]
"""Where an event goes once it is folded: a log's ``append``."""


class Writer:
    """Writes one response: every event is folded first, then appended. With a ``state`` it goes on where that is."""

    def __init__(self, append: Append, ids: Callable[[str], str], state: State | None = None) -> None:
        self.state = state or State()
        self._append = append
        self._ids = ids

    def emit(self, type: str, **fields: Any) -> None:
        """Number an event, fold it, append it.

        Raises:
            antiphon.state.GrammarError: the event may not come here; nothing was appended.
        """
        event = {"type": type, "sequence_number": self.state.seq, **fields}
        self.state.fold(event)
        self._append(event)

    def put(self, event: Json) -> None:
        """Fold an event that is whole, append it; see ``emit``."""
        self.state.fold(event)
        self._append(event)

    def start(self, response: Response) -> None:
        """Open the stream: ``response.created``, then ``response.in_progress``."""
        self.emit("response.created", response=response)
        self.emit("response.in_progress", response=response)

    def item(self, type: str, **fields: Any) -> Item:
        """Open an item of that kind at the end of the output."""
        kind = KINDS[type]
        index = self.state.length
        doc = {"id": self._ids(kind.prefix), **kind.opening, **fields}
        self.emit("response.output_item.added", output_index=index, item=doc)
        return Item(self, self.state.open[index])

    def show(self, doc: Json) -> Item:
        """Open an item that is whole but for its id: its own text comes in one piece, texts in a list one by one."""
        kind = KINDS[doc["type"]]
        fields = {name: value for name, value in doc.items() if name != "type"}
        text = fields.pop(kind.stream.field, "") if kind.stream else ""
        texts: Sequence[str] = ()
        if listed := kind.listed:
            texts = doc[listed.member][listed.list]
            fields[listed.member] = {**doc[listed.member], listed.list: []}
        item = self.item(kind.type, **fields)
        if text:
            item.grow_whole(text)
        for each in texts:
            item.list_text(each)
        return item

    def end(self, response: Response) -> None:
        """The terminal event, with the response as it shall stand."""
        self.emit(f"response.{response.status}", response=response)

    def cancel(self) -> None:
        """End because it was cancelled: what was done stands, and nobody is sent a word of it."""
        response = self.state.response
        output = complete_items(response.output)
        self.emit("response.cancelled", response=msgspec.structs.replace(response, status="cancelled", output=output))

    def fail(self, error: ApiError, code: str, usage: UsageTotal | None = None) -> None:
        """End in failure: ``error``, then ``response.failed``, in which what was open stands as ``incomplete``.

        Nothing open is closed first: a client parses a text when it is told that it is done, and this one is not.

        Args:
            code: the documented code of the Response's own error; the event carries the API error's. The event holds
                the fields both flat and nested: Python raises on the one, JavaScript reads the other.
        """
        body = error.body() | {"code": error.code or error.type}
        self.emit("error", code=body["code"], message=body["message"], param=body["param"], error=body)
        response = self.state.response
        self.end(
            msgspec.structs.replace(
                response,
                status="failed",
                error={"code": code, "message": error.message},
                output=[_mark_incomplete(item) for item in complete_items(response.output)],
                usage=usage,
            )
        )


def _mark_incomplete(item: Json) -> Json:
    return item | {"status": "incomplete"} if item.get("status") == "in_progress" else item


_NONE = Stream("", "", "")
"""For items whose texts grow in parts alone."""


class Item:
    """An open item. What it holds is the fold's; this only knows how to add to it."""

    def __init__(self, writer: Writer, open_item: OpenItem) -> None:
        self.type = open_item.kind.type
        self._writer = writer
        self._open = open_item
        self._address: Json = {"item_id": open_item.doc["id"], "output_index": open_item.index}
        self._part: str | None = None
        self._growing = (open_item.text.stream if open_item.text else _NONE, self._address)
        for part in open_item.parts.values():
            self._part, self._growing = part.part.type, (part.part.stream, self._at(part))

    @property
    def id(self) -> str:
        """The item's id."""
        return self._open.doc["id"]

    @property
    def begun(self) -> bool:
        """Whether anything has been said in it."""
        return any(self._open.lists.values()) or bool(self._open.text and self._open.text.pieces)

    def snapshot(self) -> Json:
        """The item as it stands."""
        return self._open.snapshot()

    def grow(self, text: str, part: str | None = None, logprobs: Sequence[Json] = ()) -> None:
        """Add a piece to the item's own text, or to its current part of type ``part`` (opened if need be)."""
        stream, address = self._growing if part == self._part else self.begin(part)
        state = self._writer.state
        event: Json = {"type": stream.delta, "sequence_number": state.seq, **address, "delta": text}
        if stream.logprobs:
            event["logprobs"] = logprobs
        self._writer.put(event)

    def grow_whole(self, text: str) -> None:
        """Add the item's own text in one piece, where it has one."""
        if self._open.text is not None:
            self.grow(text)

    def length(self, part: str) -> int:
        """How many characters its current part of that type has; 0 without one."""
        open_part = self._growing_part() if self._part == part else None
        return len(open_part.text.text) if open_part is not None else 0

    def annotate(self, annotation: Json) -> None:
        """Add a remark on the text that grows now, such as a citation."""
        _, address = self._growing if self._part == "output_text" else self.begin("output_text")
        open_part = self._growing_part()
        assert open_part is not None, "a part that grows is open"
        self._writer.emit(
            "response.output_text.annotation.added",
            **address,
            annotation_index=len(open_part.doc.get("annotations", ())),
            annotation=annotation,
        )

    def _growing_part(self) -> OpenPart | None:
        return next(reversed(self._open.parts.values()), None)

    def phase(self, name: str, **fields: Any) -> None:
        """Tell of progress, such as ``searching``; nothing where this kind of item has no such phase."""
        type = f"response.{self.type}.{name}"
        if type in self._open.kind.notes:
            self.note(type, **fields)

    def note(self, type: str, **fields: Any) -> None:
        """Add a remark that the grammar allows on this kind of item."""
        self._writer.emit(type, **self._address, **fields)

    def list_text(self, text: str) -> None:
        """Add a text to the list of them that this kind of item has."""
        listed, doc = self._open.kind.listed, self._open.doc
        assert listed is not None, f"a {self.type} has no such list"
        # These events have no ``item_id``.
        address: Json = {"output_index": self._open.index, listed.index: len(doc[listed.member][listed.list])}
        self._writer.emit(listed.added, **address, **{listed.field: ""})
        self._writer.emit(listed.delta, **address, delta=text)
        self._writer.emit(listed.done, **address, **{listed.field: text})

    def whole(self) -> None:
        """The item's own text is whole; what follows is said of it."""
        own = self._open.text
        if own is not None and own.whole is None:
            self._finish(own, self._address)

    def done(self, status: str = "completed", **fields: Any) -> None:
        """Close the open parts and texts, then the item; ``fields`` replace the item's own."""
        for part in list(self._open.parts.values()):
            self._close(part)
        own = self._open.text
        if own is not None and own.whole is None and (status == "completed" or own.pieces):
            self._finish(own, self._address)
        doc = self._open.snapshot() | fields
        if self._open.kind.status:
            doc["status"] = status
        self._writer.emit("response.output_item.done", output_index=self._open.index, item=doc)

    def begin(self, type: str | None) -> tuple[Stream, Json]:
        """What grows from now on, and its address: a new part of that type, once the part before it is closed."""
        assert type is not None, f"a {self.type} grows in parts, or it does not"
        for open_part in list(self._open.parts.values()):
            self._close(open_part)
        part = self._open.kind.parts[type]
        address = self._address | {part.index: self._open.length(part.list)}
        self._writer.emit(part.added, **address, part=dict(part.empty))
        self._part, self._growing = type, (part.stream, address)
        return self._growing

    def _at(self, part: OpenPart) -> Json:
        return {**self._address, part.part.index: part.place}

    def _close(self, part: OpenPart) -> None:
        address = self._at(part)
        if part.text.whole is None:
            self._finish(part.text, address)
        self._writer.emit(part.part.done, **address, part=part.snapshot())

    def _finish(self, text: Growing, address: Json) -> None:
        extra: Json = {"logprobs": text.logprobs} if text.stream.logprobs else {}
        self._writer.emit(text.stream.done, **address, **{text.stream.field: text.text}, **extra)
