"""Vector stores, their files and batches in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from antiphon.store.errors import UnknownCursor
from antiphon.store.responses import Slice
from antiphon.store.sqlite import contents, ingestion
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.store.vector_stores import (
    CHUNKS_READ_MAX,
    STATUSES,
    Attributes,
    Chunking,
    ChunkRow,
    FileBatch,
    IngestionJob,
    ListingQuery,
    StoreFile,
    StoreFileQuery,
    UnknownFiles,
    VectorStore,
)
from antiphon.wire import Id

_STORE = (
    "id", "project", "name", "description", "metadata", "expires_days", "created_at", "last_active_at", "embedder"
)  # fmt: skip
_COUNTS = ", ".join(f"sum(status = '{status}')" for status in STATUSES)

_FILE = """
SELECT f.file_id, s.id, file.filename, f.created_at, f.status, f.error_code, f.error_message, f.attributes,
       f.chunk_tokens, f.overlap_tokens, f.is_auto, f.usage_bytes, f.stage, f.done, f.total
FROM store_file f JOIN vector_store s ON s.pk = f.store_pk JOIN file ON file.id = f.file_id """

_ADD = """
INSERT INTO store_file (store_pk, file_id, status, error_message, attributes, chunk_tokens, overlap_tokens, is_auto,
  usage_bytes, created_at, generation, attempts, run_after, stage, done, total)
VALUES (:store, :file, 'in_progress', '', :attributes, :size, :overlap, :is_auto, 0, :now, 1, 0, 0, 'queued', 0, 0)
ON CONFLICT (store_pk, file_id) DO UPDATE SET
  status = 'in_progress', error_code = NULL, error_message = '', attributes = excluded.attributes,
  chunk_tokens = excluded.chunk_tokens, overlap_tokens = excluded.overlap_tokens, is_auto = excluded.is_auto,
  generation = generation + 1, attempts = 0, run_after = 0, stage = 'queued', done = 0, total = 0
WHERE status IN ('failed', 'cancelled') OR chunk_tokens <> excluded.chunk_tokens
  OR overlap_tokens <> excluded.overlap_tokens"""


def encode(value: object) -> str:
    """As JSON text."""
    return msgspec.json.encode(value).decode()


def key_of(db: sqlite3.Connection, project: str, id: Id) -> int | None:
    """The store's number."""
    row = db.execute("SELECT pk FROM vector_store WHERE id = ? AND project = ?", (id, project)).fetchone()
    return row[0] if row else None


def create(db: sqlite3.Connection, store: VectorStore) -> None:
    """See ``VectorStoreStore.create``."""
    row = [getattr(store, name) if name != "metadata" else encode(store.metadata) for name in _STORE]
    places = ", ".join("?" * len(row))
    insert = f"INSERT INTO vector_store ({', '.join(_STORE)}, version, untidy) VALUES ({places}, 0, 0)"
    pk = db.execute(insert, row).lastrowid
    assert pk is not None
    contents.create_words(db, pk)


def _whole(db: sqlite3.Connection, pk: int) -> VectorStore:
    row = db.execute(f"SELECT {', '.join(_STORE)} FROM vector_store WHERE pk = ?", (pk,)).fetchone()
    fields = dict(zip(_STORE, row, strict=True))
    fields["metadata"] = msgspec.json.decode(fields["metadata"])
    usage, *counts = db.execute(
        f"SELECT coalesce(sum(usage_bytes), 0), {_COUNTS} FROM store_file WHERE store_pk = ?", (pk,)
    ).fetchone()
    return VectorStore(**fields, usage_bytes=usage, counts=_to_counts(counts))


def _to_counts(counts: Sequence[int | None]) -> dict[str, int]:
    return {status: count or 0 for status, count in zip(STATUSES, counts, strict=True)}


def get(db: sqlite3.Connection, project: str, id: Id) -> VectorStore | None:
    """See ``VectorStoreStore.get``."""
    pk = key_of(db, project, id)
    return None if pk is None else _whole(db, pk)


def list_stores(db: sqlite3.Connection, places: Places, project: str, query: ListingQuery) -> Slice[VectorStore]:
    """See ``VectorStoreStore.list``."""
    named = "SELECT created_at, id FROM vector_store WHERE id = ? AND project = ?"

    def place(id: Id) -> Sequence[Any] | None:
        return db.execute(named, (id, project)).fetchone() or places.find("vector_store", project, id)

    select = "SELECT pk FROM vector_store WHERE project = ?"
    rows = _page(db, select, [project], "created_at, id", query, place)
    return Slice([_whole(db, pk) for (pk,) in rows[: query.limit]], len(rows) > query.limit)


