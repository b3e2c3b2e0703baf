"""The text of a file, read in a process of its own with bounds on its memory, its time and what it may answer."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path, PurePath

import msgspec

from antiphon.files.document import Document, FileRefused
from antiphon.files.parsing.child import Parsed, ParseLimits

__all__ = ["ParseLimits", "parse_file"]

_BYTES_PER_CHAR = 4
_SUFFIX_CHARS_MAX = 16
_MARKS_BYTES = 64 << 20
_CPU_SIGNALS = ("SIGKILL", "SIGXCPU")


async def parse_file(path: Path, filename: str, limits: ParseLimits | None = None) -> Document:
    """The text of a file.

    Args:
        filename: what its owner calls it; only asked how to read a text.

    Raises:
        FileRefused: the text cannot be had; it says why.
    """
    limits = limits or ParseLimits()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "antiphon.files.parsing.child",
        str(path),
        _example(filename),
        msgspec.json.encode(limits).decode(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            answer = await _read(process, limits)
            await process.wait()
    except TimeoutError as error:
        raise FileRefused("invalid_file", f"Reading the file takes more than {limits.wall_s:g} seconds.") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return _document(answer, process.returncode or 0, limits)


def _example(filename: str) -> str:
    """A name that ends alike: what owners call their files may be longer than an argument can be, or hold what none
    may.
    """
    suffix = PurePath(filename).suffix
    return f"file{suffix}" if suffix[1:].isalnum() and len(suffix) <= _SUFFIX_CHARS_MAX else "file"


async def _read(process: asyncio.subprocess.Process, limits: ParseLimits) -> bytes:
    assert process.stdout is not None
    bytes_max = limits.text_chars * _BYTES_PER_CHAR + _MARKS_BYTES
    pieces: list[bytes] = []
    size = 0
    while piece := await process.stdout.read(1 << 20):
        pieces.append(piece)
        size += len(piece)
        if size > bytes_max:
            raise FileRefused("invalid_file", "The file holds more text than is allowed.")
    return b"".join(pieces)


def _document(answer: bytes, code: int, limits: ParseLimits) -> Document:
    if code:
        raise _describe_death(code, limits)
    parsed = msgspec.msgpack.decode(answer, type=Parsed)
    if parsed.document is None:
        raise FileRefused(parsed.code, parsed.error)
    return parsed.document


def _describe_death(code: int, limits: ParseLimits) -> FileRefused:
    if code < 0 and signal.Signals(-code).name in _CPU_SIGNALS:
        return FileRefused("invalid_file", f"Reading the file takes more than {limits.cpu_s} seconds of computing.")
    if code < 0:
        return FileRefused("invalid_file", "The file is damaged: the reader crashed.")
    return FileRefused("server_error", "The file could not be read.")
