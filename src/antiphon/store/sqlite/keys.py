"""Keys and usage in SQLite, and the two ways to them.

The server goes through its store's threads. The command line opens the database beside a server that may be running:
SQLite lets several processes write in turns, each waiting for the other, and the server looks for changes by itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from antiphon.store.errors import StoreUnavailable
from antiphon.store.keys import COUNTS, Allowance, Charge, ChargeQuery, Key, Spent
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite.connection import Limits, connect, connect_read_only, make_file, translating
from antiphon.store.sqlite.journal import notice_loss_unowned
from antiphon.store.sqlite.lock import FolderInUse, FolderLock
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.store.sqlite.upgrade import bring_up_to_date, revision_of

_STARTING_S, _PAUSE_S = 5.0, 0.05
"""How long a server that is just starting is given to bring the database up to date."""

_COLUMNS = "id, digest, hint, name, project, created_at, revoked_at, rpm, tpm, budget_tokens_per_day"

_KEYS = f"SELECT {_COLUMNS} FROM api_key ORDER BY created_at, id"

_INSERT = f"INSERT INTO api_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_REVOKE = "UPDATE api_key SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL"

_SPEND = f"""
INSERT INTO key_usage (day, key_id, {", ".join(COUNTS)}) VALUES (?, ?, {", ".join("?" * len(COUNTS))})
ON CONFLICT (day, key_id) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)}"""

_USAGE = f"""
SELECT key_id, day, {", ".join(COUNTS)} FROM key_usage
WHERE day BETWEEN :first AND :last ORDER BY day DESC, key_id"""

_CHARGE_COLUMNS = ("response_id", "project", "model", "settled_at", "day", "key_id")

_CHARGE = f"""
INSERT INTO charge ({", ".join((*_CHARGE_COLUMNS, *COUNTS))})
VALUES ({", ".join("?" * (len(_CHARGE_COLUMNS) + len(COUNTS)))})
ON CONFLICT (response_id) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)}"""

_CHOSEN = """
FROM charge WHERE project = :project AND day BETWEEN :first_day AND :last_day
AND (:key_id IS NULL OR key_id = :key_id) AND (:response_id IS NULL OR response_id = :response_id)"""

_CHARGES = f"""
SELECT {", ".join((*_CHARGE_COLUMNS, *COUNTS))} {_CHOSEN}
AND (:after IS NULL OR (settled_at, response_id) < (SELECT settled_at, response_id FROM charge
     WHERE project = :project AND response_id = :after))
