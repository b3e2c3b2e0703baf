"""One response, from accepted to its terminal event.

``respond`` answers a client that waits. A response that is stored commits before its terminal event can be seen, so
``completed`` on the wire means durable. A response that fails leaves nothing behind. What a conversation gets is part
of that commit, and whoever may write to it next is let in as soon as it is done.

``resume_run`` does a run in the background, from wherever its log is. There each step is durable before it can be seen,
the failure too; what goes wrong is the worker's to write down, for it may have to be tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import TracebackType

import msgspec

from antiphon import compaction
from antiphon.access.account import Account
from antiphon.access.sealing import Sealer
from antiphon.context import sealed_reasoning
from antiphon.files.citations import Mode, Sources
from antiphon.intake import ENCRYPTED_REASONING, Plan
from antiphon.log import Heartbeat, Log
from antiphon.models import Finish, Model, Prompt
from antiphon.models import Usage as Tokens
from antiphon.models.tokens import estimate_usage
from antiphon.state import complete_items
from antiphon.store import (
    ConversationLock,
    DuplicateItem,
    Record,
    Store,
    StoredItem,
    StoreUnavailable,
    UnknownConversation,
)
from antiphon.store.availability import to_unavailable
from antiphon.telemetry.meter import ResponseTimer
from antiphon.tools import Scope
from antiphon.tools.hosted import ToolActivity
from antiphon.tools.toolbox import Offers
from antiphon.turn import Compacting, Progress, TurnContext, take_turns
from antiphon.wire import Json
from antiphon.wire.errors import SORRY, ApiError, NotFound, RateLimited, ServerError
from antiphon.wire.items import duplicate
from antiphon.wire.kinds import KINDS
from antiphon.wire.response import InputDetails, OutputDetails, Response, UsageTotal
from antiphon.writer import Writer

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class InFlight:
    """The responses whose clients wait, so that all of them can be ended with a word.

    A context for each of them: what is done inside ends with the error that ``stop`` was given.
    """

    def __init__(self) -> None:
        self._open: set[asyncio.Task[object]] = set()
        self._stopped: set[asyncio.Task[object]] = set()
        self._error: ApiError | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        self._open.add(_this_task())
        self._idle.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = _this_task()
        stopped = task in self._stopped
        self._open.discard(task)
        self._stopped.discard(task)
        if not self._open:
            self._idle.set()
        if stopped and self._error is not None and isinstance(error, asyncio.CancelledError):
            task.uncancel()
            raise self._error from None

    async def idle(self) -> None:
        """Until nothing is open."""
        await self._idle.wait()

    def stop(self, error: ApiError) -> None:
        """End all with this error, and whatever comes later."""
        self._error = error
        for task in self._open - self._stopped:
            self._stopped.add(task)
            task.cancel()


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


class Run(msgspec.Struct, frozen=True):
    """All that one response needs: what was asked, of whom, and where it goes.

    A run with a ``lock`` on its conversation must be given to ``respond``, or have its lock released.

    Attributes:
        clock: gives Unix seconds.
        history: the items in front of the request's own, as they are kept.
        account: what its key admitted, and who is told what it used.
        offers: what the model may call, and who runs it.
        heartbeat_s: how long its log may be silent; 0 means unlimited.
        tool_activity: whether a hosted tool is at work.
        sealer: seals what the caller carries; without one it is given nothing sealed.
        citations: how it is found what an answer cites.
        note_images: see ``TurnContext``.
        sources: the passages that its context shows.
    """

    plan: Plan
    prompt: Prompt
    model: Model
    project: str
    store: Store
    clock: Callable[[], float]
    ids: Callable[[str], str]
    history: Sequence[Json] = ()
    timer: ResponseTimer = msgspec.field(default_factory=ResponseTimer)
    account: Account = Account()
    lock: ConversationLock | None = None
    offers: Offers = Offers()
    in_flight: InFlight | None = None
    heartbeat_s: float = 0.0
    sealer: Sealer | None = None
    tool_activity: ToolActivity = msgspec.field(default_factory=ToolActivity)
    citations: Mode = "auto"
    note_images: bool = False
    sources: Sources = msgspec.field(default_factory=Sources)


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
        with run.timer as timer:
            response = await _write(run, log)
            timer.response = response
        return response
    finally:
        await _release_claim(run)


async def _write(run: Run, log: Log) -> Response:
    writer = Writer(log.append, run.ids)
    writer.start(run.plan.response)
    turn = turn_context(run, writer, log, Progress())
    try:
        # Settled before a reader can see the end: whoever has read it finds it counted.
        with run.account.settling(partial(usage_so_far, turn)):
            response = await _complete(run, turn)
    except Exception as cause:
        error = to_api_error(cause)
        writer.fail(error, response_code(error))
        raise Failed(error) from cause
    writer.end(response)
    await log.flush()
    return response


def to_api_error(cause: Exception) -> ApiError:
    """The failure as a caller may see it. Not the cause's own words: they may quote the answer. Its type and place
    are in the log with its trace.
    """
    match cause:
        case ApiError():
            return cause
        case UnknownConversation():
            return NotFound(f"Conversation with id '{cause}' not found.", param="conversation")
        case DuplicateItem():
            return duplicate(cause.id, "input")
        case _:
            error = ServerError(SORRY, internal=type(cause).__name__)
            error.__cause__ = cause
            return error


def turn_context(run: Run, writer: Writer, log: Log, progress: Progress, *, whole_calls: bool = False) -> TurnContext:
    return TurnContext(
        model=run.model,
        prompt=run.prompt,
        writer=writer,
        log=log,
        ids=run.ids,
        scope=Scope(
            project=run.project,
            response_id=run.plan.response.id,
            include=run.plan.include,
            context_tokens=run.model.context_tokens,
            sources=run.sources,
        ),
        progress=progress,
        timer=run.timer,
        offers=run.offers,
        calls_max=run.plan.response.max_tool_calls,
        whole_calls=whole_calls,
        truncate=run.plan.response.truncation == "auto",
        note_images=run.note_images,
        tool_activity=run.tool_activity,
        citations=run.citations,
        seal=_reasoning_seal(run),
        compacting=_compacting(run),
    )


def _reasoning_seal(run: Run) -> Callable[[Json], str] | None:
    sealer = run.sealer
    if sealer is None or ENCRYPTED_REASONING not in run.plan.include:
        return None
    return lambda item: sealer.seal(sealed_reasoning(item), run.project, "reasoning")


def _compacting(run: Run) -> Compacting | None:
    sealer = run.sealer
    if sealer is None or (run.plan.compact_threshold is None and not run.plan.compacts):
        return None
    return Compacting(
        alone=run.plan.compacts,
        threshold=run.plan.compact_threshold or compaction.default_threshold(run.model),
        seal=partial(sealer.seal, project=run.project, purpose="compaction"),
        unseal=partial(sealer.open, project=run.project),
    )


def usage_so_far(turn: TurnContext, failed: bool) -> tuple[Tokens, bool]:
    """What the model used, and whether that had to be estimated, as where its client left in the middle."""
    progress = turn.progress
    if progress.turns and progress.counted and not progress.sampling:
        return progress.used, False
    items = turn.writer.state.output
    if not items and (failed or not progress.sampling):
        return Tokens(), False
    return estimate_usage(turn.prompt, items), True


async def _complete(run: Run, turn: TurnContext) -> Response:
    finish = Finish()
    if run.plan.generate:
        with run.in_flight or nullcontext(), Heartbeat(turn.writer, turn.log, run.heartbeat_s):
            finish = await take_turns(turn)
    response = end_response(turn.writer.state.response, finish, turn.progress.known, int(run.clock()))
    if run.plan.conversation_id is not None:
        await _finish_writing(_store_response(run, response))
        # Before the terminal event: a client that has seen it may go on at once.
        await _release_claim(run)
    elif run.plan.store:
        await _store_response(run, response)
    return response


async def _release_claim(run: Run) -> None:
    if run.lock is not None:
        await run.lock.release()


async def _finish_writing(work: Awaitable[None]) -> None:
    """Do the work to its end, even when cancelled: a lock must not be released while the store still writes."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def end_response(response: Response, finish: Finish, used: Tokens | None, now: int) -> Response:
    """The response as it ends. Of items that are incomplete, only one that was cut at the very end belongs to it."""
    reason = _INCOMPLETE.get(finish.reason)
    output = complete_items(response.output)
    if reason and response.output and response.output[-1] not in output[-1:]:
        output.append(response.output[-1])
    return msgspec.structs.replace(
        response,
        status="incomplete" if reason else "completed",
        completed_at=None if reason else now,
        incomplete_details={"reason": reason} if reason else None,
        usage=_usage(used) if used else None,
        output=output,
    )


