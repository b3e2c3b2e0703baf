"""Model deltas become items: what opens, what grows, what closes.

One thing is said at a time: an answer, or reasoning. Calls stay open until the model is finished, because a provider
may interleave them; each is found by the provider's own key. Calls of hosted tools are no items yet: they are kept, to
be made when the model is finished. Where nothing half said may stay behind, all calls are kept until then.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import assert_never

import msgspec

from antiphon.models import Call, Delta, Finish, Reasoning, Refusal, Text
from antiphon.wire.errors import UpstreamError
from antiphon.writer import Item, Writer


class Kept(msgspec.Struct):
    """A call that is no item yet."""

    name: str
    call_id: str
    arguments: str = ""


class Assembler:
    """Assembles one sample. ``finish`` is the model's last word, None until it came.

    Args:
        calls_max: how many calls are taken; others are left out.
        hosted: names of the functions that this server runs.
        whole_calls: whether a call becomes visible only when it is whole.
        said: an open item that the sample goes on with.

    Attributes:
        calls: the calls of hosted tools, in order; to be read once the model is finished.
    """

    def __init__(
        self,
        writer: Writer,
        ids: Callable[[str], str],
        *,
        calls_max: int | None = None,
        hosted: Container[str] = (),
        whole_calls: bool = False,
        said: Item | None = None,
    ) -> None:
        self.finish: Finish | None = None
        self.calls: list[Kept] = []
        self._writer = writer
        self._ids = ids
        self._calls_max = calls_max
        self._hosted = hosted
        self._whole_calls = whole_calls
        self._said = said
        self._began = writer.state.seq
        self._calls: dict[int, Item | Kept | None] = {}

    @property
    def silent(self) -> bool:
        """Whether the sample has said nothing that a reader may have seen."""
        return self._writer.state.seq == self._began and not self.calls

    @property
    def called(self) -> bool:
        """Whether the model has called anything."""
        return bool(self._calls)

    def feed(self, batch: Iterable[Delta]) -> None:
        """Take what the model sent.

        Raises:
            UpstreamError: a call without a name.
        """
        for delta in batch:
            match delta:
                case Text():
                    self._saying("message").grow(delta.text, "output_text", delta.logprobs)
                case Call():
                    self._call(delta)
                case Reasoning():
                    self._saying("reasoning").grow(delta.text, "reasoning_text")
                case Refusal():
                    self._saying("message").grow(delta.text, "refusal")
                case Finish():
                    self.finish = delta
                case _:
                    assert_never(delta)

    def end(self) -> None:
        """Close what is open. Where the answer was cut, the last item is ``incomplete``.

        An answer without a word is still an answer: it becomes an empty message.
        """
        cut = self.finish is None or self.finish.reason != "stop"
        for call in self._calls.values():
            if isinstance(call, Kept) and call.name not in self._hosted:
                self._open(call.name, call.call_id).grow(call.arguments)
        if self.silent and not any(item.parts for item in self._writer.state.open.values()):
            self._saying("message").grow("", "output_text")
        last = self._writer.state.length - 1
        for open_item in list(self._writer.state.open.values()):
            status = "incomplete" if cut and open_item.index == last else "completed"
            Item(self._writer, open_item).done(status)

    def _saying(self, type: str) -> Item:
        if self._said is None or self._said.type != type:
            self._hush()
            self._said = self._writer.item(type)
        return self._said

    def _hush(self) -> None:
        if self._said is not None:
            # An item of an earlier attempt may have nothing in it.
            self._said.done("completed" if self._said.begun else "incomplete")
            self._said = None

    def _call(self, delta: Call) -> None:
        if delta.key not in self._calls:
            self._calls[delta.key] = self._begin(delta)
        match self._calls[delta.key]:
            case Kept() as kept:
                kept.arguments += delta.arguments
            case Item() as item if delta.arguments:
                item.grow(delta.arguments)
            case _:
                pass

    def _begin(self, delta: Call) -> Item | Kept | None:
        """The call's item, or the call itself where that comes later; None for a call beyond what the request allows,
        which is left out.
        """
        if not delta.name:
            raise UpstreamError("The model's server sent a function call without a name.", code="invalid_tool_call")
        if self._calls_max is not None and len(self._calls) >= self._calls_max:
            return None
        call_id = delta.call_id or self._ids("call")
        if delta.name not in self._hosted and not self._whole_calls:
            return self._open(delta.name, call_id)
        kept = Kept(delta.name, call_id)
        if delta.name in self._hosted:
            self.calls.append(kept)
        return kept

    def _open(self, name: str, call_id: str) -> Item:
        self._hush()
        return self._writer.item("function_call", call_id=call_id, name=name)
