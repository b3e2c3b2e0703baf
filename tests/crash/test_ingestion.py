"""A real server dies in the middle of taking a batch of files in, again and again: each file is there once in the end,
and what is deleted while it dies is gone from the disk.
"""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import harness
import httpx2
import pytest
from openai import AsyncOpenAI

FILES, KILLS = 10, 4
BY_WORDS: Any = {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}}
COUNTS = ("in_progress", "completed", "failed", "cancelled")


def text_of(number: int) -> str:
    """A file that takes several batches of windows; its own word is in each sentence."""
    return " ".join(f"Sentence {n} of the file tells of quokka{number}x in the garden." for n in range(700))


def check_consistent(thing: Any) -> None:
    counts = thing.file_counts
    assert counts.total == sum(getattr(counts, status) for status in COUNTS) == FILES
    assert (thing.status == "in_progress") == (counts.in_progress > 0)


async def killed_while_ingesting(
    server: harness.Server, client: AsyncOpenAI, chance: random.Random
) -> tuple[Any, list[Any]]:
    """A vector store whose batch was taken in by many servers, and its files."""
    store = await client.vector_stores.create(name="docs")
    files = [
        await client.files.create(file=(f"{number}.txt", text_of(number).encode()), purpose="user_data")
        for number in range(FILES)
    ]
    batch = await client.vector_stores.file_batches.create(store.id, file_ids=[file.id for file in files])
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        server.send(harness.signal.SIGKILL)
        await server.gone()
        await server.start()
        await server.up()
        check_consistent(await client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id))
        check_consistent(await client.vector_stores.retrieve(store.id))
    assert batch.status == "in_progress", "it was killed in the middle"
    done = await client.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id)
    assert (done.status, done.file_counts.completed) == ("completed", FILES)
    return store, files


def check_once(database: Path) -> None:
    """Each chunk, its words and its vectors are there once, and nothing of what was given up."""
    with closing(sqlite3.connect(database)) as db:
        (chunks,) = db.execute("SELECT count(*) FROM chunk").fetchone()
        assert (
            chunks == db.execute("SELECT count(*) FROM (SELECT DISTINCT store_file_pk, text FROM chunk)").fetchone()[0]
        )
        (live,) = db.execute(
            "SELECT count(*) FROM chunk c JOIN store_file f ON f.pk = c.store_file_pk AND f.live = c.generation"
        ).fetchone()
        (words,) = db.execute("SELECT count(*) FROM fts_1_docsize").fetchone()
        assert chunks == live == words > FILES
        passages = db.execute("SELECT store_file_pk, first, last, digest FROM passage").fetchall()
        assert len(passages) == len(set(passages)) > FILES
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def traces(folder: Path, word: str) -> list[str]:
    """The files that hold the word, write-ahead log and blobs too."""
    return [path.name for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes().lower()]


async def dies(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with harness.upstream(0.02) as model_server:
        server = harness.Server(folder, model_server, "--embeds")
        await server.start()
        await server.up()
        client = AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=httpx2.Timeout(20, connect=5))
        try:
            store, files = await killed_while_ingesting(server, client, chance)
            for number, file in enumerate(files):
                content = await client.vector_stores.files.content(file.id, vector_store_id=store.id)
                assert "".join(part.text or "" for part in content.data) == text_of(number)
                hits = await client.vector_stores.search(
                    store.id, query=f"quokka{number}x", max_num_results=50, extra_body=BY_WORDS
                )
                assert {hit.file_id for hit in hits.data} == {file.id}
            check_once(folder / "data" / "antiphon.db")
            gone = files[0]
            await client.files.delete(gone.id)
            server.send(harness.signal.SIGKILL)
            await server.gone()
            # As a crash between the two leaves it: bytes that no file is of any more, or not yet.
            blobs = folder / "data" / "files"
            for name in (gone.id, "file-neverthere", ".file-half.unfinished"):
                (blobs / name).write_bytes(text_of(0).encode())
            await server.start()
            await server.up()
            async with asyncio.timeout(20):
                while traces(folder / "data", "quokka0x"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert traces(folder / "data", "quokka1x"), "and nothing else is"
            assert {path.name for path in blobs.iterdir()} == {file.id for file in files[1:]}
        finally:
            await client.close()
            await server.end()


@pytest.mark.timeout(180)
def test_files_are_taken_in_once_however_it_dies(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    asyncio.run(dies(tmp_path, seed))
