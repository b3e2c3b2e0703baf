"""Vectors from any server that speaks ``POST /v1/embeddings``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from antiphon.files.embedding import EmbeddingUnavailable, Vectors, to_unit
from antiphon.net.json_client import JsonClient, Unreachable

BATCH = 64
TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 16 << 20
"""A batch of vectors of 8,192 numbers, each with all its digits, has about 11 MB."""
NUMBER_MAX = 1e15
"""The square of a larger one is near what a float32 holds at most."""
RETRIES = 2
_AGAIN = frozenset((408, 409, 429, 500, 502, 503, 504))


class _Row(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Row]


class UpstreamEmbedder:
    """See ``Embedder``.

    Args:
        url: the server's base URL, such as ``http://127.0.0.1:8000/v1``.
        key: bearer token; empty for none.
    """

    def __init__(self, url: str, model: str, key: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        # Not where it is: the same model at another address has the same vectors.
        self.id = f"upstream {model}"
        self.model = model
        self.dimensions = 0
        self._client = JsonClient(url.rstrip("/") + "/embeddings", key, timeout_s=timeout_s, bytes_max=ANSWER_BYTES_MAX)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder.embed``."""
        import numpy as np

        rows: list[list[float]] = []
        for first in range(0, len(texts), BATCH):
            rows += await self._batch(texts[first : first + BATCH])
        if not rows:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        self.dimensions = self.dimensions or len(rows[0])
        if any(len(row) != self.dimensions for row in rows):
            raise EmbeddingUnavailable(f"The model {self.model!r} answers with vectors of different lengths.")
        if np.abs(np.asarray(rows)).max() > NUMBER_MAX:
            raise EmbeddingUnavailable(f"The model {self.model!r} answers with numbers that are too large.")
        return to_unit(rows)

    async def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        status = 0
        for attempt in range(RETRIES + 1):
            status, data = await self._ask({"model": self.model, "input": list(texts)})
            if status == 200:
                return self._rows(data, len(texts))
            if status not in _AGAIN or attempt == RETRIES:
                break
            await asyncio.sleep(2.0**attempt / 2)
        raise EmbeddingUnavailable(f"The embedding server answered with status {status}.")

    async def _ask(self, body: dict[str, Any]) -> tuple[int, bytes]:
        try:
            return await self._client.post(body)
        except Unreachable as error:
            raise EmbeddingUnavailable(f"The embedding server did not answer as expected ({error}).") from error

    def _rows(self, data: bytes, count: int) -> list[list[float]]:
        try:
            rows = msgspec.json.decode(data, type=_Answer).data
        except msgspec.DecodeError as error:
            raise EmbeddingUnavailable("The embedding server's answer cannot be read.") from error
        found = {row.index: row.embedding for row in rows}
        if len(rows) != count or found.keys() != set(range(count)):
            raise EmbeddingUnavailable(f"The embedding server did not answer with a vector for each of {count} texts.")
        if not all(found.values()):
            raise EmbeddingUnavailable("The embedding server answered with a vector without numbers.")
        return [found[index] for index in range(count)]

    async def close(self) -> None:
        """See ``Embedder.close``."""
        await self._client.close()
