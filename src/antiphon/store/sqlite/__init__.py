"""Everything that is stored, in one SQLite database: a file that one process owns, or this process's memory.

Commits go through one thread that groups them. In a file, reads have their own connections and never wait for a commit;
in memory, where a commit waits for no disk, one connection and its thread do both.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple, Self

from antiphon.store.sqlite import journal, space, threads
from antiphon.store.sqlite.connection import (
    Limits,
    connect,
    connect_memory,
    connect_reader,
    make_file,
    prepare_memory,
    translating,
)
from antiphon.store.sqlite.conversations import SqliteConversations
from antiphon.store.sqlite.deliveries import SqliteDeliveries
from antiphon.store.sqlite.executor import Executor
from antiphon.store.sqlite.files import SqliteFiles
from antiphon.store.sqlite.index import SqliteIndex
from antiphon.store.sqlite.items import SqliteItems
from antiphon.store.sqlite.keys import SqliteKeys, SqliteUsage
from antiphon.store.sqlite.lock import UNIX, FolderInUse, FolderLock, Owner, owner_of
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.responses import SqliteResponses
from antiphon.store.sqlite.retention import SqliteRetention
from antiphon.store.sqlite.runs import SqliteRuns
from antiphon.store.sqlite.upgrade import bring_up_to_date, create_tables
from antiphon.store.sqlite.vector_stores import SqliteVectorStores
from antiphon.telemetry.meter import StoreStats
from antiphon.telemetry.metrics import Histogram

__all__ = ["DATABASE_NAME", "UNIX", "FolderInUse", "Limits", "Owner", "SqliteStore", "database_of", "owner_of"]

DATABASE_NAME = "antiphon.db"
"""The database's file in its folder; ``-wal`` and ``-shm`` beside it belong to it."""


MEMORY_BYTES_MAX = 1 << 30
"""What a database in memory may take, unless told."""

GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def database_of(folder: Path) -> Path:
    """The database's path."""
    return folder / DATABASE_NAME


class Opened(NamedTuple):
    """What a store works with: a database with our tables. ``lock`` is None, and there are no readers, in memory."""

    lock: FolderLock | None
    writer: sqlite3.Connection
    readers: Sequence[sqlite3.Connection]


class SqliteStore:
    """A ``Store``. Made by ``open`` or ``in_memory``; belongs to the event loop that did it."""

    def __init__(self, opened: Opened, limits: Limits) -> None:
        self._lock = opened.lock
        self._groups = Histogram("antiphon_store_group_size", "Requests that shared one transaction.", GROUP_SIZES)
        commits = partial(threads.commit_in_groups, opened.writer, limits.group_max, self._groups)
        reads = [partial(threads.read, reader) for reader in opened.readers]
        self._writer = Executor("antiphon-store-writer", limits.pending_max, [commits])
        self._readers = Executor("antiphon-store-reader", limits.pending_max, reads) if reads else None
        write = self._writer.run
        read = self._read = self._readers.run if self._readers else partial(self._writer.run, alone=True)
        places = Places()
        self.responses = SqliteResponses(read, write, places)
        self.items = SqliteItems(read, write)
        self.conversations = SqliteConversations(read, write, places)
        self.runs = SqliteRuns(read, write)
        self.deliveries = SqliteDeliveries(read, write)
        self.keys = SqliteKeys(read, write)
        self.usage = SqliteUsage(read, write)
        self.files = SqliteFiles(read, write, places)
        self.vector_stores = SqliteVectorStores(read, write, places)
        self.index = SqliteIndex(read)
        self.retention = SqliteRetention(read, self._writer, places)

    @classmethod
    async def open(cls, folder: Path, *, limits: Limits | None = None) -> Self:
        """Own the folder, make it when it is missing, and bring its database up to date.

        Raises:
            FolderInUse: another process owns it, or another store of this process.
            StoreUnavailable: no database, damaged, of a newer schema, or not writable; the text says which.
        """
        limits = limits or Limits()
        path = database_of(folder)
        with translating(path):
            opened = await asyncio.to_thread(open_file, path, limits)
        return cls(opened, limits)

    @classmethod
    async def in_memory(cls, *, bytes_max: int = MEMORY_BYTES_MAX) -> Self:
        """An empty store that ends with the process, or with ``close``.

        Args:
            bytes_max: what the database may take; writes past it are refused, as by a full disk.
        """
        limits = Limits(database_bytes_max=bytes_max)
        return cls(await asyncio.to_thread(open_memory, limits), limits)

    def announce(self, url: str, token: str | None = None) -> None:
        """Tell other processes, through ``owner_of``, the base URL under which this one serves, and a token that
        proves to it that they may read this folder.
        """
        if self._lock is not None:
            self._lock.announce(url, token)

    async def read_stats(self) -> StoreStats:
        """See ``Store.read_stats``."""
        size = await self._read(space.size)
        return StoreStats(
            used_bytes=size.used_bytes,
            file_bytes=size.file_bytes,
            writes=self._writer.pending,
            reads=self._readers.pending if self._readers else 0,
            deliveries=await self.deliveries.count_waiting(),
            groups=self._groups,
        )

    async def close(self) -> None:
        """See ``Store.close``; the folder is free when it returns."""
        # The writer's connection is the last, and folds the write-ahead log into the database.
        if self._readers:
            await self._readers.close()
        await self._writer.close()
        if self._lock is not None:
            self._lock.release()


def open_file(path: Path, limits: Limits) -> Opened:
    """Own the database's folder and bring the database up to date.

    Raises:
        FolderInUse, StoreUnavailable, sqlite3.Error, OSError: nothing is open.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = FolderLock.take(path.parent)
        undo.callback(lock.release)
        make_file(path)
        journal.notice_loss(path)
        bring_up_to_date(path, limits)
        writer = undo.enter_context(closing(connect(path, limits)))
        readers = [undo.enter_context(closing(connect_reader(path, limits))) for _ in range(limits.readers)]
        undo.pop_all()
    return Opened(lock, writer, readers)


def open_memory(limits: Limits) -> Opened:
    """A database of this process's memory with our tables, and nothing in them."""
    db = connect_memory()
    _empty_database().backup(db)
    prepare_memory(db, limits)
    return Opened(None, db, ())


@cache
def _empty_database() -> sqlite3.Connection:
    """What every database in memory begins as: the migrations are done once for all of them."""
    db = connect_memory()
    create_tables(db)
    return db
