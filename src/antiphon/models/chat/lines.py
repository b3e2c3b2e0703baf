"""The bytes of an answer, cut anywhere -> its lines, or its JSON documents. Pure.

Which of the two it is the body says, not its ``Content-Type``: servers mistake themselves there.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from antiphon.models.chat.arguments import JsonScanner
from antiphon.wire.errors import UpstreamError

Join: TypeAlias = Callable[[bytes], bytes]
_BLANKS: Final = b" \t\r\n\0"
_OBJECTS: Final = re.compile(r"\[\s*(?=\{|\Z)")
"""What opens an array of objects, as far as it has come."""


class Splitter(Protocol):
    """Cuts an answer into the pieces that are read one by one."""

    def feed(self, data: bytes) -> list[bytes]: ...

    def end(self) -> list[bytes]: ...


class Opening:
    """The first bytes of an answer, until they say what it is.

    Args:
        bytes_max: bound on one line or document.
        join: makes fewer lines of some that have come together.
    """

    def __init__(self, bytes_max: int, join: Join | None = None) -> None:
        self._join = join
        self._bytes_max = bytes_max
        self._held = b""

    def feed(self, data: bytes) -> tuple[Splitter, bytes] | None:
        """What cuts the answer, and the bytes to give it; None while nothing but blanks has come."""
        held = self._held + data
        if codecs.BOM_UTF8.startswith(held):
            self._held = held
            return None
        self._held = b""
        start = held.removeprefix(codecs.BOM_UTF8).lstrip(_BLANKS)
        if not start:
            return None
        return (Documents(self._bytes_max) if start[:1] in b"{[" else Lines(self._bytes_max, self._join)), start


class Lines:
    """Lines that end in LF, CRLF or CR."""

    def __init__(self, bytes_max: int, join: Join | None = None) -> None:
        self._join = join
        self._bytes_max = bytes_max
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._returned = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        if self._returned or b"\r" in data:
            data = self._newlines(data)
        end = data.rfind(b"\n")
        self._rest_bytes += len(data)
        if end < 0:
            self._rest.append(data)
            _check(self._rest_bytes, self._bytes_max)
            return []
        tail, lines = data[end + 1 :], data[:end]
        if self._rest:
            lines = b"".join((*self._rest, lines))
        self._rest, self._rest_bytes = ([tail] if tail else []), len(tail)
        return (self._join(lines) if self._join else lines).split(b"\n")

    def _newlines(self, data: bytes) -> bytes:
        """The data with LF for every end of a line; a CRLF may be cut in its middle."""
        if self._returned and data[:1] == b"\n":
            data = data[1:]
        self._returned = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def end(self) -> list[bytes]:
        """The last line, where nothing ended it."""
        rest, self._rest = b"".join(self._rest), []
        return [rest] if rest else []


class Documents:
    """JSON objects and arrays one after the other: mostly one, the whole answer. The objects of an array are given one
    by one, since it may be a stream.

    What stands between them is passed over.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: list[str] = []
        self._held_bytes = 0
        self._scanner: JsonScanner | None = None
        self._bracket = ""  # one whose array may be of objects

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that ``data`` completes."""
        out: list[bytes] = []
        text = data.decode("latin-1")  # one character per byte: brackets and quotes are ASCII
        while text:
            if self._scanner is None:
                text, self._bracket = self._bracket + text, ""
                text = text[_begin(text) :]
                if (array := _OBJECTS.match(text)) is not None:
                    text = text[array.end() :]
                    self._bracket = "" if text else "["
                if not text:
                    break
                self._scanner = JsonScanner()
            end = self._scanner.feed(text)
            self._hold(text if end < 0 else text[:end])
            if end < 0:
                break
            out += self.end()
            text = text[end:]
        return out

    def _hold(self, text: str) -> None:
        self._held.append(text)
        self._held_bytes += len(text)
        _check(self._held_bytes, self._bytes_max)

    def end(self) -> list[bytes]:
        """The document that has begun, complete or not."""
        held, self._held, self._held_bytes, self._scanner = "".join(self._held), [], 0, None
        return [held.encode("latin-1")] if held else []


def _begin(text: str) -> int:
    places = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    return min(places, default=len(text))


def _check(held_bytes: int, bytes_max: int) -> None:
    if held_bytes > bytes_max:
        raise UpstreamError(
            "The model's server wrote what cannot be read.", internal=f"a line of more than {bytes_max} bytes"
        )
