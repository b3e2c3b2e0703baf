"""Asks one address of another server for JSON, as model servers are asked for vectors and scores."""

from __future__ import annotations

from typing import Any

import aiohttp


class Unreachable(Exception):
    """The server cannot be reached, or breaks off; the text names the kind of failure."""


class JsonClient:
    """Connections are opened with the first request, and used again.

    Args:
        key: bearer token; empty for none.
        timeout_s: for a request, whole.
    """

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """The answer's status and body.

        Raises:
            Unreachable: there is none.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        try:
            async with self._session.post(self._url, json=body, headers=self._headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(type(error).__name__) from error

    async def close(self) -> None:
        """Let go of the connections; the next request opens others."""
        if self._session is not None:
            await self._session.close()
            self._session = None
