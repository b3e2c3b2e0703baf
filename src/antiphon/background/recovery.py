"""What a crash left open in a log: gone on with, run again, or closed.

What is done stands. A text is gone on with where the model can, as the same item; a call of a hosted tool is made
again where that does no harm, else the model is told that it was cut off. Everything else is closed as ``incomplete``,
is left out of the final output, and is sampled anew behind it, so that no passage is there twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from antiphon.access.account import Bill
from antiphon.log import Heartbeat, RunLog
from antiphon.models import Finish, TextFormat, Usage
from antiphon.run import Run, end_response, record_of, response_code, to_api_error, turn_context, usage_so_far
from antiphon.state import OpenItem, State, complete_items
from antiphon.store import Fenced, StoreUnavailable
from antiphon.tools import ToolCall
from antiphon.tools.hosted import HostedCall, close_call, run_calls
from antiphon.turn import Progress, TurnContext, take_turns
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.kinds import call_id_of, is_call
from antiphon.wire.response import Response, Status
from antiphon.writer import Item, Writer

KEPT_S = 600
"""How long a background response is kept that shall not be stored, from its end on: so that it can be polled."""

CUT_OFF = "The call was interrupted. It may or may not have taken effect."
"""What the model reads of a call that cannot be made again."""


async def resume_turns(turn: TurnContext) -> Finish:
    """Repair what is open, and take the turns that are still to come; see ``take_turns``."""
    toolbox, done = turn.offers.toolbox, complete_items(turn.writer.state.output)
    recalled = await toolbox.recall(turn.scope.project, done, turn.scope.sources)
    turn = msgspec.structs.replace(turn, recalled={item["id"]: item for item in recalled})
    open_item, prefix = await _repair(turn)
    if prefix:
        # Said in an attempt that nobody has counted: about a token in each piece.
        turn.progress.used += Usage(output=turn.writer.state.pieces)
    if any(is_call(item) for item in complete_items(turn.writer.state.output)):
        # What was sampled ended in a call of the caller's, beside those of ours that were at work.
        return Finish()
    seq = turn.writer.state.seq
    try:
        return await take_turns(turn, open_item, prefix)
    except InvalidRequest:
        # Some templates take no begun answer. Nothing has been said yet: the answer can still begin anew.
        if open_item is None or not prefix or turn.writer.state.seq != seq:
            raise
    open_item.done("incomplete")
    return await take_turns(turn)


async def _repair(turn: TurnContext) -> tuple[Item | None, str]:
    """The open item to go on with, and its text."""
    open_item, prefix = None, ""
    again: list[HostedCall] = []
    for found in list(turn.writer.state.open.values()):
        item, text = Item(turn.writer, found), _prefix_of(turn, found)
        if found.kind.type == "compaction":
            continue  # begun anew as the same item: it has shown nothing of it
        offer = turn.offers.find_hosted(found.kind.type, found.doc.get("name"))
        if offer is not None and offer.tool.repeats(offer.function.name):
            arguments = found.text.text if found.text else ""
            call = ToolCall(offer.function.name, arguments, call_id_of(found.doc) or "")
            again.append(HostedCall(offer, call, item))
        elif offer is not None:
            close_call(item, offer.tool.fail(CUT_OFF))
        elif open_item is None and text is not None:
            open_item, prefix = item, text
        else:
            item.done("incomplete")
    await turn.log.flush()
    if again:
        await run_calls(again, turn.scope, turn.tool_activity, turn.log.flush)
    return open_item, prefix


def _prefix_of(turn: TurnContext, found: OpenItem) -> str | None:
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
    prompt, text = turn.prompt, part.text.text
    free = prompt.format == TextFormat() and prompt.tool_choice.mode != "required"
    can = free and turn.model.supports_prefill and part.part.type == "output_text"
    return text if can or not text else None


Fail = Callable[[ApiError], Awaitable[None]]
"""Writes down that a run failed."""


async def resume_run(run: Run, log: RunLog, events: Sequence[Json], progress: Progress, fail: Fail) -> None:
    """Do a run, from where its ``events`` end to its last one. If the model fails, or its conversation does not take
    it, or anything else goes wrong, ``fail``.

    What it used is settled once it has ended, or was stopped for ever. A crash in between forgets that, and what was
    used in an attempt that nobody went on with.

    Raises:
        Fenced: it is somebody else's, or cancelled.
        StoreUnavailable: nothing can be written; it has to be taken up again.
    """
    turn = turn_context(run, Writer(log.append, run.ids, fold(events)), log, progress, whole_calls=True)
    log.progress = lambda: msgspec.json.encode(progress) if progress.turns or progress.calls else b""
    with run.account.settling(partial(usage_so_far, turn)) as bill:
        try:
            await _finish_or_fail(run, turn, log, bill, fail)
        except StoreUnavailable:
            bill.due = False
            raise
        except (Fenced, asyncio.CancelledError):
            bill.due = not run.tool_activity.handing_over
            raise


async def _finish_or_fail(run: Run, turn: TurnContext, log: RunLog, bill: Bill, fail: Fail) -> None:
    try:
        await _finish(run, turn, log)
    except (StoreUnavailable, Fenced):
        raise
    except Exception as cause:
        bill.failed = True
        await fail(to_api_error(cause))


async def _finish(run: Run, turn: TurnContext, log: RunLog) -> None:
    state = turn.writer.state
    if state.response.status == "queued":
        turn.writer.emit("response.in_progress", response=msgspec.structs.replace(state.response, status="in_progress"))
    with run.timer as timer:
        with Heartbeat(turn.writer, log, run.heartbeat_s):
            finish = await resume_turns(turn)
        response = end_response(state.response, finish, turn.progress.known, int(run.clock()))
        timer.response = response
        turn.writer.end(response)
        await log.finish(record_of(run.project, response), expiry(response, run.clock()))


def fold(events: Sequence[Json]) -> State:
    """The fold of a log."""
    state = State()
    for event in events:
        state.fold(event)
    return state


def expiry(response: Response, now: float) -> int | None:
    """When a background response goes that shall not be stored, in Unix seconds."""
    return None if response.store else int(now) + KEPT_S


async def give_up(log: RunLog, events: Sequence[Json], error: ApiError, project: str, now: float) -> None:
    """End a run in failure, from where its ``events`` end. Its conversation gets nothing.

    Raises:
        Fenced, StoreUnavailable: as ``resume_run``.
    """
    writer = Writer(log.append, _refuse_ids, fold(events))
    writer.fail(error, response_code(error))
    response = writer.state.response
    await log.finish(record_of(project, response, conversation=False), expiry(response, now))


def _refuse_ids(prefix: str) -> str:
    raise AssertionError("a failure opens no item")


def cancel(events: Sequence[Json]) -> Response:
    """The response of a run that was cancelled, from where its ``events`` end; one that had ended is as it was."""
    state = fold(events)
    if not state.ended:
        Writer(_discard, _refuse_ids, state).cancel()
    return state.response


def _discard(event: Json) -> None:
    """Nobody reads of it."""


def progress_of(events: Sequence[Json], status: Status) -> Response:
    """A response that has not been written down as ended, as its readers have seen it; ``status``: of its run."""
    state = fold(events)
    if status == "cancelled":
        return cancel(events)
    if state.ended:
        return state.response
    return msgspec.structs.replace(state.response, status=status, output=complete_items(state.output))
