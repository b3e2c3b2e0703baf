"""The work of taking files in, and the blobs behind it, without a server."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.background.ingestion import IngestionQueue
from antiphon.files.blobs import BlobStore, LocalBlobs, RemoteBlobs
from antiphon.files.ingestion import Ingestion
from antiphon.retention.files import FileSweeper
from antiphon.store.files import File
from antiphon.store.sqlite import SqliteStore
from antiphon.store.vector_stores import StoreFile, VectorStore


class Stuck:
    """An embedder that never comes to its end."""

    id = model = "stuck"
    dimensions = 2

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Any:
        self.asked.set()
        await asyncio.Event().wait()
        return np.zeros((0, 2))

    async def close(self) -> None: ...


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def store() -> AsyncGenerator[SqliteStore]:
    opened = await SqliteStore.in_memory()
    yield opened
    await opened.close()


async def added(store: SqliteStore, blobs: BlobStore) -> None:
    await store.files.add(File(id="file-1", project="p", filename="a.txt", purpose="user_data", bytes=1, created_at=1))
    await blobs.put("file-1", pieces(b"Some words."))


async def test_a_server_that_stops_leaves_a_file_as_it_found_it(store: SqliteStore, tmp_path: Path) -> None:
    blobs, embedder = LocalBlobs(tmp_path), Stuck()
    await added(store, blobs)
    vs = VectorStore(id="vs", project="p", name="", created_at=1, last_active_at=1, embedder="stuck")
    await store.vector_stores.create(vs)
    await store.vector_stores.add_files("p", "vs", [StoreFile(id="file-1", vector_store_id="vs", created_at=1)], 1)
    ingestion = Ingestion(store.vector_stores, blobs, {"stuck": embedder})
    async with IngestionQueue(store.vector_stores, ingestion, time.time).working():
        await embedder.asked.wait()
    (job,) = await store.vector_stores.claim(1, 100, 1)
    assert job.attempts == 1, "stopping was no attempt, and nobody holds it"


async def test_blobs_without_reference_go_after_two_looks(store: SqliteStore, tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    await added(store, blobs)
    await blobs.put("file-old", pieces(b"x"))
    (tmp_path / ".file-half.unfinished").write_bytes(b"x")
    sweeper = FileSweeper(store, blobs, time.time)
    async with sweeper.working():
        assert await blobs.names() == ["file-1"] and not (tmp_path / ".file-half.unfinished").exists()
        await blobs.put("file-new", pieces(b"x"))
        assert await sweeper.sweep() == 0 and await sweeper.sweep() == 1
        assert await blobs.names() == ["file-1"]


async def test_a_place_elsewhere_belongs_to_one(store: SqliteStore, tmp_path: Path) -> None:
    ours, theirs = (RemoteBlobs(tmp_path.as_uri(), owner=owner) for owner in ("us", "them"))
    await ours.put("file-old", pieces(b"x"))
    for blobs, left in ((ours, []), (theirs, ["file-theirs"]), (RemoteBlobs(tmp_path.as_uri()), ["file-theirs"])):
        async with FileSweeper(store, blobs, time.time).working():
            assert await blobs.names() == left
        await theirs.put("file-theirs", pieces(b"x"))


async def test_a_clock_that_jumps_expires_no_file_until_it_is_believed(store: SqliteStore, tmp_path: Path) -> None:
    blobs, passed, ahead = LocalBlobs(tmp_path), 0.0, 0.0
    told = {"project": "p", "filename": "a", "purpose": "user_data", "bytes": 1, "created_at": 0}
    await store.files.add(File(id="file-2", expires_at=100_000, **told))  # type: ignore[arg-type]
    await blobs.put("file-2", pieces(b"x"))
    sweeper = FileSweeper(store, blobs, lambda: passed + ahead, lambda: passed)
    ahead = 400 * 86_400.0
    await sweeper.tidy()
    assert await blobs.names() == ["file-2"]
    passed = 86_401.0
    await sweeper.tidy()
    assert await blobs.names() == []
