"""How large a database is, and how free space goes back to the system."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STEP_PAGES = 1024
"""How many pages one step gives back: each may have to be moved, through the write-ahead log."""


class Size(NamedTuple):
    """A database's sizes in bytes: what its content takes, and what the files take; 0 for none."""

    used_bytes: int
    file_bytes: int


def size(db: sqlite3.Connection) -> Size:
    """How large it is now, as this connection sees it."""
    pages, free, page_bytes = (_number(db, name) for name in ("page_count", "freelist_count", "page_size"))
    path: str = db.execute("PRAGMA database_list").fetchone()[2]
    files = [Path(path + end) for end in ("", "-wal")] if path else []
    return Size((pages - free) * page_bytes, sum(map(_bytes_of, files)))


def can_shrink(db: sqlite3.Connection) -> bool:
    """Whether free space can go back without rebuilding the database."""
    return _number(db, "auto_vacuum") == 2


def shrink(db: sqlite3.Connection, keep_bytes: int) -> int:
    """Give back one step of what is free beyond ``keep_bytes``; says how many bytes."""
    if not can_shrink(db):
        return 0
    page_bytes, free = _number(db, "page_size"), _number(db, "freelist_count")
    pages = min(STEP_PAGES, free - keep_bytes // page_bytes)
    if pages <= 0:
        return 0
    # Each row that is fetched frees a page.
    db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    return (free - _number(db, "freelist_count")) * page_bytes


def scrub(db: sqlite3.Connection) -> bool:
    """Copy the write-ahead log into the database and empty it, so that neither holds what was deleted: in the database
    its place is overwritten. Not within a transaction. False when somebody who reads keeps the log.
    """
    (busy, *_) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _number(db: sqlite3.Connection, name: str) -> int:
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return value


def _bytes_of(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
