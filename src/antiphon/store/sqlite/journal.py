"""The write-ahead log, looked at before SQLite reads it. Of a damaged log SQLite takes the part that it can read, and
says nothing of the rest: here it is noticed, counted and kept.

What should be there is told by the frames themselves, which end a transaction where they name the database's size,
and by the log's index, which a killed process leaves behind.

Source: the file formats in SQLite's documents "Database File Format" and "WAL-mode File Format".
"""

from __future__ import annotations

import filecmp
import logging
import shutil
import struct
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from antiphon.store.errors import StoreUnavailable
from antiphon.store.sqlite.connection import connect_read_only
from antiphon.store.sqlite.lock import owner_of

log = logging.getLogger("antiphon.store")

_MAGICS: Final = (0x377F0682, 0x377F0683)
_HEADER: Final = struct.Struct(">IIII8s8s")
_FRAME: Final = struct.Struct(">II8s8s")
_INDEX: Final = struct.Struct(f"{'<' if sys.byteorder == 'little' else '>'}12xBBHII8s8s8s")
"""Whether it is initialized, byte order, page size, frames, pages, a checksum, the log's salts, its own checksum."""
_BACKFILLED_AT: Final = 2 * _INDEX.size
_FAULTS_MAX: Final = 10


class Loss(msgspec.Struct, frozen=True):
    """What a log should hold, and SQLite cannot read.

    Attributes:
        frames: changed pages; at least so many.
        commits: transactions that are seen to have been committed there; 0 where only the index knows of them.
        at: when it was noticed, in Unix seconds.
        copy: where the damaged log is kept; empty where there was none left.
    """

    frames: int
    commits: int
    at: int = 0
    copy: str = ""

    def __str__(self) -> str:
        commits = f", {self.commits} commits among them," if self.commits else ""
        return f"the write-ahead log is damaged or cut off: {self.frames} changed pages{commits} cannot be read"


class _Log(NamedTuple):
    """``salts`` of its frames, empty where there are none; numbers of those frames that end a transaction, from 1."""

    salts: bytes
    ends: list[int]


def find_loss(path: Path) -> Loss | None:
    """What of a database's log cannot be read; None where nothing is missing. Nobody else may use the database.

    Raises:
        sqlite3.Error: the database cannot be opened.
    """
    left, (known, salts) = _read_log(_log_of(path)), _read_index(path, of_any_log=False)
    # The last commit may be one that a kill cut short, which nobody was told of: only the index knows that it was not.
    expected = max(left.ends[:-1] if left.salts else left.ends, default=0)
    if not left.salts or salts == left.salts:
        expected = max(expected, known)
    if not expected:
        return None
    with closing(connect_read_only(path)) as db:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        read, _ = _read_index(path, of_any_log=True)
    if read >= expected:
        return None
    return Loss(expected - read, sum(read < end <= expected for end in left.ends))


def notice_loss(path: Path) -> None:
    """Say what of the log cannot be read, write it down, and keep the log, before it is gone on without it. To be
    called before a database is opened that nobody else uses: to open it is to read its log.

    Raises:
        StoreUnavailable: what is left is no whole database.
        sqlite3.Error: the database cannot be opened.
    """
    loss = find_loss(path)
    if loss is None:
        return
    loss = _keep(path, loss)
    log.warning("%s: %s; continuing without them", path, loss)
    if faults := _check_quickly(path):
        raise StoreUnavailable(f"{path}: {loss}, and the database is damaged; restore a backup: {'; '.join(faults)}")


def notice_loss_unowned(path: Path) -> None:
    """The same for who only looks in, where no server owns the folder.

    Raises:
        StoreUnavailable, sqlite3.Error: see ``notice_loss``.
    """
    if path.exists() and owner_of(path.parent) is None:
        notice_loss(path)


def _keep(path: Path, loss: Loss) -> Loss:
    """Write down the loss, with a copy of the log; unless that was done by who looked in before."""
    left = _log_of(path)
    for known in read_losses(path):
        if known.copy and left.exists() and Path(known.copy).exists() and filecmp.cmp(known.copy, left, shallow=False):
            return known
    at, copy = int(time.time()), ""
    if left.exists() and left.stat().st_size:
        copy = str(path.with_name(f"{left.name}.damaged-{at}"))
        shutil.copyfile(left, copy)
        Path(copy).chmod(0o600)
    noted = msgspec.structs.replace(loss, at=at, copy=copy)
    notes = _notes_of(path)
    notes.touch(0o600)
    with notes.open("ab") as file:
        file.write(msgspec.json.encode(noted) + b"\n")
    return noted


def read_losses(path: Path) -> list[Loss]:
    """What was missing until now, oldest first."""
    losses: list[Loss] = []
    with suppress(FileNotFoundError):
        for line in _notes_of(path).read_bytes().splitlines():
            with suppress(msgspec.DecodeError):
                losses.append(msgspec.json.decode(line, type=Loss))
    return losses


def _check_quickly(path: Path) -> list[str]:
    """What is wrong with the database once its log has been read, without looking into the indexes."""
    with closing(connect_read_only(path)) as db:
        return [text for (text,) in db.execute(f"PRAGMA quick_check({_FAULTS_MAX})") if text != "ok"]


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _notes_of(path: Path) -> Path:
    return path.with_name(path.name + ".losses")


def _read_log(path: Path) -> _Log:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return _Log(b"", [])
            magic, _, page_bytes, _, salts, _ = _HEADER.unpack(header)
            if magic not in _MAGICS or page_bytes < 512 or page_bytes & (page_bytes - 1):
                return _Log(b"", [1])  # something was there
            ends: list[int] = []
            number = 0
            while len(frame := file.read(_FRAME.size)) == _FRAME.size:
                number += 1
                _, pages, own, _ = _FRAME.unpack(frame)
                if pages and own == salts:
                    ends.append(number)
                file.seek(page_bytes, 1)
            return _Log(salts, ends)
    except FileNotFoundError:
        return _Log(b"", [])


def _read_index(path: Path, *, of_any_log: bool) -> tuple[int, bytes]:
    """How many frames the index knows of, with the salts of their log; 0 where all of them are in the database already,
    unless those count too.
    """
    try:
        data = path.with_name(path.name + "-shm").read_bytes()[: _BACKFILLED_AT + 4]
    except FileNotFoundError:
        return 0, b""
    if len(data) < _BACKFILLED_AT + 4:
        return 0, b""
    initialized, _, _, frames, _, _, salts, _ = _INDEX.unpack_from(data)
    backfilled = int.from_bytes(data[_BACKFILLED_AT:], sys.byteorder)
    if not initialized or (frames <= backfilled and not of_any_log):
        return 0, b""
    return frames, salts
