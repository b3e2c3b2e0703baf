"""A ``SearchIndex`` in SQLite: words by FTS5, vectors by an exact scan of a matrix in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from antiphon.store.search import Candidate, Passage, Place, Query
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.vectors import LiveFile, Snapshot, VectorCache, Vectors, scan
from antiphon.store.sqlite.words import WordIndex
from antiphon.wire import Id

_PASSAGE = """
SELECT c.pk, c.ordinal, s.id, f.file_id, file.filename, f.attributes, c.text, c.start, c.end, c.page, c.heading
FROM {first} JOIN file ON file.id = f.file_id WHERE """
_READ = (
    _PASSAGE.format(
        first="""chunk c JOIN store_file f ON f.pk = c.store_file_pk AND f.live = c.generation
JOIN vector_store s ON s.pk = f.store_pk"""
    )
    + "c.pk IN (SELECT value FROM json_each(?))"
)
_FIND_PLACE = (
    _PASSAGE.format(
        first="""vector_store s JOIN store_file f ON f.store_pk = s.pk
JOIN chunk c ON c.store_file_pk = f.pk AND c.generation = f.live"""
    )
    + "s.id = ? AND s.project = ? AND f.file_id = ? AND c.ordinal = ? AND c.start = ? AND c.end = ?"
)
SPARSE = 0.1
"""Which share of the chunks may be found, where only theirs are compared."""


class _Scope(NamedTuple):
    """What a query looks at: the store, which of its files count, and the vectors to compare with."""

    snapshot: Snapshot
    admitted: frozenset[int] | None
    vectors: Vectors | None


class _Compared(NamedTuple):
    """The cosine of each chunk, less than any for those that do not count, and the places of the best."""

    vectors: Vectors
    cosines: Any
    best: list[int]


class SqliteIndex:
    """See ``SearchIndex``."""

    def __init__(self, read: Execute, cache: VectorCache | None = None) -> None:
        self._read = read
        self._cache = cache or VectorCache()
        self._words = WordIndex()

    async def find(self, vector_store_id: Id, query: Query) -> list[Candidate]:
        """See ``SearchIndex.find``."""
        scope = await self._read(partial(_look_up, cache=self._cache, id=vector_store_id, query=query))
        if scope is None:
            return []
        # Both leave the interpreter free most of the time: side by side they take as long as the longer one.
        bm25, compared = await asyncio.gather(
            self._read(partial(_find_words, words=self._words, scope=scope, query=query)),
            asyncio.to_thread(_compare, scope, query),
        )
        return _rank(compared, bm25)

    async def read(self, chunks: Sequence[int]) -> dict[int, Passage]:
        """See ``SearchIndex.read``."""
        return await self._read(partial(_read, chunks=chunks))

    async def find_places(self, project: str, places: Sequence[Place]) -> dict[Place, Passage]:
        """See ``SearchIndex.find_places``."""
        return await self._read(partial(_find_places, project=project, places=places))


def _look_up(db: sqlite3.Connection, cache: VectorCache, id: Id, query: Query) -> _Scope | None:
    snapshot = cache.snapshot(db, id)
    if snapshot is None:
        return None
    files, admits = snapshot.files, query.admits
    admitted = None if admits is None else frozenset(pk for pk, file in files.items() if admits(file.attributes))
    vector = query.vectors.get(snapshot.embedder)
    vectors = snapshot.parts
    if vectors is None and vector is not None:
        counted: Iterable[LiveFile] = files.values() if admitted is None else (files[pk] for pk in admitted)
        vectors = scan(db, counted, vector)
    return _Scope(snapshot, admitted, vectors)


def _find_words(db: sqlite3.Connection, words: WordIndex, scope: _Scope, query: Query) -> dict[int, float]:
    files, admitted = scope.snapshot.files, scope.admitted
    share = 1.0 if admitted is None else len(admitted) / max(1, len(files))
    found = files if admitted is None else admitted
    return words.find(db, scope.snapshot.pk, query.words, found, share=share, limit=query.candidates)


def _list(values: Iterable[int]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _compare(scope: _Scope, query: Query) -> _Compared | None:
    """None where there is nothing to compare."""
    import numpy as np

    snapshot, vectors = scope.snapshot, scope.vectors
    vector = query.vectors.get(snapshot.embedder)
    if vector is None or vectors is None or not len(vectors.chunks):
        return None
    # What was scanned holds cosines in place of vectors.
    against = vector if snapshot.parts is not None else np.ones(1, dtype=np.float32)
    alike = _cosines(vectors, against, snapshot.files.keys() if scope.admitted is None else scope.admitted)
    return _Compared(vectors, alike, _top(alike, query.candidates))


def _cosines(vectors: Vectors, query: Any, files: Collection[int]) -> Any:
    """For each chunk the cosine of its best passage, and less than any for those of other files."""
    import numpy as np

    of_files = vectors.of_files(files)
    if of_files is None:
        return vectors.cosines(query)
    places = np.flatnonzero(of_files)
    if len(places) > SPARSE * len(of_files):
        return np.where(of_files, vectors.cosines(query), np.float32(-2))
    alike = np.full(len(of_files), -2, dtype=np.float32)
    alike[places] = vectors.cosines_at(places, query)
    return alike


def _rank(compared: _Compared | None, bm25: dict[int, float]) -> list[Candidate]:
    """The candidates of both sides, each with both measures where there are both."""
    if compared is None:
        return [Candidate(chunk=chunk, cosine=None, bm25=score) for chunk, score in bm25.items()]
    vectors, alike, best = compared
    cosines = {int(vectors.chunks[place]): float(alike[place]) for place in best}
    others = [chunk for chunk in bm25 if chunk not in cosines]
    for chunk, place in zip(others, vectors.places(others), strict=True):
        if place >= 0 and alike[place] > -1.5:
            cosines[chunk] = float(alike[place])
    chunks = dict.fromkeys((*cosines, *bm25))
    return [Candidate(chunk=chunk, cosine=cosines.get(chunk), bm25=bm25.get(chunk)) for chunk in chunks]


def _top(values: Any, count: int) -> list[int]:
    """Where the largest values are that count at all, the largest first."""
    import numpy as np

    best = np.argpartition(-values, count)[:count] if len(values) > count else np.arange(len(values))
    best = best[values[best] > -1.5]
    return [int(place) for place in best[np.argsort(-values[best], kind="stable")]]


def _read(db: sqlite3.Connection, chunks: Sequence[int]) -> dict[int, Passage]:
    found = (_passage(row) for row in db.execute(_READ, (_list(chunks),)))
    return {passage.chunk: passage for passage in found}


def _find_places(db: sqlite3.Connection, project: str, places: Sequence[Place]) -> dict[Place, Passage]:
    found: dict[Place, Passage] = {}
    for place in places:
        values = (place.vector_store_id, project, place.file_id, place.ordinal, place.start, place.end)
        if (row := db.execute(_FIND_PLACE, values).fetchone()) is not None:
            found[place] = _passage(row)
    return found


def _passage(row: tuple[Any, ...]) -> Passage:
    chunk, ordinal, store, file_id, filename, attributes, text, start, end, page, heading = row
    return Passage(
        chunk=chunk,
        ordinal=ordinal,
        vector_store_id=store,
        file_id=file_id,
        filename=filename,
        attributes=msgspec.json.decode(attributes),
        text=text,
        start=start,
        end=end,
        page=page,
        heading=heading,
    )
