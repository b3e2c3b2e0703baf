"""Embedders: the one that runs here says what is alike; the one over HTTP reads what servers answer."""

import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from antiphon.files.embedding import EmbeddingUnavailable, digest_of
from antiphon.files.embedding.minilm import MiniLm
from antiphon.files.embedding.upstream import UpstreamEmbedder
from antiphon.files.reranking import RerankUnavailable, UpstreamReranker


async def test_what_is_alike_is_near() -> None:
    embedder = MiniLm()
    texts = ["How do I water a lemon tree?", "Irrigation of citrus plants", "The parliament passed a new tax law", ""]
    rows = await embedder.embed(texts)
    assert rows.shape == (4, 384) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows[:3], axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2] + 0.2
    alone = await embedder.embed([texts[1]])
    assert float(alone[0] @ rows[1]) > 0.99, "the batch changes nothing but rounding"


def test_digests_depend_on_model_and_text() -> None:
    assert len({digest_of("a", "b"), digest_of("a", "c"), digest_of("b", "b")}) == 3
    assert digest_of("a", "b") == digest_of("a", "b")


@asynccontextmanager
async def served(*answers: Any) -> AsyncGenerator[tuple[str, list[Any]]]:
    asked: list[Any] = []
    left = list(answers)

    async def embeddings(request: web.Request) -> web.Response:
        asked.append((await request.json(), request.headers.get("authorization")))
        answer = left.pop(0) if len(left) > 1 else left[0]
        return web.json_response(answer) if isinstance(answer, dict) else web.Response(status=answer)

    app = web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/v1", asked
    finally:
        await runner.cleanup()


def answer(*rows: list[float]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)]
    return {"object": "list", "data": data[::-1], "model": "m", "usage": {}}


async def test_an_upstream_is_asked_and_tried_again() -> None:
    async with served(503, answer([3.0, 4.0], [0.0, 2.0])) as (url, asked):
        embedder = UpstreamEmbedder(url, "m", "secret")
        rows = await embedder.embed(["a", "b"])
        await embedder.close()
    assert np.allclose(rows, [[0.6, 0.8], [0.0, 1.0]])
    assert embedder.dimensions == 2
    assert asked[-1] == ({"model": "m", "input": ["a", "b"]}, "Bearer secret")


TWICE = {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}
BAD = [400, {"data": []}, {"nothing": 1}, answer([1.0, 0.0], [1.0]), answer([], []), answer([1e300], [1.0]), TWICE]


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_answer_is_reported(bad: Any) -> None:
    async with served(bad) as (url, _):
        embedder = UpstreamEmbedder(url, "m")
        with pytest.raises(EmbeddingUnavailable):
            await embedder.embed(["a", "b"])
        await embedder.close()


async def endless(request: web.Request) -> web.StreamResponse:
    """An answer that goes on and on; where it may be packed, it is."""
    wants_packed = "gzip" in request.headers.get("accept-encoding", "")
    answer = web.StreamResponse(headers={"content-encoding": "gzip"} if wants_packed else {})
    await answer.prepare(request)
    packer = zlib.compressobj(wbits=31)
    with suppress(ConnectionError):
        while True:
            piece = b"[" * (1 << 20)
            await answer.write(packer.compress(piece) if wants_packed else piece)
    return answer


async def led_elsewhere(request: web.Request) -> web.Response:
    """The key is for the server that was configured, and for no other."""
    raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/elsewhere")


@pytest.mark.parametrize("handler", [endless, led_elsewhere])
async def test_answers_are_bounded_and_stay_where_they_are_asked_for(handler: Any) -> None:
    app = web.Application()
    app.router.add_post("/v1/{name}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    embedder, reranker = UpstreamEmbedder(url, "m", "secret"), UpstreamReranker(url, "m", "secret")
    told = "long" if handler is endless else "status 307"
    with pytest.raises(EmbeddingUnavailable, match=told):
        await embedder.embed(["a"])
    with pytest.raises(RerankUnavailable, match=told):
        await reranker.rerank("a", ["b"])
    for client in (embedder, reranker):
        await client.close()
    await runner.cleanup()


async def test_nobody_there_is_reported() -> None:
    embedder = UpstreamEmbedder("http://127.0.0.1:9/v1", "m")
    with pytest.raises(EmbeddingUnavailable, match="did not answer"):
        await embedder.embed(["a"])
    await embedder.close()
