"""Files and uploads as a store keeps them. Their bytes are elsewhere, in blobs that are named after their ids."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import msgspec

from antiphon.store.responses import Slice
from antiphon.wire import Id

UploadStatus: TypeAlias = Literal["pending", "completed", "cancelled", "expired"]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file.

    Attributes:
        bytes: its length.
        created_at, expires_at: Unix seconds; ``expires_at`` None for ever.
    """

    id: Id
    project: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int | None = None


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts.

    Attributes:
        bytes: the length that was announced.
        expires_at: Unix seconds; until then it may be completed.
        file_expires_after_s: how long the file will be kept, from when it is made; None for ever.
        file_id: of the file, once completed.
    """

    id: Id
    project: str
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    status: UploadStatus
    created_at: int
    expires_at: int
    file_expires_after_s: int | None = None
    file_id: Id | None = None


class UploadPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload; its bytes are a blob of the same id."""

    id: Id
    upload_id: Id
    bytes: int
    created_at: int


class FileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of files, by time and id."""

    after: Id | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class FileStore(Protocol):
    """Where files and uploads outlive the process."""

    async def add(self, file: File) -> None:
        """Keep a new file."""
        ...

    async def get(self, project: str, id: Id) -> File | None:
        """The file."""
        ...

    async def list(self, project: str, query: FileQuery) -> Slice[File]:
        """A page of the files.

        Raises:
            UnknownCursor: ``after`` is none of them, nor one that was deleted lately.
        """
        ...

    async def delete(self, project: str, id: Id) -> bool:
        """Forget the file, and all that vector stores hold of it, in one transaction. False when there is none."""
        ...

    async def find_expired(self, now: int, limit: int) -> list[File]:
        """Files whose time is over."""
        ...

    async def add_upload(self, upload: Upload) -> None:
        """Keep a new upload."""
        ...

    async def get_upload(self, project: str, id: Id) -> Upload | None:
        """The upload."""
        ...

    async def add_part(self, part: UploadPart) -> bool:
        """Keep a part; False when its upload is not pending any more."""
        ...

    async def get_parts(self, upload_id: Id) -> list[UploadPart]:
        """All its parts, in the order in which they came."""
        ...

    async def end_upload(self, id: Id, status: UploadStatus, file: File | None = None) -> bool:
        """End a pending upload, with its file where there is one; its parts are forgotten. False when it has ended."""
        ...

    async def find_expired_uploads(self, now: int, limit: int) -> list[Upload]:
        """Pending uploads whose time is over."""
        ...

    async def find_unknown(self, ids: list[Id]) -> list[Id]:
        """Those of the ids that are neither a file's nor a part's."""
        ...
