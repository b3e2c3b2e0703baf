"""One process owns a folder. The lock lies with the operating system, which lets go of it however the process
ends; the file's text only says whom to ask.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from pathlib import Path

import msgspec

from antiphon.store.errors import StoreUnavailable

LOCK_NAME = "owner.lock"

UNIX = "unix:"
"""What stands before the path of a socket file."""

_TEXT_BYTES = 1024
"""The text is padded to one length and written in one call, so that a reader never meets half of it."""

_ATTEMPTS, _PAUSE_S = 5, 0.02
"""A glance by ``owner_of`` holds the lock for some microseconds; that must not keep an owner out."""


class Owner(msgspec.Struct, frozen=True):
    """The process that owns a folder.

    Attributes:
        started_at: Unix seconds.
        url: the base URL it serves, or ``unix:PATH`` for the socket file it listens at; empty or None for neither.
        token: what it takes as proof that somebody may read this folder; None when it takes nothing.
    """

    pid: int
    started_at: int
    url: str | None = None
    token: str | None = None

    @property
    def socket(self) -> str:
        """The path of its socket file; empty where it has none."""
        return self.url.removeprefix(UNIX) if self.url and self.url.startswith(UNIX) else ""

    def __repr__(self) -> str:
        # Whatever shows an owner, a trace too, shows no token.
        return f"Owner({self})"

    def __str__(self) -> str:
        serving = f"serving {self.url}" if self.url else "address not known"
        return f"process {self.pid} ({serving})"


class FolderInUse(StoreUnavailable):
    """Another store, of this process or another, owns the folder.

    Attributes:
        owner: who; None when its text could not be read.
    """

    def __init__(self, folder: Path, owner: Owner | None) -> None:
        super().__init__(
            f"The folder {folder} is in use by {owner or 'a process that left no name'}."
            " One process owns a folder: use that server, or stop it first."
        )
        self.owner = owner


class FolderLock:
    """The right to a folder, from ``take`` to ``release`` or the end of the process."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._owner = Owner(os.getpid(), int(time.time()))
        _write(handle, self._owner)
        _HELD.add(self)

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """Own the folder.

        Raises:
            FolderInUse: somebody else does.
            OSError: the lock file cannot be made here.
        """
        path = folder / LOCK_NAME
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _try_lock(handle):
                raise FolderInUse(folder, _read(path))
            return cls(handle)
        except BaseException:
            os.close(handle)
            raise

    def announce(self, url: str, token: str | None = None) -> None:
        """Write down, for ``owner_of``, the base URL that the owner serves, and the proof that it takes."""
        self._owner = msgspec.structs.replace(self._owner, url=url, token=token)
        _write(self._handle, self._owner)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _close_handles() -> None:
    """A forked child is not the owner: its copy of the handle would hold the lock beyond its parent's end."""
    for lock in list(_HELD):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_handles)


def owner_of(folder: Path) -> Owner | None:
    """Who owns the folder now; None when nobody does, or when its text cannot be read."""
    path = folder / LOCK_NAME
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _lock(handle) else _read(path)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    for _ in range(_ATTEMPTS - 1):
        if _lock(handle):
            return True
        time.sleep(_PAUSE_S)
    return _lock(handle)


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        # A locked byte cannot be read by others: take one behind the text.
        os.lseek(handle, _TEXT_BYTES, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        # flock, not lockf: it belongs to this open file, so a second one in the same process is refused too.
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _write(handle: int, owner: Owner) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, msgspec.json.encode(owner).ljust(_TEXT_BYTES))


def _read(path: Path) -> Owner | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_TEXT_BYTES), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None
