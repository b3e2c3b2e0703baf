"""Connections to a chat-completions server, and its answers' bodies."""

from __future__ import annotations

import asyncio
import io
from typing import Final

import aiohttp
from yarl import URL

from antiphon.models.chat.encoding import Unpacker
from antiphon.models.chat.http_heads import HEAD_BYTES_MAX, Connector
from antiphon.wire.errors import ApiError, Unavailable, UpstreamError, UpstreamTimeout

FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)
"""What aiohttp raises when a connection fails."""
HEADERS: Final = {"Accept-Encoding": "identity"}
"""Sent with every request: an answer that comes piece by piece gains nothing from being packed."""
_HEADERS_MAX: Final = 4096
_ERROR_S: Final = 2.0
"""How long the words of an error are waited for: its status is known."""
_PLAIN_BODY_BYTES_MAX: Final = 1024 * 1024
"""Above it aiohttp wants a file, which it sends in pieces."""


def open_session(connections_max: int) -> aiohttp.ClientSession:
    """Connections to servers that may say much in their headers. Call it inside the event loop."""
    return aiohttp.ClientSession(
        connector=Connector(limit=connections_max, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=HEAD_BYTES_MAX,
        max_field_size=HEAD_BYTES_MAX,
        max_headers=_HEADERS_MAX,
    )


def payload(data: bytes) -> bytes | io.BytesIO:
    """A request's body as aiohttp wants it."""
    return io.BytesIO(data) if len(data) > _PLAIN_BODY_BYTES_MAX else data


class Body:
    """The body of one answer, unpacked, as it comes.

    Args:
        bytes_max: bound on all of it.

    Raises:
        UpstreamError: it is packed in a way that is not understood.
    """

    def __init__(self, response: aiohttp.ClientResponse, bytes_max: int) -> None:
        self._content = response.content
        self._left = bytes_max
        self._unpacker: Unpacker | None = Unpacker(response.headers.get("Content-Encoding", ""))

    async def read(self) -> bytes | None:
        """What has come since the last time, perhaps nothing that can be read yet; None at the end.

        Raises:
            UpstreamError: ``upstream_too_long``.
            aiohttp.ClientError, OSError, TimeoutError: the connection failed.
        """
        data = await self._content.readany()
        unpacker = self._unpacker
        if unpacker is not None:
            data = self._unpack(unpacker, data)
        elif not data:
            return None
        if data is not None:
            self._left -= len(data)
            if self._left < 0:
                raise UpstreamError("The model's answer is too long.", code="upstream_too_long")
        return data

    def _unpack(self, unpacker: Unpacker, data: bytes) -> bytes | None:
        if not data:
            self._unpacker = None
            return unpacker.end() or None
        unpacked = unpacker.feed(data, max(self._left, 0))
        if unpacker.idle:
            self._unpacker = None
        return unpacked

    def release(self, response: aiohttp.ClientResponse, within_s: float) -> None:
        """Lets the connection serve again once its last bytes are here, or closes it."""
        if not self._content.at_eof():
            late = asyncio.get_running_loop().call_later(within_s, response.close)
            self._content.on_eof(late.cancel)


async def read_whole(response: aiohttp.ClientResponse, bytes_max: int, within_s: float | None = None) -> bytes:
    """The body, or as much of it as the bound allows, or as came before the connection broke or the time was over."""
    out = bytearray()
    try:
        async with asyncio.timeout(within_s):
            body = Body(response, bytes_max)
            while len(out) < bytes_max and (data := await body.read()) is not None:
                out += data
    except UpstreamError as error:
        if error.code != "upstream_too_long":
            raise
    except FAILURES:
        if not out:
            raise
    return bytes(out[:bytes_max])


async def read_error(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body of an error, or nothing where it cannot be had."""
    try:
        return await read_whole(response, bytes_max, _ERROR_S)
    except (*FAILURES, UpstreamError):
        return b""


def failure(error: Exception, *, streaming: bool = False) -> ApiError:
    """aiohttp's failure as ours. No address in what callers read, and none of its words in the log: they may quote
    the answer.
    """
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The model's server did not answer in time.", internal=kind)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable("The model's server cannot be reached.", internal=repr(error.os_error))
    if isinstance(error, aiohttp.ClientResponseError):
        return UpstreamError("The model's server wrote what cannot be read.", internal=kind)
    if streaming:
        return UpstreamError("The model's server ended mid-stream.", code="upstream_ended", internal=kind)
    return Unavailable("The model's server closed the connection.", internal=kind)


def is_stale(error: Exception) -> bool:
    """Whether the server may just have been closing an idle connection, so that the request is sent again."""
    return isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and not isinstance(
        error, aiohttp.ClientConnectorError | TimeoutError
    )


def url_of(base_url: str, path: str) -> URL:
    """The address of a resource of the server."""
    return URL(f"{base_url.rstrip('/')}/{path}")
