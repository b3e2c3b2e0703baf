"""The calls of hosted tools that a turn makes: their items opened, the calls run side by side, the items closed.

A call is durable before its tool runs, and so is what has come of it before the model is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from antiphon.tools import Deferred, HostedOffer, Outcome, Scope, ToolCall
from antiphon.wire.errors import ApiError
from antiphon.writer import Item, Writer

log = logging.getLogger("antiphon.tools")

Flush = Callable[[], Awaitable[None]]
"""Waits until all that was written is durable."""


class HostedCall(NamedTuple):
    """A call of a hosted tool, and its open item."""

    offer: HostedOffer
    call: ToolCall
    item: Item


class ToolActivity:
    """Whether no tool is at work, so that a response can be stopped without cutting off a side effect.

    Attributes:
        handing_over: whether it is being stopped for another worker to go on with, and not for ever.
    """

    __slots__ = ("_ended", "_running", "handing_over")

    def __init__(self) -> None:
        self.handing_over = False
        self._running = 0
        self._ended: asyncio.Event | None = None

    def __enter__(self) -> None:
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if self._ended is not None:
            self._ended.set()

    async def wait(self) -> None:
        """Until it is."""
        while self._running:
            self._ended = asyncio.Event()
            await self._ended.wait()


def open_calls(writer: Writer, calls: Iterable[tuple[HostedOffer, ToolCall]]) -> list[HostedCall]:
    """Open the items of the calls. One that waits for the caller is written as it is, and left out."""
    opened: list[HostedCall] = []
    for offer, call in calls:
        doc = offer.tool.begin(call, offer.spec)
        if isinstance(doc, Deferred):
            writer.item(**doc.item).done()
            continue
        item = writer.item(**doc)
        item.phase("in_progress")
        item.grow_whole(call.arguments)
        item.whole()
        opened.append(HostedCall(offer, call, item))
    return opened


async def run_calls(calls: Sequence[HostedCall], scope: Scope, activity: ToolActivity, flush: Flush) -> None:
    """Run calls whose items are open and durable, and close the items as they come to their end.

    Args:
        scope: of all of them; each has the ``spec`` of its own tool.
    """
    with activity:
        try:
            async with asyncio.TaskGroup() as group:
                for each in calls:
                    group.create_task(_run(each, msgspec.structs.replace(scope, spec=each.offer.spec), flush))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors


async def _run(made: HostedCall, scope: Scope, flush: Flush) -> None:
    tool, call = made.offer.tool, made.call
    try:
        outcome = await tool.run(call, made.item, scope)
    except Exception as error:
        # Not the error's own words: they may quote what the tool was given.
        log.warning("%s failed: %s", call.name, type(error).__name__)
        outcome = tool.fail(error.message if isinstance(error, ApiError) else "The tool failed.")
    close_call(made.item, outcome)
    await flush()


def close_call(item: Item, outcome: Outcome) -> None:
    """End the item of a call."""
    item.phase("failed" if outcome.failed else "completed")
    item.done("failed" if outcome.failed else "completed", **outcome.fields)
