"""Vector stores, the files in them, and batches of files, as a store keeps them; and the work of taking files in.

A file in a vector store has a generation, which rises each time that it is to be taken in again. What is written under
a generation can be found once the file is completed with it, and not before; the transaction that completes it removes
what was there of earlier ones. All counts come from the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from antiphon.store.responses import Slice
from antiphon.wire import Id

FileStatus: TypeAlias = Literal["in_progress", "completed", "failed", "cancelled"]
StoreStatus: TypeAlias = Literal["in_progress", "completed", "expired"]
AttributeValue: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, AttributeValue]
STATUSES: tuple[FileStatus, ...] = ("in_progress", "completed", "failed", "cancelled")


CHUNKS_READ_MAX = 256
"""Chunks of a file that are read at once."""


class VectorStore(msgspec.Struct, frozen=True, kw_only=True):
    """A vector store.

    Attributes:
        created_at, last_active_at: Unix seconds.
        expires_days: days without use after which it expires; None for ever.
        embedder: whose vectors it holds, pinned when it was made; empty: none, it is searched by words alone.
        usage_bytes, counts: of its files, by status.
    """

    id: Id
    project: str
    name: str
    description: str | None = None
    metadata: dict[str, str] = {}
    expires_days: int | None = None
    created_at: int
    last_active_at: int
    embedder: str = ""
    usage_bytes: int = 0
    counts: dict[str, int] = {}

    @property
    def expires_at(self) -> int | None:
        """When it expires unless it is used before, in Unix seconds."""
        return None if self.expires_days is None else self.last_active_at + self.expires_days * 86400

    def status(self, now: float) -> StoreStatus:
        """Whether it can be used, and whether files are still being taken in."""
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "in_progress" if self.counts.get("in_progress") else "completed"


class Chunking(msgspec.Struct, frozen=True):
    """How a file is cut; ``is_auto``: nothing was asked for."""

    size: int = 800
    overlap: int = 400
    is_auto: bool = True


class StoreFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a vector store; ``id`` is the file's.

    Attributes:
        stage, done, total: how far taking it in has come.
    """

    id: Id
    vector_store_id: Id
    filename: str = ""
    created_at: int
    status: FileStatus = "in_progress"
    error_code: str | None = None
    error_message: str = ""
    attributes: dict[str, Any] = {}
    chunking: Chunking = Chunking()
    usage_bytes: int = 0
    stage: str = "queued"
    done: int = 0
    total: int = 0


class FileBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were added together."""

    id: Id
    vector_store_id: Id
    created_at: int
    is_cancelled: bool = False
    counts: dict[str, int] = {}


class StoreFileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the files in a store, or of a batch, by time and id."""

    after: Id | None = None
    before: Id | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    filter: FileStatus | None = None
    batch: Id | None = None


class ListingQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of vector stores, by time and id."""

    after: Id | None = None
    before: Id | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"


class UnknownFiles(Exception):
    """There are no such files; nothing was changed."""

    def __init__(self, ids: Sequence[Id]) -> None:
        super().__init__(", ".join(ids))
        self.ids = ids


class IngestionJob(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be taken in, leased to a worker.

    Attributes:
        key: of the file in its vector store; with ``generation``, what is written belongs to it.
        attempts: how often it was begun, this time included.
    """

    key: int
    generation: int
    file_id: Id
    filename: str
    bytes: int
    chunking: Chunking
    embedder: str
    attempts: int


class ChunkRow(msgspec.Struct, frozen=True):
    """A chunk as it is kept; ``ordinal`` from 0."""

    ordinal: int
    start: int
    end: int
    text: str
    tokens: int
    page: int | None
    heading: str


class PassageRow(msgspec.Struct, frozen=True):
    """An embedded window: its vector as float16, for the chunks with the ordinals ``first`` to ``last``."""

    digest: bytes
    first: int
    last: int
    vector: bytes


