"""Files, uploads and vector stores, by the official Python SDK over a real socket; its polling helpers judge."""

import asyncio
import hashlib
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from antiphon.config import Config
from antiphon.files.blobs import BlobStore, LocalBlobs, RemoteBlobs
from antiphon.files.embedding import Embedder
from antiphon.files.embedding.minilm import MiniLm
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Store
from antiphon.store.files import File
from antiphon.store.sqlite import SqliteStore
from antiphon.store.vector_stores import CHUNKS_READ_MAX
from antiphon.testing.serving import serving

LEMONS = b"# Lemons\n\nLemon trees want water twice a week in summer.\n\n# Frost\n\nCover them below zero degrees."
PETS = b"Travis says that his favourite food is pizza.\n"


@asynccontextmanager
async def client_of(
    *,
    store: Store | None = None,
    config: Config | None = None,
    blobs: BlobStore | None = None,
    embedders: tuple[Embedder, ...] = (),
) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(ScriptedModel("x"), store=store, config=config, blobs=blobs, embedders=embedders) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


async def uploaded(client: AsyncOpenAI, name: str, data: bytes, **more: Any) -> str:
    return (await client.files.create(file=(name, data), purpose="user_data", **more)).id


async def test_a_file_comes_and_goes() -> None:
    async with client_of() as client:
        made = await client.files.create(file=("notes/ä b.md", LEMONS), purpose="user_data")
        assert made.id.startswith("file-") and made.filename == "ä b.md" and made.bytes == len(LEMONS)
        assert (made.object, made.status, made.expires_at, made.purpose) == ("file", "processed", None, "user_data")
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == LEMONS
        assert (await client.files.wait_for_processing(made.id)).id == made.id
        deleted = await client.files.delete(made.id)
        assert deleted.deleted and deleted.object == "file"
        for gone in (client.files.retrieve(made.id), client.files.content(made.id), client.files.delete(made.id)):
            with pytest.raises(openai.NotFoundError):
                await gone


async def test_files_are_listed_in_pages() -> None:
    async with client_of() as client:
        ids = [await uploaded(client, f"{n}.txt", b"x") for n in range(5)]
        await client.files.create(file=("v.png", b"x"), purpose="vision")
        found = [file.id async for file in client.files.list(limit=2, order="asc", purpose="user_data")]
        assert found == ids
        assert len([file async for file in client.files.list()]) == 6
        with pytest.raises(openai.BadRequestError):
            await client.files.list(after="file-nope")


async def test_bad_forms_are_reported() -> None:
    async with client_of(config=Config(file_bytes_max=1000)) as client:
        with pytest.raises(openai.BadRequestError, match="nonsense"):
            await client.files.create(file=("a", b"x"), purpose="nonsense")  # type: ignore[arg-type]
        with pytest.raises(openai.APIStatusError, match="larger") as error:
            await uploaded(client, "a", b"x" * 1001)
        assert error.value.status_code == 413
        async with httpx2.AsyncClient() as plain:
            url = f"{client.base_url}files"
            answer = await plain.post(url, data={"purpose": "user_data"}, files={"other": b"x"})
            assert answer.status_code == 400 and answer.json()["error"]["param"] == "file"
            answer = await plain.post(url, json={})
            assert answer.json()["error"]["code"] == "invalid_content_type"
            broken = {"content-type": "multipart/form-data; boundary=x"}
            answer = await plain.post(url, content=b"garbage", headers=broken)
            assert answer.status_code == 400
        assert (await client.files.list()).data == []


async def test_a_file_expires() -> None:
    async with client_of() as client:
        expiry: Any = {"anchor": "created_at", "seconds": 3600}
        made = await client.files.create(file=("a", b"x"), purpose="user_data", expires_after=expiry)
        assert made.expires_at == made.created_at + 3600
        batch = await client.files.create(file=("a", b"x"), purpose="batch")
        assert batch.expires_at == batch.created_at + 30 * 86400