def _page(
    db: sqlite3.Connection,
    select: str,
    values: Sequence[Any],
    columns: str,
    query: ListingQuery | StoreFileQuery,
    place: Callable[[Id], Sequence[Any] | None],
) -> list[Any]:
    """One row more than the page has, where there is one. ``before`` ends a page as ``after`` begins it: a page behind
    it in the other direction, turned round. ``place``: the values of ``columns`` of what stands, or stood, there.
    """
    values = list(values)
    is_back = query.before is not None and query.after is None
    for id, sign in ((query.after, ">"), (query.before, "<")):
        if id is None:
            continue
        found = place(id)
        if found is None:
            raise UnknownCursor(id)
        if query.order == "desc":
            sign = "<" if sign == ">" else ">"
        select += f" AND ({columns}) {sign} (?, ?)"
        values += found
    order = ("asc" if query.order == "desc" else "desc") if is_back else query.order
    first, second = columns.split(", ")
    rows = db.execute(f"{select} ORDER BY {first} {order}, {second} {order} LIMIT ?", [*values, query.limit + 1])
    found = rows.fetchall()
    if is_back:
        # The row too many is the one furthest from the cursor; here it has to come last.
        found = [*reversed(found[: query.limit]), *found[query.limit :]]
    return found


def update(db: sqlite3.Connection, project: str, id: Id, changes: Mapping[str, Any]) -> VectorStore | None:
    """See ``VectorStoreStore.update``."""
    pk = key_of(db, project, id)
    if pk is None:
        return None
    for name, value in changes.items():
        assert name in ("name", "metadata", "expires_days"), name
        given = encode(value) if name == "metadata" else value
        db.execute(f"UPDATE vector_store SET {name} = ? WHERE pk = ?", (given, pk))
    return _whole(db, pk)


def touch(db: sqlite3.Connection, ids: Sequence[Id], now: int) -> None:
    """See ``VectorStoreStore.touch``."""
    statement = "UPDATE vector_store SET last_active_at = max(last_active_at, ?) WHERE id = ?"
    db.executemany(statement, [(now, id) for id in ids])


def delete(db: sqlite3.Connection, places: Places, project: str, id: Id) -> bool:
    """See ``VectorStoreStore.delete``."""
    pk = key_of(db, project, id)
    if pk is None:
        return False
    contents.drop_words(db, pk)
    place = db.execute("DELETE FROM vector_store WHERE pk = ? RETURNING created_at, id", (pk,)).fetchone()
    places.keep("vector_store", project, id, place)
    return True


def reindex(db: sqlite3.Connection, project: str, id: Id, embedder: str) -> bool:
    """See ``VectorStoreStore.reindex``."""
    pk = key_of(db, project, id)
    if pk is None:
        return False
    unfinished = "SELECT pk, generation FROM store_file WHERE store_pk = ? AND live IS NOT generation"
    for key, generation in db.execute(unfinished, (pk,)).fetchall():
        contents.drop(db, pk, key, only=generation)
    db.execute("DELETE FROM passage WHERE store_file_pk IN (SELECT pk FROM store_file WHERE store_pk = ?)", (pk,))
    again = """
    UPDATE store_file SET status = 'in_progress', generation = generation + 1, attempts = 0, run_after = 0,
      stage = 'queued', done = 0, total = 0
    WHERE store_pk = ? AND status IN ('in_progress', 'completed')"""
    db.execute(again, (pk,))
    db.execute("UPDATE vector_store SET embedder = ? WHERE pk = ?", (embedder, pk))
    contents.mark_changed(db, pk)
    return True


def add_files(
    db: sqlite3.Connection, project: str, id: Id, files: Sequence[StoreFile], now: int, batch: Id | None = None
) -> None:
    """See ``VectorStoreStore.add_files``."""
    pk = key_of(db, project, id)
    asked = encode([file.id for file in files])
    known = {id for (id,) in db.execute(
        "SELECT id FROM file WHERE project = ? AND id IN (SELECT value FROM json_each(?))", (project, asked)
    )}  # fmt: skip
    missing = [file.id for file in files if file.id not in known]
    if missing or pk is None:
        raise UnknownFiles(missing)
    if batch is not None:
        db.execute(
            "INSERT INTO file_batch (id, store_pk, created_at, is_cancelled) VALUES (?, ?, ?, 0)", (batch, pk, now)
        )
    for file in files:
        _add_file(db, pk, file, now)
        if batch is not None:
            db.execute(
                "INSERT OR IGNORE INTO batch_file (batch_id, store_file_pk) "
                "SELECT ?, pk FROM store_file WHERE store_pk = ? AND file_id = ?",
                (batch, pk, file.id),
            )


