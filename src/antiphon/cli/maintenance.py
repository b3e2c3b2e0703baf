"""Maintenance of a data folder: upgrade it, delete from it, export it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from antiphon.cli.admin_client import purge_by
from antiphon.retention.purge import purge_whole
from antiphon.store import Purge, Purged, Record
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite import DATABASE_NAME, FolderInUse, SqliteStore, inspect
from antiphon.store.sqlite.connection import Limits, translating
from antiphon.store.sqlite.lock import FolderLock
from antiphon.store.sqlite.upgrade import backup_of, bring_up_to_date, rebuild


@dataclass(frozen=True)
class Migration:
    """What ``migrate`` found and did.

    Attributes:
        found: the schema before; None for an empty database.
        backup: the copy that was made of it; None when nothing was upgraded.
        rebuilt: whether the file was written anew, so that it can give space back.
    """

    found: str | None
    backup: Path | None
    rebuilt: bool


def is_current(data: Path) -> bool:
    """Whether there is nothing to migrate. Changes nothing, and works beside a running server.

    Raises:
        antiphon.store.StoreUnavailable: no database there, or not ours.
    """
    path = data / DATABASE_NAME
    return inspect.read_revision(path) == HEAD and inspect.can_shrink(path)


def migrate(data: Path) -> Migration:
    """Upgrade the folder's database, after a backup; nothing is done twice.

    Raises:
        antiphon.store.StoreUnavailable: no database there, in use, of a newer schema, or no room.
    """
    path = data / DATABASE_NAME
    found = inspect.read_revision(path)
    lock = FolderLock.take(data)
    try:
        with translating(path):
            bring_up_to_date(path, Limits())
            upgraded = found not in (None, HEAD)
            return Migration(found, backup_of(path, HEAD) if upgraded else None, rebuild(path))
    finally:
        lock.release()


def purge(data: Path, purge: Purge) -> Purged:
    """Delete the selection and give the space back. Where a server owns the folder, that server does it.

    Raises:
        antiphon.store.StoreUnavailable: not writable, or the server does not answer; earlier steps are done.
    """
    try:
        return asyncio.run(_purge_here(data, purge))
    except FolderInUse as error:
        if error.owner is None or not (error.owner.url and error.owner.token):
            raise
        return purge_by(error.owner, purge)


async def _purge_here(data: Path, purge: Purge) -> Purged:
    store = await SqliteStore.open(data)
    try:
        return await purge_whole(store, purge)
    finally:
        await store.close()


def backups(data: Path) -> list[Path]:
    """The copies of the database that upgrades made; they hold everything it held then."""
    return sorted(data.glob(f"{DATABASE_NAME}.before-*"))


def parse_time(text: str) -> int:
    """Unix seconds of an ISO date or time; without a zone it is this machine's.

    Raises:
        ValueError: it is none.
    """
    return int(datetime.fromisoformat(text).timestamp())


def export(data: Path, file: Path) -> int:
    """Write every stored response to ``file``, one JSON object per line: ``project``, ``key_id``, ``response`` as the
    API shows it, and its ``input_items``. Returns how many. Works beside a running server. The file is complete, or
    not there.

    Raises:
        antiphon.store.StoreUnavailable: no database, or one of another schema.
        OSError: the file cannot be written.
    """
    unfinished = file.with_name(f"{file.name}.unfinished")
    count = 0
    try:
        # Answers are nobody else's business, as in the data folder.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            for record in inspect.read_all_records(data / DATABASE_NAME):
                out.write(_line(record))
                count += 1
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _line(record: Record) -> bytes:
    response = msgspec.json.decode(record.doc)
    response["output"] = [msgspec.Raw(item.doc) for item in record.output]
    items = [msgspec.Raw(item.doc) for item in record.input]
    return (
        msgspec.json.encode(
            {"project": record.project, "key_id": record.key_id, "response": response, "input_items": items}
        )
        + b"\n"
    )
