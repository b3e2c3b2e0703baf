"""The transports of the in-process clients: httpx2 on one side, the application on the other, streamed for real."""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

import anyio
import httpx2
import openai

from antiphon.client.inprocess.exchange import (
    AsgiExchange,
    AsyncInbox,
    Head,
    Part,
    SyncInbox,
    build_scope,
)
from antiphon.client.inprocess.host import Host
from antiphon.client.inprocess.resolver import (
    ENGINE_HOST,
    PAUSE_S,
    EngineResolver,
    Server,
)

# The SDK names it when a stream is dropped: at the interpreter's end too, when nothing can be imported any more.
_IMPORTED = anyio.EndOfStream

InboxT = TypeVar("InboxT", SyncInbox, AsyncInbox)

_NO_KEEPALIVE = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
"""A connection kept alive belongs to its event loop; the next ``asyncio.run`` has another."""


class InProcessClient(openai.DefaultHttpxClient):
    """The HTTP client of an in-process client and its copies."""

    def __init__(self, resolver: EngineResolver) -> None:
        super().__init__(transport=InProcessTransport(resolver))
        self.resolver = resolver


class AsyncInProcessClient(openai.DefaultAsyncHttpxClient):
    """See ``InProcessClient``."""

    def __init__(self, resolver: EngineResolver) -> None:
        super().__init__(transport=AsyncInProcessTransport(resolver))
        self.resolver = resolver


class InProcessTransport(httpx2.BaseTransport):
    """Sends requests for the engine to it, and all others to the network."""

    def __init__(self, resolver: EngineResolver) -> None:
        self.resolver = resolver
        self._exchanges: weakref.WeakSet[AsgiExchange] = weakref.WeakSet()
        self._networks: dict[str, httpx2.HTTPTransport] = {}
        weakref.finalize(self, _release, resolver, self._networks).atexit = False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.BaseTransport``.

        Raises:
            EngineError: the engine could not be opened.
            httpx2.TransportError: as over HTTP.
        """
        if request.url.host != ENGINE_HOST:
            return self._network("").handle_request(request)
        while True:
            where = self.resolver.resolve()
            try:
                answer = self._send(where, request)
            except httpx2.ConnectError:
                if not self.resolver.report_lost(where):
                    raise
                time.sleep(PAUSE_S)
            else:
                self.resolver.report_reached()
                return answer

    def close(self) -> None:
        """End what is under way; the last one to leave closes the engine, and waits for its end."""
        for exchange in list(self._exchanges):
            exchange.abort()
        for network in self._networks.values():
            network.close()
        host = self.resolver.release()
        if host is not None:
            host.wait_until_closed()

    def _send(self, where: Host | Server, request: httpx2.Request) -> httpx2.Response:
        if isinstance(where, Server):
            return self._network(where.socket).handle_request(where.redirect(request))
        inbox = SyncInbox()
        exchange = where.make_exchange(build_scope(request), request.read(), inbox)
        self._exchanges.add(exchange)
        body = _Body(exchange, inbox, _read_s(request), self)
        # Whatever interrupts us from here on, the engine is told that we left.
        try:
            where.start(exchange)
            head = body.take()
        except BaseException:
            body.close()
            raise
        assert isinstance(head, Head)
        return httpx2.Response(head.status, headers=head.headers, stream=body)

    def _network(self, socket: str) -> httpx2.HTTPTransport:
        if socket not in self._networks:
            self._networks[socket] = httpx2.HTTPTransport(uds=socket or None)
        return self._networks[socket]


def _release(resolver: EngineResolver, networks: dict[str, httpx2.HTTPTransport]) -> None:
    """What is left to do for a transport that nobody closed."""
    resolver.release()
    for network in networks.values():
        network.close()


class _Answer(Generic[InboxT]):
    """An answer on its way. It keeps its transport, and with that the engine, until it is over."""

    def __init__(self, exchange: AsgiExchange, inbox: InboxT, read_s: float | None, transport: object) -> None:
        self._exchange = exchange
        self._inbox = inbox
        self._read_s = read_s
        self._transport = transport

    def __del__(self) -> None:
        self._exchange.abandon()


class _Body(_Answer[SyncInbox], httpx2.SyncByteStream):
    def take(self) -> Head | bytes | None:
        """The next part."""
        try:
            return _raise_if_error(self._inbox.get(self._read_s))
        except TimeoutError:
            raise httpx2.ReadTimeout("The engine took too long.") from None

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(part := self.take(), bytes):
            self._exchange.acknowledge(len(part))
            yield part

    def close(self) -> None:
        """Take no more."""
        self._exchange.abandon()


class AsyncInProcessTransport(httpx2.AsyncBaseTransport):
    """The same for asynchronous clients, in any event loop."""

    def __init__(self, resolver: EngineResolver) -> None:
        self.resolver = resolver
        self._exchanges: weakref.WeakSet[AsgiExchange] = weakref.WeakSet()
        self._networks: dict[str, httpx2.AsyncHTTPTransport] = {}
        weakref.finalize(self, resolver.release).atexit = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.AsyncBaseTransport``.

        Raises:
            EngineError: the engine could not be opened.
            httpx2.TransportError: as over HTTP.
        """
        if request.url.host != ENGINE_HOST:
            return await self._network("").handle_async_request(request)
        while True:
            where = await self.resolver.resolve_async()
            try:
                answer = await self._send(where, request)
            except httpx2.ConnectError:
                if not self.resolver.report_lost(where):
                    raise
                await anyio.sleep(PAUSE_S)
            else:
                self.resolver.report_reached()
                return answer

    async def aclose(self) -> None:
        """End what is under way; the last one to leave closes the engine, and waits for its end."""
        for exchange in list(self._exchanges):
            exchange.abort()
        for network in self._networks.values():
            await network.aclose()
        host = self.resolver.release()
        if host is not None:
            await host.wait_until_closed_async()

    async def _send(self, where: Host | Server, request: httpx2.Request) -> httpx2.Response:
        if isinstance(where, Server):
            return await self._network(where.socket).handle_async_request(where.redirect(request))
        inbox = AsyncInbox()
        exchange = where.make_exchange(build_scope(request), await request.aread(), inbox)
        self._exchanges.add(exchange)
        body = _AsyncBody(exchange, inbox, _read_s(request), self)
        try:
            where.start(exchange)
            head = await body.take()
        except BaseException:
            await body.aclose()
            raise
        assert isinstance(head, Head)
        return httpx2.Response(head.status, headers=head.headers, stream=body)

    def _network(self, socket: str) -> httpx2.AsyncHTTPTransport:
        if socket not in self._networks:
            self._networks[socket] = httpx2.AsyncHTTPTransport(uds=socket or None, limits=_NO_KEEPALIVE)
        return self._networks[socket]


class _AsyncBody(_Answer[AsyncInbox], httpx2.AsyncByteStream):
    async def take(self) -> Head | bytes | None:
        """The next part."""
        try:
            return _raise_if_error(await self._inbox.get(self._read_s))
        except TimeoutError:
            raise httpx2.ReadTimeout("The engine took too long.") from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(part := await self.take(), bytes):
            self._exchange.acknowledge(len(part))
            yield part

    async def aclose(self) -> None:
        """Take no more."""
        self._exchange.abandon()


def _read_s(request: httpx2.Request) -> float | None:
    """The read timeout, the only one that there is a reason for: nothing is connected to, and nothing is full."""
    return request.extensions.get("timeout", {}).get("read")


def _raise_if_error(part: Part) -> Head | bytes | None:
    if isinstance(part, httpx2.TransportError):
        raise part
    return part
