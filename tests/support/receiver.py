"""A receiver of webhooks on a real loopback socket, which answers as it is told.

async with Receiver(500) as receiver:  # 500 at first, then 200
    Endpoint(receiver.url, (b"…",), private=True)
    first, second = await receiver.got(2)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web


class Received(msgspec.Struct, frozen=True):
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """Answers requests in their order: a status at once, or 200 when an event is set; with 200 when all are used up.

    Args:
        port: 0 takes a free one.
        headers: of every answer.
        endless: whether the body of an answer never ends.

    Attributes:
        received: what came so far.
        open_max: how many requests there were at the same time.
    """

    def __init__(
        self,
        *answers: int | asyncio.Event,
        port: int = 0,
        headers: Mapping[str, str] | None = None,
        endless: bool = False,
    ) -> None:
        self.received: list[Received] = []
        self.open_max = 0
        self.port = port
        self._answers = list(answers)
        self._headers = headers or {}
        self._endless = endless
        self._open = 0
        self._came = asyncio.Condition()
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def got(self, count: int) -> Sequence[Received]:
        """The first ``count`` requests, once they have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received[:count]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self._open += 1
        self.open_max = max(self.open_max, self._open)
        answer = self._answers.pop(0) if self._answers else 200
        async with self._came:
            self.received.append(Received(request.path_qs, dict(request.headers), body))
            self._came.notify_all()
        try:
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                answer = 200
            return await self._answered(request, answer)
        finally:
            self._open -= 1

    async def _answered(self, request: web.BaseRequest, status: int) -> web.StreamResponse:
        if not self._endless:
            return web.Response(status=status, headers=self._headers)
        response = web.StreamResponse(status=status, headers=self._headers)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
