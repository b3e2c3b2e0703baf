"""What every search index must do, and the work of filling it, on each store that there is."""

import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.files.filters import FilterInvalid, compile_filter
from antiphon.files.search import Ranking, Search
from antiphon.store import Store
from antiphon.store.files import File
from antiphon.store.search import Query
from antiphon.store.sqlite import SqliteStore, words
from antiphon.store.sqlite.vectors import VectorCache, Vectors
from antiphon.store.vector_stores import ChunkRow, PassageRow, StoreFile, VectorStore

PROJECT = "o"
DIMENSIONS = 16


@pytest.fixture(params=["memory", "sqlite", "scanned"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    opened = await (SqliteStore.in_memory() if request.param == "memory" else SqliteStore.open(tmp_path))
    if request.param == "scanned":
        opened.index._cache = VectorCache(bytes_max=0)  # pyright: ignore[reportPrivateUsage]
    yield opened
    await opened.close()


def vector(seed: int) -> Any:
    row = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return row / np.linalg.norm(row)


async def made(store: Store, id: str = "vs_1", embedder: str = "e") -> VectorStore:
    new = VectorStore(id=id, project=PROJECT, name="", created_at=1, last_active_at=1, embedder=embedder)
    await store.vector_stores.create(new)
    return new


async def added(
    store: Store, number: int, *texts: str, vs: str = "vs_1", complete: bool = True, **attributes: Any
) -> None:
    """A file with a chunk for each text, whose vectors depend on file and chunk."""
    id = f"file-{number}"
    if await store.files.get(PROJECT, id) is None:
        file = File(id=id, project=PROJECT, filename=f"{number}.txt", purpose="user_data", bytes=1, created_at=1)
        await store.files.add(file)
    entry = StoreFile(id=id, vector_store_id=vs, created_at=1, attributes=attributes)
    await store.vector_stores.add_files(PROJECT, vs, [entry], 1)
    (job,) = await store.vector_stores.claim(1, 100, 1)
    rows = [ChunkRow(n, 100 * n, 100 * n + 90, text, 1, n + 1, "") for n, text in enumerate(texts)]
    assert await store.vector_stores.add_chunks(job, rows)
    passages = [
        PassageRow(bytes([number, n]), n, n, vector(number * 100 + n).astype("<f2").tobytes())
        for n in range(len(texts))
    ]
    assert await store.vector_stores.add_passages(job, passages)
    if complete:
        assert await store.vector_stores.complete(job, 10)


async def found(store: Store, query: Query, vs: str = "vs_1") -> list[str]:
    candidates = await store.index.find(vs, query)
    passages = await store.index.read([each.chunk for each in candidates])
    return [passages[each.chunk].text for each in candidates]


async def test_words_are_found_by_their_stems(store: SqliteStore) -> None:
    await made(store)
    await added(store, 1, "Lemons are yellow", "Cats sleep")
    await added(store, 2, "A yellow submarine")
    assert set(await found(store, Query(words=["lemon"]))) == {"Lemons are yellow"}
    assert set(await found(store, Query(words=["yellow", "sleeping"]))) == {
        "Lemons are yellow",
        "Cats sleep",
        "A yellow submarine",
    }
    assert await found(store, Query(words=['say "NEAR(', "*", "AND"])) == [], "words are words, whatever they hold"


async def test_vectors_are_scanned_exactly(store: SqliteStore) -> None:
    await made(store)
    for number in range(20):
        await added(store, number, *(f"{number}/{n}" for n in range(10)))
    query = vector(1234)
    exact = sorted(
        ((float(vector(f * 100 + n) @ query), f"{f}/{n}") for f in range(20) for n in range(10)), reverse=True
    )
    best = await store.index.find("vs_1", Query(words=[], vectors={"e": query}, candidates=10))
    texts = await store.index.read([each.chunk for each in best])
    assert [texts[each.chunk].text for each in best] == [text for _, text in exact[:10]]
    assert [each.cosine for each in best] == pytest.approx([score for score, _ in exact[:10]], abs=2e-3)


async def test_a_chunk_scores_by_its_best_window(store: SqliteStore) -> None:
    await made(store)
    await added(store, 1, "one", "two", "three", complete=False)
    (row,) = [row async for row in _jobs(store)]
    extra = PassageRow(b"x", 1, 2, vector(777).astype("<f2").tobytes())
    assert await store.vector_stores.add_passages(row, [extra])
    assert await store.vector_stores.complete(row, 1)
    best = await store.index.find("vs_1", Query(words=[], vectors={"e": vector(777)}, candidates=2))
    passages = await store.index.read([each.chunk for each in best])
    assert {passages[each.chunk].text for each in best} == {"two", "three"}


async def _jobs(store: Store) -> AsyncGenerator[Any]:
    await store.vector_stores.recover()
    for job in await store.vector_stores.claim(200, 300, 9):
        yield job


async def test_common_words_only_order_what_rare_ones_find(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many rows would have to be scored."""
    monkeypatch.setattr(words, "SCORED_MAX", 10)
    await made(store)
    await added(store, 1, "a rare grey bird", "a rare common bird", "that rare common bird")
    await added(store, 2, *(f"common number {n}" for n in range(30)))
    await added(store, 3, *(f"nothing of that sort, number {n}" for n in range(60)))
    query = Query(words=["common", "number", "rare", "absent"])
    rare = {"a rare grey bird", "a rare common bird", "that rare common bird"}
    best = await found(store, query)
    assert set(best[:3]) == rare and best[2] == "a rare grey bird", "common words count too"
    assert len(best) == 33, "three are too few"
    monkeypatch.setattr(words, "ENOUGH", 3)
    best = await found(store, query)
    assert set(best) == rare and best[2] == "a rare grey bird"
    assert len(await found(store, Query(words=["common", "absent"]))) == 32, "where there are no others"
    assert len(await found(store, Query(words=["number"]))) == 90, "even where they are in most rows"
    assert await store.vector_stores.remove_file(PROJECT, "vs_1", "file-1")
    assert len(await found(store, query)) == 30, "what is gone does not count"


async def test_filters_come_before_the_search(store: SqliteStore) -> None:
    await made(store)
    for number in range(30):
        await added(store, number, "common words", year=2000 + number)
    rare = compile_filter({"type": "eq", "key": "year", "value": 2007})
    query = Query(words=["common"], vectors={"e": vector(1)}, admits=rare, candidates=3)
    candidates = await store.index.find("vs_1", query)
    passages = await store.index.read([each.chunk for each in candidates])
    assert [passages[each.chunk].attributes for each in candidates] == [{"year": 2007}]
    nothing = compile_filter({"type": "gt", "key": "year", "value": 3000})
    assert await store.index.find("vs_1", Query(words=["common"], vectors={"e": vector(1)}, admits=nothing)) == []


async def test_what_is_not_complete_is_not_found_and_what_was_stays_until_then(store: SqliteStore) -> None:
    await made(store)
    await added(store, 1, "old lemon", size=1)
    entry = StoreFile(id="file-1", vector_store_id="vs_1", created_at=1)
    from antiphon.store.vector_stores import Chunking

    changed = StoreFile(id="file-1", vector_store_id="vs_1", created_at=1, chunking=Chunking(200, 0, False))
    await store.vector_stores.add_files(PROJECT, "vs_1", [entry], 1)
    assert await store.vector_stores.claim(1, 100, 1) == [], "the same again is nothing to do"
    await store.vector_stores.add_files(PROJECT, "vs_1", [changed], 1)
    (job,) = await store.vector_stores.claim(1, 100, 1)
    assert job.generation == 2
    assert await store.vector_stores.add_chunks(job, [ChunkRow(0, 0, 9, "new lemon", 1, None, "")])
    passage = PassageRow(b"n", 0, 0, vector(5).astype("<f2").tobytes())
    assert await store.vector_stores.add_passages(job, [passage])
    query = Query(words=["lemon"], vectors={"e": vector(5)})
    assert await found(store, query) == ["old lemon"]
    assert await store.vector_stores.complete(job, 1)
    assert await found(store, query) == ["new lemon"]


async def test_deleted_is_gone_at_once(store: SqliteStore) -> None:
    await made(store)
    await made(store, "vs_2")
    await added(store, 1, "first lemon")
    await added(store, 2, "second lemon")
    await added(store, 2, "second lemon", vs="vs_2")
    query = Query(words=["lemon"], vectors={"e": vector(3)})
    assert len(await found(store, query)) == 2
    assert await store.files.delete(PROJECT, "file-2")
    assert await found(store, query) == ["first lemon"] and await found(store, query, "vs_2") == []
    assert await store.vector_stores.remove_file(PROJECT, "vs_1", "file-1")
    assert await found(store, query) == []
    assert await store.vector_stores.delete(PROJECT, "vs_1")
    assert await store.index.find("vs_1", query) == []
    assert await store.files.get(PROJECT, "file-1") is not None


async def test_a_worker_that_was_overtaken_writes_nothing(store: SqliteStore) -> None:
    await made(store)
    file = File(id="file-1", project=PROJECT, filename="1.txt", purpose="user_data", bytes=1, created_at=1)
    await store.files.add(file)
    await store.vector_stores.add_files(
        PROJECT, "vs_1", [StoreFile(id="file-1", vector_store_id="vs_1", created_at=1)], 1
    )
    (late,) = await store.vector_stores.claim(1, 100, 1)
    assert await store.vector_stores.claim(50, 150, 1) == [], "leased"
    (job,) = await store.vector_stores.claim(101, 200, 1)
    row = ChunkRow(0, 0, 5, "lemon", 1, None, "")
    assert not await store.vector_stores.add_chunks(late, [row])
    assert not await store.vector_stores.progress(late, 300, "embedding", 1, 2)
    assert not await store.vector_stores.complete(late, 1)
    assert await store.vector_stores.add_chunks(job, [row]) and await store.vector_stores.add_chunks(job, [row])
    assert await store.vector_stores.complete(job, 1)
    assert await found(store, Query(words=["lemon"])) == ["lemon"], "no chunk twice"


class Fixed:
    """An embedder with the vectors of numbers."""

    id = model = "e"
    dimensions = DIMENSIONS

    async def embed(self, texts: Any) -> Any:
        return np.stack([vector(int(text.split()[0])) for text in texts])

    async def close(self) -> None: ...


async def test_words_and_meaning_are_fused(store: SqliteStore) -> None:
    one, two = await made(store), await made(store, "vs_2", embedder="")
    await added(store, 1, "lemon", "cat")
    await added(store, 2, "lemon cake and lemon juice", "dog", vs="vs_2")
    search = Search(store.index, {"e": Fixed()})
    hits = await search.find([one], ["101 lemon"], limit=10)
    assert [hit.passage.text for hit in hits] == ["cat", "lemon"], "file 1, chunk 1 is what 101 means"
    assert 0.45 < hits[0].score <= 0.51
    by_words = await search.find([one], ["101 lemon"], limit=10, ranking=Ranking(embedding_weight=0))
    assert [hit.passage.text for hit in by_words] == ["lemon"]
    both = await search.find([one, two], ["101 lemon", "102 dog"], limit=10)
    assert {hit.passage.text for hit in both} >= {"lemon", "cat", "dog", "lemon cake and lemon juice"}
    assert len(await search.find([one], ["101 lemon"], limit=1)) == 1
    assert await search.find([one], ["101 lemon"], limit=9, ranking=Ranking(threshold=0.9)) == []


@pytest.mark.parametrize(
    ("raw", "fits"),
    [
        ({"type": "eq", "key": "a", "value": 1}, [1, 1.0]),
        ({"type": "ne", "key": "a", "value": 1}, ["1", True, None, 2]),
        ({"type": "gte", "key": "a", "value": 1}, [1, 1.0, 2]),
        ({"type": "lt", "key": "a", "value": "b"}, ["1"]),
        ({"type": "in", "key": "a", "value": ["1", 2]}, ["1", 2]),
        ({"type": "nin", "key": "a", "value": ["1", 2]}, [1, 1.0, True, None]),
        ({"type": "eq", "key": "a", "value": True}, [True]),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 2}, {"type": "eq", "key": "a", "value": "1"}]},
         ["1", 2]),
        ({"type": "and", "filters": [{"type": "gt", "key": "a", "value": 1}, {"type": "lt", "key": "a", "value": 3}]},
         [2]),
    ],
)  # fmt: skip
def test_filters_hold_types_apart(raw: Any, fits: list[Any]) -> None:
    admits = compile_filter(raw)
    values: list[Any] = ["1", 1, 1.0, 2, True, None]
    found = [value for value in values if admits({} if value is None else {"a": value})]
    assert sorted(map(repr, found)) == sorted(map(repr, fits))


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ([], ""),
        ({"type": "like"}, "type"),
        ({"type": "eq", "key": 1, "value": 1}, "key"),
        ({"type": "eq", "key": "a", "value": [1]}, "value"),
        ({"type": "gt", "key": "a", "value": True}, "value"),
        ({"type": "in", "key": "a", "value": []}, "value"),
        ({"type": "and", "filters": []}, "filters"),
        ({"type": "and", "filters": [{"type": "eq"}]}, "filters[0].key"),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}] * 65}, "filters[63]"),
    ],
)
def test_bad_filters_say_where(raw: Any, path: str) -> None:
    with pytest.raises(FilterInvalid) as fault:
        compile_filter(raw)
    assert fault.value.path == path


def test_a_search_computes_in_its_own_thread() -> None:
    """Threads of the linear algebra library would spin behind each product, and take a core from who answers."""
    vectors = Vectors()
    vectors.matrix = np.random.default_rng(1).normal(size=(20_000, 384)).astype(np.float32)
    vectors.chunks = vectors.low = np.arange(20_000)
    vectors.high = vectors.low + 1
    query = np.ascontiguousarray(vectors.matrix[7])
    began, ours = time.process_time(), time.thread_time()
    for _ in range(10):
        assert int(np.argmax(vectors.cosines(query))) == 7
    ours = time.thread_time() - ours
    assert time.process_time() - began < 1.5 * ours
