"""The limit: a proxy that copies bytes, built from the HTTP parts that the server itself uses.

Promise: uvicorn (uvloop, httptools) in front, an aiohttp client with keep-alive behind, and between them
no parsing, no framework and no copy that is not needed. What the upstream sends goes on chunk by chunk,
as it is read.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_HEADERS = {"content-type": "application/json"}
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding")


class Proxy:
    """A bare ASGI application; `upstream` is the server's root, without a path.

    It sends on what each read of the socket gave, or, with `by_chunk`, each HTTP chunk (an SSE frame) by itself.
    """

    def __init__(self, upstream: str, by_chunk: bool) -> None:
        self._upstream = upstream
        self._pieces = _chunks if by_chunk else aiohttp.StreamReader.iter_any
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._forward(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, skip_auto_headers=_SKIPPED
        ) as self._session:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert self._session is not None
        body = await _body(receive)
        async with self._session.request(
            scope["method"], self._upstream + scope["path"], data=body, headers=_HEADERS
        ) as answer:
            content_type = answer.headers["content-type"].encode()
            headers = [(b"content-type", content_type)]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for data in self._pieces(answer.content):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _chunks(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    async for data, _ in content.iter_chunks():
        yield data


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="root of the upstream, e.g. http://127.0.0.1:9000")
    parser.add_argument("--by-chunk", action="store_true", help="send on each HTTP chunk by itself")
    options = parser.parse_args()
    uvicorn.run(
        Proxy(options.upstream, options.by_chunk),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
