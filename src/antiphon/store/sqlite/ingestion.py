"""The work of taking files in, as SQLite hands it out. Who is overtaken, or whose file is gone, writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from antiphon.store.sqlite import contents
from antiphon.store.vector_stores import Chunking, ChunkRow, IngestionJob, PassageRow

_DUE = "status = 'in_progress' AND run_after <= ?"

_CLAIMED = """
SELECT f.pk, f.generation, f.file_id, file.filename, file.bytes, f.chunk_tokens, f.overlap_tokens, f.is_auto,
       s.embedder, f.attempts + 1
FROM store_file f JOIN vector_store s ON s.pk = f.store_pk JOIN file ON file.id = f.file_id
WHERE f.status = 'in_progress' AND f.run_after <= ? ORDER BY f.created_at, f.pk LIMIT ?"""

# A worker whose lease has run out is told by the number of attempts: the next one has raised it.
_HELD = "pk = ? AND generation = ? AND attempts = ? AND status = 'in_progress'"


def is_any(db: sqlite3.Connection, now: int) -> bool:
    """Whether there is something to do."""
    return db.execute(f"SELECT 1 FROM store_file WHERE {_DUE} LIMIT 1", (now,)).fetchone() is not None


def is_untidy(db: sqlite3.Connection) -> bool:
    """Whether something that was deleted is left in a full-text table."""
    return db.execute("SELECT 1 FROM vector_store WHERE untidy = 1 LIMIT 1").fetchone() is not None


def claim(db: sqlite3.Connection, now: int, until: int, limit: int) -> list[IngestionJob]:
    """See ``VectorStoreStore.claim``."""
    jobs: list[IngestionJob] = []
    for row in db.execute(_CLAIMED, (now, limit)).fetchall():
        pk, generation, file_id, filename, length, size, overlap, is_auto, embedder, attempts = row
        db.execute("UPDATE store_file SET attempts = ?, run_after = ? WHERE pk = ?", (attempts, until, pk))
        jobs.append(
            IngestionJob(
                key=pk,
                generation=generation,
                file_id=file_id,
                filename=filename,
                bytes=length,
                chunking=Chunking(size, overlap, bool(is_auto)),
                embedder=embedder,
                attempts=attempts,
            )
        )
    return jobs


def _claim_key(job: IngestionJob) -> tuple[int, int, int]:
    return job.key, job.generation, job.attempts


def _store_of(db: sqlite3.Connection, job: IngestionJob) -> int | None:
    """The number of the vector store, while the job is still its worker's."""
    row = db.execute(f"SELECT store_pk FROM store_file WHERE {_HELD}", _claim_key(job)).fetchone()
    return row[0] if row else None


def progress(db: sqlite3.Connection, job: IngestionJob, until: int, stage: str, done: int, total: int) -> bool:
    """See ``VectorStoreStore.progress``."""
    statement = f"UPDATE store_file SET run_after = ?, stage = ?, done = ?, total = ? WHERE {_HELD}"
    return db.execute(statement, (until, stage, done, total, *_claim_key(job))).rowcount > 0


def find_vectors(db: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    """See ``VectorStoreStore.find_vectors``."""
    found: dict[bytes, bytes] = {}
    for digest in set(digests):
        row = db.execute("SELECT vector FROM passage WHERE digest = ? LIMIT 1", (digest,)).fetchone()
        if row is not None:
            found[digest] = row[0]
    return found


def add_chunks(db: sqlite3.Connection, job: IngestionJob, chunks: Sequence[ChunkRow]) -> bool:
    """See ``VectorStoreStore.add_chunks``."""
    store_pk = _store_of(db, job)
    if store_pk is None:
        return False
    contents.add_chunks(db, store_pk, job.key, job.generation, chunks)
    return True


def add_passages(db: sqlite3.Connection, job: IngestionJob, passages: Sequence[PassageRow]) -> bool:
    """See ``VectorStoreStore.add_passages``."""
    if _store_of(db, job) is None:
        return False
    contents.add_passages(db, job.key, job.generation, passages)
    return True


def complete(db: sqlite3.Connection, job: IngestionJob, usage_bytes: int) -> bool:
    """See ``VectorStoreStore.complete``."""
    store_pk = _store_of(db, job)
    if store_pk is None:
        return False
    contents.drop(db, store_pk, job.key, keep=job.generation)
    statement = """
    UPDATE store_file SET status = 'completed', stage = 'completed', live = generation, usage_bytes = ?, done = total
    WHERE pk = ?"""
    db.execute(statement, (usage_bytes, job.key))
    contents.mark_changed(db, store_pk)
    return True


def fail(db: sqlite3.Connection, job: IngestionJob, code: str, message: str) -> None:
    """See ``VectorStoreStore.fail``."""
    store_pk = _store_of(db, job)
    if store_pk is None:
        return
    contents.drop(db, store_pk, job.key, only=job.generation)
    statement = """
    UPDATE store_file SET status = 'failed', stage = 'failed', error_code = ?, error_message = ? WHERE pk = ?"""
    db.execute(statement, (code, message, job.key))


def release(db: sqlite3.Connection, job: IngestionJob, run_after: int, *, counts: bool = True) -> None:
    """See ``VectorStoreStore.release``."""
    less = 0 if counts else 1
    statement = f"UPDATE store_file SET run_after = ?, stage = 'queued', attempts = attempts - ? WHERE {_HELD}"
    db.execute(statement, (run_after, less, *_claim_key(job)))


def recover(db: sqlite3.Connection) -> None:
    """See ``VectorStoreStore.recover``."""
    db.execute("UPDATE store_file SET run_after = 0, stage = 'queued' WHERE status = 'in_progress'")
