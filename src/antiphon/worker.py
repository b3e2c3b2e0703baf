"""Responses in the background: claimed, done, taken up again after a crash, cancelled, handed on at the end.

The store says whose a run is; what is known here may be out of date at any moment, and is never trusted for that. A run
that cannot be done ends in failure, one that has been tried too often as well. While the store refuses to be written,
nothing is given up: runs wait for it, and are taken up again from their logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from antiphon.log import HINT_S, Hints, RunLog, past
from antiphon.run import Run, carry_on, expiry, give_up, public, record_of, so_far
from antiphon.store import Claim, DuplicateItem, Store, StoreUnavailable, UnknownConversation
from antiphon.store.runs import Batch, Claimed, Fenced, Unfinished
from antiphon.turn import Calm, Progress
from antiphon.wire import Id
from antiphon.wire.errors import ApiError, NotFound, ServerError
from antiphon.wire.items import duplicate

log = logging.getLogger("antiphon.worker")

QUEUE = "queue"
"""The topic of what waits. Response ids are topics too, and none is called so."""
STOPPED_S = 1.0
"""How long is waited for a run that was stopped, before its response is written as cancelled."""


class Held(msgspec.Struct):
    """A run that this worker does.

    Attributes:
        calm: whether no tool is at work in it, and whether it is being handed on.
    """

    claimed: Claimed
    task: asyncio.Task[None]
    calm: Calm


class Worker:
    """Does the runs of one store. Belongs to one event loop.

    Args:
        prepare: makes a run of what was claimed, ready to be carried on; raises ``ApiError`` where it cannot be done.
        node: this worker's name among all that ever worked on the store.
        running_max: how many runs are done at the same time.
        attempts_max: how often a run is taken up: one that ends the process each time shall not do so for ever.
        clock: Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        hints: Hints,
        prepare: Callable[[Claimed], Awaitable[Run]],
        *,
        node: str,
        running_max: int,
        attempts_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._hints = hints
        self._prepare = prepare
        self._node = node
        self._running_max = running_max
        self._attempts_max = attempts_max
        self._clock = clock
        self._held: dict[Id, Held] = {}
        self._locks: dict[Id, Claim] = {}
        self._left: dict[Id, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def recover(self) -> None:
        """Take up what an earlier process left: conversations are locked again, what was cancelled is written down, and
        what was running waits to be claimed. To be awaited before the first request.

        Raises:
            StoreUnavailable: the store cannot be written.
        """
        for found in await self._store.recover(self._node):
            match found.status:
                case "ended":
                    await self._store.seal(found.id)
                case "cancelled":
                    await self._write_cancelled(found.owner, found.id, found.epoch)
                case "queued" | "in_progress":
                    await self._lock(found)

    async def _lock(self, found: Unfinished) -> None:
        if found.conversation_id is not None:
            self._locks[found.id] = await self._store.claim(found.owner, found.conversation_id)

    def hold(self, id: Id, lock: Claim) -> None:
        """Keep the claim on a conversation until the response has ended."""
        self._locks[id] = lock

    async def work(self) -> None:
        """Claim and do runs, until drained or cancelled."""
        with self._hints.watch(QUEUE) as hint:
            while not self._draining:
                hint.clear()
                if not await self._tried_to_claim():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(hint.wait(), HINT_S)

    async def _tried_to_claim(self) -> bool:
        """Claim what there is room for; says whether there may be more."""
        try:
            for id, epoch in list(self._left.items()):
                await self._store.release(id, epoch)
                del self._left[id]
            room = self._running_max - len(self._held)
            found = await self._claimed(room) if room > 0 else []
        except StoreUnavailable as error:
            log.error("nothing can be claimed: %s", error)
            return False
        for claimed in found:
            self._begin(claimed)
        return bool(found)

    async def _claimed(self, room: int) -> list[Claimed]:
        found = await self._store.claim_runs(self._node, room)
        if not self._draining:
            return found
        for claimed in found:
            await self._store.release(claimed.id, claimed.epoch)
        return []

    def _begin(self, claimed: Claimed) -> None:
        calm = Calm()
        task = self._spawn(self._done(claimed, calm))
        self._held[claimed.id] = Held(claimed, task, calm)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _done(self, claimed: Claimed, calm: Calm) -> None:
        """Do one run; whatever happens, the worker goes on."""
        try:
            await self._attempted(claimed, calm)
            await self._ended(claimed.id)
        except Fenced:
            log.info("%s is somebody else's now", claimed.id)
            await self._unlock(claimed.id)
        except StoreUnavailable as error:
            log.error("%s waits for the store: %s", claimed.id, error)
            self._left[claimed.id] = claimed.epoch
        except Exception:
            # It is taken up again when the server starts, and each start counts as an attempt.
            log.exception("%s was left", claimed.id)
        finally:
            del self._held[claimed.id]
            if calm.handing_on:
                with suppress(StoreUnavailable):
                    await asyncio.shield(self._store.release(claimed.id, claimed.epoch))
            self._hints.tell(claimed.id)
            self._hints.tell(QUEUE)

    async def _attempted(self, claimed: Claimed, calm: Calm) -> None:
        events = await past(self._store, claimed.owner, claimed.id)
        if not events:
            raise Fenced(claimed.id)
        if claimed.attempt > self._attempts_max:
            error = ServerError(f"The response could not be finished in {self._attempts_max} attempts.")
            return await self._fail(claimed, error)
        progress = msgspec.json.decode(claimed.progress, type=Progress) if claimed.progress else Progress()
        try:
            run = msgspec.structs.replace(await self._prepare(claimed), calm=calm)
            writing = RunLog(self._store, self._hints, claimed.id, claimed.epoch, len(events))
            await carry_on(run, writing, events, progress)
        except (Fenced, StoreUnavailable):
            raise
        except UnknownConversation as cause:
            await self._fail(claimed, NotFound(f"Conversation with id '{cause}' not found.", param="conversation"))
        except DuplicateItem as cause:
            await self._fail(claimed, duplicate(cause.id, "input"))
        except Exception as cause:
            await self._fail(claimed, public(cause))

    async def _fail(self, claimed: Claimed, error: ApiError) -> None:
        """End the run in failure: behind what is durable of it, not behind what was said and may be lost."""
        if error.internal or error.status >= 500:
            log.error("%s failed: %s %s", claimed.id, error.code, error.internal, exc_info=error.__cause__)
        events = await past(self._store, claimed.owner, claimed.id)
        writing = RunLog(self._store, self._hints, claimed.id, claimed.epoch, len(events))
        await give_up(writing, events, error, claimed.owner, self._clock())

    async def _ended(self, id: Id) -> None:
        await self._unlock(id)
        self._hints.tell(id)
        try:
            await self._store.seal(id)
        except StoreUnavailable as error:
            log.warning("%s is not sealed yet: %s", id, error)

    async def _unlock(self, id: Id) -> None:
        lock = self._locks.pop(id, None)
        if lock is not None:
            await lock.release()

    async def stop(self, id: Id) -> None:
        """Stop doing a run that is not ours any more: its model's work ends, and its conversation is free."""
        held = self._held.get(id)
        if held is not None:
            held.task.cancel()
            await asyncio.wait([held.task], timeout=STOPPED_S)
        await self._unlock(id)
        self._hints.tell(id)

    async def recheck(self) -> None:
        """After responses were deleted without a word: free what they held.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        there = {found.id for found in await self._store.recover(self._node)}
        for id in self._locks.keys() - there:
            await self.stop(id)

    async def cancelled(self, owner: str, id: Id, epoch: int) -> None:
        """Stop a run that was cancelled, and write its response as its readers have seen it.

        Raises:
            StoreUnavailable: it cannot be written now, and will be when the server starts again.
        """
        await self.stop(id)
        await self._write_cancelled(owner, id, epoch)

    async def _write_cancelled(self, owner: str, id: Id, epoch: int) -> None:
        events = await past(self._store, owner, id)
        if not events:
            return
        response = so_far(events, "cancelled")
        record = record_of(owner, response, conversation=False)
        with suppress(Fenced):
            await self._store.finish(id, epoch, Batch(len(events), []), record, expiry(response, self._clock()))
        await self._store.seal(id)

    async def drain(self, grace_s: float) -> None:
        """Hand on what is being done: texts stop where they are, and tools have a time to come to their end."""
        self._draining = True
        self._hints.tell(QUEUE)
        await asyncio.gather(*(self._handed_on(held, grace_s) for held in self._held.values()))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOPPED_S)

    async def _handed_on(self, held: Held, grace_s: float) -> None:
        held.calm.handing_on = True
        with suppress(TimeoutError):
            await asyncio.wait_for(held.calm.wait(), grace_s)
        held.task.cancel()
        await asyncio.wait([held.task], timeout=STOPPED_S)
