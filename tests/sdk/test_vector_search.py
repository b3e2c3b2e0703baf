"""What a search may be asked for besides: rewritten queries, a reranker, and another embedding model."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from antiphon.files.blobs import LocalBlobs
from antiphon.files.reranking import RerankUnavailable, UpstreamReranker
from antiphon.models import Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.wire.errors import Unavailable

TEXTS = {"lemons.txt": b"Lemon trees want water twice a week.", "pets.txt": b"Cats want water every day."}


class Letters:
    """An embedder whose vectors follow from how often the letters occur."""

    def __init__(self, id: str) -> None:
        self.id = self.model = id
        self.dimensions = len(id)

    async def embed(self, texts: Sequence[str]) -> Any:
        rows = np.array([[1 + text.lower().count(letter) for letter in self.id] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    async def close(self) -> None: ...


@asynccontextmanager
async def client_of(model: ScriptedModel | None = None, **more: Any) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model or ScriptedModel("x"), **more) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


async def filled(client: AsyncOpenAI) -> str:
    store = await client.vector_stores.create(name="docs")
    for name, data in TEXTS.items():
        await client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, data))
    return store.id


async def test_a_query_is_rewritten_by_a_model() -> None:
    question = "Hello! Could you kindly tell me about the yellow fruit trees, please?"
    unavailable = Unavailable("gone")
    model = ScriptedModel([Text('"lemon'), Text(' trees"\nIs that well?'), Finish()], "cats", [unavailable], " \n ")
    async with client_of(model) as client:
        store = await filled(client)
        page = await client.vector_stores.search(store, query=question, rewrite_query=True)
        assert page.model_extra is not None and page.model_extra["search_query"] == ["lemon trees"]
        assert [hit.filename for hit in page.data] == ["lemons.txt"]
        assert model.prompts[0].items[0]["content"][0]["text"] == question
        page = await client.vector_stores.search(store, query=["About pets?"], rewrite_query=True)
        assert [hit.filename for hit in page.data] == ["pets.txt"]
        for _ in range(2):
            page = await client.vector_stores.search(store, query="water", rewrite_query=True)
            assert (
                page.model_extra is not None and page.model_extra["search_query"] == ["water"] and len(page.data) == 2
            )
        page = await client.vector_stores.search(store, query=question)
        assert page.model_extra is not None and page.model_extra["search_query"] == [question]
        assert len(model.prompts) == 4, "nobody is asked who was not to be"


@asynccontextmanager
async def rerank_server(member: str) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that wants ``member``, and likes texts that speak of cats."""
    asked: list[Any] = []

    async def rerank(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        if member not in body:
            return web.json_response({"error": "unprocessable"}, status=422)
        likes = [(index, 7.5 if "Cats" in text else -3.0) for index, text in enumerate(body[member])]
        likes.sort(key=lambda each: -each[1])
        if member == "texts":
            return web.json_response([{"index": index, "score": 1 / (1 + np.exp(-like))} for index, like in likes])
        return web.json_response({"results": [{"index": index, "relevance_score": like} for index, like in likes]})

    app = web.Application()
    app.router.add_post("/v1/rerank", rerank)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("member", ["documents", "texts"])
async def test_a_reranker_has_the_last_word(member: str) -> None:
    async with rerank_server(member) as (url, asked):
        reranker = UpstreamReranker(url, "judge")
        async with client_of(reranker=reranker) as client:
            store = await filled(client)
            query: Any = {"query": "lemon water"}
            assert (await client.vector_stores.search(store, **query, ranking_options={"ranker": "none"})).data[
                0
            ].filename == "lemons.txt" and asked == []
            hits = (await client.vector_stores.search(store, **query)).data
            assert [hit.filename for hit in hits] == ["pets.txt", "lemons.txt"]
            assert [round(hit.score, 2) for hit in hits] == [1.0, 0.05]
            assert asked[-1]["model"] == "judge" and asked[-1]["query"] == "lemon water"
            few = await client.vector_stores.search(store, **query, ranking_options={"score_threshold": 0.5})
            assert len(few.data) == 1
        await reranker.close()
    with pytest.raises(RerankUnavailable):
        await reranker.rerank("x", ["y"])
    async with client_of(reranker=reranker) as client:
        store = await filled(client)
        hits = (await client.vector_stores.search(store, query="lemon water")).data
        assert hits[0].filename == "lemons.txt", "the search's own order, where there is no server"
    await reranker.close()


async def test_a_store_keeps_its_model_until_it_is_indexed_anew(tmp_path: Path) -> None:
    kept, blobs = await SqliteStore.in_memory(), LocalBlobs(tmp_path)
    meaning: Any = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    try:
        async with client_of(store=kept, blobs=blobs, embedders=(Letters("lem"),)) as client:
            id = await filled(client)
            assert (await client.vector_stores.search(id, query="lemmmm", ranking_options=meaning)).data
        async with client_of(store=kept, blobs=blobs, embedders=(Letters("catsd"),)) as client:
            assert (await client.vector_stores.search(id, query="lemmmm", ranking_options=meaning)).data == []
            assert len((await client.vector_stores.search(id, query="water")).data) == 2, "by words alone"
            made: Any = await client.post(f"/vector_stores/{id}/reindex", cast_to=object)
            assert made["status"] == "in_progress" and made["file_counts"]["in_progress"] == 2
            assert len((await client.vector_stores.search(id, query="water")).data) == 2, "all the time"
            for file in (await client.vector_stores.files.list(id)).data:
                assert (await client.vector_stores.files.poll(file.id, vector_store_id=id)).status == "completed"
            hits = (await client.vector_stores.search(id, query="cats", ranking_options=meaning)).data
            assert hits[0].filename == "pets.txt" and len(hits) == 2
    finally:
        await kept.close()
