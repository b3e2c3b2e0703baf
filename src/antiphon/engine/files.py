"""Files and uploads: what the endpoints do, and what of files reaches a model."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from antiphon.files.blobs import BlobMissing, BlobStore
from antiphon.retention.files import FileSweeper
from antiphon.store import Slice, StoreUnavailable, UnknownCursor
from antiphon.store.availability import ask_store, to_unavailable
from antiphon.store.files import File, FileQuery, FileStore, Upload, UploadPart
from antiphon.wire import Id
from antiphon.wire.errors import BodyTooLarge, InvalidRequest, NotFound
from antiphon.wire.files import PARTS_MAX, CompletedUpload, FileExpiry, FileForm, FileListQuery, NewUpload, plain_name

log = logging.getLogger("antiphon.files")

UPLOAD_LIFETIME_S = 3600
PART_BYTES_MAX = 64 << 20
BATCH_LIFETIME_S = 30 * 86400


class Files:
    """The files of a store. Every method takes the ``project`` it acts for.

    Args:
        clock: Unix seconds.
        file_bytes_max: of one file; ``upload_bytes_max``: of one that comes in parts.
    """

    def __init__(
        self,
        store: FileStore,
        blobs: BlobStore,
        sweeper: FileSweeper,
        ids: Callable[[str], Id],
        clock: Callable[[], float],
        *,
        file_bytes_max: int,
        upload_bytes_max: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._sweeper = sweeper
        self._ids = ids
        self._clock = clock
        self.file_bytes_max = file_bytes_max
        self._upload_bytes_max = upload_bytes_max

    def new_id(self) -> Id:
        """The id of a file that is about to come."""
        return self._ids("file").replace("_", "-", 1)

    async def receive(self, id: Id, pieces: AsyncIterator[bytes]) -> int:
        """Keep the bytes of a file that is about to be added; says how many.

        Raises:
            BodyTooLarge: there are too many. Unavailable: they cannot be written.
        """
        return await self._put(id, _limit_bytes(pieces, self.file_bytes_max))

    async def _put(self, name: Id, pieces: AsyncIterator[bytes]) -> int:
        try:
            return await self._blobs.put(name, pieces)
        except StoreUnavailable as error:
            raise to_unavailable("Files cannot be kept now", error) from error

    async def _drop(self, name: Id) -> None:
        """Remove bytes that nothing refers to any more. Where that cannot be now, the sweep does it."""
        try:
            await self._blobs.delete(name)
        except StoreUnavailable as error:
            log.warning("blob deletion failed, left to the sweep name=%s error=%s", name, error)

    async def forget(self, id: Id) -> None:
        """The file is not added after all."""
        await self._drop(id)

    async def add(self, project: str, id: Id, filename: str, size: int, form: FileForm) -> File:
        """A new file, whose bytes have been received."""
        now = int(self._clock())
        file = File(
            id=id,
            project=project,
            filename=filename,
            purpose=form.purpose,
            bytes=size,
            created_at=now,
            expires_at=_expiry(form.expires_after, form.purpose, now),
        )
        await ask_store(self._store.add(file))
        return file

    async def retrieve(self, project: str, id: Id) -> File:
        """The file.

        Raises:
            NotFound: there is none of that id.
        """
        file = await ask_store(self._store.get(project, id))
        if file is None or (file.expires_at is not None and file.expires_at <= self._clock()):
            raise missing(id)
        return file

    async def list(self, project: str, query: FileListQuery) -> Slice[File]:
        """A page of the files.

        Raises:
            InvalidRequest: ``after`` is none of them.
        """
        page = FileQuery(after=query.after, limit=query.limit, order=query.order, purpose=query.purpose)
        try:
            return await ask_store(self._store.list(project, page))
        except UnknownCursor as error:
            text = f"File with id '{query.after}' not found in this list."
            raise InvalidRequest(text, param="after") from error

    async def delete(self, project: str, id: Id) -> None:
        """Delete the file, and what vector stores hold of it.

        Raises:
            NotFound: there is none of that id.
        """
        if not await ask_store(self._store.delete(project, id)):
            raise missing(id)
        await self._drop(id)
        self._sweeper.tidy_soon()

    async def read(self, id: Id) -> AsyncIterator[bytes]:
        """The bytes of a file that is there.

        Raises:
            NotFound: they are gone. Unavailable: they cannot be read now.
        """
        try:
            async for piece in self._blobs.read(id):
                yield piece
        except BlobMissing as error:
            raise missing(id) from error
        except StoreUnavailable as error:
            raise to_unavailable("Files cannot be read now", error) from error

    # Uploads

    async def create_upload(self, project: str, new: NewUpload) -> Upload:
        """Announce a file that comes in parts.

        Raises:
            InvalidRequest: it would be too large.
        """
        if new.bytes > self._upload_bytes_max:
            text = f"Invalid 'bytes': an upload may have at most {self._upload_bytes_max} bytes."
            raise InvalidRequest(text, code="integer_above_max_value", param="bytes")
        now = int(self._clock())
        upload = Upload(
            id=self._ids("upload"),
            project=project,
            filename=plain_name(new.filename) or "file",
            purpose=new.purpose,
            mime_type=new.mime_type,
            bytes=new.bytes,
            status="pending",
            created_at=now,
            expires_at=now + UPLOAD_LIFETIME_S,
            file_expires_after_s=new.expires_after and new.expires_after.seconds,
        )
        await ask_store(self._store.add_upload(upload))
        return upload

    async def _pending(self, project: str, id: Id) -> Upload:
        upload = await ask_store(self._store.get_upload(project, id))
        if upload is None:
            raise NotFound(f"No such Upload object: {id}")
        expired = upload.status == "pending" and upload.expires_at <= self._clock()
        if upload.status != "pending" or expired:
            state = "expired" if expired else upload.status
            raise InvalidRequest(f"The upload '{id}' is {state}.", code="upload_not_pending", param="upload_id")
        return upload

    async def add_part(self, project: str, upload_id: Id, pieces: AsyncIterator[bytes]) -> UploadPart:
        """A part of an upload.

        Raises:
            NotFound, InvalidRequest: there is no such upload, it has ended, or has as many parts as it may.
            BodyTooLarge: the part is too large. Unavailable: it cannot be written.
        """
        await self._pending(project, upload_id)
        await self._refuse_more_parts(upload_id, 0)
        id = self._ids("part")
        try:
            size = await self._put(id, _limit_bytes(pieces, PART_BYTES_MAX))
            await self._refuse_more_parts(upload_id, size)
            part = UploadPart(id=id, upload_id=upload_id, bytes=size, created_at=int(self._clock()))
            if await ask_store(self._store.add_part(part)):
                return part
        except BaseException:
            await self._drop(id)
            raise
        await self._drop(id)
        await self._pending(project, upload_id)
        raise NotFound(f"No such Upload object: {upload_id}")

    async def _refuse_more_parts(self, upload_id: Id, size: int) -> None:
        parts = await ask_store(self._store.get_parts(upload_id))
        if len(parts) >= PARTS_MAX or sum(part.bytes for part in parts) + size > self._upload_bytes_max:
            text = f"An upload has at most {PARTS_MAX} parts, of {self._upload_bytes_max} bytes together."
            raise InvalidRequest(text, code="upload_too_large")

    async def complete_upload(self, project: str, id: Id, completion: CompletedUpload) -> tuple[Upload, File]:
        """Make a file of the parts, in the order that the request names them.

        Raises:
            NotFound, InvalidRequest: there is no such upload, or its parts are not what was announced.
        """
        upload = await self._pending(project, id)
        parts = {part.id: part for part in await ask_store(self._store.get_parts(id))}
        _refuse_wrong_parts(upload, parts, completion)
        file_id = self.new_id()
        try:
            file = await self._put_together(upload, file_id, completion)
            if not await ask_store(self._store.end_upload(id, "completed", file)):
                raise BlobMissing(id)
        except BaseException as error:
            await self._drop(file_id)
            if not isinstance(error, BlobMissing):
                raise
            # Somebody else has ended it meanwhile.
            await self._pending(project, id)
            raise InvalidRequest(f"The upload '{id}' has lost a part.", code="upload_not_pending") from error
        await self._drop_all(parts)
        ended = await ask_store(self._store.get_upload(project, id))
        assert ended is not None
        return ended, file

    async def _put_together(self, upload: Upload, id: Id, completion: CompletedUpload) -> File:
        digest = hashlib.md5(usedforsecurity=False)
        size = await self._put(id, self._join(completion.part_ids, digest.update))
        if completion.md5 is not None and digest.hexdigest() != completion.md5.lower():
            text = "The MD5 digest of the parts is not the one that the request names."
            raise InvalidRequest(text, code="md5_mismatch", param="md5")
        now = int(self._clock())
        after = upload.file_expires_after_s
        expiry = FileExpiry("created_at", after) if after else None
        return File(
            id=id,
            project=upload.project,
            filename=upload.filename,
            purpose=upload.purpose,
            bytes=size,
            created_at=now,
            expires_at=_expiry(expiry, upload.purpose, now),
        )

    async def _join(self, ids: Sequence[Id], see: Callable[[bytes], None]) -> AsyncIterator[bytes]:
        for id in ids:
            async for piece in self._blobs.read(id):
                see(piece)
                yield piece

    async def cancel_upload(self, project: str, id: Id) -> Upload:
        """Give an upload up.

        Raises:
            NotFound, InvalidRequest: there is no such upload, or it has ended.
        """
        await self._pending(project, id)
        parts = {part.id: part for part in await ask_store(self._store.get_parts(id))}
        if not await ask_store(self._store.end_upload(id, "cancelled")):
            await self._pending(project, id)
        await self._drop_all(parts)
        ended = await ask_store(self._store.get_upload(project, id))
        assert ended is not None
        return ended

    async def _drop_all(self, ids: dict[Id, UploadPart]) -> None:
        for id in ids:
            await self._drop(id)


def missing(id: Id) -> NotFound:
    """No such file."""
    return NotFound(f"No such File object: {id}", param="id")


def _expiry(expiry: FileExpiry | None, purpose: str, now: int) -> int | None:
    if expiry is not None:
        return now + expiry.seconds
    return now + BATCH_LIFETIME_S if purpose == "batch" else None


def _refuse_wrong_parts(upload: Upload, parts: dict[Id, UploadPart], completion: CompletedUpload) -> None:
    for index, part_id in enumerate(completion.part_ids):
        if part_id not in parts:
            text = f"There is no part '{part_id}' in upload '{upload.id}'."
            raise InvalidRequest(text, code="invalid_value", param=f"part_ids[{index}]")
    if len(set(completion.part_ids)) < len(completion.part_ids):
        raise InvalidRequest("A part can be named once only.", code="invalid_value", param="part_ids")
    size = sum(parts[id].bytes for id in completion.part_ids)
    if size != upload.bytes:
        text = f"The parts have {size} bytes together, and {upload.bytes} were announced."
        raise InvalidRequest(text, code="invalid_value", param="part_ids")


async def _limit_bytes(pieces: AsyncIterator[bytes], bytes_max: int) -> AsyncIterator[bytes]:
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > bytes_max:
            raise BodyTooLarge(f"The file is larger than {bytes_max} bytes.")
        yield piece