ORDER BY settled_at DESC, response_id DESC LIMIT :limit"""

_SUMS = f"""
SELECT model, key_id, day, {", ".join(f"sum({name})" for name in COUNTS)} {_CHOSEN}
GROUP BY day, key_id, model ORDER BY day DESC, key_id, model"""

_FORGET = """
DELETE FROM charge WHERE response_id IN (SELECT response_id FROM charge WHERE settled_at < ? LIMIT ?)"""


def read_keys(db: sqlite3.Connection) -> list[Key]:
    """See ``KeyStore.read_keys``."""
    names = ("id", "digest", "hint", "name", "project", "created_at", "revoked_at")
    return [
        Key(**dict(zip(names, row, strict=False)), allowance=Allowance(rpm=rpm, tpm=tpm, budget_tokens_per_day=budget))
        for *row, rpm, tpm, budget in db.execute(_KEYS)
    ]


def insert(db: sqlite3.Connection, key: Key) -> None:
    """Keep a new key."""
    row = (key.id, key.digest, key.hint, key.name, key.project, key.created_at, key.revoked_at)
    limits = key.allowance
    db.execute(_INSERT, (*row, limits.rpm, limits.tpm, limits.budget_tokens_per_day))


def revoke(db: sqlite3.Connection, id: str, now: int) -> bool:
    """Close a key for ever; False when there is none of that id that is open. ``now`` in Unix seconds."""
    return db.execute(_REVOKE, {"id": id, "now": now}).rowcount > 0


def add_usage(db: sqlite3.Connection, spent: Sequence[Spent], charges: Sequence[Charge] = ()) -> None:
    """See ``UsageStore.add_usage``."""
    db.executemany(_SPEND, [(s.day, s.key_id, *_counts(s)) for s in spent])
    db.executemany(
        _CHARGE,
        [
            (c.response_id, c.project, c.model, c.settled_at, c.spent.day, c.spent.key_id, *_counts(c.spent))
            for c in charges
        ],
    )


def _counts(spent: Spent) -> Iterator[int]:
    return (getattr(spent, name) for name in COUNTS)


def read_usage(db: sqlite3.Connection, first_day: str, last_day: str) -> list[Spent]:
    """See ``UsageStore.read_usage``."""
    names = ("key_id", "day", *COUNTS)
    rows = db.execute(_USAGE, {"first": first_day, "last": last_day})
    return [Spent(**dict(zip(names, row, strict=True))) for row in rows]


def read_charges(db: sqlite3.Connection, query: ChargeQuery, limit: int) -> list[Charge]:
    """See ``UsageStore.read_charges``."""
    rows = db.execute(_CHARGES, msgspec.structs.asdict(query) | {"limit": limit})
    return [
        Charge(
            response_id=id,
            project=project,
            model=model,
            settled_at=settled_at,
            spent=Spent(day=day, key_id=key_id, **dict(zip(COUNTS, counts, strict=True))),
        )
        for id, project, model, settled_at, day, key_id, *counts in rows
    ]


def sum_charges(db: sqlite3.Connection, query: ChargeQuery) -> list[tuple[str, Spent]]:
    """See ``UsageStore.sum_charges``."""
    names = ("key_id", "day", *COUNTS)
    rows = db.execute(_SUMS, msgspec.structs.asdict(query))
    return [(model, Spent(**dict(zip(names, row, strict=True)))) for model, *row in rows]


def forget_charges(db: sqlite3.Connection, before: int, limit: int) -> int:
    """See ``UsageStore.forget_charges``."""
    return db.execute(_FORGET, (before, limit)).rowcount


class SqliteKeys(Port):
    """A ``KeyStore`` on the threads of a ``SqliteStore``."""

    read_keys = reading(read_keys)


class SqliteUsage(Port):
    """A ``UsageStore`` on the threads of a ``SqliteStore``."""

    add_usage = writing(add_usage)
    read_usage = reading(read_usage)
    read_charges = reading(read_charges)
    sum_charges = reading(sum_charges)
    forget_charges = writing(forget_charges)


class KeysBeside:
    """A ``KeyStore``: the keys of a folder whose responses this process does not keep. ``path`` is its database."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read_keys(self) -> Sequence[Key]:
        """See ``KeyStore.read_keys``."""
        return await asyncio.to_thread(read_keys_of, self._path)


def read_keys_of(path: Path) -> list[Key]:
    """The keys in a database that may not exist, or not know of keys yet.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    if not path.exists():
        return []
    with translating(path):
        notice_loss_unowned(path)
        with closing(connect_read_only(path)) as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'api_key'").fetchone()
            return read_keys(db) if known else []


@contextmanager
def open_beside(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that writes, whether or not a server owns the folder; made, and brought up to date, when need be.

    Raises:
        StoreUnavailable: it cannot be; the text says why.
    """
    with translating(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_file(path)
        notice_loss_unowned(path)
        for _ in _wait_until_current(path):
            try:
                lock = FolderLock.take(path.parent)
            except FolderInUse:
                time.sleep(_PAUSE_S)
                continue
            try:
                bring_up_to_date(path, Limits())
            finally:
                lock.release()
    with translating(path), closing(connect(path, Limits())) as db:
        # A server's own connection checkpoints; where there is none, closing this one does.
        db.execute("PRAGMA wal_autocheckpoint = 0")
        yield db


def _wait_until_current(path: Path) -> Iterator[None]:
    """Turns, until the schema is ours. The lock is only asked for when it is not: a server may be about to start."""
    end = time.monotonic() + _STARTING_S
    while True:
        with closing(connect(path, Limits())) as db:
            found = revision_of(db, path)
        if found == HEAD:
            return
        if time.monotonic() > end:
            raise StoreUnavailable(
                f"The server that runs on {path.parent} made its database with schema {found}, and this is schema"
                f" {HEAD}: stop it, then start it with this version."
            )
        yield
