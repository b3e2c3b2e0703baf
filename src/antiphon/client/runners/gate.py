"""The only way from a browser to the network: a proxy on a loopback port that lets some origins through.

A browser that is told to use it for all it loads reaches nothing else, whatever a page, a redirect, a worker or a
socket asks for. It decides by host and port, and finds addresses itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_HEAD_BYTES_MAX: Final = 64 * 1024
_HEAD_S: Final = 30.0
_CONNECT_S: Final = 20.0
_BLOCKED_MAX: Final = 20
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True)
class Origin:
    """A host (``*.host`` for all below it, ``*`` for all) and a port; None for any port."""

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> Origin:
        """The origin that a text or a URL names: ``https://shop.example``, ``http://127.0.0.1:8000/a``, ``*``.

        Raises:
            ValueError: it names none.
        """
        if text == "*":
            return cls("*", None)
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r} is not an origin, such as https://host, http://host:port, https://*.host, or *")
        return cls(parts.hostname, parts.port or _PORTS[parts.scheme])

    def covers(self, host: str, port: int) -> bool:
        """Whether it lets that host and port through."""
        if self.port not in (None, port):
            return False
        return self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))


class Gate:
    """The proxy. ``blocked`` are hosts with ports that were asked for and not let through, oldest first."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        self._origins = tuple(origins)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.blocked: dict[str, None] = {}

    async def open(self) -> str:
        """Starts it; gives its URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_BYTES_MAX)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Ends it and all that goes through it."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:  # of ``close``; a server of asyncio's would report it
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, version = head.split("\r\n", 1)[0].split(" ")
        tunnel = method == "CONNECT"
        host, port = _address(f"//{target}" if tunnel else target)
        if not any(origin.covers(host, port) for origin in self._origins):
            self._refuse(writer, host, port)
            return await writer.drain()
        async with asyncio.timeout(_CONNECT_S):
            upstream = await asyncio.open_connection(host, port)
        if tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = urlsplit(target)._replace(scheme="", netloc="").geturl() or "/"
            upstream[1].write(_rewrite_head(f"{method} {path} {version}", head).encode("latin-1"))
        return await _relay((reader, writer), upstream)

    def _refuse(self, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        where = f"{host}:{port}"
        if len(self.blocked) < _BLOCKED_MAX:
            self.blocked[where] = None
        page = f"<title>Not allowed</title><h1>Not allowed</h1><p>This browser may not go to {html.escape(where)}.</p>"
        head = (
            f"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\nConnection: close\r\n"
        )
        writer.write(f"{head}\r\n{page}".encode("latin-1"))


def place(url: str) -> str:
    """The host and port that a URL leads to, as ``Gate.blocked`` has them."""
    host, port = _address(url)
    return f"{host}:{port}"


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _rewrite_head(first: str, head: str) -> str:
    """A request's head as its server gets it. One connection carries one request, so that none slips by unseen."""
    lines = [line for line in head.split("\r\n")[1:-2] if not re.match(r"(proxy-)?connection:", line, re.IGNORECASE)]
    return "\r\n".join([first, *lines, "Connection: close", "", ""])


async def _relay(one: _Streams, other: _Streams) -> None:
    """Carries bytes both ways until one side ends."""
    ways = [asyncio.create_task(_carry(one[0], other[1])), asyncio.create_task(_carry(other[0], one[1]))]
    try:
        await ways[1]
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        other[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(64 * 1024):
        writer.write(chunk)
        await writer.drain()
