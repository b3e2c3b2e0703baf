"""Background runs and their logs in SQLite.

A row of the log holds what was committed together, as lines; when the response has ended, ``seal`` writes the log anew
in few rows, compressed. The lines are the same bytes before and after.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from antiphon.store.deliveries import Delivery
from antiphon.store.errors import DuplicateResponse, Fenced, QueueFull, UnknownConversation
from antiphon.store.responses import Record
from antiphon.store.runs import Batch, Claimed, Excerpt, NewRun, Unfinished
from antiphon.store.sqlite import conversations, responses
from antiphon.store.sqlite.deliveries import insert as insert_deliveries
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.store.transitions import (
    CANCEL,
    CLAIM,
    ENQUEUE,
    FINISH,
    RECOVER,
    RELEASE,
    REQUEUE,
    SEAL,
    UNFINISHED,
    WRITABLE,
    RunStatus,
    join_for_sql,
)
from antiphon.wire import Id

CHUNK_BYTES = 256 * 1024
"""About how much of a log is compressed together: what a reader of a part of it has to unpack."""

_WAITING = f"""
SELECT count(*) FROM (SELECT 1 FROM run WHERE status = '{ENQUEUE.after}' AND {{of}} LIMIT :most)"""
_WAITING_ALL = _WAITING.format(of="TRUE")
_WAITING_OF_PROJECT = _WAITING.format(of="project = :project")

_NEXT_PLACE = "SELECT next_pos FROM conversation WHERE id = ? AND project = ? AND deleted_at IS NULL"

_INSERT_RUN = f"""
INSERT INTO run (response_id, project, status, priority, epoch, attempt, job)
VALUES (?, ?, '{ENQUEUE.after}', ?, 0, 0, ?)"""

_INSERT_EVENTS = """
INSERT INTO event (response_id, first, last, packed, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (response_id, first) DO NOTHING"""

_ANY = "SELECT 1 FROM run WHERE :status IS NULL OR status = :status LIMIT 1"

# The rowid tells who came first.
_CLAIM = f"""
UPDATE run SET status = '{CLAIM.after}', node = :node, epoch = epoch + 1, attempt = attempt + 1
WHERE response_id = (
  SELECT q.response_id FROM run q WHERE q.status IN {join_for_sql(CLAIM.before)}
  ORDER BY q.priority DESC,
    (SELECT count(*) FROM run busy WHERE busy.status = '{CLAIM.after}' AND busy.project = q.project),
    q.rowid
  LIMIT 1)
RETURNING response_id, project, epoch, attempt, job, progress"""

_START = f"UPDATE response SET status = '{CLAIM.response[0]}' WHERE id = ?"

_OWNED = f"SELECT 1 FROM run WHERE response_id = ? AND epoch = ? AND status IN {join_for_sql(WRITABLE)}"
_ENDED = f"SELECT 1 FROM run WHERE response_id = ? AND epoch = ? AND status = '{FINISH.after}'"
_NOTE = "UPDATE run SET progress = ? WHERE response_id = ?"
_END = f"UPDATE run SET status = '{FINISH.after}', node = NULL WHERE response_id = ?"
_FINISH = "UPDATE response SET status = ?, doc = ? WHERE id = ?"
_EXPIRE = "INSERT INTO expiry (response_id, expires_at) VALUES (?, ?)"
_INPUT_IDS = "SELECT id FROM item WHERE response_id = ? AND dir = 'in' ORDER BY pos"
_PLACE_INPUT = """
UPDATE item SET conversation_id = :conversation, conversation_pos = :place + pos
WHERE response_id = :id AND dir = 'in'"""
_PLACE_RESPONSE = "UPDATE response SET conversation_pos = ? WHERE id = ?"

_RELEASE = f"""
UPDATE run SET status = '{RELEASE.after}', node = NULL, attempt = attempt - 1
WHERE response_id = ? AND epoch = ? AND status IN {join_for_sql(RELEASE.before)}"""

_ABANDONED = f"""
UPDATE run SET status = '{RECOVER.after}', node = NULL
WHERE status IN {join_for_sql(RECOVER.before)} AND node IS NOT ?"""
_LOST = f"""
UPDATE run SET status = '{REQUEUE.after}', node = NULL
WHERE status IN {join_for_sql(REQUEUE.before)} AND node = ? AND response_id NOT IN (SELECT value FROM json_each(?))"""
_UNFINISHED = """
SELECT run.response_id, run.project, run.status, run.epoch, r.conversation_id
FROM run JOIN response r ON r.id = run.response_id ORDER BY run.rowid"""

_CANCEL = f"""
UPDATE run SET status = '{CANCEL.after}', node = NULL, epoch = epoch + 1
WHERE response_id = :id AND project = :project AND status IN {join_for_sql(CANCEL.before)}
  AND EXISTS (SELECT 1 FROM response r WHERE r.id = :id AND r.deleted_at IS NULL)
RETURNING epoch"""
_CANCELLED = f"UPDATE response SET status = '{CANCEL.response[0]}' WHERE id = ?"

_LOOK = """
SELECT (SELECT status FROM run WHERE response_id = r.id),
       (SELECT last FROM event WHERE response_id = r.id ORDER BY first DESC LIMIT 1)
FROM response r WHERE r.id = :id AND r.project = :project AND r.deleted_at IS NULL"""

# From the row that holds the next number, or would, on.
_EVENTS = """
SELECT first, packed, data FROM event
WHERE response_id = :id AND first >= coalesce(
  (SELECT max(first) FROM event WHERE response_id = :id AND first <= :after + 1), 0)
ORDER BY first"""

_ALL_EVENTS = "SELECT first, packed, data FROM event WHERE response_id = ? ORDER BY first"
_DROP_EVENTS = "DELETE FROM event WHERE response_id = ?"
_SEALED = f"DELETE FROM run WHERE response_id = ? AND status IN {join_for_sql(SEAL.before)}"


class Chunk(NamedTuple):
    """A row of a log."""

    first: int
    last: int
    packed: int
    data: bytes


def enqueue(db: sqlite3.Connection, run: NewRun, *, queued_max: int, per_project_max: int) -> None:
    """Insert a response, its input, its run and the beginning of its log.

    Raises:
        QueueFull, DuplicateResponse, UnknownConversation: nothing was changed.
    """
    record = run.record
    bounds = ((_WAITING_ALL, queued_max, False), (_WAITING_OF_PROJECT, per_project_max, True))
    for statement, most, of_project in bounds:
        if db.execute(statement, {"most": most, "project": record.project}).fetchone()[0] >= most:
            raise QueueFull(of_project=of_project)
    if not responses.insert(db, record, _next_place(db, record)):
        raise DuplicateResponse(record.id)
    responses.insert_items(db, record, {"in": record.input}, None)
    db.execute(_INSERT_RUN, (record.id, record.project, run.priority, run.job.decode()))
    _insert(db, record.id, Batch(0, run.events))


def _next_place(db: sqlite3.Connection, record: Record) -> int | None:
    if record.conversation_id is None:
        return None
    row = db.execute(_NEXT_PLACE, (record.conversation_id, record.project)).fetchone()
    if row is None:
        raise UnknownConversation(record.conversation_id)
    return row[0]


def _insert(db: sqlite3.Connection, id: Id, batch: Batch) -> None:
    if batch.events:
        last = batch.first + len(batch.events) - 1
        db.execute(_INSERT_EVENTS, (id, batch.first, last, 0, b"\n".join(batch.events)))


def has_any(db: sqlite3.Connection, status: RunStatus | None = None) -> bool:
    """Whether there is a run, of that status if one is given."""
    return db.execute(_ANY, {"status": status}).fetchone() is not None


def claim(db: sqlite3.Connection, node: str, limit: int) -> list[Claimed]:
    """Take queued runs over, one after the other, since each changes whose turn it is."""
    found: list[Claimed] = []
    while len(found) < limit:
        rows = db.execute(_CLAIM, {"node": node}).fetchall()
        if not rows:
            break
        id, project, epoch, attempt, job, progress = rows[0]
        db.execute(_START, (id,))
        noted = (progress or "").encode()
        found.append(Claimed(id=id, project=project, epoch=epoch, attempt=attempt, job=job.encode(), progress=noted))
    return found


def append(db: sqlite3.Connection, id: Id, epoch: int, batch: Batch, progress: bytes | None = None) -> None:
    """Insert a batch of events.

    Raises:
        Fenced: the run is not at that epoch.
    """
    _refuse_fenced(db, id, epoch)
    _insert(db, id, batch)
    if progress is not None:
        db.execute(_NOTE, (progress.decode(), id))


def _refuse_fenced(db: sqlite3.Connection, id: Id, epoch: int) -> None:
    if db.execute(_OWNED, (id, epoch)).fetchone() is None:
        raise Fenced(id)


def finish(
    db: sqlite3.Connection,
    id: Id,
    epoch: int,
    batch: Batch,
    record: Record,
    expires_at: int | None = None,
    deliveries: Sequence[Delivery] = (),
) -> None:
    """Insert the last events, write the response as it ended, and whom to tell of it.

    Raises:
        Fenced, UnknownConversation, DuplicateItem: nothing was changed.
    """
    if db.execute(_ENDED, (id, epoch)).fetchone() is not None:
        return
    _refuse_fenced(db, id, epoch)
    _insert(db, id, batch)
    place = _join_conversation(db, record)
    db.execute(_FINISH, (record.status, record.doc.decode(), id))
    responses.insert_items(db, record, {"out": record.output}, place)
    db.execute(_END, (id,))
    if expires_at is not None:
        db.execute(_EXPIRE, (id, expires_at))
    insert_deliveries(db, deliveries)


def _join_conversation(db: sqlite3.Connection, record: Record) -> int | None:
    """Give the input its places in the conversation; the place of the first output item."""
    conversation = record.conversation_id
    if conversation is None:
        return None
    input = [id for (id,) in db.execute(_INPUT_IDS, (record.id,))]
    place = conversations.reserve(
        db, record.project, conversation, [*input, *(item.id for item in record.output)], record.created_at
    )
    db.execute(_PLACE_INPUT, {"conversation": conversation, "place": place, "id": record.id})
    db.execute(_PLACE_RESPONSE, (place, record.id))
    return place + len(input)


def release(db: sqlite3.Connection, id: Id, epoch: int) -> None:
    """Queue a run again that is at that epoch."""
    db.execute(_RELEASE, (id, epoch))


def recover(db: sqlite3.Connection, node: str) -> list[Unfinished]:
    """Queue again what other nodes left; all runs there are, in the order in which they came."""
    db.execute(_ABANDONED, (node,))
    return _find_unfinished(db)


def requeue_lost(db: sqlite3.Connection, node: str, held: Sequence[Id]) -> list[Unfinished]:
    """Queue again what this node does not hold; all runs there are, as ``recover``."""
    db.execute(_LOST, (node, json.dumps(held)))
    return _find_unfinished(db)


def _find_unfinished(db: sqlite3.Connection) -> list[Unfinished]:
    return [
        Unfinished(id=id, project=project, status=status, epoch=epoch, conversation_id=conversation)
        for id, project, status, epoch, conversation in db.execute(_UNFINISHED)
    ]


def cancel(db: sqlite3.Connection, project: str, id: Id) -> int | None:
    """Mark a run as cancelled; its epoch."""
    rows = db.execute(_CANCEL, {"project": project, "id": id}).fetchall()
    if not rows:
        return None
    db.execute(_CANCELLED, (id,))
    return rows[0][0]


def read_events(db: sqlite3.Connection, project: str, id: Id, *, after: int, bytes_max: int) -> Excerpt | None:
    """A piece of the log. That it has ended is read first: then nothing comes between."""
    row = db.execute(_LOOK, {"project": project, "id": id}).fetchone()
    if row is None:
        return None
    status, last = row[0], -1 if row[1] is None else row[1]
    found = list(_behind(db, id, after, bytes_max))
    ended = status not in UNFINISHED and after + len(found) >= last
    return Excerpt(batch=Batch(after + 1, found), last=max(last, after + len(found)) if found else last, ended=ended)


def _behind(db: sqlite3.Connection, id: Id, after: int, bytes_max: int) -> Iterator[bytes]:
    size = 0
    for first, packed, data in db.execute(_EVENTS, {"id": id, "after": after}):
        for line in _lines(packed, data)[max(0, after + 1 - first) :]:
            yield line
            size += len(line)
            if size >= bytes_max:
                return


def _lines(packed: int, data: bytes) -> Sequence[bytes]:
    return (zlib.decompress(data) if packed else data).split(b"\n")


def pack(db: sqlite3.Connection, id: Id) -> list[Chunk]:
    """The whole log in compressed rows, as ``seal`` puts them in place. For a thread that reads: it takes its time."""
    chunks: list[Chunk] = []
    first, lines, size = 0, list[bytes](), 0
    for _, packed, data in db.execute(_ALL_EVENTS, (id,)):
        lines += _lines(packed, data)
        size += len(data)
        if size >= CHUNK_BYTES:
            chunks.append(_chunk(first, lines))
            first, lines, size = first + len(lines), [], 0
    return [*chunks, _chunk(first, lines)] if lines else chunks


def _chunk(first: int, lines: Sequence[bytes]) -> Chunk:
    return Chunk(first, first + len(lines) - 1, 1, zlib.compress(b"\n".join(lines)))


def seal(db: sqlite3.Connection, id: Id, chunks: Sequence[Chunk]) -> None:
    """Put the compressed log in the place of the other, and forget the run; nothing unless it has ended."""
    if db.execute(_SEALED, (id,)).rowcount:
        db.execute(_DROP_EVENTS, (id,))
        db.executemany(_INSERT_EVENTS, [(id, *chunk) for chunk in chunks])


class SqliteRuns(Port):
    """A ``RunStore`` on the threads of a ``SqliteStore``. Looking costs no commit."""

    enqueue = writing(enqueue)

    async def claim(self, node: str, limit: int) -> list[Claimed]:
        """See ``RunStore.claim``."""
        if not await self._read(partial(has_any, status="queued")):
            return []
        return await self._write(partial(claim, node=node, limit=limit))

    append = writing(append)

    finish = writing(finish)
    release = writing(release)

    async def recover(self, node: str) -> list[Unfinished]:
        """See ``RunStore.recover``."""
        if not await self._read(has_any):
            return []
        return await self._write(partial(recover, node=node))

    async def requeue_lost(self, node: str, held: Sequence[Id]) -> list[Unfinished]:
        """See ``RunStore.requeue_lost``."""
        if not await self._read(has_any):
            return []
        return await self._write(partial(requeue_lost, node=node, held=held))

    cancel = writing(cancel)
    read_events = reading(read_events)

    async def seal(self, id: Id) -> None:
        """See ``RunStore.seal``; packed as a read, so that in a file no commit waits for it."""
        chunks = await self._read(partial(pack, id=id))
        await self._write(partial(seal, id=id, chunks=chunks))
