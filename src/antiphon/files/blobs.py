"""Where the bytes of files are: a folder, or anything that fsspec reaches, such as S3."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from antiphon.store import StoreUnavailable

log = logging.getLogger("antiphon.files")

PIECE_BYTES = 1 << 20
OWNER_NAME = "antiphon-owner"
"""The blob that says whose a place elsewhere is."""
_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
    errno.EFBIG: "a file cannot be so large there",
    errno.EROFS: "the disk is read-only",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
}


class BlobMissing(Exception):
    """There is no blob of that name."""


class BlobStore(Protocol):
    """Keeps bytes under names of ours. What was written is whole or not there."""

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Keep what comes, and say how many bytes it was; nothing is kept when the pieces end with an error.

        Raises:
            StoreUnavailable: it cannot be written: disk full, read-only, out of reach.
        """
        ...

    def read(self, name: str) -> AsyncIterator[bytes]:
        """The bytes, in pieces.

        Raises:
            BlobMissing: there is none of that name. StoreUnavailable: it cannot be read now.
        """
        ...

    def local(self, name: str) -> Any:
        """An asynchronous context with the path of a file that holds the bytes.

        Raises:
            BlobMissing: there is none of that name. StoreUnavailable: it cannot be read now.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget it; harmless when it is not there.

        Raises:
            StoreUnavailable: it cannot be forgotten now.
        """
        ...

    async def names(self) -> list[str]:
        """All names."""
        ...

    async def settle(self) -> bool:
        """Remove what was never finished, before anything else is done; whether all that is here is ours, so that what
        nothing refers to may go.
        """
        ...


class LocalBlobs:
    """A ``BlobStore`` in a folder of its own, readable by its owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str) -> Path:
        assert name.replace("-", "").replace("_", "").isalnum(), name
        return self._folder / name

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """See ``BlobStore.put``."""
        path = self._path(name)
        unfinished = path.with_name(f".{name}.unfinished")
        await _run(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        size = 0
        handle: int = await _run(os.open, unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            async for piece in pieces:
                size += len(piece)
                await _run(_write, handle, piece)
            await _run(os.fsync, handle)
            await _run(unfinished.replace, path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            os.close(handle)
        return size

    def read(self, name: str) -> AsyncIterator[bytes]:
        """See ``BlobStore.read``."""
        return _read(self.local(name))

    @asynccontextmanager
    async def local(self, name: str) -> AsyncGenerator[Path]:
        """See ``BlobStore.local``."""
        path = self._path(name)
        if not await asyncio.to_thread(path.exists):
            raise BlobMissing(name)
        yield path

    async def delete(self, name: str) -> None:
        """See ``BlobStore.delete``."""
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)

    async def names(self) -> list[str]:
        """See ``BlobStore.names``."""

        def list_names() -> list[str]:
            if not self._folder.is_dir():
                return []
            return [path.name for path in self._folder.iterdir() if not path.name.startswith(".")]

        return await asyncio.to_thread(list_names)

    async def settle(self) -> bool:
        """See ``BlobStore.settle``."""

        def remove_unfinished() -> None:
            for unfinished in self._folder.glob(".*.unfinished"):
                unfinished.unlink(missing_ok=True)

        await asyncio.to_thread(remove_unfinished)
        return True


async def _read(local: AbstractAsyncContextManager[Path]) -> AsyncIterator[bytes]:
    async with local as path:
        try:
            source = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:  # it went in this moment
            raise BlobMissing(path.name) from error
        with source:
            while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
                yield piece


async def _run(write: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Run what writes, in a thread.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    try:
        return await asyncio.to_thread(write, *given, **named)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, "")
        raise StoreUnavailable(f"Files cannot be written: {error.strerror or error}.", reason=reason) from error


def _write(handle: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(handle, view) :]


async def _ask(work: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Ask the place elsewhere, in a thread.

    Raises:
        FileNotFoundError: there is no such blob. StoreUnavailable: anything else; each library has errors of its own.
    """
    try:
        return await asyncio.to_thread(work, *given, **named)
    except FileNotFoundError:
        raise
    except Exception as error:
        log.warning("blob store answered unexpectedly error=%s", error)
        raise StoreUnavailable(f"The blob store did not answer as expected ({type(error).__name__}).") from error


class RemoteBlobs:
    """A ``BlobStore`` at a URL such as ``s3://bucket/folder``, by fsspec; the extra ``s3`` brings what S3 needs.

    Args:
        options: for the file system, such as ``endpoint_url`` and credentials.
        owner: whose place it is: the first who settles there. Nobody removes what others may have put there.
        scratch: where copies are for a moment; the system's own folder for that when None.
    """

    def __init__(
        self, url: str, options: dict[str, Any] | None = None, owner: str = "", scratch: Path | None = None
    ) -> None:
        self._owner = owner
        self._scratch = scratch
        fsspec: Any = import_module("fsspec")
        self._files, self._root = fsspec.core.url_to_fs(url, **(options or {}))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """See ``BlobStore.put``. Written here first: what ends early shall not be there in part."""
        with tempfile.TemporaryDirectory(prefix="antiphon-", dir=self._scratch) as folder:
            local = LocalBlobs(Path(folder))
            size = await local.put(name, pieces)
            await self._put(Path(folder) / name, self._path(name))
        return size

    async def _put(self, source: Path, path: str) -> None:
        try:
            await _ask(self._files.put_file, str(source), path)
        except FileNotFoundError:
            # Made when it is missed: who may write into a bucket may not always look whether it is there.
            try:
                await _ask(self._files.makedirs, self._root, exist_ok=True)
                await _ask(self._files.put_file, str(source), path)
            except FileNotFoundError as error:
                raise StoreUnavailable("The bucket for files does not exist and could not be created.") from error

    def read(self, name: str) -> AsyncIterator[bytes]:
        """See ``BlobStore.read``."""
        return _read(self.local(name))

    @asynccontextmanager
    async def local(self, name: str) -> AsyncGenerator[Path]:
        """See ``BlobStore.local``: a copy, which goes again."""
        with tempfile.TemporaryDirectory(prefix="antiphon-", dir=self._scratch) as folder:
            path = Path(folder) / "blob"
            try:
                await _ask(self._files.get_file, self._path(name), str(path))
            except FileNotFoundError as error:
                raise BlobMissing(name) from error
            yield path

    async def delete(self, name: str) -> None:
        """See ``BlobStore.delete``."""
        with suppress(FileNotFoundError):
            await _ask(self._files.rm_file, self._path(name))

    async def names(self) -> list[str]:
        """See ``BlobStore.names``."""

        def list_names() -> list[str]:
            self._files.invalidate_cache()
            names = (path.rpartition("/")[2] for path in self._files.find(self._root))
            return [name for name in names if name != OWNER_NAME]

        return await _ask(list_names)

    async def settle(self) -> bool:
        """See ``BlobStore.settle``."""
        if not self._owner:
            return False
        try:
            found = b"".join([piece async for piece in self.read(OWNER_NAME)])
        except BlobMissing:
            await self.put(OWNER_NAME, _once(self._owner.encode()))
            return True
        return found == self._owner.encode()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
