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
from typing import Literal, NamedTuple, Self

from antiphon.store import Claim, Conversation, Page, Record, Selection, Slice, StoredItem, StoreStats
from antiphon.store.claims import Claims
from antiphon.store.deliveries import Delivery
from antiphon.store.runs import Batch, Claimed, Excerpt, NewRun, Unfinished
from antiphon.store.sqlite import conversations, runs, space, statements, threads
from antiphon.store.sqlite.connection import (
    Limits,
    connect,
    connect_memory,
    connect_reader,
    make_file,
    prepare_memory,
    translating,
)
from antiphon.store.sqlite.deliveries import SqliteDeliveries
from antiphon.store.sqlite.keys import SqliteKeys, Threads
from antiphon.store.sqlite.lane import Lane
from antiphon.store.sqlite.lock import UNIX, FolderInUse, FolderLock, Owner, owner_of
from antiphon.store.sqlite.upgrade import bring_up_to_date, create_tables
from antiphon.telemetry.metrics import Histogram
from antiphon.wire import Id
from antiphon.wire.listing import ListQuery

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
        # The folder has one owner process, so that claims need not be written down.
        self._claims = Claims()
        self._groups = Histogram("antiphon_store_group_size", "Requests that shared one transaction.", GROUP_SIZES)
        commits = partial(threads.commit_in_groups, opened.writer, limits.group_max, self._groups)
        reads = [partial(threads.read, reader) for reader in opened.readers]
        self._writer = Lane("antiphon-store-writer", limits.pending_max, [commits])
        self._readers = Lane("antiphon-store-reader", limits.pending_max, reads) if reads else None
        self._write = self._writer.run
        self._read: Threads = self._readers.run if self._readers else partial(self._writer.run, alone=True)
        self.keys = SqliteKeys(self._read, self._write)
        self.deliveries = SqliteDeliveries(self._read, self._write)

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

    async def commit(self, record: Record) -> None:
        """See ``ResponseStore.commit``."""
        await self._write(partial(statements.commit, record=record))

    async def get(self, owner: str, id: Id) -> Record | None:
        """See ``ResponseStore.get``."""
        return await self._read(partial(statements.get, owner=owner, id=id))

    async def items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ResponseStore.items``."""
        page = partial(statements.items, owner=owner, id=id, after=after, limit=limit, order=order)
        return await self._read(page)

    async def history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.history``."""
        return await self._read(partial(statements.history, owner=owner, id=id))

    async def context(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.context``."""
        return await self._read(partial(statements.context, owner=owner, id=id))

    async def delete(self, owner: str, id: Id) -> bool:
        """See ``ResponseStore.delete``."""
        return await self._write(partial(statements.delete, owner=owner, id=id))

    async def purge(self, selection: Selection, limit: int) -> int:
        """See ``ResponseStore.purge``."""
        # Where nothing points to what is chosen, looking for it takes as long as there are responses.
        while found := await self._read(partial(statements.chosen, selection=selection, limit=limit)):
            if deleted := await self._write(partial(statements.delete_all, ids=found)):
                return deleted
        return 0

    async def records(self, *, after: Id | None, limit: int) -> list[Record]:
        """See ``ResponseStore.records``."""
        return await self._read(partial(statements.records, after=after, limit=limit))

    async def shrink(self, keep_bytes: int) -> int:
        """See ``ResponseStore.shrink``; databases made before schema 0004 give back only when they are rebuilt."""
        return await self._write(partial(space.shrink, keep_bytes=keep_bytes))

    async def scrub(self) -> bool:
        """See ``ResponseStore.scrub``; False while another program reads the database."""
        return await self._writer.run(space.scrub, alone=True)

    async def stats(self) -> StoreStats:
        """See ``ResponseStore.figures``."""
        size = await self._read(space.size)
        return StoreStats(
            used_bytes=size.used_bytes,
            file_bytes=size.file_bytes,
            writes=self._writer.pending,
            reads=self._readers.pending if self._readers else 0,
            deliveries=await self.deliveries.count(),
            groups=self._groups,
        )

    async def responses(self, owner: str, query: ListQuery) -> Slice[Record]:
        """See ``ResponseStore.responses``."""
        return await self._read(partial(statements.responses, owner=owner, query=query))

    async def create_conversation(self, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """See ``ConversationStore.create_conversation``."""
        await self._write(partial(conversations.create, conversation=conversation, items=items))

    async def conversation(self, owner: str, id: Id) -> Conversation | None:
        """See ``ConversationStore.conversation``."""
        return await self._read(partial(conversations.get, owner=owner, id=id))

    async def conversations(self, owner: str, query: ListQuery) -> Slice[Conversation]:
        """See ``ConversationStore.conversations``."""
        return await self._read(partial(conversations.conversations, owner=owner, query=query))

    async def update_conversation(self, owner: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
        """See ``ConversationStore.update_conversation``."""
        return await self._write(partial(conversations.update, owner=owner, id=id, metadata=metadata))

    async def delete_conversation(self, owner: str, id: Id) -> bool:
        """See ``ConversationStore.delete_conversation``."""
        return await self._write(partial(conversations.delete, owner=owner, id=id))

    async def append(self, owner: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        """See ``ConversationStore.append``."""
        await self._write(partial(conversations.append, owner=owner, id=id, items=items, at=at))

    async def conversation_items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ConversationStore.conversation_items``."""
        page = partial(conversations.items, owner=owner, id=id, after=after, limit=limit, order=order)
        return await self._read(page)

    async def conversation_history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ConversationStore.conversation_history``."""
        return await self._read(partial(conversations.history, owner=owner, id=id))

    async def conversation_item(self, owner: str, id: Id, item_id: Id) -> StoredItem | None:
        """See ``ConversationStore.conversation_item``."""
        return await self._read(partial(conversations.item, owner=owner, id=id, item_id=item_id))

    async def remove_item(self, owner: str, id: Id, item_id: Id) -> bool:
        """See ``ConversationStore.remove_item``."""
        return await self._write(partial(conversations.remove_item, owner=owner, id=id, item_id=item_id))

    async def idle(self, limit: int) -> list[Conversation]:
        """See ``ConversationStore.idle``."""
        return await self._read(partial(conversations.idle, limit=limit))

    async def referenced(self, owner: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
        """See ``ConversationStore.referenced``."""
        return await self._read(partial(conversations.referenced, owner=owner, ids=ids))

    async def claim(self, owner: str, id: Id) -> Claim:
        """See ``ConversationStore.claim``."""
        return self._claims.take(owner, id)

    async def enqueue(self, run: NewRun, *, queued_max: int, per_project_max: int) -> None:
        """See ``RunStore.enqueue``."""
        await self._write(partial(runs.enqueue, run=run, queued_max=queued_max, per_project_max=per_project_max))

    async def claim_runs(self, node: str, limit: int) -> list[Claimed]:
        """See ``RunStore.claim_runs``. Looking costs no commit."""
        if not await self._read(partial(runs.any_of, status="queued")):
            return []
        return await self._write(partial(runs.claim, node=node, limit=limit))

    async def log(self, id: Id, epoch: int, batch: Batch, progress: bytes | None = None) -> None:
        """See ``RunStore.log``."""
        await self._write(partial(runs.log, id=id, epoch=epoch, batch=batch, progress=progress))

    async def finish(
        self,
        id: Id,
        epoch: int,
        batch: Batch,
        record: Record,
        expires_at: int | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        """See ``RunStore.finish``."""
        end = partial(runs.finish, id=id, epoch=epoch, batch=batch, record=record)
        await self._write(partial(end, expires_at=expires_at, new=deliveries))

    async def release(self, id: Id, epoch: int) -> None:
        """See ``RunStore.release``."""
        await self._write(partial(runs.release, id=id, epoch=epoch))

    async def recover(self, node: str) -> list[Unfinished]:
        """See ``RunStore.recover``. Looking costs no commit."""
        if not await self._read(runs.any_of):
            return []
        return await self._write(partial(runs.recover, node=node))

    async def sweep(self, node: str, held: Sequence[Id]) -> list[Unfinished]:
        """See ``RunStore.sweep``. Looking costs no commit."""
        if not await self._read(runs.any_of):
            return []
        return await self._write(partial(runs.sweep, node=node, held=held))

    async def cancel(self, owner: str, id: Id) -> int | None:
        """See ``RunStore.cancel``."""
        return await self._write(partial(runs.cancel, owner=owner, id=id))

    async def events(self, owner: str, id: Id, *, after: int, bytes_max: int) -> Excerpt | None:
        """See ``RunStore.events``."""
        return await self._read(partial(runs.events, owner=owner, id=id, after=after, bytes_max=bytes_max))

    async def seal(self, id: Id) -> None:
        """See ``RunStore.seal``; packed by a reader, so that no commit waits for it."""
        chunks = await self._read(partial(runs.packed, id=id))
        await self._write(partial(runs.seal, id=id, chunks=chunks))

    async def close(self) -> None:
        """See ``ResponseStore.close``; the folder is free when it returns."""
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
