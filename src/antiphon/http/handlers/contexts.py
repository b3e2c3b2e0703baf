"""The handlers of contexts: how large one is, and how it becomes smaller."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.http.handlers.responses import HttpSink
from antiphon.http.sse import ConnectionMonitor


async def count_input_tokens(exchange: Exchange, monitor: ConnectionMonitor) -> None:
    """``POST /v1/responses/input_tokens``."""
    body = await exchange.json()
    with exchange.while_connected():
        counted = await exchange.engine.contexts.count(body, exchange.caller)
        exchange.headers["x-antiphon-model"] = counted.model
        if counted.estimated:
            exchange.headers["x-antiphon-estimated"] = "input_tokens"
        await exchange.reply(counted.answer)


async def compact(exchange: Exchange, monitor: ConnectionMonitor) -> None:
    """``POST /v1/responses/compact``."""
    body = await exchange.json()
    with exchange.while_connected():
        sink = HttpSink(exchange, monitor)
        await exchange.reply(await exchange.engine.contexts.compact(body, exchange.caller, sink))