async def test_a_large_file_comes_in_parts() -> None:
    data = bytes(range(256)) * 1000
    async with client_of() as client:
        digest = hashlib.md5(data).hexdigest()
        upload = await client.uploads.upload_file_chunked(
            file=data, filename="big.bin", bytes=len(data), mime_type="application/octet-stream", part_size=100_000,
            purpose="user_data", md5=digest,
        )  # fmt: skip
        assert upload.status == "completed" and upload.file is not None
        assert (await client.files.content(upload.file.id)).content == data
        with pytest.raises(openai.BadRequestError, match="completed"):
            await client.uploads.cancel(upload.id)


async def test_parts_are_joined_as_the_request_says() -> None:
    async with client_of() as client:
        made = await client.uploads.create(bytes=4, filename="a.txt", mime_type="text/plain", purpose="user_data")
        one = await client.uploads.parts.create(made.id, data=b"ab")
        two = await client.uploads.parts.create(made.id, data=b"cd")
        with pytest.raises(openai.BadRequestError, match="bytes"):
            await client.uploads.complete(made.id, part_ids=[one.id])
        with pytest.raises(openai.BadRequestError, match="no part"):
            await client.uploads.complete(made.id, part_ids=["part_nope"])
        with pytest.raises(openai.BadRequestError, match="MD5"):
            await client.uploads.complete(made.id, part_ids=[one.id, two.id], md5="0" * 32)
        done = await client.uploads.complete(made.id, part_ids=[two.id, one.id])
        assert done.file is not None and (await client.files.content(done.file.id)).content == b"cdab"
        other = await client.uploads.create(bytes=4, filename="a", mime_type="", purpose="user_data")
        assert (await client.uploads.cancel(other.id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            await client.uploads.parts.create(other.id, data=b"x")


async def test_a_vector_store_lives() -> None:
    async with client_of() as client:
        made = await client.vector_stores.create(name="kb", metadata={"a": "b"})
        assert made.id.startswith("vs_") and (made.status, made.usage_bytes) == ("completed", 0)
        assert made.file_counts.total == 0 and made.expires_after is None
        changed = await client.vector_stores.update(
            made.id, name="other", expires_after={"anchor": "last_active_at", "days": 2}
        )
        assert changed.name == "other" and changed.metadata == {"a": "b"}
        assert changed.expires_at == changed.last_active_at + 2 * 86400  # type: ignore[operator]
        more = [(await client.vector_stores.create()).id for _ in range(3)]
        ids = [each.id async for each in client.vector_stores.list(limit=2, order="asc")]
        assert ids == [made.id, *more]
        made_of_nothing: Any = await client.post("/vector_stores", cast_to=object)
        more.append(made_of_nothing["id"])
        page = await client.vector_stores.list(before=more[2], order="asc", limit=2)
        assert [each.id for each in page.data] == more[:2]
        assert (await client.vector_stores.delete(made.id)).object == "vector_store.deleted"
        with pytest.raises(openai.NotFoundError, match="not found"):
            await client.vector_stores.retrieve(made.id)


async def test_files_are_taken_in_and_found_by_words() -> None:
    async with client_of() as client:
        store = await client.vector_stores.create()
        began = time.monotonic()
        file = await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("lemons.md", LEMONS))
        assert time.monotonic() - began < 10
        assert file.status == "completed" and file.usage_bytes > 0 and file.last_error is None
        assert file.chunking_strategy is not None and file.chunking_strategy.type == "static"
        found = await client.vector_stores.search(store.id, query="how much watering?")
        assert [(hit.file_id, hit.filename) for hit in found.data] == [(file.id, "lemons.md")]
        assert 0 < found.data[0].score <= 1 and "twice a week" in found.data[0].content[0].text
        assert (await client.vector_stores.search(store.id, query="submarine")).data == []
        whole = await client.vector_stores.files.content(file.id, vector_store_id=store.id)
        assert "".join(part.text or "" for part in whole.data) == LEMONS.decode()
        now = await client.vector_stores.retrieve(store.id)
        assert (now.status, now.file_counts.completed, now.usage_bytes) == ("completed", 1, file.usage_bytes)


async def test_meaning_is_found_too() -> None:
    async with client_of(embedders=(MiniLm(),)) as client:
        store = await client.vector_stores.create(file_ids=[
            await uploaded(client, "lemons.md", LEMONS), await uploaded(client, "pets.txt", PETS)
        ])  # fmt: skip
        for file in (await client.vector_stores.files.list(store.id)).data:
            await client.vector_stores.files.poll(file.id, vector_store_id=store.id)
        found = await client.vector_stores.search(store.id, query=["irrigation of citrus plants"], max_num_results=1)
        assert found.data[0].filename == "lemons.md"
        by_words = await client.vector_stores.search(
            store.id,
            query="irrigation of citrus plants",
            ranking_options={"hybrid_search": {"embedding_weight": 0, "text_weight": 1}},  # type: ignore[typeddict-unknown-key]
        )
        assert by_words.data == []
        vectors = await client.embeddings.create(model="all-minilm-l6-v2", input=["a", "b"])
        assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 384 and vectors.usage.total_tokens == 2
        with pytest.raises(openai.NotFoundError, match="all-minilm"):
            await client.embeddings.create(model="x", input="a")


async def test_attributes_filter() -> None:
    async with client_of() as client:
        store = await client.vector_stores.create()
        for year in (2023, 2024):
            await client.vector_stores.files.create_and_poll(
                await uploaded(client, f"{year}.txt", b"annual report of lemons"),
                vector_store_id=store.id,
                attributes={"year": year, "kind": "report", "final": True},
            )

        async def names(filters: Any) -> list[str]:
            found = await client.vector_stores.search(store.id, query="lemons", filters=filters)
            return sorted(hit.filename for hit in found.data)

        assert await names({"type": "eq", "key": "year", "value": 2024}) == ["2024.txt"]
        assert await names({"type": "in", "key": "year", "value": [2023, 2024]}) == ["2023.txt", "2024.txt"]
        both = {"type": "and", "filters": [{"type": "gt", "key": "year", "value": 2000},
                                           {"type": "eq", "key": "final", "value": False}]}  # fmt: skip
        assert await names(both) == []
        with pytest.raises(openai.BadRequestError) as error:
            await names({"type": "and", "filters": [{"type": "like", "key": "a", "value": 1}]})
        assert error.value.param == "filters.filters[0].type"
        page = await client.vector_stores.files.list(store.id)
        changed = await client.vector_stores.files.update(
            page.data[0].id, vector_store_id=store.id, attributes={"year": 1999}
        )
        assert changed.attributes == {"year": 1999}
        assert len(await names({"type": "lt", "key": "year", "value": 2000})) == 1


async def test_numbers_of_attributes_stay_whole_or_not() -> None:
    numbers = {"year": 2020, "large": 10**19, "negative": -3, "half": 0.5, "round": 2.0, "yes": True}
    async with client_of() as client:
        store = await client.vector_stores.create()
        body = {"file_id": await uploaded(client, "a.txt", LEMONS), "attributes": numbers}
        made: Any = await client.post(f"/vector_stores/{store.id}/files", body=body, cast_to=object)
        await client.vector_stores.files.poll(made["id"], vector_store_id=store.id)
        wanted: Any = {"query": "lemon", "filters": {"type": "gte", "key": "large", "value": 10**19}}
        page: Any = await client.post(f"/vector_stores/{store.id}/search", body=wanted, cast_to=object)
        for kept in (made["attributes"], page["data"][0]["attributes"]):
            assert kept == numbers and [type(each) for each in kept.values()] == [*map(type, numbers.values())]


async def test_batches_of_files() -> None:
    async with client_of() as client:
        store = await client.vector_stores.create()
        batch = await client.vector_stores.file_batches.upload_and_poll(
            store.id, files=[(f"{n}.txt", f"lemon number {n}".encode()) for n in range(5)] + [("x.png", b"\x89PNG\0")]
        )
        assert batch.status == "completed"
        assert (batch.file_counts.completed, batch.file_counts.failed, batch.file_counts.total) == (5, 1, 6)
        failed = await client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
        assert [(file.status, file.last_error and file.last_error.code) for file in failed.data] == [
            ("failed", "unsupported_file")
        ]
        with pytest.raises(openai.NotFoundError, match="nope"):
            await client.vector_stores.file_batches.create(store.id, file_ids=["file-nope"])
        with pytest.raises(openai.BadRequestError, match="either"):
            await client.vector_stores.file_batches.create(store.id)


async def test_a_batch_holds_two_thousand_files() -> None:
    store = await SqliteStore.in_memory()
    ids = [f"file-{number}" for number in range(2001)]
    files = [File(id=id, project="", filename="a.txt", purpose="user_data", bytes=1, created_at=1) for id in ids]
    try:
        async with client_of(store=store) as client:
            await asyncio.gather(*(store.files.add(file) for file in files))
            made = await client.vector_stores.create()
            batches = client.vector_stores.file_batches
            for many in ({"file_ids": ids}, {"files": [{"file_id": id} for id in ids]}):
                with pytest.raises(openai.BadRequestError) as caught:
                    await batches.create(made.id, **many)  # type: ignore[arg-type]
                assert (caught.value.code, caught.value.param) == ("array_above_max_length", next(iter(many)))
            assert (await client.vector_stores.retrieve(made.id)).file_counts.total == 0
            batch = await batches.create(made.id, file_ids=ids[:2000])
            later = await batches.retrieve(batch.id, vector_store_id=made.id)
            cancelled = await batches.cancel(batch.id, vector_store_id=made.id)
            for counts in (batch.file_counts, later.file_counts, cancelled.file_counts):
                parts = counts.in_progress, counts.completed, counts.failed, counts.cancelled
                assert sum(parts) == counts.total == 2000
            assert cancelled.status == "cancelled" and not cancelled.file_counts.in_progress
            page = await batches.list_files(batch.id, vector_store_id=made.id, limit=100, filter="cancelled")
            assert len(page.data) == 100 and page.has_more
    finally:
        await store.close()


async def test_a_batch_is_cancelled() -> None:
    async with client_of(embedders=(MiniLm(),)) as client:
        store = await client.vector_stores.create()
        ids = [await uploaded(client, f"{n}.txt", b"Some words about lemons. " * 2000) for n in range(8)]
        batch = await client.vector_stores.file_batches.create(store.id, file_ids=ids)
        cancelled = await client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
        assert cancelled.status == "cancelled" and cancelled.file_counts.in_progress == 0
        assert cancelled.file_counts.cancelled >= 7
        again = await client.vector_stores.files.create_and_poll(ids[7], vector_store_id=store.id)
        assert again.status == "completed", "what was cancelled can be added again"


async def test_bad_requests_are_reported() -> None:
    async with client_of() as client:
        store = await client.vector_stores.create()
        id = await uploaded(client, "a.txt", LEMONS)
        sizes: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 150}}
        with pytest.raises(openai.BadRequestError, match="half"):
            await client.vector_stores.files.create(store.id, file_id=id, chunking_strategy=sizes)
        with pytest.raises(openai.BadRequestError, match="half"):
            await client.vector_stores.create(chunking_strategy=sizes)
        with pytest.raises(openai.BadRequestError, match="file_ids"):
            await client.vector_stores.create(file_ids=[f"file-{n}" for n in range(501)])
        with pytest.raises(openai.BadRequestError) as caught:
            await client.vector_stores.list(before="vs_nope")
        assert caught.value.param == "before"
        with pytest.raises(openai.BadRequestError, match="max_num_results"):
            await client.vector_stores.search(store.id, query="x", max_num_results=51)
        with pytest.raises(openai.BadRequestError, match="query"):
            await client.vector_stores.search(store.id, query="")
        with pytest.raises(openai.BadRequestError, match="attributes"):
            await client.vector_stores.files.create(store.id, file_id=id, attributes={"a": "x" * 513})
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.files.retrieve(id, vector_store_id=store.id)
        with pytest.raises(openai.NotFoundError, match="vs_nope"):
            await client.vector_stores.search("vs_nope", query="x")
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.create(file_ids=["file-nope"])
        assert len((await client.vector_stores.list()).data) == 1


