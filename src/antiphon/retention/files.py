"""What is removed behind files and vector stores: what expired, what deletion left, blobs that nothing refers to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from antiphon.files.blobs import BlobStore
from antiphon.retention.clock import ClockWatch
from antiphon.store import Store, StoreUnavailable
from antiphon.wire import Id

log = logging.getLogger("antiphon.files")

TIDY_S = 60.0
SWEEP_S = 600.0
"""How often blobs without reference are looked for; one that is without at two looks goes."""
SETTLE_S = 10.0
"""How long a start waits for where blobs are."""


class FileSweeper:
    """Tidies up behind files.

    Args:
        clock: Unix seconds.
        ticks: seconds that never jump.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        clock: Callable[[], float],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._files = store.vector_stores
        self._blobs = blobs
        self._clock = clock
        self._watch = ClockWatch(clock, ticks)
        self._deleted = asyncio.Event()
        self._unreferred: set[Id] = set()

    def tidy_soon(self) -> None:
        """Something was deleted."""
        self._deleted.set()

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """There is a look from time to time as long as this lasts."""
        is_ours = await self._settle()
        # A process that died may have had something to remove.
        self.tidy_soon()
        tasks = [asyncio.create_task(self._tidy())]
        if is_ours:
            tasks.append(asyncio.create_task(self._sweep()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self) -> bool:
        """Whether blobs without reference may go; those that are there before the first request go at once."""
        try:
            async with asyncio.timeout(SETTLE_S):
                if not await self._blobs.settle():
                    log.warning("blob store is shared with another data folder: unreferenced blobs are kept")
                    return False
                self._unreferred = set(await self._blobs.names())
                await self.sweep()
        except TimeoutError:
            log.warning("blob store is slow to answer")
        except Exception as error:  # of whatever library reads that place
            log.warning("blob store does not answer error=%s", error)
            return False
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception as error:  # of whatever library reads that place
                log.warning("blob sweep failed error=%s", error)

    async def sweep(self) -> int:
        """Remove blobs that no file and no upload refers to, now and at the look before: what is just being added has
        its blob first. Says how many.
        """
        unreferred = set(await self._store.files.find_unknown(await self._blobs.names()))
        gone, self._unreferred = unreferred & self._unreferred, unreferred
        for name in gone:
            await self._blobs.delete(name)
        return len(gone)

    async def _tidy(self) -> None:
        while True:
            await _wait(self._deleted, TIDY_S)
            is_asked = self._deleted.is_set()
            self._deleted.clear()
            with suppress(StoreUnavailable):
                if await self.tidy() or is_asked:
                    await self._store.retention.scrub()

    async def tidy(self) -> int:
        """Remove what expired and what deletion left behind; says in how many steps."""
        steps = await self._expire() if self._watch.is_trusted() else 0
        while await self._files.tidy():
            steps += 1
            await asyncio.sleep(0)
        return steps

    async def _expire(self) -> int:
        now = int(self._clock())
        steps = await self._files.expire(now)
        for file in await self._store.files.find_expired(now, 1000):
            if await self._store.files.delete(file.project, file.id):
                await self._blobs.delete(file.id)
                steps += 1
        for upload in await self._store.files.find_expired_uploads(now, 1000):
            parts = await self._store.files.get_parts(upload.id)
            if await self._store.files.end_upload(upload.id, "expired"):
                for part in parts:
                    await self._blobs.delete(part.id)
        return steps


async def _wait(event: asyncio.Event, most_s: float) -> None:
    """Until it is set, or for so long. Unlike ``wait_for`` this never takes a cancellation for an answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await event.wait()
