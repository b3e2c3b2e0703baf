"""Files on their way into vector stores, as the second kind of job beside responses.

The row of a file in a vector store is its job: the lease, the attempts and how far it has come stand there, so that no
file can be in progress without one. Whoever takes it up after a crash computes nothing twice (``files.ingestion``). A
worker that was overtaken, or whose file was cancelled or deleted, is told at its next word, and stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from antiphon.background.jobs import JobLoop
from antiphon.files.blobs import BlobMissing
from antiphon.files.document import FileRefused
from antiphon.files.embedding import EmbeddingUnavailable
from antiphon.files.ingestion import FileLost, Ingestion, Progress
from antiphon.log import Notifier
from antiphon.store import StoreUnavailable
from antiphon.store.vector_stores import IngestionJob, VectorStoreStore

log = logging.getLogger("antiphon.files")

LEASE_S, HEARTBEAT_S = 60, 15.0
ATTEMPTS_MAX = 3
"""How often a file is tried that ends in an error of ours."""
BROKEN_OFF_MAX = 20
"""How often one is taken up whose worker died: a large file may outlast several processes, but not end all of them."""
PATIENCE_S = 3600
"""How long a file waits for an embedder that cannot be reached."""
RETRY_S = 30


class IngestionQueue:
    """Takes files in, one job a file: a ``JobKind``. Belongs to one event loop.

    Args:
        clock: Unix seconds.
        workers: how many files are taken in side by side.
    """

    topic = "ingestion"

    def __init__(
        self, files: VectorStoreStore, ingestion: Ingestion, clock: Callable[[], float], *, workers: int = 1
    ) -> None:
        self._files = files
        self._ingestion = ingestion
        self._clock = clock
        self._notifier = Notifier()
        self._loop = JobLoop(self, self._notifier, workers)
        self._waiting_since: dict[int, float] = {}

    def wake(self) -> None:
        """There are files to be taken in."""
        self._notifier.notify(self.topic)

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Files are taken in as long as this lasts. What is under way at the end is taken up at the next start."""
        await self._files.recover()
        working = asyncio.create_task(self._loop.work())
        try:
            yield
        finally:
            await self._loop.drain(0)
            await working

    # A kind of job

    def key(self, job: IngestionJob) -> str:
        """See ``JobKind.key``."""
        return str(job.key)

    async def claim(self, room: int) -> Sequence[IngestionJob]:
        """See ``JobKind.claim``."""
        now = int(self._clock())
        return await self._files.claim(now, now + LEASE_S, room) if room else ()

    async def give_back(self, job: IngestionJob) -> None:
        """See ``JobKind.give_back``."""
        await self._files.release(job, 0, counts=False)

    async def settle(self, job: IngestionJob) -> None:
        """See ``JobKind.settle``: what is done is kept as it goes."""

    def drop(self, job: IngestionJob) -> None:
        """See ``JobKind.drop``."""

    async def work_on(self, job: IngestionJob) -> None:
        """See ``JobKind.work_on``. Where the store cannot be told how it ended, the lease runs out."""
        try:
            await self._attempt(job)
        except FileLost:
            log.info("claim lost file_id=%s", job.file_id)
        except asyncio.CancelledError:
            # The server stops. Its next process takes the file up, and this was no attempt.
            with suppress(StoreUnavailable):
                await asyncio.shield(self.give_back(job))
            raise
        except StoreUnavailable as error:
            log.warning("store unavailable file_id=%s error=%s", job.file_id, error)

    async def _attempt(self, job: IngestionJob) -> None:
        """Take one file in, or say why not."""
        if job.attempts > BROKEN_OFF_MAX:
            await self._files.fail(job, "server_error", "Ingesting the file was interrupted too often.")
            return
        try:
            await self._take_in(job)
            self._waiting_since.pop(job.key, None)
        except FileRefused as refusal:
            await self._files.fail(job, refusal.code, str(refusal))
        except EmbeddingUnavailable as error:
            await self._postpone(job, error)
        except BlobMissing:
            await self._files.fail(job, "server_error", "The file's content no longer exists.")
        except (FileLost, StoreUnavailable):
            raise
        except Exception as error:
            log.exception("ingestion failed file_id=%s attempt=%d", job.file_id, job.attempts)
            if job.attempts >= ATTEMPTS_MAX:
                await self._files.fail(job, "server_error", f"The file could not be ingested ({type(error).__name__}).")
            else:
                await self._files.release(job, int(self._clock()) + 2**job.attempts)

    async def _postpone(self, job: IngestionJob, error: EmbeddingUnavailable) -> None:
        now = self._clock()
        since = self._waiting_since.setdefault(job.key, now)
        if now - since > PATIENCE_S:
            await self._files.fail(job, "server_error", str(error))
            return
        log.warning("embedder unavailable, retrying file_id=%s error=%s", job.file_id, error)
        await self._files.release(job, int(now) + RETRY_S, counts=False)

    async def _take_in(self, job: IngestionJob) -> None:
        """Take the file in, and keep the lease meanwhile.

        Raises:
            FileLost, FileRefused, EmbeddingUnavailable, BlobMissing, StoreUnavailable: it is not taken in.
        """
        progress = Progress()

        async def say() -> None:
            until = int(self._clock()) + LEASE_S
            if not await self._files.progress(job, until, progress.stage, progress.done, progress.total):
                raise FileLost

        async def beat() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                await say()

        work = asyncio.create_task(self._ingestion.take_in(job, progress, say))
        beating = asyncio.create_task(beat())
        try:
            await asyncio.wait((work, beating), return_when=asyncio.FIRST_COMPLETED)
            # The beat ends before the work only where it was refused.
            await (work if work.done() else beating)
        finally:
            for task in (work, beating):
                task.cancel()
            await asyncio.gather(work, beating, return_exceptions=True)
