"""Search over vector stores: by words and by meaning, fused into one score between 0 and 1."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from antiphon.files.embedding import Embedder, EmbeddingUnavailable
from antiphon.files.reranking import Reranker, RerankUnavailable
from antiphon.store.search import Candidate, FileFilter, Passage, Place, Query, SearchIndex
from antiphon.store.vector_stores import VectorStore
from antiphon.wire import Id

log = logging.getLogger("antiphon.files")

BM25_HALF = 12.0
"""The BM25 score that counts as half: what makes words and cosines comparable."""
WORDS_MAX = 64
CANDIDATES = 100
RERANKED_MAX = 50
OVERLAP_MAX = 0.25
"""A chunk that shares more than that with a better one of the same file says nothing new."""

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    """a about after all also an and any are as at be because been but by can could did do does for from had has have he
    her him his how i if in into is it its just me more my no not of on one only or other our out over she should so
    some such than that the their them then there these they this to too up us was we were what when where which who
    why will with would you your""".split()  # noqa: SIM905
)


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """How hits are scored.

    Attributes:
        embedding_weight, text_weight: of meaning and of words, in any unit.
        threshold: the least score.
        reranks: whether a reranker scores the best anew, where there is one.
    """

    embedding_weight: float = 0.5
    text_weight: float = 0.5
    threshold: float = 0.0
    reranks: bool = True


class Hit(msgspec.Struct, frozen=True):
    """A passage that was found; ``score`` from 0 to 1."""

    passage: Passage
    score: float


class Search:
    """Searches vector stores.

    Args:
        embedders: by their id.
        reranker: scores the best hits anew; None for nobody.
    """

    def __init__(self, index: SearchIndex, embedders: Mapping[str, Embedder], reranker: Reranker | None = None) -> None:
        self._index = index
        self._embedders = embedders
        self._reranker = reranker

    async def find(
        self,
        stores: Sequence[VectorStore],
        queries: Sequence[str],
        *,
        limit: int,
        admits: FileFilter | None = None,
        ranking: Ranking | None = None,
    ) -> list[Hit]:
        """The best hits of all queries in all stores, the best first."""
        ranking = ranking or Ranking()
        scores: dict[int, float] = {}
        for text, vectors in zip(queries, await self._vectors(stores, queries, ranking), strict=True):
            words = _words(text) if ranking.text_weight else ()
            query = Query(words=words, vectors=vectors, admits=admits, candidates=CANDIDATES)
            for store in stores:
                for candidate in await self._index.find(store.id, query):
                    score = _score(candidate, ranking, is_hybrid=store.embedder in vectors)
                    scores[candidate.chunk] = max(scores.get(candidate.chunk, 0.0), score)
        best = sorted(
            (chunk for chunk, score in scores.items() if score > 0), key=lambda chunk: (-scores[chunk], chunk)
        )
        passages = await self._index.read(best[: 8 * limit])
        hits = _without_neighbours([Hit(passages[chunk], scores[chunk]) for chunk in best if chunk in passages])
        if self._reranker is not None and ranking.reranks:
            hits = await _rerank(self._reranker, queries, hits)
        return [hit for hit in hits if hit.score >= ranking.threshold][:limit]

    async def find_places(self, project: str, places: Sequence[Place]) -> dict[Place, Passage]:
        """See ``SearchIndex.find_places``."""
        return await self._index.find_places(project, places)

    async def _vectors(
        self, stores: Iterable[VectorStore], queries: Sequence[str], ranking: Ranking
    ) -> list[dict[Id, Any]]:
        """The vectors of each query, by embedder. One that cannot be reached leaves the search to words."""
        found: list[dict[Id, Any]] = [{} for _ in queries]
        if not ranking.embedding_weight:
            return found
        for id in {store.embedder for store in stores if store.embedder}:
            embedder = self._embedders.get(id)
            if embedder is None:
                log.warning("embedder not configured, searching by words alone embedder=%s", id)
                continue
            try:
                rows = await embedder.embed(queries)
            except EmbeddingUnavailable as error:
                log.warning("embedder unavailable, searching by words alone embedder=%s error=%s", id, error)
                continue
            for vectors, row in zip(found, rows, strict=True):
                vectors[id] = row
        return found


async def _rerank(reranker: Reranker, queries: Sequence[str], hits: Sequence[Hit]) -> Sequence[Hit]:
    """The best hits with the best score that the reranker gives them for any query; the others are left out. As they
    were, where it cannot be reached.
    """
    hits = hits[:RERANKED_MAX]
    texts = [hit.passage.text for hit in hits]
    if not texts:
        return hits
    try:
        scores = [await reranker.rerank(query, texts) for query in queries]
    except RerankUnavailable as error:
        log.warning("reranker unavailable, keeping the order of the search error=%s", error)
        return hits
    found = [Hit(hit.passage, max(row)) for hit, *row in zip(hits, *scores, strict=True)]
    return sorted(found, key=lambda hit: -hit.score)


def _words(text: str) -> Sequence[str]:
    """What to look for: words that say something; all words where none does."""
    words = list(dict.fromkeys(_WORD.findall(text.lower())))
    return [word for word in words if word not in _STOP_WORDS][:WORDS_MAX] or words[:WORDS_MAX]


def _score(candidate: Candidate, ranking: Ranking, *, is_hybrid: bool) -> float:
    words = (candidate.bm25 or 0.0) / ((candidate.bm25 or 0.0) + BM25_HALF)
    if not is_hybrid:
        return words
    meaning = max(0.0, candidate.cosine or 0.0)
    total = ranking.embedding_weight + ranking.text_weight
    return min(1.0, (ranking.embedding_weight * meaning + ranking.text_weight * words) / total)


def _without_neighbours(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without those that overlap a better one."""
    kept: list[Hit] = []
    places: dict[str, list[Passage]] = {}
    for hit in hits:
        near = places.setdefault(hit.passage.file_id, [])
        if not any(_overlap(hit.passage, other) > OVERLAP_MAX for other in near):
            near.append(hit.passage)
            kept.append(hit)
    return kept


def _overlap(one: Passage, other: Passage) -> float:
    """The share of the shorter one that both hold."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(0, shared) / max(1, min(one.end - one.start, other.end - other.start))
