"""The loop that both kinds of job share: claimed as there is room, done side by side, handed on at the end.

A kind of job says how its store hands jobs out and how one is done; the queue itself is the rows that the jobs are
about, and a lease is in the row (see ``RunStore`` and ``VectorStoreStore``). Whatever happens, the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from antiphon.log import POLL_S, Notifier
from antiphon.store import StoreUnavailable

log = logging.getLogger("antiphon.background.jobs")

J = TypeVar("J")

STOPPED_S = 1.0
"""How long is waited for a job that was stopped."""


class JobKind(Protocol[J]):
    """One kind of job.

    Attributes:
        topic: what the notifier calls its queue.
    """

    @property
    def topic(self) -> str: ...

    def key(self, job: J) -> str:
        """What the job is about: there is one job of it at a time."""
        ...

    async def claim(self, room: int) -> Sequence[J]:
        """Up to so many jobs that wait, leased to this process.

        Raises:
            StoreUnavailable: the store cannot be asked now.
        """
        ...

    async def give_back(self, job: J) -> None:
        """Let somebody else claim a job that was not begun; that was no attempt."""
        ...

    async def work_on(self, job: J) -> None:
        """Do a job. When it is cancelled it is handed on. It answers for its own failures."""
        ...

    async def settle(self, job: J) -> None:
        """Until the job can be stopped without harm."""
        ...

    def drop(self, job: J) -> None:
        """The job is not held any more."""
        ...


class JobLoop(Generic[J]):
    """Claims and does the jobs of one kind. Belongs to one event loop.

    Args:
        room: how many are done at the same time.
    """

    def __init__(self, kind: JobKind[J], notifier: Notifier, room: int) -> None:
        self._kind = kind
        self._notifier = notifier
        self._room = room
        self._held: dict[str, tuple[J, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    @property
    def held(self) -> Mapping[str, tuple[J, asyncio.Task[None]]]:
        """What is being done, by its key."""
        return self._held

    async def work(self) -> None:
        """Claim and do jobs, until drained or cancelled."""
        with self._notifier.watch(self._kind.topic) as wakeup:
            while not self.draining:
                wakeup.clear()
                if not await self._try_to_claim():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await wakeup.wait()

    async def _try_to_claim(self) -> bool:
        """Claim what there is room for; says whether there may be more."""
        try:
            found = await self._kind.claim(max(0, self._room - len(self._held)))
            if self.draining:
                for job in found:
                    await self._kind.give_back(job)
                return False
        except StoreUnavailable as error:
            log.error("claim failed topic=%s: %s", self._kind.topic, error)
            return False
        except Exception:
            log.exception("claim failed topic=%s", self._kind.topic)
            return False
        for job in found:
            self._begin(job)
        return bool(found)

    def _begin(self, job: J) -> None:
        key = self._kind.key(job)
        if former := self._held.get(key):
            # It was taken from this process, and has come back before that was noticed.
            former[1].cancel()
        held = (job, self._spawn(self._kind.work_on(job)))
        self._held[key] = held
        held[1].add_done_callback(lambda _: self._drop(key, held))

    def _drop(self, key: str, held: tuple[J, asyncio.Task[None]]) -> None:
        if self._held.get(key) is held:
            del self._held[key]
        self._kind.drop(held[0])
        self._notifier.notify(self._kind.topic)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self, key: str) -> None:
        """Stop doing a job that is not ours any more."""
        if held := self._held.get(key):
            await _cancel(held[1])

    async def drain(self, grace_s: float) -> None:
        """Hand on what is being done, each when it can be stopped without harm, or after so many seconds."""
        self.draining = True
        self._notifier.notify(self._kind.topic)
        await asyncio.gather(*(self._hand_over(job, task, grace_s) for job, task in self._held.values()))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOPPED_S)

    async def _hand_over(self, job: J, task: asyncio.Task[None], grace_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._kind.settle(job)
        await _cancel(task)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=STOPPED_S)
