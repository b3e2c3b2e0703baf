"""What a crash left open in a log: gone on with, run again, or closed.

What is done stands. A text is gone on with where the model can, as the same item; a call of a hosted tool is made
again where that does no harm, else the model is told that it was cut off. Everything else is closed as ``incomplete``,
is left out of the final output, and is sampled anew behind it, so that no passage is there twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from antiphon.grammar import TERMINAL
from antiphon.log import RunLog
from antiphon.models import Finish, TextFormat, Usage
from antiphon.run import Run, ended_response, public, record_of, response_code, turn_context_of, usage_so_far
from antiphon.state import OpenItem, State, standing
from antiphon.store import StoreUnavailable
from antiphon.store.runs import Fenced
from antiphon.tools import Offer
from antiphon.turn import Desk, Progress, close, run_all, take_turns
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.response import Response, Status
from antiphon.writer import Item, Writer

KEPT_S = 600
"""How long a background response is kept that shall not be stored, from its end on: so that it can be polled."""

CUT_OFF = "The call was interrupted. It may have been done, or not."
"""What the model reads of a call that cannot be made again."""


async def go_on(desk: Desk) -> Finish:
    """Repair what is open, and take the turns that are still to come; see ``take_turns``."""
    said, prefix = await _repaired(desk)
    if prefix:
        # Said in an attempt that nobody has counted: about a token in each piece.
        desk.progress.used += Usage(output=desk.writer.state.pieces)
    if any(item["type"] == "function_call" for item in standing(desk.writer.state.output)):
        # What was sampled ended in a call of the caller's, beside those of ours that were at work.
        return Finish()
    seq = desk.writer.state.seq
    try:
        return await take_turns(desk, said, prefix)
    except InvalidRequest:
        # Some templates take no begun answer. Nothing has been said yet: the answer can still begin anew.
        if said is None or not prefix or desk.writer.state.seq != seq:
            raise
    said.done("incomplete")
    return await take_turns(desk)


async def _repaired(desk: Desk) -> tuple[Item | None, str]:
    """The open item to go on with, and its text."""
    said, prefix = None, ""
    again: list[tuple[Offer, Item, str]] = []
    for found in list(desk.writer.state.open.values()):
        item, offer, text = Item(desk.writer, found), _offer(desk, found), _continued(desk, found)
        if offer is not None and offer.tool.repeats(offer.function.name):
            again.append((offer, item, found.text.text if found.text else ""))
        elif offer is not None:
            close(item, offer.tool.failed(CUT_OFF))
        elif said is None and text is not None:
            said, prefix = item, text
        else:
            item.done("incomplete")
    await desk.log.flush()
    if again:
        await run_all(desk, again)
    return said, prefix


def _offer(desk: Desk, found: OpenItem) -> Offer | None:
    """The hosted tool behind an open call."""
    if "name" in found.doc:
        offer = desk.offers.get(found.doc["name"])
        return offer if offer is not None and offer.tool.item == found.kind.type else None
    return next((offer for offer in desk.offers.values() if offer.tool.item == found.kind.type), None)


def _continued(desk: Desk, found: OpenItem) -> str | None:
    """The text of a message that the model can go on with; empty for one that has none yet, None for any other item.

    An answer that is held to a schema has to begin anew: whoever holds it would have to be shown its beginning too.
    """
    if found.kind.type != "message":
        return None
    if not found.lists["content"]:
        return ""
    if len(found.lists["content"]) > 1 or not found.parts:
        return None
    (part,) = found.parts.values()
    prompt, text = desk.prompt, part.text.text
    free = prompt.format == TextFormat() and prompt.tool_choice.mode != "required"
    can = free and desk.model.continues and part.part.type == "output_text"
    return text if can or not text else None


class Undone(Exception):
    """A run in the background failed, and nothing of that is written down; ``used``: what to settle once it is."""

    def __init__(self, error: ApiError, used: tuple[Usage, bool]) -> None:
        super().__init__(error.message)
        self.error = error
        self.used = used


async def carry_on(run: Run, log: RunLog, events: Sequence[Json], progress: Progress) -> Response:
    """Do a run, from where its ``events`` end to its last one; the response as it ended.

    What it used is settled once it has ended, or was stopped for ever. A crash in between forgets that, and what was
    used in an attempt that nobody went on with.

    Raises:
        Fenced: it is somebody else's, or cancelled.
        StoreUnavailable: nothing can be written; it has to be taken up again.
        Undone: the model failed, or its conversation does not take it, or anything else.
    """
    desk = turn_context_of(run, Writer(log.append, run.ids, folded(events)), log, progress, whole_calls=True)
    log.progress = lambda: msgspec.json.encode(progress) if progress.turns or progress.calls else b""
    if desk.writer.state.response.status == "queued":
        started = msgspec.structs.replace(desk.writer.state.response, status="in_progress")
        desk.writer.emit("response.in_progress", response=started)
    try:
        with run.watch as watch:
            finish = await go_on(desk)
            response = ended_response(desk.writer.state.response, finish, progress.known, int(run.clock()))
            watch.response = response
            desk.writer.end(response)
            await log.finish(record_of(run.owner, response), expiry(response, run.clock()))
    except StoreUnavailable:
        raise
    except (Fenced, asyncio.CancelledError):
        if not run.calm.handing_on:
            run.settle(*usage_so_far(desk, failed=True))
        raise
    except Exception as cause:
        raise Undone(public(cause), usage_so_far(desk, failed=True)) from cause
    run.settle(*usage_so_far(desk, failed=False))
    return response


def folded(events: Sequence[Json]) -> State:
    """The fold of a log."""
    state = State()
    for event in events:
        state.fold(event)
    return state


def expiry(response: Response, now: float) -> int | None:
    """When a background response goes that shall not be stored, in Unix seconds."""
    return None if response.store else int(now) + KEPT_S


async def give_up(log: RunLog, events: Sequence[Json], error: ApiError, owner: str, now: float) -> None:
    """End a run in failure, from where its ``events`` end. Its conversation gets nothing.

    Raises:
        Fenced, StoreUnavailable: as ``carry_on``.
    """
    writer = Writer(log.append, _no_ids, folded(events))
    writer.fail(error, response_code(error))
    response = writer.state.response
    await log.finish(record_of(owner, response, conversation=False), expiry(response, now))


def _no_ids(prefix: str) -> str:
    raise AssertionError("a failure opens no item")


def so_far(events: Sequence[Json], status: Status) -> Response:
    """A response that has not ended by itself, as its readers have seen it."""
    response = folded(events).response
    if response.status in TERMINAL:
        return response
    return msgspec.structs.replace(response, status=status, output=standing(response.output))