def _usage(tokens: Tokens) -> UsageTotal:
    return UsageTotal(
        tokens.input,
        InputDetails(tokens.cached),
        tokens.output,
        OutputDetails(tokens.reasoning),
        tokens.input + tokens.output,
    )


async def _store_response(run: Run, response: Response) -> None:
    try:
        await _commit(run, response)
    except StoreUnavailable as error:
        raise to_unavailable("The response could not be stored", error) from error
    except (UnknownConversation, DuplicateItem) as error:
        raise to_api_error(error) from error


async def _commit(run: Run, response: Response) -> None:
    input, conversation = to_stored_items(run.plan.input), run.plan.conversation_id
    if conversation is not None and not run.plan.store:
        items = [*input, *to_stored_items(response.output)]
        await run.store.conversations.append(run.project, conversation, items, int(run.clock()))
        return
    await run.store.responses.commit(record_of(run.project, response, input=input, key_id=run.account.admission.key_id))


def record_of(
    project: str,
    response: Response,
    *,
    input: Sequence[StoredItem] = (),
    conversation: bool = True,
    key_id: str = "",
) -> Record:
    """The response as a store keeps it; ``conversation``: whether it takes part in the one that it names."""
    held = response.conversation if conversation else None
    return Record(
        id=response.id,
        project=project,
        created_at=response.created_at,
        status=response.status,
        model=response.model,
        previous_response_id=response.previous_response_id,
        doc=msgspec.json.encode(msgspec.structs.replace(response, output=[])),
        input=input,
        output=to_stored_items(response.output),
        conversation_id=held["id"] if held else None,
        key_id=key_id or None,
    )


def to_stored_items(items: Sequence[Json]) -> list[StoredItem]:
    """The items as a store takes them: those that are kept."""
    kept = (item for item in items if KINDS[item["type"]].stored)
    return [StoredItem(item["id"], item["type"], msgspec.json.encode(item)) for item in kept]


def response_code(error: ApiError) -> str:
    """The code of the Response's own ``error``, which has a closed list of codes."""
    match error:
        case RateLimited():
            return "rate_limit_exceeded"
        case ApiError(status=400):
            return "invalid_prompt"
        case _:
            return "server_error"
