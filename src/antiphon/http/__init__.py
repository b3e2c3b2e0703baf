"""The edge: one table of routes, one place for what goes wrong. No decisions about responses are made here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from re import Pattern

from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from antiphon.app import Engine
from antiphon.http import models, openapi, responses, usage
from antiphon.http.auth import caller_of, header
from antiphon.http.exchange import ClientGone, Exchange
from antiphon.http.replay import Replays
from antiphon.http.sse import Pulse
from antiphon.wire.errors import SORRY, ApiError, MethodNotAllowed, NotFound, ServerError

access = logging.getLogger("antiphon.access")

Handler = Callable[[Exchange, Pulse], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """One way in. ``path`` may hold ``{names}``. ``once``: an ``Idempotency-Key`` makes it safe to send again."""

    method: str
    path: str
    handler: Handler
    once: bool = False
    pattern: Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", compile_path(self.path)[0])


ROUTES = (
    Route("POST", "/v1/responses", responses.create, once=True),
    Route("GET", "/v1/responses/{response_id}", responses.retrieve),
    Route("DELETE", "/v1/responses/{response_id}", responses.delete),
    Route("GET", "/v1/responses/{response_id}/input_items", responses.input_items),
    Route("GET", "/v1/models", models.list_models),
    Route("GET", "/v1/models/{model:path}", models.retrieve_model),
    Route("GET", "/v1/usage", usage.usage),
    Route("GET", "/health", models.health),
    Route("GET", "/readyz", models.ready),
    Route("GET", "/openapi.json", openapi.document),
)


class HttpApp:
    """The ASGI application over an engine."""

    def __init__(self, engine: Engine, routes: tuple[Route, ...] = ROUTES) -> None:
        self.engine = engine
        self.routes = routes
        self._pulse: Pulse | None = None
        self._replays = Replays()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "WebSocket is not served here"})
            case _:
                pass

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._pulse = Pulse()
        beat = asyncio.create_task(self._pulse.beat())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        beat.cancel()
        with suppress(asyncio.CancelledError):
            await beat
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        route, params = self._route(scope)
        exchange = Exchange(scope, receive, send, self.engine, params)
        await self._attempt(exchange, self._handle(exchange, route))
        if access.isEnabledFor(logging.INFO):
            duration_ms = (time.perf_counter() - began) * 1000
            line = "%s %s %s %d %.1fms"
            access.info(line, exchange.request_id, scope["method"], scope["path"], exchange.status, duration_ms)

    async def _attempt(self, exchange: Exchange, work: Awaitable[None]) -> None:
        """Do the work; what goes wrong becomes the answer."""
        try:
            await work
        except ApiError as error:
            await exchange.fail(error)
        except ClientGone:
            exchange.status = 499
        except Exception as error:
            exchange.headers["x-should-retry"] = "false"
            failure = ServerError(SORRY, internal=repr(error))
            failure.__cause__ = error
            await exchange.fail(failure)

    def _route(self, scope: Scope) -> tuple[Route | ApiError, dict[str, str]]:
        path, method, others = scope["path"], scope["method"], list[str]()
        for route in self.routes:
            found = route.pattern.match(path)
            if found and route.method == method:
                return route, found.groupdict()
            if found:
                others.append(route.method)
        if others:
            allow = {"allow": ", ".join(others)}
            return MethodNotAllowed(f"Not allowed to {method} on {path}.", headers=allow), {}
        return NotFound(f"Invalid URL ({method} {path})", code="unknown_url"), {}

    async def _handle(self, exchange: Exchange, route: Route | ApiError) -> None:
        caller = caller_of(exchange.scope, self.engine.keyring)
        exchange.owner, exchange.key_id = caller.owner, caller.key_id
        if isinstance(route, ApiError):
            raise route
        assert self._pulse is not None, "the server runs the application's lifespan"
        self._pulse.exchanges.add(exchange)
        try:
            await self._perform(exchange, route, self._pulse)
        finally:
            self._pulse.exchanges.discard(exchange)

    async def _perform(self, exchange: Exchange, route: Route, pulse: Pulse) -> None:
        key = header(exchange.scope, b"idempotency-key") if route.once else None
        if key is None:
            return await route.handler(exchange, pulse)
        return await self._replays.answer(exchange, key, lambda own: self._attempt(own, route.handler(own, pulse)))
