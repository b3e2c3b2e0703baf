"""A folder whose files can be read and replaced by name, and nothing outside it.

Names are what a model wrote. A name is looked up link by link, and each step is taken relative to a folder that is open
already, without following links: what is put there meanwhile is refused, not followed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from antiphon.client.runs.function_tool import ArgumentsRefused

FILE_BYTES_MAX: Final = 10 * 1024 * 1024
_CLOSED: Final = frozenset((".git", ".hg", ".svn", ".jj"))
_FOLDER: Final = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
_FILE: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class PatchRefused(ArgumentsRefused):
    """A patch that is not applied, and nothing has changed. The text is for the model."""


@dataclass(frozen=True)
class Place:
    """Where a name leads: a file's name in a folder that is open.

    Attributes:
        folder: the folder's descriptor, good as long as the place is.
        name: the file's name in it.
        status: what is there, which is no link; None if nothing is.
    """

    folder: int
    name: str
    status: os.stat_result | None


class Root:
    """A folder and what is below it.

    Args:
        path: an existing folder.

    Raises:
        NotADirectoryError: it is none.
        NotImplementedError: the system cannot open files relative to folders (Windows).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if os.open not in os.supports_dir_fd:
            raise NotImplementedError("Patches are applied on systems that open files relative to folders (POSIX).")
        self.path: Final = Path(path).resolve(strict=True)
        if not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is not a folder.")

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            PatchRefused: there is none, or it may not be read.
        """
        with _refuse_errors(name), self._place(name) as place:
            return _read(name, place)

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in the place of what has this name, at once and whole, with its folders. It keeps its mode.

        Raises:
            PatchRefused: the name leads out of the root, what is there is no file, or it cannot be written.
        """
        if len(content) > FILE_BYTES_MAX:
            raise PatchRefused(f"{name} would have {len(content)} bytes, more than {FILE_BYTES_MAX}.")
        with _refuse_errors(name), self._place(name, make=True) as place:
            if place.status is not None:
                _refuse_special(name, place.status)
            _replace(place, content)

    def delete(self, name: str) -> None:
        """Takes a file away; of a link that stays in the root, the link.

        Raises:
            PatchRefused: there is none, the name leads out of the root, what is there is no file, or it must stay.
        """
        with _refuse_errors(name), self._place(name) as place:
            _refuse_special(name, place.status)
        *folders, link = _parts(name)
        with _refuse_errors(name), self._open(self._resolve(name, folders)) as folder:
            os.unlink(link, dir_fd=folder)

    @contextlib.contextmanager
    def _place(self, name: str, *, make: bool = False) -> Generator[Place]:
        """Where a name leads. Folders on the way are made, and taken away again if what follows fails."""
        path = self._resolve(name, _parts(name))
        if not path:
            raise PatchRefused(f"{name} is a folder.")
        with self._open(path[:-1], make=make) as folder:
            yield Place(folder, path[-1], _status(folder, path[-1]))

    def _resolve(self, name: str, parts: Sequence[str]) -> tuple[str, ...]:
        """The parts of a path below the root, without links."""
        try:
            path = self.path.joinpath(*parts).resolve()
        except RuntimeError as error:
            raise PatchRefused(f"{name} cannot be found: its links lead in a circle.") from error
        if not path.is_relative_to(self.path):
            raise PatchRefused(f"{name} leads out of the folder: only files in it can be changed.")
        below = path.relative_to(self.path).parts
        if _CLOSED.intersection(part.casefold() for part in below):
            raise PatchRefused(f"{name} belongs to the version control: it cannot be changed by a patch.")
        return below

    @contextlib.contextmanager
    def _open(self, parts: tuple[str, ...], *, make: bool = False) -> Generator[int]:
        """A folder below the root, opened step by step."""
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as made:
            folder = os.open(self.path, _FOLDER)
            opened.callback(os.close, folder)
            for part in parts:
                if make and _status(folder, part) is None:
                    os.mkdir(part, dir_fd=folder)
                    made.callback(_remove_folder, part, folder)
                folder = os.open(part, _FOLDER, dir_fd=folder)
                opened.callback(os.close, folder)
            yield folder
            made.pop_all()


def _parts(name: str) -> list[str]:
    """The parts of a name as a model wrote it.

    Raises:
        PatchRefused: it is none, or no file below a folder.
    """
    if not name or "\0" in name or name.endswith("/"):
        raise PatchRefused(f"{name!r} is not a file name.")
    if name.startswith(("/", "\\")) or name[1:3] in (":\\", ":/"):
        raise PatchRefused(f"{name} is absolute: give the path from the folder that you work in.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PatchRefused(f"{name} must not contain '..': give the path from the folder that you work in.")
    if not parts:
        raise PatchRefused(f"{name!r} is not a file name.")
    return parts


@contextlib.contextmanager
def _refuse_errors(name: str) -> Generator[None]:
    """Says what the system refuses in words for a model."""
    try:
        yield
    except FileNotFoundError as error:
        raise PatchRefused(f"{name} does not exist.") from error
    except NotADirectoryError as error:
        raise PatchRefused(f"{name} cannot be there: a file has the name of one of its folders.") from error
    except UnicodeError as error:
        raise PatchRefused(f"{name!r} cannot be written in UTF-8.") from error
    except OSError as error:
        raise PatchRefused(f"{name} cannot be changed: {error.strerror or error}.") from error


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refuse_special(name: str, status: os.stat_result | None) -> None:
    if status is None:
        raise FileNotFoundError
    if stat.S_ISDIR(status.st_mode):
        raise PatchRefused(f"{name} is a folder.")
    if not stat.S_ISREG(status.st_mode):
        raise PatchRefused(f"{name} is not a regular file.")


def _read(name: str, place: Place) -> bytes:
    _refuse_special(name, place.status)
    descriptor = os.open(place.name, _FILE, dir_fd=place.folder)
    with os.fdopen(descriptor, "rb") as file:
        _refuse_special(name, os.fstat(descriptor))
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise PatchRefused(f"{name} has more than {FILE_BYTES_MAX} bytes.")
    return content


def _replace(place: Place, content: bytes) -> None:
    """Writes beside it and puts that in its place."""
    beside = f".antiphon-{secrets.token_hex(8)}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=place.folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if place.status is not None:
                _take_after(descriptor, place.status)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    except BaseException:
        os.unlink(beside, dir_fd=place.folder)
        raise


def _take_after(descriptor: int, status: os.stat_result) -> None:
    """The owner, where that may be given away, and the mode of the file that was there."""
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _remove_folder(name: str, parent: int) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=parent)
