"""The handlers of contexts: how large one is, and how it becomes smaller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from antiphon.http.exchange import Exchange
from antiphon.http.handlers.responses import HttpSink
from antiphon.wire.errors import ApiError


async def count_input_tokens(exchange: Exchange) -> None:
    """``POST /v1/responses/input_tokens``."""
    body = await exchange.json()
    with exchange.while_connected():
        counted = await exchange.engine.contexts.count(body, exchange.caller)
        exchange.headers["x-antiphon-model"] = counted.model
        exchange.name_ignored(counted.ignored)
        if counted.estimated:
            exchange.headers["x-antiphon-estimated"] = "input_tokens"
        await exchange.reply(counted.answer)


async def compact(exchange: Exchange) -> None:
    """``POST /v1/responses/compact``."""
    body = await exchange.json()
    with exchange.while_connected():
        sink = HttpSink(exchange)
        async with _patient(exchange, exchange.engine.config.heartbeat_s):
            answer = await exchange.engine.contexts.compact(body, exchange.caller, sink)
        if exchange.started:
            await exchange.write_json(answer)
        else:
            await exchange.reply(answer)


@asynccontextmanager
async def _patient(exchange: Exchange, interval_s: float) -> AsyncGenerator[None]:
    """A context for work whose answer may come late: after every so many seconds a space goes out, which JSON may begin
    with, so that neither the client nor what stands between gives up.

    With the first space the answer has the status 200. What fails later cannot change that; it is written down, and
    the connection closed before the answer's end, so that nobody takes it for one.
    """
    beating = asyncio.create_task(_beat(exchange, interval_s)) if interval_s else None
    try:
        yield
    except ApiError as error:
        if exchange.started:
            await exchange.write_json({"error": exchange.profile.error(error.body(), error.status)}, more=True)
        raise
    finally:
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


async def _beat(exchange: Exchange, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        if not exchange.started:
            await exchange.start(200, "application/json")
        await exchange.write(b" ", more=True)
