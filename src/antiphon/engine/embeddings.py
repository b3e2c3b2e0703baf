"""Vectors for texts, from the same models that vector stores are searched with."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from antiphon.files.embedding import Embedder, EmbeddingUnavailable
from antiphon.files.tokens import count_tokens
from antiphon.wire.embeddings import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from antiphon.wire.errors import InvalidRequest, NotFound, Unavailable


class Embeddings:
    """Embeds what requests bring.

    Args:
        embedders: that there are.
    """

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self._embedders = {embedder.model: embedder for embedder in embedders}

    async def create(self, request: EmbeddingRequest) -> EmbeddingList:
        """A vector for each text.

        Raises:
            NotFound: there is no such model. InvalidRequest: it has no vectors of that length. Unavailable: it cannot
                be reached.
        """
        embedder = self._embedders.get(request.model)
        if embedder is None:
            there = ", ".join(repr(name) for name in self._embedders) or "none"
            text = f"The model '{request.model}' does not exist. Models that embed here: {there}."
            raise NotFound(text, code="model_not_found", param="model")
        texts = [request.input] if isinstance(request.input, str) else request.input
        try:
            rows = await embedder.embed(texts)
        except EmbeddingUnavailable as error:
            raise Unavailable(str(error)) from error
        if request.dimensions not in (None, rows.shape[1]):
            text = f"Invalid 'dimensions': this model's vectors have {rows.shape[1]}."
            raise InvalidRequest(text, code="unsupported_value", param="dimensions")
        tokens = await asyncio.to_thread(lambda: sum(map(count_tokens, texts)))
        data = [
            Embedding(index=index, embedding=_encode(row, request.encoding_format)) for index, row in enumerate(rows)
        ]
        return EmbeddingList(data=data, model=embedder.model, usage=EmbeddingUsage(tokens, tokens))


def _encode(row: Any, encoding: str) -> Sequence[float] | str:
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return row.tolist()
