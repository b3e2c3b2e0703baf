"""A look into a database without owning it, beside a running server too. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from antiphon.store.deliveries import Attempt, Delivery
from antiphon.store.errors import StoreUnavailable
from antiphon.store.migrations import HEAD
from antiphon.store.responses import Record
from antiphon.store.sqlite import deliveries, retention, space
from antiphon.store.sqlite.connection import connect_read_only, translating
from antiphon.store.sqlite.journal import notice_loss_unowned
from antiphon.store.sqlite.upgrade import revision_of

STEP_RESPONSES = 50
FAULTS_MAX = 10


@contextmanager
def open_read_only(path: Path) -> Generator[sqlite3.Connection]:
    """A connection that only reads.

    Raises:
        StoreUnavailable: there is no such file, or it is no database.
    """
    if not path.is_file():
        raise StoreUnavailable(f"There is no database {path}.")
    with translating(path):
        notice_loss_unowned(path)
        with closing(connect_read_only(path)) as db:
            yield db


def read_revision(path: Path) -> str | None:
    """The schema's revision; None for a database without tables.

    Raises:
        StoreUnavailable: no database, or another program's.
    """
    with open_read_only(path) as db:
        return revision_of(db, path)


def can_shrink(path: Path) -> bool:
    """Whether the database can give free space back by itself.

    Raises:
        StoreUnavailable: no database.
    """
    with open_read_only(path) as db:
        return space.can_shrink(db)


def check_integrity(path: Path) -> list[str]:
    """What SQLite finds wrong with the file, in its words; reads all of it.

    Raises:
        StoreUnavailable: no database.
    """
    with open_read_only(path) as db:
        found = [text for (text,) in db.execute(f"PRAGMA integrity_check({FAULTS_MAX})") if text != "ok"]
        dangling = db.execute("PRAGMA foreign_key_check").fetchmany(FAULTS_MAX)
        return [*found, *(f"row {row} of {table} points at nothing" for table, row, *_ in dangling)]


def read_recent_deliveries(path: Path, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
    """The newest deliveries of webhooks; none where there is no database, or one that does not know of them.

    Raises:
        StoreUnavailable: no database.
    """
    if not path.exists():
        return []
    with open_read_only(path) as db:
        known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'delivery'").fetchone()
        return deliveries.read_recent(db, limit) if known else []


def read_all_records(path: Path) -> Iterator[Record]:
    """Every visible response of every project, whole, in the order of their ids.

    Raises:
        StoreUnavailable: no database, or one of another schema.
    """
    with open_read_only(path) as db:
        found = revision_of(db, path)
        if found != HEAD:
            raise StoreUnavailable(f"{path} has schema {found} where {HEAD} is needed; run antiphon migrate.")
        after: str | None = None
        while step := retention.read_records(db, after=after, limit=STEP_RESPONSES):
            yield from step
            after = step[-1].id
