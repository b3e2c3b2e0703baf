"""A ``SearchIndex`` in SQLite: words by FTS5, vectors by an exact scan of a matrix in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from antiphon.store.search import Candidate, Passage, Query
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.vectors import LiveFile, Snapshot, VectorCache, Vectors, scan
from antiphon.wire import Id

_MATCH = "SELECT rowid, -bm25(fts_{pk:d}) FROM fts_{pk:d} WHERE fts_{pk:d} MATCH ? {among} ORDER BY rank LIMIT ?"
# The plus keeps SQLite from asking the full text once for each of these rows.
_AMONG = """AND +rowid IN (
  SELECT c.pk FROM store_file f JOIN chunk c ON c.store_file_pk = f.pk AND c.generation = f.live
  WHERE f.pk IN (SELECT value FROM json_each(?)))"""

_OWNERS = """
SELECT c.pk, f.pk FROM chunk c JOIN store_file f ON f.pk = c.store_file_pk AND f.live = c.generation
WHERE c.pk IN (SELECT value FROM json_each(?))"""

_READ = """
SELECT c.pk, s.id, f.file_id, file.filename, f.attributes, c.text, c.start, c.end, c.page, c.heading
FROM chunk c JOIN store_file f ON f.pk = c.store_file_pk AND f.live = c.generation
JOIN vector_store s ON s.pk = f.store_pk JOIN file ON file.id = f.file_id
WHERE c.pk IN (SELECT value FROM json_each(?))"""
_SPARE = 2
"""How many times more are fetched at first than are needed, since some may be of files that do not count."""


class _Found(NamedTuple):
    """What the database says to a query: the store, which of its files count, and what its words found."""

    snapshot: Snapshot
    admitted: frozenset[int] | None
    bm25: dict[int, float]
    vectors: Vectors | None


class SqliteIndex:
    """See ``SearchIndex``."""

    def __init__(self, read: Execute, cache: VectorCache | None = None) -> None:
        self._read = read
        self._cache = cache or VectorCache()

    async def find(self, vector_store_id: Id, query: Query) -> list[Candidate]:
        """See ``SearchIndex.find``."""
        found = await self._read(partial(_find, cache=self._cache, id=vector_store_id, query=query))
        if found is None:
            return []
        return await asyncio.to_thread(_rank, found, query)

    async def read(self, chunks: Sequence[int]) -> dict[int, Passage]:
        """See ``SearchIndex.read``."""
        return await self._read(partial(_read, chunks=chunks))


def _find(db: sqlite3.Connection, cache: VectorCache, id: Id, query: Query) -> _Found | None:
    snapshot = cache.snapshot(db, id)
    if snapshot is None:
        return None
    admits = query.admits
    files = snapshot.files
    admitted = None if admits is None else frozenset(pk for pk, file in files.items() if admits(file.attributes))
    bm25 = _match(db, snapshot.pk, query, files if admitted is None else admitted, is_all=admitted is None)
    vector = query.vectors.get(snapshot.embedder)
    vectors = snapshot.parts
    if vectors is None and vector is not None:
        counted: Iterable[LiveFile] = files.values() if admitted is None else (files[pk] for pk in admitted)
        vectors = scan(db, counted, vector)
    return _Found(snapshot, admitted, bm25, vectors)


def _match(db: sqlite3.Connection, pk: int, query: Query, files: Iterable[int], *, is_all: bool) -> dict[int, float]:
    """The best chunks by their words."""
    if not query.words:
        return {}
    match = " OR ".join('"' + word.replace('"', '""') + '"' for word in query.words)
    if is_all:
        # Nearly all rows are of files that can be found: to look at each would cost more than the search.
        limit = query.candidates * _SPARE
        rows = db.execute(_MATCH.format(pk=pk, among=""), (match, limit)).fetchall()
        counted = {chunk for chunk, _ in db.execute(_OWNERS, (_list(chunk for chunk, _ in rows),))}
        live = {chunk: score for chunk, score in rows if chunk in counted}
        if len(live) >= query.candidates or len(rows) < limit:
            return dict(list(live.items())[: query.candidates])
    among = _MATCH.format(pk=pk, among=_AMONG)
    return dict(db.execute(among, (match, _list(files), query.candidates)).fetchall())


def _list(values: Iterable[int]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _rank(found: _Found, query: Query) -> list[Candidate]:
    """The candidates of both sides, each with both measures where there are both."""
    import numpy as np

    snapshot, vectors = found.snapshot, found.vectors
    vector = query.vectors.get(snapshot.embedder)
    if vector is None or vectors is None or not len(vectors.chunks):
        return [Candidate(chunk=chunk, cosine=None, bm25=score) for chunk, score in found.bm25.items()]
    # What was scanned holds cosines in place of vectors.
    alike = vectors.cosines(vector if snapshot.parts is not None else np.ones(1, dtype=np.float32))
    live = snapshot.files.keys() if found.admitted is None else found.admitted
    counted = alike
    if found.admitted is not None or len(np.unique(vectors.owners)) > len(live):
        counted = np.where(np.isin(vectors.owners, np.fromiter(live, dtype=np.int64)), alike, -2)
    cosines = {int(vectors.chunks[place]): float(counted[place]) for place in _top(counted, query.candidates)}
    others = [chunk for chunk in found.bm25 if chunk not in cosines]
    for chunk, place in zip(others, vectors.places(others), strict=True):
        if place >= 0:
            cosines[chunk] = float(alike[place])
    chunks = dict.fromkeys((*cosines, *found.bm25))
    return [Candidate(chunk=chunk, cosine=cosines.get(chunk), bm25=found.bm25.get(chunk)) for chunk in chunks]


def _top(values: Any, count: int) -> list[int]:
    """Where the largest values are that count at all, the largest first."""
    import numpy as np

    best = np.argpartition(-values, count)[:count] if len(values) > count else np.arange(len(values))
    best = best[values[best] > -1.5]
    return [int(place) for place in best[np.argsort(-values[best], kind="stable")]]


def _read(db: sqlite3.Connection, chunks: Sequence[int]) -> dict[int, Passage]:
    found: dict[int, Passage] = {}
    for row in db.execute(_READ, (_list(chunks),)):
        chunk, store, file_id, filename, attributes, text, start, end, page, heading = row
        found[chunk] = Passage(
            chunk=chunk,
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
    return found
