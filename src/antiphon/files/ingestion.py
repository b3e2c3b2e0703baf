"""Taking files in: read, cut, embedded and kept, as work that outlives a crash.

Each file in progress is a row that a worker leases. What it has embedded is kept as it goes, so that whoever takes the
work up after a crash computes nothing twice, and becomes visible all at once in the transaction that completes the
file. A worker that was overtaken, or whose file was cancelled or deleted, is told at its next word, and stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec

from antiphon.files.blobs import BlobMissing, BlobStore
from antiphon.files.chunking import Chunked, Window, chunk_document
from antiphon.files.document import FileRefused
from antiphon.files.embedding import Embedder, EmbeddingUnavailable, digest_of
from antiphon.files.parsing import ParseLimits, parse_file
from antiphon.store import Store, StoreUnavailable
from antiphon.store.vector_stores import ChunkRow, IngestionJob, PassageRow
from antiphon.wire import Id

log = logging.getLogger("antiphon.files")

LEASE_S, HEARTBEAT_S = 60, 15.0
ATTEMPTS_MAX = 3
"""How often a file is tried that ends in an error of ours."""
BROKEN_OFF_MAX = 20
"""How often one is taken up whose worker died: a large file may outlast several processes, but not end all of them."""
PATIENCE_S = 3600
"""How long a file waits for an embedder that cannot be reached."""
RETRY_S = 30
EMBED_BATCH, CHUNK_BATCH = 32, 128
LOOK_S = 5.0
"""How often there is a look at the queue when nothing is heard of it."""
TIDY_S = 60.0
SWEEP_S = 600.0
"""How often blobs without reference are looked for; one that is without at two looks goes."""
SETTLE_S = 10.0
"""How long a start waits for where blobs are."""


class _Lost(Exception):
    """The file is not ours any more."""


class Ingestion:
    """The workers that take files in, and whoever tidies up behind what was deleted.

    Args:
        clock: Unix seconds.
        workers: how many files are taken in side by side.
    """

    def __init__(
        self,
        store: Store,
        blobs: BlobStore,
        embedders: Mapping[str, Embedder],
        clock: Callable[[], float],
        *,
        workers: int = 1,
        limits: ParseLimits | None = None,
    ) -> None:
        self._store = store
        self._files = store.vector_stores
        self._blobs = blobs
        self._embedders = embedders
        self._clock = clock
        self._workers = workers
        self._limits = limits or ParseLimits()
        self._new = asyncio.Event()
        self._deleted = asyncio.Event()
        self._waiting_since: dict[int, float] = {}
        self._unreferred: set[Id] = set()

    def wake(self) -> None:
        """There are files to be taken in."""
        self._new.set()

    def tidy_soon(self) -> None:
        """Something was deleted."""
        self._deleted.set()

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Files are taken in as long as this lasts. What is under way at the end is taken up at the next start."""
        await self._files.recover()
        is_ours = await self._settle()
        # A process that died may have had something to remove.
        self.tidy_soon()
        tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        tasks.append(asyncio.create_task(self._tidy()))
        if is_ours:
            tasks.append(asyncio.create_task(self._sweep()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            self._new.clear()
            try:
                now = int(self._clock())
                jobs = await self._files.claim(now, now + LEASE_S, 1)
                for job in jobs:
                    await self._take(job)
            except StoreUnavailable as error:
                log.warning("the store is not available error=%s", error)
                jobs = []
                await asyncio.sleep(1)
            if not jobs:
                await _wait(self._new, LOOK_S)

    async def _take(self, job: IngestionJob) -> None:
        """Take one file in, or say why not."""
        if job.attempts > BROKEN_OFF_MAX:
            await self._files.fail(job, "server_error", "Taking the file in broke off too often.")
            return
        try:
            await _Task(self, job).run()
            self._waiting_since.pop(job.key, None)
        except _Lost:
            return
        except asyncio.CancelledError:
            # The server stops. Its next process takes the file up, and this was no attempt.
            with suppress(StoreUnavailable):
                await self._files.release(job, 0, counts=False)
            raise
        except FileRefused as refusal:
            await self._files.fail(job, refusal.code, str(refusal))
        except EmbeddingUnavailable as error:
            await self._postpone(job, error)
        except BlobMissing:
            await self._files.fail(job, "server_error", "The file's content is not there any more.")
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("a file could not be taken in file_id=%s attempt=%d", job.file_id, job.attempts)
            if job.attempts >= ATTEMPTS_MAX:
                await self._files.fail(job, "server_error", f"The file could not be taken in ({type(error).__name__}).")
            else:
                await self._files.release(job, int(self._clock()) + 2**job.attempts)

    async def _postpone(self, job: IngestionJob, error: EmbeddingUnavailable) -> None:
        now = self._clock()
        since = self._waiting_since.setdefault(job.key, now)
        if now - since > PATIENCE_S:
            await self._files.fail(job, "server_error", str(error))
            return
        log.warning("embedder is not available, trying again file_id=%s error=%s", job.file_id, error)
        await self._files.release(job, int(now) + RETRY_S, counts=False)

    async def _settle(self) -> bool:
        """Whether blobs without reference may go; those that are there before the first request go at once."""
        try:
            async with asyncio.timeout(SETTLE_S):
                if not await self._blobs.settle():
                    log.warning("blobs are kept where others keep theirs: those without reference are left alone")
                    return False
                self._unreferred = set(await self._blobs.names())
                await self.sweep()
        except TimeoutError:
            log.warning("the place of blobs is slow to answer")
        except Exception as error:  # of whatever library reads that place
            log.warning("the place of blobs does not answer error=%s", error)
            return False
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception as error:  # of whatever library reads that place
                log.warning("blobs could not be swept error=%s", error)

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
        while await self._files.tidy():
            steps += 1
            await asyncio.sleep(0)
        return steps

    async def parse(self, job: IngestionJob) -> Chunked:
        """The file's text, cut."""
        async with self._blobs.local(job.file_id) as path:
            document = await parse_file(path, job.filename, self._limits)
        return await asyncio.to_thread(chunk_document, document, job.chunking.size, job.chunking.overlap)

    def embedder(self, id: str) -> Embedder | None:
        """The embedder of that id; None where a store is searched by words alone.

        Raises:
            EmbeddingUnavailable: it is not configured.
        """
        if not id:
            return None
        found = self._embedders.get(id)
        if found is None:
            raise EmbeddingUnavailable(f"The embedding model {id!r} of this vector store is not configured.")
        return found

    async def say(self, job: IngestionJob, stage: str, done: int, total: int) -> None:
        """Tell how far it has come.

        Raises:
            _Lost: the file is not ours any more.
        """
        until = int(self._clock()) + LEASE_S
        _keep(await self._files.progress(job, until, stage, done, total))

    async def keep(self, job: IngestionJob, chunked: Chunked) -> None:
        """Write the chunks down; they cannot be found yet."""
        rows = [
            ChunkRow(number, chunk.start, chunk.end, chunk.text, chunk.tokens, chunk.page, chunk.heading)
            for number, chunk in enumerate(chunked.chunks)
        ]
        for first in range(0, len(rows), CHUNK_BATCH):
            _keep(await self._files.add_chunks(job, rows[first : first + CHUNK_BATCH]))

    async def embed(self, job: IngestionJob, embedder: Embedder, windows: Sequence[Window]) -> int:
        """Embed some windows and write their vectors down; those that are kept anywhere are not computed again. Says
        how many bytes they take.
        """
        import numpy as np

        digests = [digest_of(embedder.id, window.text) for window in windows]
        known = await self._files.find_vectors(digests)
        missing = {digest: window.text for digest, window in zip(digests, windows, strict=True) if digest not in known}
        if missing:
            rows = (await embedder.embed(list(missing.values()))).astype(np.dtype("<f2"))
            known |= {digest: row.tobytes() for digest, row in zip(missing, rows, strict=True)}
        passages = [
            PassageRow(digest, window.first, window.last, known[digest])
            for digest, window in zip(digests, windows, strict=True)
        ]
        _keep(await self._files.add_passages(job, passages))
        return sum(len(passage.vector) for passage in passages)

    async def complete(self, job: IngestionJob, usage_bytes: int) -> None:
        """Let the file be found."""
        _keep(await self._files.complete(job, usage_bytes))


class _Progress(msgspec.Struct):
    stage: str = "parsing"
    done: int = 0
    total: int = 0


class _Task:
    """One file on its way in."""

    def __init__(self, ingestion: Ingestion, job: IngestionJob) -> None:
        self._ingestion = ingestion
        self._job = job
        self._progress = _Progress()

    async def run(self) -> None:
        """Take the file in, and keep the lease meanwhile.

        Raises:
            _Lost, FileRefused, EmbeddingUnavailable, BlobMissing, StoreUnavailable: it is not taken in.
        """
        work = asyncio.create_task(self._take())
        beat = asyncio.create_task(self._beat())
        try:
            await asyncio.wait((work, beat), return_when=asyncio.FIRST_COMPLETED)
            # The beat ends before the work only where it was refused.
            await (work if work.done() else beat)
        finally:
            for task in (work, beat):
                task.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._say()

    async def _say(self) -> None:
        progress = self._progress
        await self._ingestion.say(self._job, progress.stage, progress.done, progress.total)

    async def _take(self) -> None:
        ingestion, job = self._ingestion, self._job
        await self._say()
        embedder = ingestion.embedder(job.embedder)
        chunked = await ingestion.parse(job)
        windows = chunked.windows if embedder is not None else ()
        self._progress = _Progress("embedding" if embedder else "indexing", 0, len(windows))
        await self._say()
        await ingestion.keep(job, chunked)
        usage = sum(len(chunk.text.encode()) for chunk in chunked.chunks)
        for first in range(0, len(windows), EMBED_BATCH):
            assert embedder is not None
            usage += await ingestion.embed(job, embedder, windows[first : first + EMBED_BATCH])
            self._progress.done = min(len(windows), first + EMBED_BATCH)
            await self._say()
        await ingestion.complete(job, usage)


async def _wait(event: asyncio.Event, most_s: float) -> None:
    """Until it is set, or for so long. Unlike ``wait_for`` this never takes a cancellation for an answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await event.wait()


def _keep(is_ours: bool) -> None:
    if not is_ours:
        raise _Lost
