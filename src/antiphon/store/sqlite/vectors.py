"""The vectors of a vector store in memory, as one matrix that is scanned whole: exact, and quick to filter.

A matrix grows as files are completed and is made anew when much of it is of files that are gone. Matrices are shared by
all searches; the least recently used go when they take too much memory together.

Products are made row by row, in one thread. ``matrix @ query`` would wake the threads of the linear algebra library,
which spin for some 20 ms after each product: the memory is what it waits for, so that they gain little, and they would
take the processor from the model that answers.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import msgspec

MATRIX_BYTES_MAX = 512 << 20
"""Of all matrices together. One store that needs more is read from the database at every search."""
_DEAD_MAX = 0.3

_VERSION = "SELECT pk, version, embedder FROM vector_store WHERE id = ?"
_FILES = "SELECT pk, live, attributes FROM store_file WHERE store_pk = ? AND live IS NOT NULL"
_CHUNKS = "SELECT pk FROM chunk WHERE store_file_pk = ? AND generation = ? ORDER BY ordinal"
_PASSAGES = "SELECT first, last, vector FROM passage WHERE store_file_pk = ? AND generation = ? ORDER BY first, last"
_BYTES = """
SELECT coalesce(sum(length(p.vector)), 0) FROM store_file f
JOIN passage p ON p.store_file_pk = f.pk AND p.generation = f.live WHERE f.store_pk = ?"""


class LiveFile(NamedTuple):
    """A file that can be found: its number, its generation and its attributes."""

    pk: int
    live: int
    attributes: dict[str, Any]


class Snapshot(NamedTuple):
    """A store as it was at one moment.

    Attributes:
        files: that can be found, by number.
        parts: their vectors.
    """

    pk: int
    embedder: str
    files: dict[int, LiveFile]
    parts: Vectors | None


class Vectors:
    """Vectors of files, and which chunk each belongs to.

    Arrays of one length: ``matrix`` (float32, a row a passage); of another: ``chunks`` (numbers of chunks), ``owners``
    (numbers of their files), and the passages of each chunk, from ``low`` to before ``high``.
    """

    def __init__(self) -> None:
        import numpy as np

        self.matrix: Any = np.zeros((0, 0), dtype=np.float32)
        self.chunks: Any = np.zeros(0, dtype=np.int64)
        self.owners: Any = np.zeros(0, dtype=np.int64)
        self.low: Any = np.zeros(0, dtype=np.int64)
        self.high: Any = np.zeros(0, dtype=np.int64)
        self._order: Any = None
        self._files: Any = None

    @property
    def bytes(self) -> int:
        """What the matrix takes."""
        return self.matrix.nbytes

    def extend(self, pieces: Sequence[Vectors]) -> Vectors:
        """These and others behind them, as new vectors."""
        import numpy as np

        whole = Vectors()
        parts = [part for part in (self, *pieces) if len(part.chunks)]
        if not parts:
            return whole
        offsets = np.cumsum([0, *(len(part.matrix) for part in parts)])[:-1]
        whole.matrix = np.concatenate([part.matrix for part in parts])
        whole.chunks = np.concatenate([part.chunks for part in parts])
        whole.owners = np.concatenate([part.owners for part in parts])
        whole.low = np.concatenate([part.low + offset for part, offset in zip(parts, offsets, strict=True)])
        whole.high = np.concatenate([part.high + offset for part, offset in zip(parts, offsets, strict=True)])
        return whole

    def cosines(self, query: Any) -> Any:
        """For each chunk the cosine of its best passage."""
        import numpy as np

        if not len(self.chunks):
            return np.zeros(0, dtype=np.float32)
        # One more, for a chunk whose passages end where the matrix does.
        alike = np.append(np.vecdot(self.matrix, query), np.float32(-1))
        pairs = np.empty(2 * len(self.low), dtype=np.int64)
        pairs[0::2], pairs[1::2] = self.low, self.high
        return np.maximum.reduceat(alike, pairs)[0::2]

    def cosines_at(self, places: Any, query: Any) -> Any:
        """The same for the chunks at those places alone."""
        import numpy as np

        if not len(places):
            return np.zeros(0, dtype=np.float32)
        counts: Any = self.high[places] - self.low[places]
        ends: Any = np.cumsum(counts)
        shifts: Any = np.repeat(self.low[places] - (ends - counts), counts)
        alike = np.vecdot(self.matrix[np.arange(ends[-1]) + shifts], query)
        return np.maximum.reduceat(alike, ends - counts)

    def of_files(self, files: Collection[int]) -> Any:
        """Which chunks are of those files, as booleans; None for all."""
        import numpy as np

        if self._files is None:
            self._files = np.unique(self.owners, return_inverse=True)
        numbers, file_of = self._files
        wanted = np.isin(numbers, np.fromiter(files, dtype=np.int64, count=len(files)))
        return None if wanted.all() else wanted[file_of]

    def places(self, chunks: Sequence[int]) -> Any:
        """Where those chunks stand; -1 for one that is not here."""
        import numpy as np

        if not len(self.chunks):
            return np.full(len(chunks), -1)
        if self._order is None:
            self._order = np.argsort(self.chunks)
        wanted = np.asarray(chunks, dtype=np.int64)
        near = np.searchsorted(self.chunks, wanted, sorter=self._order)
        found = self._order[np.minimum(near, len(self.chunks) - 1)]
        return np.where(self.chunks[found] == wanted, found, -1)


def load_file(db: sqlite3.Connection, file: LiveFile) -> Vectors:
    """The vectors of one file."""
    import numpy as np

    found = Vectors()
    rows = db.execute(_PASSAGES, (file.pk, file.live)).fetchall()
    if not rows:
        return found
    chunks = np.array([pk for (pk,) in db.execute(_CHUNKS, (file.pk, file.live))], dtype=np.int64)
    first = np.array([row[0] for row in rows])
    last = np.array([row[1] for row in rows])
    width = len(rows[0][2]) // 2
    halves = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f2")
    ordinals = np.arange(len(chunks))
    low, high = np.searchsorted(last, ordinals, "left"), np.searchsorted(first, ordinals, "right")
    held = low < high
    found.matrix = halves.reshape(len(rows), width).astype(np.float32)
    found.chunks, found.low, found.high = chunks[held], low[held], high[held]
    found.owners = np.full(len(found.chunks), file.pk, dtype=np.int64)
    return found


class _Entry(msgspec.Struct):
    version: int
    snapshot: Snapshot
    held: dict[int, int]
    lock: Any = msgspec.field(default_factory=Lock)


class VectorCache:
    """Snapshots of stores, by number. May be asked from several threads."""

    def __init__(self, bytes_max: int = MATRIX_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._lock = Lock()

    def snapshot(self, db: sqlite3.Connection, id: str) -> Snapshot | None:
        """The store as it is now; None when there is none."""
        row = db.execute(_VERSION, (id,)).fetchone()
        if row is None:
            return None
        pk, version, embedder = row
        entry = self._entry(pk, embedder)
        with entry.lock:
            if entry.version != version:
                self._refresh(db, entry, version)
            found = entry.snapshot
        self._forget_old()
        return found

    def _entry(self, pk: int, embedder: str) -> _Entry:
        with self._lock:
            if pk not in self._entries or self._entries[pk].snapshot.embedder != embedder:
                self._entries[pk] = _Entry(-1, Snapshot(pk, embedder, {}, None), {})
            self._entries.move_to_end(pk)
            return self._entries[pk]

    def _forget_old(self) -> None:
        with self._lock:
            while len(self._entries) > 1 and sum(map(_bytes, self._entries.values())) > self._bytes_max:
                self._entries.popitem(last=False)

    def _refresh(self, db: sqlite3.Connection, entry: _Entry, version: int) -> None:
        """Load what is new. What is gone stays in the matrix for a while, and is passed over."""
        pk, embedder = entry.snapshot.pk, entry.snapshot.embedder
        files = {row[0]: LiveFile(row[0], row[1], msgspec.json.decode(row[2])) for row in db.execute(_FILES, (pk,))}
        (stored,) = db.execute(_BYTES, (pk,)).fetchone()
        if not embedder or stored * 2 > self._bytes_max:
            entry.snapshot, entry.held = Snapshot(pk, embedder, files, None), {}
        else:
            old, held = entry.snapshot.parts or Vectors(), dict(entry.held)
            if not _is_worth_keeping(held, files, old):
                old, held = Vectors(), {}
            new = [file for file in files.values() if held.get(file.pk) != file.live]
            whole = old.extend([load_file(db, file) for file in new])
            entry.held = held | {file.pk: file.live for file in new}
            entry.snapshot = Snapshot(pk, embedder, files, whole)
        entry.version = version


def _bytes(entry: _Entry) -> int:
    return entry.snapshot.parts.bytes if entry.snapshot.parts is not None else 0


def _is_worth_keeping(held: dict[int, int], files: dict[int, LiveFile], old: Vectors) -> bool:
    """Whether little of what is held is gone. A file of another generation has its old vectors there: they must go."""
    gone = [pk for pk in held if pk not in files]
    if any(pk in files and files[pk].live != live for pk, live in held.items()):
        return False
    return not held or len(gone) <= _DEAD_MAX * len(held)


def scan(db: sqlite3.Connection, files: Iterable[LiveFile], query: Any) -> Vectors | None:
    """For stores that are too large to be held: chunks with their cosine as their only vector, file by file."""
    import numpy as np

    pieces: list[Vectors] = []
    for file in files:
        piece = load_file(db, file)
        if len(piece.chunks):
            piece.matrix = piece.cosines(query).reshape(-1, 1)
            piece.low = np.arange(len(piece.chunks))
            piece.high = piece.low + 1
            pieces.append(piece)
    return Vectors().extend(pieces)
