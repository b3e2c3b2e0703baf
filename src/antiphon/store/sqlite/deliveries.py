"""Deliveries of webhooks in SQLite. The command line reads them too, beside a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter

import msgspec

from antiphon.store.deliveries import NO_ENDPOINT, TOO_OLD, Attempt, Delivery, DeliveryStatus
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.wire import Id

_FIELDS = Delivery.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)

_INSERT = f"INSERT INTO delivery ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"

_WAITING = f"""
SELECT {_COLUMNS} FROM delivery WHERE endpoint = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT ?"""

_ATTEMPTED = """
UPDATE delivery SET status = :status, due_at = :due_at, attempts = :number, outcome = :outcome,
  settled_at = CASE WHEN :due_at IS NULL THEN :at END
WHERE id = :id AND due_at IS NOT NULL AND attempts = :number - 1"""
_RECORD = "INSERT INTO delivery_attempt (delivery_id, number, at, outcome) VALUES (?, ?, ?, ?)"

_GIVE_UP = f"""
UPDATE delivery SET status = 'given_up', due_at = NULL, settled_at = :at,
  outcome = CASE WHEN created_at < :before THEN '{TOO_OLD}' ELSE '{NO_ENDPOINT}' END
WHERE id IN (
  SELECT id FROM delivery WHERE due_at IS NOT NULL
    AND (created_at < :before OR endpoint NOT IN (SELECT value FROM json_each(:endpoints)))
  LIMIT :limit)"""

_FORGET = """
DELETE FROM delivery WHERE id IN (SELECT id FROM delivery WHERE settled_at < ? LIMIT ?)"""

_RECENT = f"""
SELECT {", ".join(f"d.{name}" for name in _FIELDS)}, a.number, a.at, a.outcome
FROM (SELECT * FROM delivery ORDER BY created_at DESC, id DESC LIMIT ?) d
LEFT JOIN delivery_attempt a ON a.delivery_id = d.id
ORDER BY d.created_at DESC, d.id DESC, a.number"""

_COUNT = "SELECT count(*) FROM delivery WHERE due_at IS NOT NULL"
_ANY = """
SELECT EXISTS (SELECT 1 FROM delivery WHERE due_at IS NOT NULL), EXISTS (
  SELECT 1 FROM delivery WHERE settled_at < ?)"""


def insert(db: sqlite3.Connection, deliveries: Sequence[Delivery]) -> None:
    """Keep new ones."""
    db.executemany(_INSERT, [msgspec.structs.astuple(delivery) for delivery in deliveries])


def read_waiting(db: sqlite3.Connection, endpoint: str, limit: int) -> list[Delivery]:
    """See ``DeliveryStore.read_waiting``."""
    return [_delivery(row) for row in db.execute(_WAITING, (endpoint, limit))]


def _delivery(row: Sequence[object]) -> Delivery:
    return msgspec.convert(dict(zip(_FIELDS, row, strict=True)), Delivery)


def record_attempt(
    db: sqlite3.Connection, id: Id, attempt: Attempt, status: DeliveryStatus, due_at: int | None
) -> None:
    """See ``DeliveryStore.record_attempt``."""
    named = msgspec.structs.asdict(attempt) | {"id": id, "status": status, "due_at": due_at}
    if db.execute(_ATTEMPTED, named).rowcount:
        db.execute(_RECORD, (id, attempt.number, attempt.at, attempt.outcome))


def give_up(db: sqlite3.Connection, endpoints: Sequence[str], before: int, at: int, limit: int) -> int:
    """See ``DeliveryStore.give_up``."""
    listed = msgspec.json.encode(list(endpoints)).decode()
    return db.execute(_GIVE_UP, {"endpoints": listed, "before": before, "at": at, "limit": limit}).rowcount


def forget(db: sqlite3.Connection, before: int, limit: int) -> int:
    """See ``DeliveryStore.forget``."""
    return db.execute(_FORGET, (before, limit)).rowcount


def read_recent(db: sqlite3.Connection, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
    """See ``DeliveryStore.read_recent``."""
    rows = db.execute(_RECENT, (limit,)).fetchall()
    return [_with_attempts(list(group)) for _, group in groupby(rows, key=itemgetter(0))]


def _with_attempts(rows: Sequence[Sequence[object]]) -> tuple[Delivery, Sequence[Attempt]]:
    width = len(_FIELDS)
    attempts = [msgspec.convert(dict(zip(Attempt.__struct_fields__, row[width:], strict=True)), Attempt)
                for row in rows if row[width] is not None]  # fmt: skip
    return _delivery(rows[0][:width]), attempts


def count_waiting(db: sqlite3.Connection) -> int:
    """See ``DeliveryStore.count_waiting``."""
    return db.execute(_COUNT).fetchone()[0]


def has_any(db: sqlite3.Connection, before: int) -> tuple[bool, bool]:
    """Whether any waits, and whether any was settled before that time."""
    some, old = db.execute(_ANY, (before,)).fetchone()
    return bool(some), bool(old)


class SqliteDeliveries(Port):
    """A ``DeliveryStore`` on the threads of a ``SqliteStore``. Looking costs no commit."""

    read_waiting = reading(read_waiting)
    record_attempt = writing(record_attempt)

    async def give_up(self, endpoints: Sequence[str], *, before: int, at: int, limit: int) -> int:
        """See ``DeliveryStore.give_up``."""
        some, _ = await self._read(partial(has_any, before=0))
        if not some:
            return 0
        return await self._write(partial(give_up, endpoints=endpoints, before=before, at=at, limit=limit))

    async def forget(self, before: int, limit: int) -> int:
        """See ``DeliveryStore.forget``."""
        _, old = await self._read(partial(has_any, before=before))
        return await self._write(partial(forget, before=before, limit=limit)) if old else 0

    read_recent = reading(read_recent)
    count_waiting = reading(count_waiting)
