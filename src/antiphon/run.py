"""One response, from accepted to its terminal event.

A response that is stored commits before its terminal event can be seen, so ``completed`` on the wire means durable. A
response that fails leaves nothing behind. What a conversation gets is part of that commit, and whoever may write to
it next is let in as soon as it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from antiphon import estimate
from antiphon.assembler import Assembler
from antiphon.intake import Plan
from antiphon.log import Log
from antiphon.meter import Watch
from antiphon.models import Finish, Model, Prompt
from antiphon.models import Usage as Tokens
from antiphon.state import State
from antiphon.store import (
    Claim,
    DuplicateItem,
    Record,
    Store,
    StoredItem,
    StoreUnavailable,
    UnknownConversation,
)
from antiphon.turn import check_answer, take_turn
from antiphon.wire import Json
from antiphon.wire.errors import SORRY, ApiError, NotFound, RateLimited, ServerError, Unavailable
from antiphon.wire.items import duplicate
from antiphon.wire.response import InputDetails, OutputDetails, Response, UsageTotal
from antiphon.writer import Writer

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


Settle = Callable[[Tokens, bool], None]
"""Told once of every response that began what it used, and whether that is an estimate."""


def _unpaid(used: Tokens, estimated: bool) -> None:
    """Nobody counts."""


class Run(msgspec.Struct, frozen=True):
    """All that one response needs: what was asked, of whom, and where it goes.

    A run with a ``claim`` on its conversation must be given to ``respond``, or have its claim released.

    Attributes:
        clock: gives Unix seconds.
        history: the items in front of the request's own, as they are kept.
        key_id: the key that it came with; empty without one.
    """

    plan: Plan
    prompt: Prompt
    model: Model
    owner: str
    store: Store
    clock: Callable[[], float]
    ids: Callable[[str], str]
    history: Sequence[Json] = ()
    watch: Watch = msgspec.field(default_factory=Watch)
    settle: Settle = _unpaid
    claim: Claim | None = None
    key_id: str = ""


class Failed(Exception):
    """The response failed after its stream had begun; the stream says so. ``error`` is what a caller may know."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


async def respond(run: Run, log: Log) -> Response:
    """Write the response to ``log`` and return it as it ended.

    Raises:
        Failed: something went wrong; ``error`` and ``response.failed`` have been appended, and nothing is stored.
    """
    try:
        with run.watch as watch:
            response = await _written(run, log)
            watch.response = response
        return response
    finally:
        await _let_go(run)


async def _written(run: Run, log: Log) -> Response:
    writer = Writer(log.append, run.ids)
    writer.start(run.plan.response)
    assembler = Assembler(writer, run.ids, calls_max=None if run.prompt.parallel_tool_calls else 1)
    failed = False
    try:
        response = await _work(run, writer, assembler, log)
    except Exception as cause:
        failed = True
        # Not the cause's own words: they may quote the answer. Its type and place are in the log with its trace.
        error = cause if isinstance(cause, ApiError) else ServerError(SORRY, internal=type(cause).__name__)
        error.__cause__ = error.__cause__ or (None if error is cause else cause)
        writer.fail(error, response_code(error))
        raise Failed(error) from cause
    finally:
        # The one way out, and before a reader can see the end: whoever has read it finds it counted.
        run.settle(*_used(run, assembler.finish, writer.state, failed))
    writer.end(response)
    await log.flush()
    return response


def _used(run: Run, finish: Finish | None, state: State, failed: bool) -> tuple[Tokens, bool]:
    """What the model used, and whether that had to be estimated, as where its client left in the middle."""
    if finish and finish.usage:
        return finish.usage, False
    said = state.output
    if not said and (failed or not run.plan.generate):
        return Tokens(), False
    return estimate.usage(run.prompt, said), True


async def _work(run: Run, writer: Writer, assembler: Assembler, log: Log) -> Response:
    finish = await _answer(run, writer, assembler, log) if run.plan.generate else Finish(usage=Tokens())
    response = _ended(writer.state.response, finish, int(run.clock()))
    if run.plan.conversation_id is not None:
        await _finished(_keep(run, response))
        # Before the terminal event: a client that has seen it may go on at once.
        await _let_go(run)
    elif run.plan.store:
        await _keep(run, response)
    return response


async def _answer(run: Run, writer: Writer, assembler: Assembler, log: Log) -> Finish:
    truncate = run.plan.response.truncation == "auto"
    finish = await take_turn(run.model, run.prompt, assembler, log, truncate=truncate, watch=run.watch)
    if finish.reason == "stop":
        check_answer(run.prompt, writer.state)
    assembler.end()
    return finish


async def _let_go(run: Run) -> None:
    if run.claim is not None:
        await run.claim.release()


async def _finished(work: Awaitable[None]) -> None:
    """Do the work to its end, even when cancelled: a claim must not be given up while the store still writes."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _ended(response: Response, finish: Finish, now: int) -> Response:
    reason = _INCOMPLETE.get(finish.reason)
    return msgspec.structs.replace(
        response,
        status="incomplete" if reason else "completed",
        completed_at=None if reason else now,
        incomplete_details={"reason": reason} if reason else None,
        usage=_usage(finish.usage) if finish.usage else None,
    )


def _usage(tokens: Tokens) -> UsageTotal:
    return UsageTotal(
        tokens.input,
        InputDetails(tokens.cached),
        tokens.output,
        OutputDetails(tokens.reasoning),
        tokens.input + tokens.output,
    )


async def _keep(run: Run, response: Response) -> None:
    try:
        await _commit(run, response)
    except StoreUnavailable as error:
        raise Unavailable("The response could not be stored.", internal=str(error)) from error
    except UnknownConversation as error:
        raise NotFound(f"Conversation with id '{error}' not found.", param="conversation") from error
    except DuplicateItem as error:
        raise duplicate(error.id, "input") from error


async def _commit(run: Run, response: Response) -> None:
    input, output, conversation = stored(run.plan.input), stored(response.output), run.plan.conversation_id
    if conversation is not None and not run.plan.store:
        await run.store.append(run.owner, conversation, [*input, *output], int(run.clock()))
        return
    record = Record(
        id=response.id,
        owner=run.owner,
        created_at=response.created_at,
        status=response.status,
        model=response.model,
        previous_response_id=response.previous_response_id,
        doc=msgspec.json.encode(msgspec.structs.replace(response, output=[])),
        input=input,
        output=output,
        conversation_id=conversation,
        key_id=run.key_id or None,
    )
    await run.store.commit(record)


def stored(items: Sequence[Json]) -> list[StoredItem]:
    """The items as a store takes them."""
    return [StoredItem(item["id"], item["type"], msgspec.json.encode(item)) for item in items]


def response_code(error: ApiError) -> str:
    """The code of the Response's own ``error``, which has a closed list of codes."""
    match error:
        case RateLimited():
            return "rate_limit_exceeded"
        case ApiError(status=400):
            return "invalid_prompt"
        case _:
            return "server_error"
