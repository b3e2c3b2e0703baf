"""The best chunks of a store by their words: BM25 over FTS5, whose cost does not grow with the commonest words.

FTS5 scores every row that holds any of the words, and a word that is in every third row tells the least and costs the
most. So rows are looked for by the rarest words, as many as keep the work bounded; the others are then looked up in the
rows that were found, and count with their weight. A word that is in half of the rows or more counts nothing in BM25 as
FTS5 has it. Where there is little to score, or only few rows may be found, all words are asked for at once.
"""

from __future__ import annotations

import math
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import msgspec

SCORED_MAX = 10_000
"""How many rows are scored for a query, about: a hundred take a tenth of a millisecond."""
POOL = 4
"""How many times more rows are found by the rarest words than are needed: the others may change their order."""
ENOUGH = 50
"""How many rows must be found before the commonest words only order them: as many as a caller may ask for."""
FEW = 0.1
"""Which share of the rows may be found, where all words are asked for at once."""
COUNTS_MAX = 20_000
COUNTED_ANEW_MAX = 1_000
"""A word in so few rows is counted each time: that takes no time, and whether it is there at all matters."""
SPARE = 2
"""How many times more are fetched at first than are needed, since some may be of files that do not count."""
_DRIFT = 0.1
"""How much a store may grow until its words are counted again."""

# Nothing but the rows that may be found is scored: ordering by the rank would score them all.
_AMONG = """
SELECT rowid, -bm25(fts_{pk:d}) AS score FROM fts_{pk:d} WHERE fts_{pk:d} MATCH ? AND +rowid IN (
  SELECT c.pk FROM store_file f JOIN chunk c ON c.store_file_pk = f.pk AND c.generation = f.live
  WHERE f.pk IN (SELECT value FROM json_each(?))) ORDER BY score DESC LIMIT ?"""
_ALL = "SELECT rowid, -bm25(fts_{pk:d}) FROM fts_{pk:d} WHERE fts_{pk:d} MATCH ? ORDER BY rank LIMIT ?"
# The plus keeps SQLite from asking the full text once for each of these rows.
_HOLDING = """
SELECT rowid FROM fts_{pk:d} WHERE fts_{pk:d} MATCH ? AND +rowid IN (SELECT value FROM json_each(?))"""
_COUNT = "SELECT count(*) FROM fts_{pk:d} WHERE fts_{pk:d} MATCH ?"
_ROWS = "SELECT count(*) FROM fts_{pk:d}_docsize"
_LIVE = """
SELECT c.pk FROM chunk c JOIN store_file f ON f.pk = c.store_file_pk AND f.live = c.generation
WHERE c.pk IN (SELECT value FROM json_each(?))"""


class _Word(NamedTuple):
    """A word as FTS5 is asked for it, and how many rows hold it."""

    quoted: str
    rows: int


class WordIndex:
    """Asks the full text of stores. May be asked from several threads."""

    def __init__(self) -> None:
        # By store and word: how many rows hold it, of how many.
        self._counts: OrderedDict[tuple[int, str], tuple[int, int]] = OrderedDict()
        self._lock = Lock()

    def find(
        self, db: sqlite3.Connection, pk: int, words: Sequence[str], files: Iterable[int], *, share: float, limit: int
    ) -> dict[int, float]:
        """The best chunks and their BM25 scores.

        Args:
            pk: the store's number.
            files: the numbers of the files that may be found; ``share``: of all that can be, by their number.
        """
        (rows,) = db.execute(_ROWS.format(pk=pk)).fetchone()
        counted = [self._count(db, pk, word, rows) for word in words]
        there = sorted((word for word in counted if word.rows), key=lambda word: word.rows)
        if sum(word.rows for word in there) <= SCORED_MAX or share < FEW:
            return _score(db, pk, there, files, share, limit)
        first, others = _split(there, rows)
        found = _score(db, pk, first, files, share, POOL * limit)
        while others and len(found) < min(limit, ENOUGH):
            first, others = [*first, others[0]], others[1:]
            found = _score(db, pk, first, files, share, POOL * limit)
        for word in others:
            weight = math.log((rows - word.rows + 0.5) / (word.rows + 0.5))
            for (chunk,) in db.execute(_HOLDING.format(pk=pk), (word.quoted, _list(found))):
                found[chunk] += weight
        return dict(sorted(found.items(), key=lambda pair: -pair[1])[:limit])

    def _count(self, db: sqlite3.Connection, pk: int, word: str, rows: int) -> _Word:
        """How many rows hold the word; counted again once the store has grown or shrunk."""
        quoted = '"' + word.replace('"', '""') + '"'
        key = (pk, word)
        with self._lock:
            held, of = self._counts.get(key, (0, -1))
        if of < 0 or abs(rows - of) > _DRIFT * of:
            (held,) = db.execute(_COUNT.format(pk=pk), (quoted,)).fetchone()
            with self._lock:
                self._counts.pop(key, None)
                if held > COUNTED_ANEW_MAX:
                    self._counts[key] = held, rows
                while len(self._counts) > COUNTS_MAX:
                    self._counts.popitem(last=False)
        return _Word(quoted, held)


def _split(words: Sequence[_Word], rows: int) -> tuple[list[_Word], list[_Word]]:
    """The rarest words, by which rows are looked for, and the others that tell something. ``words`` rise in rows."""
    telling = [word for word in words if 2 * word.rows < rows] or [words[0]]
    scored = 0
    for number, word in enumerate(telling):
        scored += word.rows
        if number and scored > SCORED_MAX:
            return telling[:number], telling[number:]
    return telling, []


def _score(
    db: sqlite3.Connection, pk: int, words: Sequence[_Word], files: Iterable[int], share: float, limit: int
) -> dict[int, float]:
    """The best chunks by any of those words, exactly."""
    if not words:
        return {}
    match = " OR ".join(word.quoted for word in words)
    if share >= 1:
        # Nearly all rows are of files that can be found: to look at each would cost more than the search.
        rows = db.execute(_ALL.format(pk=pk), (match, SPARE * limit)).fetchall()
        live = {chunk for (chunk,) in db.execute(_LIVE, (_list(chunk for chunk, _ in rows),))}
        if len(live) >= limit or len(rows) < SPARE * limit:
            return dict([row for row in rows if row[0] in live][:limit])
    return dict(db.execute(_AMONG.format(pk=pk), (match, _list(files), limit)).fetchall())


def _list(values: Iterable[int]) -> str:
    return msgspec.json.encode(list(values)).decode()
