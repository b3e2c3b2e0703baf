"""Ingest rate, search times and recall at sizes of a store.

Vectors are random and texts are words drawn as in English (Zipf), so that nothing has to be embedded: what is measured
is the store and its index, not the embedding model. Each chunk has one vector. Recall is against a plain scan in numpy.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from antiphon.files.filters import compile_filter
from antiphon.files.search import Search
from antiphon.store.files import File
from antiphon.store.search import Query
from antiphon.store.sqlite import SqliteStore
from antiphon.store.vector_stores import ChunkRow, PassageRow, StoreFile, VectorStore

DIMENSIONS, PER_FILE, WORDS = 384, 100, 40
QUERIES = 60
SIZES = (10_000, 50_000, 200_000)
P95_MS = {50_000: 40, 200_000: 150}
"""Targets on two cores that nobody else uses."""


class Fixed:
    """An embedder with a vector for each number."""

    id = model = "random"
    dimensions = DIMENSIONS

    async def embed(self, texts: Sequence[str]) -> Any:
        return np.stack([vectors(int(text.split()[0]), 1)[0] for text in texts])

    async def close(self) -> None: ...


def vectors(seed: int, count: int) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts(seed: int, count: int) -> list[str]:
    drawn = np.random.default_rng(seed).zipf(1.3, size=(count, WORDS)) % 50_000
    return [" ".join(f"w{word}x" for word in row) for row in drawn]


async def fill(store: SqliteStore, chunks: int) -> float:
    """Fill a store; seconds."""
    await store.vector_stores.create(
        VectorStore(id="vs", project="", name="", created_at=1, last_active_at=1, embedder="random")
    )
    began = time.perf_counter()
    for number in range(chunks // PER_FILE):
        id = f"file-{number}"
        await store.files.add(File(id=id, project="", filename=id, purpose="user_data", bytes=1, created_at=1))
        entry = StoreFile(id=id, vector_store_id="vs", created_at=1, attributes={"part": number % 100})
        await store.vector_stores.add_files("", "vs", [entry], 1)
        (job,) = await store.vector_stores.claim(1, 1000, 1)
        rows = [
            ChunkRow(n, n * 1000, n * 1000 + 900, text, WORDS, None, "")
            for n, text in enumerate(texts(number, PER_FILE))
        ]
        await store.vector_stores.add_chunks(job, rows)
        halves = vectors(number, PER_FILE).astype("<f2")
        passages = [PassageRow(b"%d/%d" % (number, n), n, n, row.tobytes()) for n, row in enumerate(halves)]
        await store.vector_stores.add_passages(job, passages)
        await store.vector_stores.complete(job, 1)
    return time.perf_counter() - began


class Times(NamedTuple):
    """Milliseconds of each search: on the clock, and of the processor (all threads)."""

    wall: Any
    computing: Any

    def __str__(self) -> str:
        wall, computing = np.percentile(self.wall, (50, 95)), np.percentile(self.computing, (50, 95))
        return f"p50 {wall[0]:.1f} p95 {wall[1]:.1f} ms ({computing[0]:.1f} and {computing[1]:.1f} ms computing)"


async def timed(search: Search, store: VectorStore, **more: Any) -> Times:
    """Search for something else each time."""
    queries = [f"{10_000_000 + n} {text[: 8 * 7]}" for n, text in enumerate(texts(99_999_999, QUERIES))]
    spent: list[float] = []
    computed: list[float] = []
    for query in queries:
        began, before = time.perf_counter(), time.process_time()
        await search.find([store], [query], limit=10, **more)
        spent.append((time.perf_counter() - began) * 1000)
        computed.append((time.process_time() - before) * 1000)
    return Times(spent, computed)


async def recall(store: SqliteStore, chunks: int) -> float:
    """The share of the ten nearest of a plain scan (of float32) that the index finds."""
    matrix = np.concatenate([vectors(number, PER_FILE) for number in range(chunks // PER_FILE)])
    found = total = 0
    for n in range(20):
        query = vectors(10_000_000 + n, 1)[0]
        nearest = np.argsort(-(matrix @ query))[:10]
        candidates = await store.index.find("vs", Query(words=[], vectors={"random": query}, candidates=10))
        passages = await store.index.read([each.chunk for each in candidates])
        places = {int(p.file_id.partition("-")[2]) * PER_FILE + p.start // 1000 for p in passages.values()}
        found += len(places & {int(each) for each in nearest})
        total += 10
    return found / total


async def measure(chunks: int) -> bool:
    """Measure a store of that size and print it; whether a target there is reached."""
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder))
        try:
            seconds = await fill(store, chunks)
            kept = await store.vector_stores.get("", "vs")
            assert kept is not None
            search = Search(store.index, {"random": Fixed()})
            began = time.perf_counter()
            await search.find([kept], ["1 warm"], limit=1)
            cold = (time.perf_counter() - began) * 1000
            every = await timed(search, kept)
            filtered = await timed(search, kept, admits=compile_filter({"type": "eq", "key": "part", "value": 7}))
            exact = await recall(store, chunks)
            size = (await store.read_stats()).file_bytes / 1e6
        finally:
            await store.close()
    print(
        f"{chunks:>7} chunks: filled at {chunks / seconds:,.0f}/s, first search {cold:.0f} ms, then {every}, "
        f"1 % filter {filtered}, recall@10 {exact:.3f}, {size:,.0f} MB on disk, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    most = P95_MS.get(chunks)
    return exact == 1.0 and (most is None or float(np.percentile(every.wall, 95)) <= most)


async def measure_all(sizes: Sequence[int]) -> bool:
    """All sizes; whether all targets are reached."""
    return all([await measure(chunks) for chunks in sizes])