async def test_deleted_means_gone_from_the_disk(tmp_path: Path) -> None:
    secret = "zyxsecretword"
    store = await SqliteStore.open(tmp_path)
    blobs = LocalBlobs(tmp_path / "files")

    def traces() -> list[str]:
        found = (path for path in tmp_path.rglob("*") if path.is_file())
        return [path.name for path in found if secret.encode() in path.read_bytes().lower()]

    try:
        async with client_of(store=store, blobs=blobs) as client:
            made = await client.vector_stores.create()
            text = f"Some words, and {secret}, and lemons.".encode()
            file = await client.vector_stores.files.upload_and_poll(vector_store_id=made.id, file=("a.txt", text))
            await client.vector_stores.files.upload_and_poll(vector_store_id=made.id, file=("b.txt", b"More lemons."))
            assert (await client.vector_stores.search(made.id, query=secret)).data and traces()
            await client.files.delete(file.id)
            assert (await client.vector_stores.search(made.id, query=secret)).data == []
            assert (await client.vector_stores.retrieve(made.id)).file_counts.total == 1
            for _ in range(100):
                if not traces():
                    break
                await asyncio.sleep(0.1)
            assert traces() == []
            assert (await client.vector_stores.search(made.id, query="lemons")).data
    finally:
        await store.close()


