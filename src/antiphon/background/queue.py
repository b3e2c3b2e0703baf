"""What the engine does with responses in the background: queue them, follow them, cancel them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from antiphon.access.keyring import Admission
from antiphon.background.recovery import progress_of
from antiphon.background.worker import QUEUE, Worker
from antiphon.intake import Plan
from antiphon.log import Notifier, Tail, encode, read_log
from antiphon.run import Run, record_of, to_api_error, to_stored_items
from antiphon.store import ConversationLock, QueueFull, Record, Store, StoreUnavailable, UnknownConversation
from antiphon.store.availability import ask_store
from antiphon.store.runs import Claimed, NewRun
from antiphon.webhooks.outbox import Outbox
from antiphon.wire import Id
from antiphon.wire.errors import RateLimited, ServerError
from antiphon.wire.response import Response, Status
from antiphon.writer import Writer

RETRY_AFTER_S = 10
"""What a caller is told to wait when the queue is full."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs of a request, but for its items, which the store has. ``format`` rises with every change
    that an older program could not read.
    """

    format: Literal[1] = 1
    plan: Plan
    key_id: str
    reserved: int = 0

    @property
    def admission(self) -> Admission:
        """What the key admitted."""
        return Admission(self.key_id, self.reserved)


class Background:
    """The runs in the background of one engine.

    Args:
        prepare: makes a run of a job, with the context that its response has now; raises ``ApiError``.
        running_max: how many run at the same time; ``queued_max`` and ``per_project_max`` how many may wait, in
            all and of one project.
        attempts_max: how often one is taken up.
        clock: Unix seconds.
        outbox: who is told of what has ended; nobody by default.
    """

    def __init__(
        self,
        store: Store,
        prepare: Callable[[str, Id, Job], Awaitable[Run]],
        *,
        running_max: int,
        attempts_max: int,
        queued_max: int,
        per_project_max: int,
        clock: Callable[[], float],
        outbox: Outbox | None = None,
    ) -> None:
        self._runs = store.runs
        self._responses = store.responses
        self._prepare = prepare
        self._queued_max = queued_max
        self._per_project_max = per_project_max
        self._notifier = Notifier()
        self._queuing: set[asyncio.Task[None]] = set()
        self._worker = Worker(
            store.runs,
            store.conversations,
            self._notifier,
            self._prepare_run,
            node=secrets.token_hex(16),
            running_max=running_max,
            attempts_max=attempts_max,
            clock=clock,
            outbox=outbox,
        )

    @asynccontextmanager
    async def working(self, grace_s: float) -> AsyncGenerator[None]:
        """What waits is worked on as long as this lasts, and handed on at the end.

        Raises:
            StoreUnavailable: what an earlier process left cannot be taken up.
        """
        await self._worker.recover()
        working = asyncio.create_task(self._worker.work())
        try:
            yield
        finally:
            await self.drain(grace_s)
            await working

    async def drain(self, grace_s: float) -> None:
        """Hand on what is being done, and send the readers away. Harmless when done already."""
        await self._worker.drain(grace_s)
        self._notifier.close()

    async def _prepare_run(self, claimed: Claimed) -> Run:
        try:
            job = msgspec.json.decode(claimed.job, type=Job)
        except msgspec.DecodeError as error:
            raise ServerError("The response was queued by another version of this server.") from error
        return await self._prepare(claimed.project, claimed.id, job)

    async def submit(self, run: Run) -> Response:
        """Queue an accepted run; the response is durable when this returns.

        Raises:
            RateLimited: too many wait.
            antiphon.wire.errors.Unavailable: it cannot be stored.
        """
        plan = run.plan.with_input(())
        admission = run.account.admission
        job = Job(plan=plan, key_id=admission.key_id, reserved=admission.reserved)
        new, response = new_run(run, msgspec.json.encode(job))
        # A task of its own: whether it was queued has to be known, even when nobody waits any more.
        queuing = asyncio.create_task(self._queue(new, run.lock))
        self._queuing.add(queuing)
        queuing.add_done_callback(self._forget_task)
        try:
            await ask_store(asyncio.shield(queuing))
        except QueueFull as error:
            raise _queue_full(error) from error
        except UnknownConversation as error:
            raise to_api_error(error) from error
        return response

    async def _queue(self, new: NewRun, lock: ConversationLock | None) -> None:
        id = new.record.id
        with self._worker.enqueueing(id, lock):
            try:
                await self._runs.enqueue(new, queued_max=self._queued_max, per_project_max=self._per_project_max)
            except StoreUnavailable:
                # It may have been queued all the same.
                self._worker.schedule_recheck()
                raise
            except BaseException:
                await self._worker.stop(id)
                raise
        self._notifier.notify(QUEUE)

    def _forget_task(self, queuing: asyncio.Task[None]) -> None:
        self._queuing.discard(queuing)
        if not queuing.cancelled():
            queuing.exception()

    async def cancel(self, project: str, id: Id) -> bool:
        """Cancel a run permanently; False when there is none that could be."""
        with self._worker.recheck_on_error():
            epoch = await ask_store(self._runs.cancel(project, id))
        if epoch is not None:
            await ask_store(self._worker.write_cancelled(project, id, epoch))
        return epoch is not None

    async def delete(self, project: str, id: Id) -> bool:
        """Delete a response; nobody works on it any more. False when there is none."""
        with self._worker.recheck_on_error():
            deleted = await ask_store(self._responses.delete(project, id))
            if deleted:
                await self._worker.stop(id)
            return deleted

    def tail(self, project: str, id: Id, after: int, first: Sequence[bytes] = ()) -> Tail:
        """A reader of the log, from the event behind number ``after`` on, with ``first`` in front."""
        return Tail(self._runs, self._notifier, project, id, after, first)

    async def recheck(self) -> None:
        """Responses were deleted, perhaps some that run."""
        await ask_store(self._worker.recheck())

    async def read_progress(self, record: Record) -> tuple[Response, int] | None:
        """A response that has not ended, as its readers have seen it, and the number of the last event in it; None
        when nothing can be said of it.
        """
        events = await ask_store(read_log(self._runs, record.project, record.id))
        return (progress_of(events, msgspec.convert(record.status, Status)), len(events) - 1) if events else None


def _queue_full(error: QueueFull) -> RateLimited:
    whose = "of yours are queued" if error.of_project else "are queued on this server"
    return RateLimited(
        f"Too many background responses {whose}. Retry when some have ended.",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )


def new_run(run: Run, job: bytes) -> tuple[NewRun, Response]:
    """What a store keeps of an accepted run until a worker takes it, and the response as its caller is told."""
    events: list[bytes] = []
    writer = Writer(lambda event: events.append(encode(event)), run.ids)
    response = msgspec.structs.replace(run.plan.response, status="queued")
    writer.emit("response.created", response=response)
    writer.emit("response.queued", response=response)
    record = record_of(
        run.project, response, input=to_stored_items(run.plan.input), key_id=run.account.admission.key_id
    )
    return NewRun(record=record, job=job, events=events, priority=run.plan.priority), response
