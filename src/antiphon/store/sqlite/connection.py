"""Connections as we want them, and SQLite's errors in our words."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from antiphon.store.errors import StoreUnavailable

_PRIMARY_CODE = 0xFF

_FREE_BYTES_MIN = 1 << 20
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk, or the database's size limit, is full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a database, or is damaged from its first page on",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "the file's permissions do not allow it",
    sqlite3.SQLITE_AUTH: "the file's permissions do not allow it",
    sqlite3.SQLITE_BUSY: "another program holds the database locked",
    sqlite3.SQLITE_LOCKED: "another program holds the database locked",
    sqlite3.SQLITE_PROTOCOL: "the file system does not lock as SQLite needs it; a network drive?",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}


@dataclass(frozen=True)
class Limits:
    """The bounds of one SQLite store.

    Attributes:
        pending_max: requests that wait for the writer, or for the readers, before callers are held back.
        group_max: requests that share one transaction.
        readers: connections, and threads, that read.
        cache_kib: page cache of the writer's connection, in KiB; each reader has a quarter of it.
        journal_bytes_max: what the write-ahead log is cut back to once it has been copied into the database.
        database_bytes_max: size of the database past which commits are refused; None for SQLite's limit.
    """

    pending_max: int = 1024
    group_max: int = 256
    readers: int = 2
    cache_kib: int = 8192
    journal_bytes_max: int = 64 << 20
    database_bytes_max: int | None = None


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """The error as ``StoreUnavailable``, when the store is to blame and not the request; else None."""
    if isinstance(error, OSError):
        return StoreUnavailable(f"The store is not available: {error}")
    if not isinstance(error, sqlite3.Error):
        return None
    # The sqlite3 module's own errors have no code.
    reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE)
    return StoreUnavailable(f"The store is not available: {reason} ({error}).", reason=reason) if reason else None


def translate_error(error: Exception) -> Exception:
    """The error as a caller of the store shall see it."""
    translation = unavailable(error)
    if translation is None:
        return error
    translation.__cause__ = error
    return translation


@contextmanager
def translating(path: Path) -> Generator[None]:
    """Names the file in what SQLite or the operating system refuses while a store is opened.

    Raises:
        StoreUnavailable: instead of their errors.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        # A page that is mapped and finds no room is an input/output error to SQLite.
        full = " The disk is full." if _is_full(path) else ""
        raise StoreUnavailable(f"{path}: {unavailable(error) or error}{full}") from error


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(path.parent).free < _FREE_BYTES_MIN
    return False


def make_file(path: Path) -> None:
    """Make the database's file, empty, or leave what is in it; either way it is for its owner's eyes alone."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "posix" and os.fstat(handle).st_uid == os.geteuid():
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def connect(path: Path, limits: Limits) -> sqlite3.Connection:
    """The connection that writes: durable at every commit, even when the power fails.

    Raises:
        sqlite3.Error: the file is no database, or cannot be written.
    """
    db = _open(path)
    try:
        _prepare(db, limits)
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path, limits: Limits) -> sqlite3.Connection:
    """A connection that cannot write; to the operating system it can, since readers share the log's index."""
    return _prepare_reader(_open(path), limits)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves the files as they are, the write-ahead log too when it is the last that closes."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    return _prepare_reader(db, Limits())


def _prepare_reader(db: sqlite3.Connection, limits: Limits) -> sqlite3.Connection:
    db.execute(f"PRAGMA cache_size = -{limits.cache_kib // 4}")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA query_only = ON")
    return db


def connect_memory() -> sqlite3.Connection:
    """An empty database that no other connection sees."""
    db = _open(Path(":memory:"))
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def prepare_memory(db: sqlite3.Connection, limits: Limits) -> None:
    """Set the bound, once the tables are there."""
    db.execute("PRAGMA secure_delete = ON")
    _bound(db, limits)


def _open(path: Path) -> sqlite3.Connection:
    # Opened in one thread, used in another, never in two at a time. Transactions are ours, not the module's.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)


def _prepare(db: sqlite3.Connection, limits: Limits) -> None:
    if db.execute("PRAGMA page_count").fetchone() == (0,):
        # An empty file alone takes it; a database that was made without it is rebuilt by ``antiphon migrate``.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(f"The file system does not allow a write-ahead log (journal mode {mode}).")
    db.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
    db.execute("PRAGMA foreign_keys = ON")
    # What was deleted shall not linger in free pages.
    db.execute("PRAGMA secure_delete = ON")
    db.execute(f"PRAGMA cache_size = -{limits.cache_kib}")
    db.execute(f"PRAGMA journal_size_limit = {limits.journal_bytes_max}")
    _bound(db, limits)


def _bound(db: sqlite3.Connection, limits: Limits) -> None:
    if limits.database_bytes_max is not None:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        db.execute(f"PRAGMA max_page_count = {max(1, limits.database_bytes_max // page_bytes)}")