async def test_a_restart_goes_on(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    blobs = LocalBlobs(tmp_path / "files")
    # No two passages alike: what was embedded once is not embedded again.
    slow = b"".join(b"The lemon number %d stands in the garden of the house. " % n for n in range(800))
    async with client_of(store=store, blobs=blobs, embedders=(MiniLm(),)) as client:
        made = await client.vector_stores.create()
        file = await client.vector_stores.files.create(made.id, file_id=await uploaded(client, "a.txt", slow))
        for _ in range(200):
            now = await client.vector_stores.files.retrieve(file.id, vector_store_id=made.id)
            progress = (now.model_extra or {}).get("x_progress") or {}
            if progress.get("done"):
                break
            await asyncio.sleep(0.05)
        assert now.status == "in_progress" and progress["stage"] == "embedding"
        assert (await client.vector_stores.search(made.id, query="lemon")).data == [], "not before it is complete"
    await store.close()
    store = await SqliteStore.open(tmp_path)
    try:
        async with client_of(store=store, blobs=blobs, embedders=(MiniLm(),)) as client:
            done = await client.vector_stores.files.poll(file.id, vector_store_id=made.id)
            assert done.status == "completed"
            chunks = await client.vector_stores.files.content(file.id, vector_store_id=made.id)
            assert "".join(part.text or "" for part in chunks.data) == slow.decode().rstrip()
    finally:
        await store.close()


async def test_other_places_for_bytes() -> None:
    async with client_of(blobs=RemoteBlobs("memory://antiphon")) as client:
        made = await client.vector_stores.create()
        file = await client.vector_stores.files.upload_and_poll(vector_store_id=made.id, file=("a.md", LEMONS))
        assert file.status == "completed"
        assert (await client.files.content(file.id)).content == LEMONS
        await client.files.delete(file.id)
        assert await RemoteBlobs("memory://antiphon").names() == []


async def test_projects_do_not_see_each_other() -> None:
    store = await SqliteStore.in_memory()
    try:
        async with client_of(store=store) as client:
            id = await uploaded(client, "a.txt", io.BytesIO(LEMONS).getvalue())
            assert await store.files.get("someone-else", id) is None
            assert await store.files.delete("someone-else", id) is False
            made = await client.vector_stores.create(file_ids=[id])
            assert await store.vector_stores.get("someone-else", made.id) is None
            assert not await store.vector_stores.delete("someone-else", made.id)
            assert await store.vector_stores.read_chunks("someone-else", made.id, id) is None
    finally:
        await store.close()


async def test_a_long_text_is_read_in_pieces_that_fit() -> None:
    words = " ".join(f"word{n}" for n in range(20_000))
    small: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    async with client_of() as client:
        made = await client.vector_stores.create()
        file = await client.vector_stores.files.upload_and_poll(
            vector_store_id=made.id, file=("a.txt", words.encode()), chunking_strategy=small
        )
        page = await client.vector_stores.files.content(file.id, vector_store_id=made.id)
        assert len(page.data) > 2 * CHUNKS_READ_MAX
        assert "".join(piece.text or "" for piece in page.data).replace(" ", "") == words.replace(" ", "")
        with pytest.raises(openai.NotFoundError):
            await client.vector_stores.files.content("file-none", vector_store_id=made.id)
