"""Files and uploads in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from antiphon.store.errors import UnknownCursor
from antiphon.store.files import File, FileQuery, Upload, UploadPart, UploadStatus
from antiphon.store.responses import Slice
from antiphon.store.sqlite import contents
from antiphon.store.sqlite.executor import Execute
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.wire import Id

T = TypeVar("T", bound=msgspec.Struct)


def _select(table: str, fields: Sequence[str]) -> str:
    return f"SELECT {', '.join(fields)} FROM {table} "


def _insert(db: sqlite3.Connection, table: str, row: msgspec.Struct) -> None:
    fields = row.__struct_fields__
    places = ", ".join("?" * len(fields))
    db.execute(f"INSERT INTO {table} ({', '.join(fields)}) VALUES ({places})", msgspec.structs.astuple(row))


def _rows(db: sqlite3.Connection, table: str, kind: type[T], rest: str, values: Sequence[Any]) -> list[T]:
    fields = kind.__struct_fields__
    found = db.execute(_select(table, fields) + rest, values)
    return [msgspec.convert(dict(zip(fields, row, strict=True)), kind) for row in found]


def read_file(db: sqlite3.Connection, project: str, id: Id) -> File | None:
    """See ``FileStore.get``."""
    found = _rows(db, "file", File, "WHERE id = ? AND project = ?", (id, project))
    return found[0] if found else None


def list_files(db: sqlite3.Connection, places: Places, project: str, query: FileQuery) -> Slice[File]:
    """See ``FileStore.list``."""
    conditions, values = "WHERE project = ?", [project]
    if query.purpose is not None:
        conditions, values = conditions + " AND purpose = ?", [*values, query.purpose]
    if query.after is not None:
        before = read_file(db, project, query.after)
        place = (before.created_at, before.id) if before else places.find("file", project, query.after)
        if place is None:
            raise UnknownCursor(query.after)
        sign = "<" if query.order == "desc" else ">"
        conditions += f" AND (created_at, id) {sign} (?, ?)"
        values = [*values, *place]
    order = f" ORDER BY created_at {query.order}, id {query.order} LIMIT ?"
    found = _rows(db, "file", File, conditions + order, [*values, query.limit + 1])
    return Slice(found[: query.limit], len(found) > query.limit)


def delete_file(db: sqlite3.Connection, places: Places, project: str, id: Id) -> bool:
    """See ``FileStore.delete``."""
    file = read_file(db, project, id)
    if file is None:
        return False
    places.keep("file", project, id, (file.created_at, id))
    in_stores = """
    SELECT f.store_pk, f.pk, s.id, f.created_at FROM store_file f JOIN vector_store s ON s.pk = f.store_pk
    WHERE f.file_id = ?"""
    for store_pk, pk, store, added_at in db.execute(in_stores, (id,)).fetchall():
        contents.drop(db, store_pk, pk)
        contents.mark_changed(db, store_pk)
        places.keep("store_file", store, id, (added_at, id))
    db.execute("DELETE FROM store_file WHERE file_id = ?", (id,))
    db.execute("DELETE FROM file WHERE id = ?", (id,))
    return True


def add_part(db: sqlite3.Connection, part: UploadPart) -> bool:
    """See ``FileStore.add_part``."""
    found = db.execute("SELECT 1 FROM upload WHERE id = ? AND status = 'pending'", (part.upload_id,)).fetchone()
    if found is not None:
        _insert(db, "upload_part", part)
    return found is not None


def end_upload(db: sqlite3.Connection, id: Id, status: UploadStatus, file: File | None = None) -> bool:
    """See ``FileStore.end_upload``."""
    end = "UPDATE upload SET status = ?, file_id = ? WHERE id = ? AND status = 'pending'"
    if not db.execute(end, (status, file and file.id, id)).rowcount:
        return False
    if file is not None:
        _insert(db, "file", file)
    db.execute("DELETE FROM upload_part WHERE upload_id = ?", (id,))
    return True


def find_unknown(db: sqlite3.Connection, ids: Sequence[Id]) -> list[Id]:
    """See ``FileStore.find_unknown``."""
    statement = """
    SELECT value FROM json_each(?)
    WHERE value NOT IN (SELECT id FROM file) AND value NOT IN (SELECT id FROM upload_part)"""
    return [id for (id,) in db.execute(statement, (msgspec.json.encode(list(ids)).decode(),))]


class SqliteFiles(Port):
    """A ``FileStore``."""

    def __init__(self, read: Execute, write: Execute, places: Places) -> None:
        super().__init__(read, write)
        self._places = places

    async def add(self, file: File) -> None:
        """See ``FileStore.add``."""
        await self._write(partial(_insert, table="file", row=file))

    get = reading(read_file)

    async def list(self, project: str, query: FileQuery) -> Slice[File]:
        """See ``FileStore.list``."""
        return await self._read(partial(list_files, places=self._places, project=project, query=query))

    async def delete(self, project: str, id: Id) -> bool:
        """See ``FileStore.delete``."""
        return await self._write(partial(delete_file, places=self._places, project=project, id=id))

    async def find_expired(self, now: int, limit: int) -> list[File]:
        """See ``FileStore.find_expired``."""
        rest = "WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
        return await self._read(partial(_rows, table="file", kind=File, rest=rest, values=(now, limit)))

    async def add_upload(self, upload: Upload) -> None:
        """See ``FileStore.add_upload``."""
        await self._write(partial(_insert, table="upload", row=upload))

    async def get_upload(self, project: str, id: Id) -> Upload | None:
        """See ``FileStore.get_upload``."""
        rest = "WHERE id = ? AND project = ?"
        found = await self._read(partial(_rows, table="upload", kind=Upload, rest=rest, values=(id, project)))
        return found[0] if found else None

    add_part = writing(add_part)

    async def get_parts(self, upload_id: Id) -> list[UploadPart]:
        """See ``FileStore.get_parts``."""
        rest = "WHERE upload_id = ? ORDER BY rowid"
        return await self._read(partial(_rows, table="upload_part", kind=UploadPart, rest=rest, values=(upload_id,)))

    end_upload = writing(end_upload)

    async def find_expired_uploads(self, now: int, limit: int) -> list[Upload]:
        """See ``FileStore.find_expired_uploads``."""
        rest = "WHERE status = 'pending' AND expires_at <= ? LIMIT ?"
        return await self._read(partial(_rows, table="upload", kind=Upload, rest=rest, values=(now, limit)))

    find_unknown = reading(find_unknown)
