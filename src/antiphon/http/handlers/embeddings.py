"""The handler of ``/v1/embeddings``."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.wire.embeddings import EmbeddingRequest


async def create_embeddings(exchange: Exchange) -> None:
    """``POST /v1/embeddings``."""
    request = await exchange.read(EmbeddingRequest)
    with exchange.while_connected():
        answer = await exchange.engine.embeddings.create(request)
    await exchange.reply(answer)
