"""Heads of answers that are not quite HTTP, made fit for a parser that is strict about it.

Gateways in front of models say the length of an answer twice, or beside chunks, or too short; their headers have names
with blanks, lines without a name, or a version that no line of text has. What of it matters is clear each time.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

HEAD_BYTES_MAX: Final = 256 * 1024
"""A head that goes on behind that is left to the parser."""

_END: Final = re.compile(rb"\r?\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/\d\.\d 1(?!01)")
"""An answer that another one follows."""
_VERSION: Final = re.compile(rb"(?i:http)/(?:2(?:\.0)?|3|1(?:\.1)?)(?= )")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:([^\0]*)")
_CHUNK: Final = re.compile(rb"[0-9a-fA-F]+[ \t]*(?:;|\r?\n|\Z)")
_LENGTH: Final = b"content-length"
_CODING: Final = b"transfer-encoding"


class Connector(aiohttp.TCPConnector):
    """Connections on which what is wrong with an answer takes nothing of it away that had come.

    Make it inside the event loop.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout)  # pyright: ignore[reportUnknownMemberType]
        self._factory = partial(_Handler, loop=asyncio.get_running_loop())


class _Handler(ResponseHandler):
    """Gives the parser each head by itself, mended, and ends a body that the parser gave up."""

    _head: bytes | None = None

    def set_response_params(self, **options: Any) -> None:
        """A new answer is to come."""
        self._head = b""
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Hold a head until it is complete."""
        while self._head is not None and data:
            head = (self._head + data).lstrip(b"\r\n")
            end = _END.search(head)
            if end is None and len(head) <= HEAD_BYTES_MAX:
                self._head = head
                return
            at = end.end() if end is not None else len(head)
            head, data = head[:at], head[at:]
            self._head = b"" if _INTERIM.match(head) else None
            super().data_received(mend(head, data) if end is not None else head)
        if data:
            super().data_received(data)
        if self._payload is not None and self.exception() is not None:
            self._payload.feed_eof()  # nobody else would, and its reader waits

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only where it was stopped: a reader says so at each chunk that it takes, and the parser would be asked each
        time.
        """
        if self._reading_paused:
            super().resume_reading(resume_parser)


def mend(head: bytes, begun: bytes) -> bytes:
    """The head with one length at most, which is not shorter than the body that has ``begun``, and without lines that
    are no headers.
    """
    first, *lines = head.rstrip(b"\r\n").split(b"\n")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        line = line.rstrip(b"\r")
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line.strip())
        elif (field := _FIELD.fullmatch(line)) is not None:
            fields.append((field[1], field[2]))
    names = [name.lower() for name, _ in fields]
    is_chunked = _CODING in names and (not begun or _CHUNK.match(begun) is not None)
    kept = [_VERSION.sub(b"HTTP/1.1", first.rstrip(b"\r"), count=1)]
    lengths = 0
    for lower, (name, value) in zip(names, fields, strict=True):
        if lower == _LENGTH:
            value = value.partition(b",")[0]
            lengths += 1
            if is_chunked or lengths > 1 or (value.strip().isdigit() and int(value) < len(begun)):
                continue
        if lower != _CODING or is_chunked:
            kept.append(name + b":" + value)
    return b"\r\n".join(kept) + b"\r\n\r\n"
