"""A second look at what was found: a server with ``/rerank`` scores the best passages against the query.

Servers differ in little: Cohere, Jina, vLLM and llama.cpp are given ``documents`` and answer with ``results``, Text
Embeddings Inference is given ``texts`` and answers with a list. Both are understood; which one it is, is found out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from antiphon.net.json_client import JsonClient, Unreachable

TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 8 << 20
"""Some servers send the texts back with their scores."""
_WRONG_FORM = (400, 422)


class RerankUnavailable(Exception):
    """There are no scores; the text says why."""


class Reranker(Protocol):
    """Scores texts against a query."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score from 0 to 1 for each text, in their order.

        Raises:
            RerankUnavailable: there are none.
        """
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


class _Score(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None


class _Scores(msgspec.Struct):
    results: list[_Score]


class UpstreamReranker:
    """See ``Reranker``.

    Args:
        url: the server's base URL, such as ``http://127.0.0.1:8000/v1``.
        key: bearer token; empty for none.
    """

    def __init__(self, url: str, model: str, key: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self._model = model
        self._client = JsonClient(url.rstrip("/") + "/rerank", key, timeout_s=timeout_s, bytes_max=ANSWER_BYTES_MAX)
        self._member = "documents"

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """See ``Reranker.rerank``."""
        status, data = await self._ask(query, texts)
        if status in _WRONG_FORM:
            self._member = "texts" if self._member == "documents" else "documents"
            status, data = await self._ask(query, texts)
        if status != 200:
            raise RerankUnavailable(f"The rerank server answered with status {status}.")
        return _scores(data, len(texts))

    async def _ask(self, query: str, texts: Sequence[str]) -> tuple[int, bytes]:
        body: dict[str, Any] = {"model": self._model, "query": query, self._member: list(texts)}
        if self._member == "documents":
            body["top_n"] = len(texts)
        try:
            return await self._client.post(body)
        except Unreachable as error:
            raise RerankUnavailable(f"The rerank server did not answer as expected ({error}).") from error

    async def close(self) -> None:
        """See ``Reranker.close``."""
        await self._client.close()


def _scores(data: bytes, count: int) -> list[float]:
    """The scores in the order of the texts, between 0 and 1: some servers answer with logits."""
    try:
        answer: Any = msgspec.json.decode(data, type=_Scores | list[_Score])
    except msgspec.DecodeError as error:
        raise RerankUnavailable("The rerank server's answer cannot be read.") from error
    rows = answer.results if isinstance(answer, _Scores) else answer
    found = {row.index: row.score if row.relevance_score is None else row.relevance_score for row in rows}
    if found.keys() != set(range(count)) or None in found.values():
        raise RerankUnavailable(f"The rerank server did not score all of {count} texts.")
    scores = [float(found[index] or 0.0) for index in range(count)]
    if all(0 <= score <= 1 for score in scores):
        return scores
    return [1 / (1 + math.exp(-max(-60.0, min(60.0, score)))) for score in scores]