def _add_file(db: sqlite3.Connection, pk: int, file: StoreFile, now: int) -> None:
    chunking, attributes = file.chunking, encode(file.attributes)
    values = {"store": pk, "file": file.id, "attributes": attributes, "now": now} | msgspec.structs.asdict(chunking)
    db.execute(_ADD, values)
    same = "UPDATE store_file SET attributes = ? WHERE store_pk = ? AND file_id = ? AND attributes <> ?"
    if db.execute(same, (attributes, pk, file.id, attributes)).rowcount:
        contents.mark_changed(db, pk)


def _file(row: Sequence[Any]) -> StoreFile:
    (id, store, filename, created_at, status, code, message, attributes, size, overlap, is_auto, *rest) = row
    usage, stage, done, total = rest
    return StoreFile(
        id=id,
        vector_store_id=store,
        filename=filename,
        created_at=created_at,
        status=status,
        error_code=code,
        error_message=message,
        attributes=msgspec.json.decode(attributes),
        chunking=Chunking(size, overlap, bool(is_auto)),
        usage_bytes=usage,
        stage=stage,
        done=done,
        total=total,
    )


def get_file(db: sqlite3.Connection, project: str, id: Id, file_id: Id) -> StoreFile | None:
    """See ``VectorStoreStore.get_file``."""
    row = db.execute(_FILE + "WHERE s.id = ? AND s.project = ? AND f.file_id = ?", (id, project, file_id)).fetchone()
    return _file(row) if row else None


def list_files(db: sqlite3.Connection, places: Places, project: str, id: Id, query: StoreFileQuery) -> Slice[StoreFile]:
    """See ``VectorStoreStore.list_files``."""
    select, values = _FILE + "WHERE s.id = ? AND s.project = ?", [id, project]
    if query.batch is not None:
        select += " AND f.pk IN (SELECT store_file_pk FROM batch_file WHERE batch_id = ?)"
        values.append(query.batch)
    if query.filter is not None:
        select += " AND f.status = ?"
        values.append(query.filter)
    named = (
        "SELECT f.created_at, f.file_id FROM store_file f JOIN vector_store s ON s.pk = f.store_pk "
        "WHERE f.file_id = ? AND s.id = ?"
    )

    def place(file_id: Id) -> Sequence[Any] | None:
        return db.execute(named, (file_id, id)).fetchone() or places.find("store_file", id, file_id)

    rows = _page(db, select, values, "f.created_at, f.file_id", query, place)
    return Slice([_file(row) for row in rows[: query.limit]], len(rows) > query.limit)


def set_attributes(
    db: sqlite3.Connection, project: str, id: Id, file_id: Id, attributes: Attributes
) -> StoreFile | None:
    """See ``VectorStoreStore.set_attributes``."""
    pk = key_of(db, project, id)
    statement = "UPDATE store_file SET attributes = ? WHERE store_pk = ? AND file_id = ?"
    if not db.execute(statement, (encode(attributes), pk, file_id)).rowcount or pk is None:
        return None
    contents.mark_changed(db, pk)
    return get_file(db, project, id, file_id)


def remove_file(db: sqlite3.Connection, places: Places, project: str, id: Id, file_id: Id) -> bool:
    """See ``VectorStoreStore.remove_file``."""
    pk = key_of(db, project, id)
    row = db.execute("SELECT pk FROM store_file WHERE store_pk = ? AND file_id = ?", (pk, file_id)).fetchone()
    if row is None or pk is None:
        return False
    contents.drop(db, pk, row[0])
    place = db.execute("DELETE FROM store_file WHERE pk = ? RETURNING created_at, file_id", row).fetchone()
    places.keep("store_file", id, file_id, place)
    contents.mark_changed(db, pk)
    return True


def read_chunks(
    db: sqlite3.Connection, project: str, id: Id, file_id: Id, after: int = -1, limit: int = CHUNKS_READ_MAX
) -> list[ChunkRow] | None:
    """See ``VectorStoreStore.read_chunks``."""
    if get_file(db, project, id, file_id) is None:
        return None
    statement = """
    SELECT c.ordinal, c.start, c.end, c.text, c.tokens, c.page, c.heading
    FROM store_file f JOIN chunk c ON c.store_file_pk = f.pk AND c.generation = f.live
    WHERE f.store_pk = ? AND f.file_id = ? AND c.ordinal > ? ORDER BY c.ordinal LIMIT ?"""
    return [ChunkRow(*row) for row in db.execute(statement, (key_of(db, project, id), file_id, after, limit))]


