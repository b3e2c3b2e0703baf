"""Asks one address of another server for JSON, as model servers are asked for vectors and scores.

Of an answer no more is taken than it may have bytes, and it is asked for unpacked: what a few bytes unpack to has no
bound. Redirects are not followed, for the key is meant for one server.
"""

from __future__ import annotations

from typing import Any

import aiohttp

_PIECE_BYTES = 64 * 1024


class Unreachable(Exception):
    """The server cannot be reached, breaks off, or says too much; the text names the kind of failure."""


class JsonClient:
    """Connections are opened with the first request, and used again.

    Args:
        key: bearer token; empty for none.
        timeout_s: for a request, whole.
        bytes_max: of an answer.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, bytes_max: int) -> None:
        self._url = url
        self._headers = {"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})}
        self._timeout_s = timeout_s
        self._bytes_max = bytes_max
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """The answer's status and body.

        Raises:
            Unreachable: there is none.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        try:
            async with self._session.post(self._url, json=body, headers=self._headers, allow_redirects=False) as answer:
                return answer.status, await self._read(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(type(error).__name__) from error

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        found = bytearray()
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            found += piece
            if len(found) > self._bytes_max:
                answer.close()
                raise Unreachable(f"the answer is longer than {self._bytes_max} bytes")
        return bytes(found)

    async def close(self) -> None:
        """Let go of the connections; the next request opens others."""
        if self._session is not None:
            await self._session.close()
            self._session = None
