"""What a tool is to the rest of the system: functions for the model, and items for the API.

There are two kinds of tool. A call of a *client tool* becomes an item that the caller answers; a call of a *hosted
tool* is run here, and its item tells how it went. Both say what the model is shown, plain functions with tight schemas,
and how their stored items read as plain calls and outputs, so that ``models`` knows messages, reasoning, calls and
outputs, and no tool. A new tool is one module, a row of the table of kinds where its items are new, and a line in the
assembly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from antiphon.files.citations import Sources
from antiphon.models import Function
from antiphon.wire import Id, Json
from antiphon.writer import Item


class ToolCall(msgspec.Struct, frozen=True):
    """A call as the model made it, whole; ``arguments`` is JSON as the model wrote it, perhaps none."""

    name: str
    arguments: str
    call_id: Id


Remedy: TypeAlias = Literal["tell", "force", "insist", "answer", "result", "find", "change"]


class CallInvalid(Exception):
    """A call that cannot become an item. The text says why and what would do.

    Attributes:
        remedy: how the model is asked again: ``tell`` it why, ``force`` it to call that function to its schema,
            ``insist`` by both, have it ``answer`` without tools, or from the ``result`` that it has, or ``find`` out
            what that function needs before it may call it, or ``change`` what it called with, both of which it is told.
    """

    def __init__(self, text: str, remedy: Remedy = "tell") -> None:
        super().__init__(text)
        self.remedy = remedy


class SpecInvalid(Exception):
    """A tool of a request that cannot be offered.

    Attributes:
        code: of the API's error; ``member``: the member of the tool that is at fault.
    """

    def __init__(self, text: str, code: str, member: str) -> None:
        super().__init__(text)
        self.code = code
        self.member = member


class Outcome(msgspec.Struct, frozen=True):
    """What came of a call: ``fields`` complete its item, whose text the model reads in the next turn."""

    fields: Json
    failed: bool = False


class Deferred(msgspec.Struct, frozen=True):
    """A call that waits for its caller, who has to approve it, say: the turn ends with this item.

    Attributes:
        item: the item, whole but for its id and status.
    """

    item: Json


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """In whose name a tool runs, and for which response.

    Attributes:
        spec: the request's tool, whole, once a call of it runs.
        include: what the request includes of items.
        context_tokens: the model's; None where that is not known.
        sources: the passages that the model has been shown so far, for a tool to add to.
    """

    project: str
    response_id: Id
    spec: Json = {}
    include: frozenset[str] = frozenset()
    context_tokens: int | None = None
    sources: Sources = msgspec.field(default_factory=Sources)


class Tool(Protocol):
    """What both kinds of tool have.

    Attributes:
        kinds: the ``type``s of the request's tools that it serves.
        items: the kinds of item that it owns: its calls, and their outputs.
    """

    @property
    def kinds(self) -> Sequence[str]: ...

    @property
    def items(self) -> Sequence[str]: ...

    def functions(self, spec: Json) -> Sequence[Function]:
        """What the model is shown of a tool of the request.

        Raises:
            SpecInvalid: it cannot be offered.
        """
        ...

    def lower(self, item: Json) -> Sequence[Json]:
        """One of its stored items as the model reads it: ``function_call`` and ``function_call_output`` items."""
        ...


class ClientTool(Tool, Protocol):
    """A tool that the caller runs.

    Attributes:
        live: whether the item's text may be shown while the model still writes it. Every other call is held until it
            is whole, so that one that is no good is never seen.
    """

    @property
    def live(self) -> bool: ...

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The items of a call, whole but for their ids and status: one, or several where the model put into one call
        what the API has as several; all but the first are given a call id of their own. Of a live tool this is also
        asked with no arguments yet, for one item.

        Raises:
            CallInvalid: there can be none. Nothing is shown of it; the model is told, and samples again.
        """
        ...


class HostedTool(Tool, Protocol):
    """A tool that this server runs. One that is a subclass says only what is different with it."""

    async def admit(self, project: str, spec: Json) -> Json:
        """See that a tool of a request can be run for that project, before the model is asked. What it gives are
        members of the tool that the request left open; the response shows them.

        Raises:
            antiphon.wire.errors.ApiError: it cannot; ``param`` is the member of the tool that is at fault.
        """
        return {}

    def repeats(self, name: str) -> bool:
        """Whether a call that was cut off, and may have been done, can be made again without harm."""
        return False

    async def recall(self, project: str, items: Sequence[Json], sources: Sources) -> Sequence[Json]:
        """Items of its own, of an earlier response or of before a crash, with what ``lower`` needs to show the model
        what it was shown then; what it may cite of that goes to ``sources``. Most items hold all that is needed.
        """
        return items

    def begin(self, call: ToolCall, spec: Json) -> Json | Deferred:
        """The fields with which the item of a call opens, its ``type`` among them, or the item to wait for."""
        ...

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        """Make the call. The item is durable, and is told of progress with ``item.phase``. It may be cancelled."""
        ...

    def fail(self, reason: str) -> Outcome:
        """The outcome of a call that did not come to its end; ``reason`` is what the model reads."""
        ...


class ClientOffer(msgspec.Struct, frozen=True):
    """A function that the model is shown, and the tool of the caller's behind it."""

    tool: ClientTool
    spec: Json
    function: Function


class HostedOffer(msgspec.Struct, frozen=True):
    """A function that the model is shown, and the tool of this server's behind it."""

    tool: HostedTool
    spec: Json
    function: Function


Offer = ClientOffer | HostedOffer


def call_item(call_id: Id, name: str, arguments: str) -> Json:
    """A call as ``models`` knows it."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output_item(call_id: Id, output: str | list[Json]) -> Json:
    """An output as ``models`` knows it: a text, or content parts."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}
