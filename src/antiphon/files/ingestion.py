"""Taking a file in: read, cut, embedded and kept.

What was embedded is kept as it goes, so that whoever takes the work up after a crash computes nothing twice, and all of
it becomes visible at once, in the transaction that completes the file. Who does that when, and how often, is the
business of ``background.ingestion``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from antiphon.files.blobs import BlobStore
from antiphon.files.chunking import Chunked, Window, chunk_document
from antiphon.files.embedding import Embedder, EmbeddingUnavailable, digest_of
from antiphon.files.parsing import ParseLimits, parse_file
from antiphon.store.vector_stores import ChunkRow, IngestionJob, PassageRow, VectorStoreStore

EMBED_BATCH, CHUNK_BATCH = 32, 128


class FileLost(Exception):
    """The file is not ours any more."""


class Progress(msgspec.Struct):
    """How far a file has come."""

    stage: str = "parsing"
    done: int = 0
    total: int = 0


class Ingestion:
    """Takes files in."""

    def __init__(
        self,
        files: VectorStoreStore,
        blobs: BlobStore,
        embedders: Mapping[str, Embedder],
        limits: ParseLimits | None = None,
    ) -> None:
        self._files = files
        self._blobs = blobs
        self._embedders = embedders
        self._limits = limits or ParseLimits()

    async def take_in(self, job: IngestionJob, progress: Progress, say: Callable[[], Awaitable[None]]) -> None:
        """Take one file in.

        Args:
            say: tells of ``progress``.

        Raises:
            FileLost, FileRefused, EmbeddingUnavailable, BlobMissing, StoreUnavailable: it is not taken in.
        """
        await say()
        embedder = self._embedder(job.embedder)
        chunked = await self._parse(job)
        windows = chunked.windows if embedder is not None else ()
        progress.stage, progress.total = "embedding" if embedder else "indexing", len(windows)
        await say()
        await self._keep(job, chunked)
        usage = sum(len(chunk.text.encode()) for chunk in chunked.chunks)
        for first in range(0, len(windows), EMBED_BATCH):
            assert embedder is not None
            usage += await self._embed(job, embedder, windows[first : first + EMBED_BATCH])
            progress.done = min(len(windows), first + EMBED_BATCH)
            await say()
        _require_ours(await self._files.complete(job, usage))

    async def _parse(self, job: IngestionJob) -> Chunked:
        """The file's text, cut."""
        async with self._blobs.local(job.file_id) as path:
            document = await parse_file(path, job.filename, self._limits)
        return await asyncio.to_thread(chunk_document, document, job.chunking.size, job.chunking.overlap)

    def _embedder(self, id: str) -> Embedder | None:
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

    async def _keep(self, job: IngestionJob, chunked: Chunked) -> None:
        """Write the chunks down; they cannot be found yet."""
        rows = [
            ChunkRow(number, chunk.start, chunk.end, chunk.text, chunk.tokens, chunk.page, chunk.heading)
            for number, chunk in enumerate(chunked.chunks)
        ]
        for first in range(0, len(rows), CHUNK_BATCH):
            _require_ours(await self._files.add_chunks(job, rows[first : first + CHUNK_BATCH]))

    async def _embed(self, job: IngestionJob, embedder: Embedder, windows: Sequence[Window]) -> int:
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
        _require_ours(await self._files.add_passages(job, passages))
        return sum(len(passage.vector) for passage in passages)


def _require_ours(is_ours: bool) -> None:
    if not is_ours:
        raise FileLost
