"""How good what is found is, on a labelled set: by words alone, by meaning alone, by both.

A passage that is found is right where it lies half in the passage that answers, or holds half of it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from antiphon.files.blobs import LocalBlobs
from antiphon.files.embedding import Embedder
from antiphon.files.embedding.minilm import MiniLm
from antiphon.files.ingestion import Ingestion, Progress
from antiphon.files.search import Hit, Ranking, Search
from antiphon.store.files import File
from antiphon.store.sqlite import SqliteStore
from antiphon.store.vector_stores import StoreFile, VectorStore
from bench.retrieval.labelled import Labelled, LabelledSet

LIMIT = 10
RESAMPLES = 2_000
WAYS = {
    "text": Ranking(embedding_weight=0, text_weight=1),
    "vectors": Ranking(embedding_weight=1, text_weight=0),
    "hybrid": Ranking(),
}
TARGETS = {"mrr": 0.60, "recall5": 0.72}


class Ranks(NamedTuple):
    """For each question the rank of the first right passage from 1; 0 where there is none among the first ten."""

    ranks: Any

    @property
    def reciprocal(self) -> Any:
        """For each question."""
        return np.where(self.ranks > 0, 1 / np.maximum(self.ranks, 1), 0.0)

    def within(self, most: int) -> Any:
        """For each question whether one is among the first so many."""
        return ((self.ranks > 0) & (self.ranks <= most)).astype(float)


async def take_in(store: SqliteStore, folder: Path, found: LabelledSet, embedder: Embedder) -> None:
    """Put the documents into a vector store, as the product does it."""
    await store.vector_stores.create(
        VectorStore(id="vs", project="", name="", created_at=1, last_active_at=1, embedder=embedder.id)
    )
    blobs = LocalBlobs(folder / "files")
    ingestion = Ingestion(store.vector_stores, blobs, {embedder.id: embedder})
    for number, (name, text) in enumerate(found.documents.items(), 1):
        id = f"file-{number}"
        size = await blobs.put(id, _pieces(text))
        await store.files.add(File(id=id, project="", filename=name, purpose="user_data", bytes=size, created_at=1))
        await store.vector_stores.add_files("", "vs", [StoreFile(id=id, vector_store_id="vs", created_at=1)], 1)
        (job,) = await store.vector_stores.claim(1, 1000, 1)
        await ingestion.take_in(job, Progress(), _say_nothing)
        if number % 10 == 0:
            print(f"\r{number} of {len(found.documents)} documents", end="", flush=True)
    print("\r", end="")


async def _pieces(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


async def _say_nothing() -> None: ...


async def rank(store: SqliteStore, embedder: Embedder, questions: Sequence[Labelled], ranking: Ranking) -> Ranks:
    """Ask all questions."""
    (kept,) = [await store.vector_stores.get("", "vs")]
    assert kept is not None
    search = Search(store.index, {embedder.id: embedder})
    ranks: list[int] = []
    for question in questions:
        hits = await search.find([kept], [question.query], limit=LIMIT, ranking=ranking)
        right = [place for place, hit in enumerate(hits, 1) if _is_right(hit, question)]
        ranks.append(right[0] if right else 0)
    return Ranks(np.array(ranks))


def _is_right(hit: Hit, question: Labelled) -> bool:
    passage = hit.passage
    if passage.filename != question.document:
        return False
    shared = min(passage.end, question.end) - max(passage.start, question.start)
    return 2 * shared >= min(passage.end - passage.start, question.end - question.start)


def margin(better: Any, worse: Any) -> tuple[float, float, float]:
    """The mean difference of two ways over the same questions, and the 95 % interval of it, by resampling them."""
    difference = better - worse
    drawn = np.random.default_rng(1).integers(0, len(difference), size=(RESAMPLES, len(difference)))
    low, high = np.percentile(difference[drawn].mean(axis=1), (2.5, 97.5))
    return float(difference.mean()), float(low), float(high)


def report(title: str, ranks: Mapping[str, Ranks]) -> None:
    """A table of the three ways, and by how much the hybrid is better."""
    hybrid = ranks["hybrid"]
    print(f"\n{title}: {len(hybrid.ranks)} questions")
    for way, each in ranks.items():
        recalls = " ".join(f"R@{most} {each.within(most).mean():.3f}" for most in (1, 5, 10))
        print(f"  {way:8} MRR@10 {each.reciprocal.mean():.3f}  {recalls}", end="")
        if way != "hybrid":
            by_rank = "{:+.3f} ({:+.3f} to {:+.3f})".format(*margin(hybrid.reciprocal, each.reciprocal))
            by_recall = "{:+.3f} ({:+.3f} to {:+.3f})".format(*margin(hybrid.within(5), each.within(5)))
            print(f"  hybrid is better by {by_rank} in MRR, {by_recall} in R@5", end="")
        print()


def reaches(ranks: Mapping[str, Ranks]) -> bool:
    """Whether the hybrid reaches the targets, and is clearly better than either side: the whole interval above 0."""
    hybrid = ranks["hybrid"]
    is_good = hybrid.reciprocal.mean() >= TARGETS["mrr"] and hybrid.within(5).mean() >= TARGETS["recall5"]
    others = [each for way, each in ranks.items() if way != "hybrid"]
    return is_good and all(
        margin(hybrid.reciprocal, other.reciprocal)[1] > 0 and margin(hybrid.within(5), other.within(5))[1] > 0
        for other in others
    )


async def measure(found: LabelledSet, embedder: Embedder | None = None) -> bool:
    """Measure and report; whether the targets are reached on the half for testing."""
    embedder = embedder or MiniLm(threads=1)
    chars = sum(map(len, found.documents.values()))
    print(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    with tempfile.TemporaryDirectory() as folder:
        store = await SqliteStore.open(Path(folder))
        try:
            began = time.process_time()
            await take_in(store, Path(folder), found, embedder)
            spent = time.process_time() - began
            print(f"{len(found.documents)} documents of {chars / 1e6:.2f} MB, taken in with {spent:.0f} s of computing")
            ranks = {way: await rank(store, embedder, found.questions, each) for way, each in WAYS.items()}
        finally:
            await store.close()
    print(f"load {os.getloadavg()[0]:.1f}")
    return _report_all(found.questions, ranks)


def _report_all(questions: Sequence[Labelled], ranks: Mapping[str, Ranks]) -> bool:
    def of(kinds: Sequence[str], halves: Sequence[bool]) -> dict[str, Ranks]:
        chosen = np.array([q.kind in kinds and q.is_test in halves for q in questions])
        return {way: Ranks(each.ranks[chosen]) for way, each in ranks.items()}

    for half, is_test in (("tune", False), ("test", True)):
        report(f"{half}, frequently asked questions", of(["question"], [is_test]))
        report(f"{half}, sections of manuals", of(["section"], [is_test]))
        report(f"{half}, questions in other languages", of(["language"], [is_test]))
    report("test, all in English", of(["question", "section"], [True]))
    report("all in English, both halves", of(["question", "section"], [False, True]))
    report("all", of(["question", "section", "language"], [False, True]))
    good = reaches(of(["question"], [True])) and reaches(of(["question", "section"], [True]))
    print(f"\ntargets {'reached' if good else 'MISSED'} on the half for testing, in English: {TARGETS}")
    return good
