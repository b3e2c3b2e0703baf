"""The handlers of ``/v1/files`` and ``/v1/uploads``. They carry; they decide nothing."""

from __future__ import annotations

from urllib.parse import quote

from antiphon.http.exchange import Exchange
from antiphon.http.listing import list_page
from antiphon.http.multipart import Form
from antiphon.store.files import File, Upload
from antiphon.wire.files import (
    CompletedUpload,
    FileDeleted,
    FileList,
    FileListQuery,
    FileObject,
    NewUpload,
    UploadObject,
    UploadPartObject,
    file_form,
)
from antiphon.wire.queries import read_query


async def create_file(exchange: Exchange) -> None:
    """``POST /v1/files``: a form, of which the file is not held in memory."""
    files, form = exchange.engine.files, Form(exchange, "file")
    id = files.new_id()
    try:
        size = await files.receive(id, form.file())
        fields, ignored = file_form(form.fields, strict=exchange.engine.config.strict)
        exchange.name_ignored(ignored)
        file = await files.add(exchange.project, id, form.filename or "file", size, fields)
    except BaseException:
        await files.forget(id)
        # What is left of the body is not read; the connection cannot be used again.
        exchange.headers["connection"] = "close"
        raise
    await exchange.reply(file_object(file))


async def list_files(exchange: Exchange) -> None:
    """``GET /v1/files``."""
    page = await exchange.engine.files.list(exchange.project, read_query(exchange.query, FileListQuery))
    await exchange.reply(list_page(FileList, page, file_object))


async def retrieve_file(exchange: Exchange) -> None:
    """``GET /v1/files/{file_id}``."""
    await exchange.reply(
        file_object(await exchange.engine.files.retrieve(exchange.project, exchange.params["file_id"]))
    )


async def delete_file(exchange: Exchange) -> None:
    """``DELETE /v1/files/{file_id}``."""
    await exchange.engine.files.delete(exchange.project, exchange.params["file_id"])
    await exchange.reply(FileDeleted(exchange.params["file_id"]))


async def read_file(exchange: Exchange) -> None:
    """``GET /v1/files/{file_id}/content``: the bytes as they came."""
    files = exchange.engine.files
    file = await files.retrieve(exchange.project, exchange.params["file_id"])
    exchange.headers["content-disposition"] = f"attachment; filename*=UTF-8''{quote(file.filename)}"
    exchange.headers["x-content-type-options"] = "nosniff"
    pieces = files.read(file.id)
    first = await anext(pieces, b"")
    await exchange.start(200, "application/octet-stream", file.bytes)
    await exchange.write(first, more=True)
    async for piece in pieces:
        await exchange.write(piece, more=True)
    await exchange.write(b"")


async def create_upload(exchange: Exchange) -> None:
    """``POST /v1/uploads``."""
    new = await exchange.read(NewUpload)
    await exchange.reply(_upload(await exchange.engine.files.create_upload(exchange.project, new)))


async def create_part(exchange: Exchange) -> None:
    """``POST /v1/uploads/{upload_id}/parts``: a form with ``data``."""
    form = Form(exchange, "data")
    try:
        part = await exchange.engine.files.add_part(exchange.project, exchange.params["upload_id"], form.file())
    except BaseException:
        exchange.headers["connection"] = "close"
        raise
    await exchange.reply(UploadPartObject(id=part.id, created_at=part.created_at, upload_id=part.upload_id))


async def complete_upload(exchange: Exchange) -> None:
    """``POST /v1/uploads/{upload_id}/complete``."""
    completion = await exchange.read(CompletedUpload)
    id = exchange.params["upload_id"]
    upload, file = await exchange.engine.files.complete_upload(exchange.project, id, completion)
    await exchange.reply(_upload(upload, file))


async def cancel_upload(exchange: Exchange) -> None:
    """``POST /v1/uploads/{upload_id}/cancel``."""
    await exchange.reply(
        _upload(await exchange.engine.files.cancel_upload(exchange.project, exchange.params["upload_id"]))
    )


def file_object(file: File) -> FileObject:
    """A file as the API shows it."""
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    )


def _upload(upload: Upload, file: File | None = None) -> UploadObject:
    return UploadObject(
        id=upload.id,
        bytes=upload.bytes,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=file and file_object(file),
    )