class VectorStoreStore(Protocol):
    """Where vector stores outlive the process."""

    async def create(self, store: VectorStore) -> None:
        """Keep a new one."""
        ...

    async def get(self, project: str, id: Id) -> VectorStore | None:
        """The vector store."""
        ...

    async def list(self, project: str, query: ListingQuery) -> Slice[VectorStore]:
        """A page of them.

        Raises:
            UnknownCursor: ``after`` or ``before`` is none of them, nor one that was deleted lately.
        """
        ...

    async def update(self, project: str, id: Id, changes: Mapping[str, Any]) -> VectorStore | None:
        """Change ``name``, ``metadata`` or ``expires_days``; as it is now."""
        ...

    async def touch(self, ids: Sequence[Id], now: int) -> None:
        """They are used at that time, in Unix seconds."""
        ...

    async def delete(self, project: str, id: Id) -> bool:
        """Forget it with all that it holds, in one transaction; the files themselves stay."""
        ...

    async def reindex(self, project: str, id: Id, embedder: str) -> bool:
        """Pin it to another embedder: its vectors go, and its files are to be ingested again, found by words until
        then. False when there is none.
        """
        ...

    async def add_files(
        self, project: str, id: Id, files: Sequence[StoreFile], now: int, batch: Id | None = None
    ) -> None:
        """Add files, to be taken in; one that is there, or on its way, with the same settings stays as it is.

        Raises:
            UnknownFiles: some are not there.
        """
        ...

    async def get_file(self, project: str, id: Id, file_id: Id) -> StoreFile | None:
        """A file of the vector store."""
        ...

    async def list_files(self, project: str, id: Id, query: StoreFileQuery) -> Slice[StoreFile]:
        """A page of them.

        Raises:
            UnknownCursor: ``after`` or ``before`` is none of them, nor one that was deleted lately.
        """
        ...

    async def set_attributes(self, project: str, id: Id, file_id: Id, attributes: Attributes) -> StoreFile | None:
        """Replace the attributes; the file as it is now."""
        ...

    async def remove_file(self, project: str, id: Id, file_id: Id) -> bool:
        """Take a file out, with all that was kept of it; the file itself stays."""
        ...

    async def read_chunks(
        self, project: str, id: Id, file_id: Id, after: int = -1, limit: int = CHUNKS_READ_MAX
    ) -> Sequence[ChunkRow] | None:
        """The next chunks behind the ordinal ``after`` of a file that can be found; None when it is not there."""
        ...

    async def get_batch(self, project: str, id: Id, batch_id: Id) -> FileBatch | None:
        """A batch of the vector store."""
        ...

    async def cancel_batch(self, project: str, id: Id, batch_id: Id) -> bool:
        """Cancel those of its files that are not done; False when there is no such batch."""
        ...

    async def claim(self, now: int, until: int, limit: int) -> Sequence[IngestionJob]:
        """Up to ``limit`` files that nobody takes in, in the order in which they came, leased until then."""
        ...

    async def progress(self, job: IngestionJob, until: int, stage: str, done: int, total: int) -> bool:
        """How far the work has come; the lease goes on until then. False when the file is not ours any more."""
        ...

    async def find_vectors(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors of those digests that are kept anywhere."""
        ...

    async def add_chunks(self, job: IngestionJob, chunks: Sequence[ChunkRow]) -> bool:
        """Keep chunks that were not kept yet; False when the file is not ours any more."""
        ...

    async def add_passages(self, job: IngestionJob, passages: Sequence[PassageRow]) -> bool:
        """The same for windows."""
        ...

    async def complete(self, job: IngestionJob, usage_bytes: int) -> bool:
        """What was kept can be found from now on, and nothing else of the file; False when it is not ours any more."""
        ...

    async def fail(self, job: IngestionJob, code: str, message: str) -> None:
        """The file cannot be taken in; what was kept of this generation is removed."""
        ...

    async def release(self, job: IngestionJob, run_after: int, *, counts: bool = True) -> None:
        """Somebody else may take it up from then on; ``counts``: this was an attempt."""
        ...

    async def recover(self) -> None:
        """Leases of workers that ended with the process are over. Needs a single process."""
        ...

    async def tidy(self) -> bool:
        """Remove a little of what is left behind by what was deleted; whether there is more."""
        ...

    async def expire(self, now: int) -> int:
        """Empty vector stores whose time is over; says how many."""
        ...
