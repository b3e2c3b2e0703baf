"""The way from the event loop to threads and back: bounded, in order, one wake-up of the loop per batch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from antiphon.store.errors import StoreUnavailable
from antiphon.store.sqlite.connection import translate_error

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], T]


class Execute(Protocol):
    """What carries work to a thread with a connection, as ``Executor.run`` does."""

    def __call__(self, work: Work[T]) -> Awaitable[T]: ...


class Job(NamedTuple):
    """Work, and whom to tell. ``alone``: it cannot be part of a transaction."""

    work: Work[Any]
    future: asyncio.Future[Any]
    alone: bool = False


class Outcome(NamedTuple):
    """What came of a job: a value, or an error."""

    future: asyncio.Future[Any]
    value: Any
    error: Exception | None = None


class Executor:
    """Carries work to threads that hold connections. Belongs to the event loop that runs when it is made.

    Args:
        pending_max: jobs under way before ``run`` holds its callers back.
        threads: each is given the executor, and takes jobs until it meets None.

    Attributes:
        pending: jobs under way now.
    """

    def __init__(self, name: str, pending_max: int, threads: Sequence[Callable[[Executor], None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(pending_max)
        self._closed = False
        self.pending = 0
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._over = asyncio.Event()
        self._working = len(threads)
        self._threads = [Thread(target=self._work, args=(body,), name=name, daemon=True) for body in threads]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Work[T], *, alone: bool = False) -> T:
        """Have a thread do the work; ``alone`` outside any transaction.

        Raises:
            StoreUnavailable: the executor is closed, or the work's own reason.
        """
        await self._slots.acquire()
        if self._closed:
            self._slots.release()
            raise StoreUnavailable("The store is closed.")
        self.pending += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self.jobs.put(Job(work, future, alone))
        return await future

    async def close(self) -> None:
        """Let the threads finish what is queued, and end. Harmless when closed already."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self.jobs.put(None)
        # Not in another thread: at the interpreter's end none is to be had.
        await self._over.wait()
        for thread in self._threads:
            thread.join()

    def _work(self, body: Callable[[Executor], None]) -> None:
        try:
            body(self)
        finally:
            # The last thing that the thread does. A closed loop has nobody who waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._working -= 1
        if not self._working:
            self._over.set()

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        """Called by a thread: tell the callers."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, outcomes)

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        for future, value, error in outcomes:
            # Freed here, not in ``run``: a caller that was cancelled leaves its job in the queue.
            self._slots.release()
            self.pending -= 1
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


def attempt(job: Job, db: sqlite3.Connection) -> Outcome:
    """Do the work; never raises."""
    try:
        return Outcome(job.future, job.work(db))
    except Exception as error:
        return Outcome(job.future, None, translate_error(error))
