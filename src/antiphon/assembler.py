"""Model deltas become items: what opens, what grows, what closes.

One thing is said at a time: an answer, or reasoning. Calls stay open until the model is finished, because a provider
may interleave them; each is found by the provider's own key. A call is shown while it is written where its tool allows
that and nothing half said may stay behind; every other call is held until the model is finished, and is an item then,
or is run here, or is no good and was never there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

import msgspec

from antiphon.files.citations import Citation, CitationFilter, Mode, Piece, Sources
from antiphon.models import Call, Delta, Finish, Reasoning, Refusal, Text, ToolChoice, ToolMeasure
from antiphon.tools import CallInvalid, ClientOffer, HostedOffer, ToolCall
from antiphon.tools.corrections import repair_call
from antiphon.tools.repeats import Made, is_repeat
from antiphon.tools.toolbox import Offers
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.kinds import KINDS
from antiphon.writer import Item, Writer


class Held(msgspec.Struct):
    """A call that is no item yet."""

    name: str
    call_id: str
    arguments: str = ""

    def to_tool_call(self) -> ToolCall:
        """The call as its tool takes it."""
        return ToolCall(self.name, self.arguments, self.call_id)


class Barred(Held):
    """A call that the request does not allow. It never becomes an item."""


class Assembler:
    """Assembles one sample. ``finish`` is the model's last word, None until it came.

    Args:
        calls_max: how many calls are taken; others are left out.
        choice: which calls the request allows; ``must_call``: whether the sample has to make one.
        may_call: the functions of hosted tools that may be called, None for all; calls of others are left out.
        whole_calls: whether a call becomes visible only when it is whole.
        repairs: whether the calls of functions are mended where they do not fit; then they have to be whole.
        just_made: calls that are left out, because their results are there; then calls have to be whole too.
        said: an open item that the sample goes on with.
        seal: gives the ``encrypted_content`` of a reasoning item; None where it is not wanted.

    Attributes:
        hosted: the calls of hosted tools, in order; to be read once the model is finished.
        invalid: the calls that could not become items, and why; where there is one, no held call became one.
    """

    def __init__(
        self,
        writer: Writer,
        ids: Callable[[str], str],
        *,
        calls_max: int | None = None,
        choice: ToolChoice = ToolChoice(),
        must_call: bool = False,
        may_call: frozenset[str] | None = None,
        offers: Offers | None = None,
        whole_calls: bool = False,
        repairs: bool = False,
        just_made: frozenset[Made] = frozenset(),
        said: Item | None = None,
        seal: Callable[[Json], str] | None = None,
        sources: Sources | None = None,
        citations: Mode = "auto",
    ) -> None:
        self.finish: Finish | None = None
        self.invalid: list[tuple[ToolCall, CallInvalid]] = []
        self._mended = False
        self._writer = writer
        self._ids = ids
        self._calls_max = calls_max
        self._choice = choice
        self._must_call = must_call
        self._may_call = may_call
        self._offers = offers or Offers()
        self._whole_calls = whole_calls
        self._repairs = repairs
        self._just_made = just_made
        self._current = said
        self._seal = seal
        self._sources = sources or Sources()
        self._citations: Mode = citations
        self._filter: CitationFilter | None = None
        self._began = writer.state.seq
        self._first = writer.state.length - (said is not None)
        self._calls: dict[int, Item | Held | None] = {}

    @property
    def is_silent(self) -> bool:
        """Whether the sample has said nothing that a reader may have seen, and called nothing."""
        return self._writer.state.seq == self._began and not self._calls

    @property
    def called(self) -> bool:
        """Whether the model has called anything that it may call."""
        return self._taken > 0

    @property
    def _taken(self) -> int:
        return sum(call is not None and not isinstance(call, Barred) for call in self._calls.values())

    @property
    def held(self) -> list[ToolCall]:
        """The calls that were held, in order."""
        return [call.to_tool_call() for call in self._calls.values() if type(call) is Held]

    @property
    def barred(self) -> list[ToolCall]:
        """The calls that the request does not allow, in order."""
        return [call.to_tool_call() for call in self._calls.values() if isinstance(call, Barred)]

    @property
    def is_astray(self) -> bool:
        """Whether the model called what it may not, and gave nothing else that would do as its answer."""
        return bool(self.barred) and not self.called and (self._must_call or not self._is_answered())

    @property
    def helps(self) -> list[ToolMeasure]:
        """What was done so that the calls come right."""
        helps: dict[ToolMeasure, bool] = {"arguments_mended": self._mended, "disallowed": bool(self.barred)}
        return [measure for measure, taken in helps.items() if taken]

    @property
    def hosted(self) -> list[tuple[HostedOffer, ToolCall]]:
        """The calls of hosted tools, in order."""
        found = [(self._offers.find(call.name), call) for call in self.held]
        return [(offer, call) for offer, call in found if isinstance(offer, HostedOffer)]

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
        self._leave_out_repeats()
        if self.is_astray:
            self.invalid += [(call, CallInvalid(self._reason(call.name))) for call in self.barred]
        for doc in self._client_call_items(cut):
            self._close_current()
            self._writer.show(doc)
        called = self.held or self.invalid
        if self._writer.state.seq == self._began and not called and not self._is_anything_said():
            self._current_item("message").grow("", "output_text")
        last = self._writer.state.length - 1
        for open_item in list(self._writer.state.open.values()):
            status = "incomplete" if cut and open_item.index == last else "completed"
            self._close(Item(self._writer, open_item), status)

    def _leave_out_repeats(self) -> None:
        """Calls that were just made; where the model made no others, it is to answer from their results."""
        for key, call in self._calls.items():
            if type(call) is Held and is_repeat(call.to_tool_call(), self._just_made):
                self._calls[key] = None
                if not self.held:
                    text = f"The function '{call.name}' was just called like that."
                    self.invalid.append((call.to_tool_call(), CallInvalid(text, remedy="result")))

    def _is_anything_said(self) -> bool:
        return any(item.parts for item in self._writer.state.open.values())

    def _is_answered(self) -> bool:
        """Whether there is an answer in words, blanks aside."""
        said = [item for item in self._writer.state.output[self._first :] if item["type"] == "message"]
        parts = [part for item in said for part in item["content"]]
        return any((part.get("text") or part.get("refusal") or "").strip() for part in parts)

    def _reason(self, name: str) -> str:
        """What the model is told of a call that the request does not allow."""
        if self._choice.mode == "none":
            return f"Error: {name} was not called: no tool can be called now. Answer in words."
        instead = "" if self._must_call else ", or answer in words"
        return f"Error: {name} was not called: it cannot be now. Call {' or '.join(self._choice.names)}{instead}."

    def _client_call_items(self, cut: bool) -> list[Json]:
        """The items of held calls that the caller answers; of a call that was cut, only a live tool can make one."""
        found: list[Json] = []
        for call in self.held:
            offer = self._offers.find(call.name)
            if not isinstance(offer, ClientOffer) or (cut and not offer.tool.live):
                continue
            try:
                found += self._items_of(call, offer)
            except CallInvalid as fault:
                self.invalid.append((call, fault))
        return [] if self.invalid else found

    def _items_of(self, call: ToolCall, offer: ClientOffer) -> Sequence[Json]:
        """The items of one call. Each has a call id of its own, for the caller to answer it by.

        Raises:
            CallInvalid: there can be none, or more than calls are allowed.
        """
        first, *others = offer.tool.to_items(self._repair(call, offer), offer.spec)
        if others and self._calls_max is not None and self._taken + len(others) > self._calls_max:
            raise CallInvalid(f"Error: this makes {1 + len(others)} calls at once. Make them one after another.")
        return [first, *({**doc, "call_id": self._ids("call")} for doc in others)]

    def _repair(self, call: ToolCall, offer: ClientOffer) -> ToolCall:
        """The call of a function as it can be made; other tools look for themselves.

        Raises:
            CallInvalid: it cannot.
        """
        if not self._repairs or offer.tool is not self._offers.toolbox.functions:
            return call
        repaired = repair_call(call, offer.function if call.name in self._offers.by_name else None)
        self._mended = self._mended or repaired is not call
        return repaired

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
        if delta.key not in self._calls:
            self._calls[delta.key] = self._begin(delta)
        match self._calls[delta.key]:
            case Held() as held:
                held.arguments += delta.arguments
            case Item() as item if delta.arguments:
                item.grow(delta.arguments)
            case _:
                pass

    def _begin(self, delta: Call) -> Item | Held | None:
        """The call's item, or the call itself where that comes later; None for a call beyond what the request allows,
        or of a hosted tool that the model was not offered: it is left out.
        """
        if not delta.name:
            raise UpstreamError("The model's server sent a function call without a name.", code="invalid_tool_call")
        call_id = delta.call_id or self._ids("call")
        if not self._offers.is_allowed(delta.name, self._choice):
            return Barred(delta.name, call_id)
        if self._calls_max is not None and self._taken >= self._calls_max:
            return None
        offer = self._offers.find(delta.name)
        if isinstance(offer, HostedOffer) and self._may_call is not None and delta.name not in self._may_call:
            return None
        if self._whole_calls or not isinstance(offer, ClientOffer) or not offer.tool.live:
            return Held(delta.name, call_id)
        (doc,) = offer.tool.to_items(ToolCall(delta.name, "", call_id), offer.spec)
        stream = KINDS[doc["type"]].stream
        assert stream is not None, "the item of a live tool has a text that grows"
        return self._open({name: value for name, value in doc.items() if name != stream.field})

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
