"""Responses in the background: claimed, done, taken up again after a crash, cancelled, handed on at the end.

The store says whose a run is; what is known here may be out of date at any moment, and is never trusted for that. A run
that cannot be done ends in failure, one that has been tried too often as well. While the store refuses to be written,
nothing is given up: runs wait for it, and are taken up again from their logs. Where it is not known what the store did,
it is asked what there is (``doubt``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import msgspec

from antiphon.background.jobs import JobLoop
from antiphon.background.recovery import cancel, expiry, give_up, resume_run
from antiphon.log import POLL_S, Notifier, RunLog, read_log
from antiphon.run import Run, record_of, to_api_error
from antiphon.store import ConversationLock, ConversationLocked, ConversationStore, Fenced, StoreUnavailable
from antiphon.store.runs import Batch, Claimed, RunStore, Unfinished
from antiphon.store.transitions import UNFINISHED
from antiphon.tools.hosted import ToolActivity
from antiphon.turn import Progress
from antiphon.webhooks.outbox import Outbox, nobody
from antiphon.wire import Id, Json
from antiphon.wire.errors import ApiError, ServerError

log = logging.getLogger("antiphon.background.worker")

QUEUE = "queue"
"""The topic of what waits. Response ids are topics too, and none is called so."""


class RunJob(msgspec.Struct, frozen=True):
    """A run that this worker does, and whether a tool is at work in it, and whether it is being handed on."""

    claimed: Claimed
    tool_activity: ToolActivity


class Worker:
    """Does the runs of one store: a ``JobKind``. Belongs to one event loop.

    Args:
        prepare: makes a run of what was claimed, ready to be carried on; raises ``ApiError`` where it cannot be done.
        node: this worker's name among all that ever worked on the store.
        running_max: how many runs are done at the same time.
        attempts_max: how often a run is taken up: one that ends the process each time shall not do so for ever.
        clock: Unix seconds.
        outbox: who is told of what has ended; nobody by default.
    """

    def __init__(
        self,
        runs: RunStore,
        conversations: ConversationStore,
        notifier: Notifier,
        prepare: Callable[[Claimed], Awaitable[Run]],
        *,
        node: str,
        running_max: int,
        attempts_max: int,
        clock: Callable[[], float],
        outbox: Outbox | None = None,
    ) -> None:
        self._runs = runs
        self._conversations = conversations
        self._notifier = notifier
        self._prepare = prepare
        self._node = node
        self._attempts_max = attempts_max
        self._clock = clock
        self._outbox = outbox or nobody()
        self._loop = JobLoop(self, notifier, running_max)
        self._locks: dict[Id, ConversationLock] = {}
        self._left: dict[Id, int] = {}
        self._enqueueing: set[Id] = set()
        self._recheck_due = False

    async def recover(self) -> None:
        """Take up what an earlier process left: conversations are locked again, what was cancelled is written down, and
        what was running waits to be claimed. To be awaited before the first request.

        Raises:
            StoreUnavailable: the store cannot be written.
        """
        found = await self._runs.recover(self._node)
        for each in found:
            if each.status in UNFINISHED and each.conversation_id is not None:
                # Locked already: two wait for one conversation, and the first keeps others out.
                with suppress(ConversationLocked):
                    self._locks[each.id] = await self._conversations.lock(each.project, each.conversation_id)
        await self._tidy_up(found)

    @contextmanager
    def enqueueing(self, id: Id, lock: ConversationLock | None) -> Generator[None]:
        """While inside, a run is being queued. The lock on its conversation is kept until it has ended."""
        self._enqueueing.add(id)
        if lock is not None:
            self._locks[id] = lock
        try:
            yield
        finally:
            self._enqueueing.discard(id)

    def schedule_recheck(self) -> None:
        """What the store has done is not known: look at what there is, as soon as that can be."""
        self._recheck_due = True
        self._notifier.notify(QUEUE)

    @contextmanager
    def recheck_on_error(self) -> Generator[None]:
        """Doubt what is done inside, unless it comes to its end."""
        try:
            yield
        except BaseException:
            self.schedule_recheck()
            raise

    async def work(self) -> None:
        """Claim and do runs, until drained or cancelled."""
        await self._loop.work()

    # A kind of job

    topic = QUEUE

    def key(self, job: RunJob) -> Id:
        """See ``JobKind.key``."""
        return job.claimed.id

    async def claim(self, room: int) -> Sequence[RunJob]:
        """See ``JobKind.claim``. What could not be done to the store before is done first."""
        try:
            await self._give_back_left()
            if self._recheck_due:
                self._recheck_due = False
                await self.recheck()
            found = await self._runs.claim(self._node, room) if room > 0 else []
        except Exception:
            self._recheck_due = True
            raise
        return [RunJob(claimed, ToolActivity()) for claimed in found]

    async def give_back(self, job: RunJob) -> None:
        """See ``JobKind.give_back``."""
        await self._runs.release(job.claimed.id, job.claimed.epoch)

    async def _give_back_left(self) -> None:
        """Let what had to wait for the store be claimed again."""
        for id, epoch in list(self._left.items()):
            try:
                await self._runs.release(id, epoch)
            except StoreUnavailable as error:
                log.error("release failed run_id=%s: %s", id, error)
            else:
                del self._left[id]

    async def settle(self, job: RunJob) -> None:
        """See ``JobKind.settle``: texts stop where they are, and tools come to their end."""
        job.tool_activity.handing_over = True
        await job.tool_activity.wait()

    def drop(self, job: RunJob) -> None:
        """See ``JobKind.drop``."""
        self._notifier.notify(job.claimed.id)

    async def work_on(self, job: RunJob) -> None:
        """See ``JobKind.work_on``."""
        claimed, tool_activity = job.claimed, job.tool_activity
        try:
            await self._attempt(claimed, tool_activity)
            await self._after_end(claimed.id)
        except Fenced:
            log.info("claim lost run_id=%s attempt=%d", claimed.id, claimed.attempt)
            self.schedule_recheck()
        except StoreUnavailable as error:
            log.error("store unavailable run_id=%s attempt=%d: %s", claimed.id, claimed.attempt, error)
            await asyncio.sleep(POLL_S)
            self._left[claimed.id] = claimed.epoch
        except Exception:
            log.exception("attempt failed run_id=%s attempt=%d", claimed.id, claimed.attempt)
            await asyncio.sleep(POLL_S)
            # It is taken up again, which counts as an attempt. Behind the last one it waits for the next start.
            if claimed.attempt <= self._attempts_max:
                self.schedule_recheck()
        finally:
            if tool_activity.handing_over:
                with suppress(StoreUnavailable):
                    await asyncio.shield(self._runs.release(claimed.id, claimed.epoch))

    async def _attempt(self, claimed: Claimed, tool_activity: ToolActivity) -> None:
        events = await read_log(self._runs, claimed.project, claimed.id)
        if not events:
            raise Fenced(claimed.id)
        if claimed.attempt > self._attempts_max:
            error = ServerError(f"The response could not be finished in {self._attempts_max} attempts.")
            return await self._fail(claimed, error)
        try:
            run = msgspec.structs.replace(await self._prepare(claimed), tool_activity=tool_activity)
        except StoreUnavailable:
            raise
        except Exception as cause:
            return await self._fail(claimed, to_api_error(cause))
        progress = msgspec.json.decode(claimed.progress, type=Progress) if claimed.progress else Progress()
        writing = self._writing(claimed, events)
        return await resume_run(run, writing, events, progress, partial(self._fail, claimed))

    async def _fail(self, claimed: Claimed, error: ApiError) -> None:
        """End the run in failure: behind what is durable of it, not behind what was said and may be lost."""
        if error.internal or error.status >= 500:
            log.error(
                "run failed run_id=%s code=%s %s", claimed.id, error.code, error.internal, exc_info=error.__cause__
            )
        events = await read_log(self._runs, claimed.project, claimed.id)
        if not events:
            raise Fenced(claimed.id)
        await give_up(self._writing(claimed, events), events, error, claimed.project, self._clock())

    def _writing(self, claimed: Claimed, events: Sequence[Json]) -> RunLog:
        return RunLog(self._runs, self._notifier, claimed.id, claimed.epoch, len(events), self._outbox)

    async def _after_end(self, id: Id) -> None:
        await self._unlock(id)
        self._notifier.notify(id)
        try:
            await self._runs.seal(id)
        except StoreUnavailable as error:
            log.warning("seal failed run_id=%s: %s", id, error)
            self.schedule_recheck()

    async def _unlock(self, id: Id) -> None:
        lock = self._locks.pop(id, None)
        if lock is not None:
            await lock.release()

    async def stop(self, id: Id) -> None:
        """Stop doing a run that is not ours any more: its model's work ends, and its conversation is free."""
        await self._loop.stop(id)
        await self._unlock(id)
        self._notifier.notify(id)

    async def recheck(self) -> None:
        """Go by what is in the store: do not work on what is gone or cancelled, and free what it held; see to what this
        worker is said to do and does not.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        known = [id for id in {**self._locks, **self._loop.held} if id not in self._enqueueing]
        found = await self._runs.requeue_lost(self._node, [*self._loop.held, *self._left])
        there = {each.id for each in found if each.status != "cancelled"}
        for id in known:
            if id not in there:
                await self.stop(id)
        await self._tidy_up(found)

    async def _tidy_up(self, found: Collection[Unfinished]) -> None:
        """Bring what is over to its end in the store as well."""
        for each in found:
            if each.status in UNFINISHED or each.id in self._loop.held:
                continue
            try:
                if each.status == "cancelled":
                    await self._write_cancelled(each.project, each.id, each.epoch)
                else:
                    await self._runs.seal(each.id)
            except StoreUnavailable as error:
                log.warning("terminal event not stored run_id=%s: %s", each.id, error)
                self._recheck_due = True
            except Exception:
                log.exception("ending the response failed run_id=%s", each.id)

    async def write_cancelled(self, project: str, id: Id, epoch: int) -> None:
        """Stop a run that was cancelled, and write its response as its readers have seen it.

        Raises:
            StoreUnavailable: it cannot be written now, and will be later.
        """
        with self.recheck_on_error():
            await self.stop(id)
            await self._write_cancelled(project, id, epoch)

    async def _write_cancelled(self, project: str, id: Id, epoch: int) -> None:
        events = await read_log(self._runs, project, id)
        if not events:
            return
        response = cancel(events)
        record = record_of(project, response, conversation=False)
        deliveries, batch = self._outbox.deliveries(record), Batch(len(events), [])
        with suppress(Fenced):
            await self._runs.finish(id, epoch, batch, record, expiry(response, self._clock()), deliveries)
        self._outbox.wake(deliveries)
        await self._runs.seal(id)

    async def drain(self, grace_s: float) -> None:
        """Hand on what is being done: texts stop where they are, and tools have a time to come to their end."""
        await self._loop.drain(grace_s)
        await self._give_back_left()
