"""Model deltas become items: what opens, what grows, what closes.

One thing is said at a time: an answer, or reasoning. Calls stay open until the model is finished, because a provider
may interleave them; each is found by the provider's own key. ``tools.sampled`` says which of them are items, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from antiphon.files.citations import Citation, CitationFilter, Mode, Piece, Sources
from antiphon.models import Call, Delta, Finish, Reasoning, Refusal, Text
from antiphon.tools.sampled import CallRules, SampledCalls
from antiphon.wire import Json
from antiphon.wire.kinds import KINDS
from antiphon.writer import Item, Writer


class Assembler:
    """Assembles one sample. ``finish`` is the model's last word, None until it came.

    Args:
        rules: what it may call.
        open_item: an open item that the sample goes on with.
        seal: gives the ``encrypted_content`` of a reasoning item; None where it is not wanted.
        sources: what its answer may cite; ``citations``: how that is found.

    Attributes:
        calls: what it called.
    """

    def __init__(
        self,
        writer: Writer,
        ids: Callable[[str], str],
        rules: CallRules = CallRules(),
        *,
        open_item: Item | None = None,
        seal: Callable[[Json], str] | None = None,
        sources: Sources | None = None,
        citations: Mode = "auto",
    ) -> None:
        self.finish: Finish | None = None
        self.calls = SampledCalls(rules, ids)
        self._must_call = rules.must_call
        self._writer = writer
        self._current = open_item
        self._seal = seal
        self._sources = sources or Sources()
        self._citations: Mode = citations
        self._filter: CitationFilter | None = None
        self._began = writer.state.seq
        self._first = writer.state.length - (open_item is not None)
        self._live: dict[int, Item] = {}

    @property
    def is_silent(self) -> bool:
        """Whether the sample has said nothing that a reader may have seen, and called nothing."""
        return self._writer.state.seq == self._began and not self.calls

    @property
    def is_astray(self) -> bool:
        """Whether the model called what it may not, and gave nothing else that would do as its answer."""
        calls = self.calls
        return bool(calls) and bool(calls.barred) and not calls.taken and (self._must_call or not self._is_answered())

    def feed(self, batch: Iterable[Delta]) -> None:
        """Take what the model sent.

        Raises:
            UpstreamError: a call without a name.
        """
        for delta in batch:
            match delta:
                case Text():
                    self._add_text(delta)
                case Call():
                    self._call(delta)
                case Reasoning():
                    self._current_item("reasoning").grow(delta.text, "reasoning_text")
                case Refusal():
                    self._current_item("message").grow(delta.text, "refusal")
                case Finish():
                    self.finish = delta
                case _:
                    assert_never(delta)

    def end(self) -> None:
        """Close what is open. Where the answer was cut, the last item is ``incomplete``.

        An answer without a word is still an answer: it becomes an empty message.
        """
        cut = self.finish is None or self.finish.reason != "stop"
        self._flush_text()
        for doc in self.calls.end(cut=cut, astray=self.is_astray):
            self._close_current()
            self._writer.show(doc)
        if self._is_empty():
            self._current_item("message").grow("", "output_text")
        last = self._writer.state.length - 1
        for open_item in list(self._writer.state.open.values()):
            status = "incomplete" if cut and open_item.index == last else "completed"
            self._close(Item(self._writer, open_item), status)

    def _is_empty(self) -> bool:
        """Whether nothing came of the sample: no word, and no call that is made or asked for again."""
        state = self._writer.state
        called = self.calls.held or self.calls.invalid
        return state.seq == self._began and not called and not any(item.parts for item in state.open.values())

    def _is_answered(self) -> bool:
        """Whether there is an answer in words, blanks aside."""
        messages = [item for item in self._writer.state.output[self._first :] if item["type"] == "message"]
        parts = [part for item in messages for part in item["content"]]
        return any((part.get("text") or part.get("refusal") or "").strip() for part in parts)

    def _current_item(self, type: str) -> Item:
        if self._current is None or self._current.type != type:
            self._close_current()
            self._current = self._writer.item(type)
        return self._current

    def _add_text(self, delta: Text) -> None:
        """Text of an answer, without the markers in it, and what they cite."""
        item = self._current_item("message")
        if not self._sources.by_number:
            item.grow(delta.text, "output_text", delta.logprobs)
            return
        if self._filter is None:
            self._filter = CitationFilter(self._sources.by_number, self._citations, item.length("output_text"))
        self._show_pieces(item, self._filter.feed(delta.text), delta)

    def _flush_text(self) -> None:
        """What of an answer was held back."""
        if self._filter is not None and self._current is not None:
            self._show_pieces(self._current, self._filter.end())
        self._filter = None

    @staticmethod
    def _show_pieces(item: Item, pieces: Iterable[Piece], delta: Text | None = None) -> None:
        for piece in pieces:
            if isinstance(piece, Citation):
                item.annotate(_file_citation(piece))
            else:
                item.grow(piece, "output_text", delta.logprobs if delta and piece == delta.text else ())

    def _close_current(self) -> None:
        self._flush_text()
        if self._current is not None:
            # An item of an earlier attempt may have nothing in it.
            self._close(self._current, "completed" if self._current.begun else "incomplete")
            self._current = None

    def _close(self, item: Item, status: str) -> None:
        """Reasoning is sealed when it is whole, for callers that carry it themselves."""
        sealed = self._seal is not None and item.type == "reasoning" and status == "completed"
        item.done(status, **({"encrypted_content": self._seal(item.snapshot())} if sealed and self._seal else {}))

    def _call(self, delta: Call) -> None:
        item = self._live.get(delta.key)
        if item is None:
            doc = self.calls.take(delta)
            if doc is None:
                return
            stream = KINDS[doc["type"]].stream
            assert stream is not None, "the item of a live tool has a text that grows"
            item = self._live[delta.key] = self._open({name: doc[name] for name in doc if name != stream.field})
        if delta.arguments:
            item.grow(delta.arguments)

    def _open(self, doc: Json) -> Item:
        self._close_current()
        return self._writer.item(doc["type"], **{name: value for name, value in doc.items() if name != "type"})


def _file_citation(citation: Citation) -> Json:
    return {
        "type": "file_citation",
        "index": citation.index,
        "file_id": citation.file_id,
        "filename": citation.filename,
    }
