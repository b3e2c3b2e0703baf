"""What a hosted tool is to the rest of the system: functions for the model, and items that this server runs.

The spine imports this file alone. A tool that the caller runs needs nothing here: its calls are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from antiphon.models import Function
from antiphon.wire import Id, Json
from antiphon.writer import Item


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call: ``fields`` complete its item, whose text the model reads in the next turn."""

    fields: Json
    failed: bool = False


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """In whose name a tool runs, and for which response; ``spec`` is the request's tool, whole."""

    owner: str
    response_id: Id
    spec: Json


class HostedTool(Protocol):
    """A tool that this server runs.

    Attributes:
        kind: the ``type`` of the request's tools that it serves.
        item: the kind of item that its calls are, a row of the grammar.
    """

    @property
    def kind(self) -> str: ...

    @property
    def item(self) -> str: ...

    def functions(self, spec: Json) -> Sequence[Function]:
        """What the model is shown of a tool of the request."""
        ...

    def repeats(self, name: str) -> bool:
        """Whether a call that was cut off, and may have been done, can be made again without harm."""
        ...

    def begin(self, name: str, spec: Json) -> Json:
        """The fields with which the item of a call opens."""
        ...

    async def run(self, name: str, arguments: str, item: Item, scope: Scope) -> Outcome:
        """Make the call. The item is durable, and is told of progress with ``item.phase``. It may be cancelled.

        Args:
            arguments: JSON as the model wrote it, perhaps none.
        """
        ...

    def failed(self, reason: str) -> Outcome:
        """The outcome of a call that did not come to its end; ``reason`` is what the model reads."""
        ...


class Offer(msgspec.Struct, frozen=True):
    """A function that the model is shown, and the tool behind it."""

    tool: HostedTool
    spec: Json
    function: Function


class Toolbox:
    """The hosted tools of a server, by the kinds that they serve."""

    def __init__(self, tools: Sequence[HostedTool] = ()) -> None:
        self._by_kind = {tool.kind: tool for tool in tools}

    def serves(self, kind: str) -> bool:
        """Whether tools of that type run here."""
        return kind in self._by_kind

    def offers(self, specs: Sequence[Json]) -> Mapping[str, Offer]:
        """By name, what the model may call of the request's tools; of two functions of one name the first counts."""
        found: dict[str, Offer] = {}
        for spec in specs:
            tool = self._by_kind.get(spec["type"])
            if tool is not None:
                found |= {f.name: Offer(tool, spec, f) for f in tool.functions(spec) if f.name not in found}
        return found
