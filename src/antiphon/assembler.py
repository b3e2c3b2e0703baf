"""Model deltas become items: what opens, what grows, what closes.

One thing is said at a time: an answer, or reasoning. Calls stay open until the model is finished, because a provider
may interleave them; each is found by the provider's own key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from antiphon.models import Call, Delta, Finish, Reasoning, Refusal, Text
from antiphon.wire.errors import UpstreamError
from antiphon.writer import Item, Writer


class Assembler:
    """Assembles one sample. ``finish`` is the model's last word, None until it came."""

    def __init__(self, writer: Writer, ids: Callable[[str], str], *, calls_max: int | None = None) -> None:
        self.finish: Finish | None = None
        self._writer = writer
        self._ids = ids
        self._calls_max = calls_max
        self._said: Item | None = None
        self._calls: dict[int, Item | None] = {}

    @property
    def silent(self) -> bool:
        """Whether nothing has been said that a reader may have seen."""
        return self._writer.state.length == 0

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
        if self.silent:
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
            self._said.done()
            self._said = None

    def _call(self, delta: Call) -> None:
        if delta.key not in self._calls:
            self._calls[delta.key] = self._begin(delta)
        item = self._calls[delta.key]
        if item is not None and delta.arguments:
            item.grow(delta.arguments)

    def _begin(self, delta: Call) -> Item | None:
        """The call's item; None for a call beyond what the request allows, which is left out."""
        if not delta.name:
            raise UpstreamError("The model's server sent a function call without a name.", code="invalid_tool_call")
        if self._calls_max is not None and len(self._calls) >= self._calls_max:
            return None
        self._hush()
        return self._writer.item("function_call", call_id=delta.call_id or self._ids("call"), name=delta.name)
