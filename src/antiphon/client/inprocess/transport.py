"""The transports of the in-process clients: httpx2 on one side, the application on the other, streamed for real."""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator, Iterator

import anyio
import httpx2
import openai

from antiphon.client.inprocess.call import (
    AsyncInbox,
    Call,
    Head,
    Part,
    SyncInbox,
    scope_of,
)
from antiphon.client.inprocess.host import Host
from antiphon.client.inprocess.route import (
    ENGINE_HOST,
    PAUSE_S,
    Route,
    Server,
)

# The SDK names it when a stream is dropped: at the interpreter's end too, when nothing can be imported any more.
_IMPORTED = anyio.EndOfStream

_ONCE = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection kept alive belongs to its event loop; the next ``asyncio.run`` has another."""


class InProcessClient(openai.DefaultHttpxClient):
    """The HTTP client of an in-process client and its copies."""

    def __init__(self, route: Route) -> None:
        super().__init__(transport=InProcessTransport(route))
        self.route = route


class AsyncInProcessClient(openai.DefaultAsyncHttpxClient):
    """See ``InProcessClient``."""

    def __init__(self, route: Route) -> None:
        super().__init__(transport=AsyncInProcessTransport(route))
        self.route = route


class InProcessTransport(httpx2.BaseTransport):
    """Sends requests for the engine to it, and all others to the network."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._nets: dict[str, httpx2.HTTPTransport] = {}
        weakref.finalize(self, _let_go, route, self._nets).atexit = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.BaseTransport``.

        Raises:
            EngineError: the engine could not be opened.
            httpx2.TransportError: as over HTTP.
        """
        if request.url.host != ENGINE_HOST:
            return self._net("").handle_request(request)
        while True:
            where = self.route.find()
            try:
                answer = self._ask(where, request)
            except httpx2.ConnectError:
                if not self.route.lost(where):
                    raise
                time.sleep(PAUSE_S)
            else:
                self.route.reached()
                return answer

    def close(self) -> None:
        """End what is under way; the last one to leave closes the engine, and waits for its end."""
        for call in list(self._calls):
            call.cut()
        for net in self._nets.values():
            net.close()
        host = self.route.release()
        if host is not None:
            host.ended()

    def _ask(self, where: Host | Server, request: httpx2.Request) -> httpx2.Response:
        if isinstance(where, Server):
            return self._net(where.socket).handle_request(where.address(request))
        inbox = SyncInbox()
        call = where.call(scope_of(request), request.read(), inbox)
        self._calls.add(call)
        body = _Body(call, inbox, _read_s(request), self)
        # Whatever interrupts us from here on, the engine is told that we left.
        try:
            where.begin(call)
            head = body.take()
        except BaseException:
            body.close()
            raise
        assert isinstance(head, Head)
        return httpx2.Response(head.status, headers=head.headers, stream=body)

    def _net(self, socket: str) -> httpx2.HTTPTransport:
        if socket not in self._nets:
            self._nets[socket] = httpx2.HTTPTransport(uds=socket or None)
        return self._nets[socket]


def _let_go(route: Route, nets: dict[str, httpx2.HTTPTransport]) -> None:
    """What is left to do for a transport that nobody closed."""
    route.release()
    for net in nets.values():
        net.close()


class _Body(httpx2.SyncByteStream):
    """An answer on its way. It keeps its transport, and with that the engine, until it is over."""

    def __init__(self, call: Call, inbox: SyncInbox, read_s: float | None, transport: InProcessTransport) -> None:
        self._call = call
        self._inbox = inbox
        self._read_s = read_s
        self._transport = transport

    def take(self) -> Head | bytes | None:
        """The next part."""
        try:
            return _fit(self._inbox.get(self._read_s))
        except TimeoutError:
            raise httpx2.ReadTimeout("The engine took too long.") from None

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(part := self.take(), bytes):
            self._call.taken(len(part))
            yield part

    def close(self) -> None:
        """Take no more."""
        self._call.leave()

    def __del__(self) -> None:
        self._call.leave()


class AsyncInProcessTransport(httpx2.AsyncBaseTransport):
    """The same for asynchronous clients, in any event loop."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self._nets: dict[str, httpx2.AsyncHTTPTransport] = {}
        weakref.finalize(self, route.release).atexit = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.AsyncBaseTransport``.

        Raises:
            EngineError: the engine could not be opened.
            httpx2.TransportError: as over HTTP.
        """
        if request.url.host != ENGINE_HOST:
            return await self._net("").handle_async_request(request)
        while True:
            where = await self.route.find_async()
            try:
                answer = await self._ask(where, request)
            except httpx2.ConnectError:
                if not self.route.lost(where):
                    raise
                await anyio.sleep(PAUSE_S)
            else:
                self.route.reached()
                return answer

    async def aclose(self) -> None:
        """End what is under way; the last one to leave closes the engine, and waits for its end."""
        for call in list(self._calls):
            call.cut()
        for net in self._nets.values():
            await net.aclose()
        host = self.route.release()
        if host is not None:
            await host.ended_async()

    async def _ask(self, where: Host | Server, request: httpx2.Request) -> httpx2.Response:
        if isinstance(where, Server):
            return await self._net(where.socket).handle_async_request(where.address(request))
        inbox = AsyncInbox()
        call = where.call(scope_of(request), await request.aread(), inbox)
        self._calls.add(call)
        body = _AsyncBody(call, inbox, _read_s(request), self)
        try:
            where.begin(call)
            head = await body.take()
        except BaseException:
            await body.aclose()
            raise
        assert isinstance(head, Head)
        return httpx2.Response(head.status, headers=head.headers, stream=body)

    def _net(self, socket: str) -> httpx2.AsyncHTTPTransport:
        if socket not in self._nets:
            self._nets[socket] = httpx2.AsyncHTTPTransport(uds=socket or None, limits=_ONCE)
        return self._nets[socket]


class _AsyncBody(httpx2.AsyncByteStream):
    """See ``_Body``."""

    def __init__(self, call: Call, inbox: AsyncInbox, read_s: float | None, transport: AsyncInProcessTransport) -> None:
        self._call = call
        self._inbox = inbox
        self._read_s = read_s
        self._transport = transport

    async def take(self) -> Head | bytes | None:
        """The next part."""
        try:
            return _fit(await self._inbox.get(self._read_s))
        except TimeoutError:
            raise httpx2.ReadTimeout("The engine took too long.") from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(part := await self.take(), bytes):
            self._call.taken(len(part))
            yield part

    async def aclose(self) -> None:
        """Take no more."""
        self._call.leave()

    def __del__(self) -> None:
        self._call.leave()


def _read_s(request: httpx2.Request) -> float | None:
    """The read timeout, the only one that there is a reason for: nothing is connected to, and nothing is full."""
    return request.extensions.get("timeout", {}).get("read")


def _fit(part: Part) -> Head | bytes | None:
    if isinstance(part, httpx2.TransportError):
        raise part
    return part