def get_batch(db: sqlite3.Connection, project: str, id: Id, batch_id: Id) -> FileBatch | None:
    """See ``VectorStoreStore.get_batch``."""
    statement = "SELECT created_at, is_cancelled FROM file_batch WHERE id = ? AND store_pk = ?"
    row = db.execute(statement, (batch_id, key_of(db, project, id))).fetchone()
    if row is None:
        return None
    counts = db.execute(
        f"SELECT {_COUNTS} FROM store_file WHERE pk IN (SELECT store_file_pk FROM batch_file WHERE batch_id = ?)",
        (batch_id,),
    ).fetchone()
    return FileBatch(
        id=batch_id, vector_store_id=id, created_at=row[0], is_cancelled=bool(row[1]), counts=_to_counts(counts)
    )


def cancel_batch(db: sqlite3.Connection, project: str, id: Id, batch_id: Id) -> bool:
    """See ``VectorStoreStore.cancel_batch``."""
    if get_batch(db, project, id, batch_id) is None:
        return False
    pending = """
    SELECT f.store_pk, f.pk, f.generation, f.live FROM store_file f JOIN batch_file b ON b.store_file_pk = f.pk
    WHERE b.batch_id = ? AND f.status = 'in_progress'"""
    for store_pk, pk, generation, live in db.execute(pending, (batch_id,)).fetchall():
        if live != generation:
            contents.drop(db, store_pk, pk, only=generation)
        db.execute("UPDATE store_file SET status = 'cancelled', stage = 'cancelled' WHERE pk = ?", (pk,))
    db.execute("UPDATE file_batch SET is_cancelled = 1 WHERE id = ?", (batch_id,))
    return True


def find_expired(db: sqlite3.Connection, now: int) -> list[int]:
    """The stores that expired and have files still, by their numbers."""
    over = """
    SELECT DISTINCT s.pk FROM vector_store s JOIN store_file f ON f.store_pk = s.pk
    WHERE s.expires_days IS NOT NULL AND s.last_active_at + s.expires_days * 86400 <= ?"""
    return [pk for (pk,) in db.execute(over, (now,)).fetchall()]


def expire(db: sqlite3.Connection, now: int) -> int:
    """See ``VectorStoreStore.expire``."""
    stores = find_expired(db, now)
    for pk in stores:
        contents.drop_words(db, pk)
        contents.create_words(db, pk)
        db.execute("DELETE FROM store_file WHERE store_pk = ?", (pk,))
        contents.mark_changed(db, pk)
    return len(stores)


class SqliteVectorStores(Port):
    """A ``VectorStoreStore``."""

    def __init__(self, read: Execute, write: Execute, places: Places) -> None:
        super().__init__(read, write)
        self._places = places

    create = writing(create)
    get = reading(get)

    async def list(self, project: str, query: ListingQuery) -> Slice[VectorStore]:
        """See ``VectorStoreStore.list``."""
        return await self._read(partial(list_stores, places=self._places, project=project, query=query))

    update = writing(update)
    touch = writing(touch)

    async def delete(self, project: str, id: Id) -> bool:
        """See ``VectorStoreStore.delete``."""
        return await self._write(partial(delete, places=self._places, project=project, id=id))

    reindex = writing(reindex)
    add_files = writing(add_files)
    get_file = reading(get_file)

    async def list_files(self, project: str, id: Id, query: StoreFileQuery) -> Slice[StoreFile]:
        """See ``VectorStoreStore.list_files``."""
        return await self._read(partial(list_files, places=self._places, project=project, id=id, query=query))

    set_attributes = writing(set_attributes)

    async def remove_file(self, project: str, id: Id, file_id: Id) -> bool:
        """See ``VectorStoreStore.remove_file``."""
        return await self._write(partial(remove_file, places=self._places, project=project, id=id, file_id=file_id))

    read_chunks = reading(read_chunks)
    get_batch = reading(get_batch)
    cancel_batch = writing(cancel_batch)

    async def claim(self, now: int, until: int, limit: int) -> Sequence[IngestionJob]:
        """See ``VectorStoreStore.claim``. Looking costs no commit."""
        if not await self._read(partial(ingestion.is_any, now=now)):
            return []
        return await self._write(partial(ingestion.claim, now=now, until=until, limit=limit))

    progress = writing(ingestion.progress)
    find_vectors = reading(ingestion.find_vectors)
    add_chunks = writing(ingestion.add_chunks)
    add_passages = writing(ingestion.add_passages)
    complete = writing(ingestion.complete)
    fail = writing(ingestion.fail)
    release = writing(ingestion.release)
    recover = writing(ingestion.recover)

    async def tidy(self) -> bool:
        """See ``VectorStoreStore.tidy``. Looking costs no commit."""
        return await self._read(ingestion.is_untidy) and await self._write(contents.tidy)

    async def expire(self, now: int) -> int:
        """See ``VectorStoreStore.expire``. Looking costs no commit."""
        return await self._write(partial(expire, now=now)) if await self._read(partial(find_expired, now=now)) else 0
