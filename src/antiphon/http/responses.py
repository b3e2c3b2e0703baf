"""The handlers of ``/v1/responses``. They carry; they decide nothing."""

from __future__ import annotations

from antiphon import intake
from antiphon.http.exchange import ClientGone, Exchange
from antiphon.http.listing import ends, item_page
from antiphon.http.sse import EventStream, Pulse
from antiphon.log import Unread
from antiphon.run import Failed, Run, respond
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.listing import list_query
from antiphon.wire.lists import Deleted, ResponseList


async def create(exchange: Exchange, pulse: Pulse) -> None:
    """``POST /v1/responses``."""
    body = await exchange.json()
    with exchange.attended():
        run = await exchange.engine.accept(body, exchange.owner, exchange.key_id)
        run.watch.request_id, run.watch.parent = exchange.request_id, exchange.header(b"traceparent") or ""
        exchange.headers |= exchange.engine.keyring.headers(exchange.key_id)
        exchange.headers["x-antiphon-model"] = run.model.name
        if run.plan.ignored:
            exchange.headers["x-antiphon-ignored"] = ", ".join(run.plan.ignored)
        await (_stream(exchange, run, pulse) if run.plan.stream else _whole(exchange, run))


async def _whole(exchange: Exchange, run: Run) -> None:
    try:
        response = await respond(run, Unread())
    except Failed as failed:
        raise failed.error from failed
    await exchange.reply(response)


async def _stream(exchange: Exchange, run: Run, pulse: Pulse) -> None:
    exchange.headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}
    log = EventStream(exchange, pulse, obfuscate=run.plan.obfuscate)
    try:
        await respond(run, log)
    except Failed as failed:
        if not exchange.started:
            raise failed.error from failed
        exchange.note(failed.error)
    finally:
        log.drop()
    await log.end()


async def retrieve(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /v1/responses/{response_id}``."""
    if ("stream", "true") in exchange.query:
        raise InvalidRequest(
            "Streaming a stored response is not supported by this server yet.", code="unsupported_value", param="stream"
        )
    await exchange.reply(await exchange.engine.retrieve(exchange.owner, exchange.params["response_id"]))


async def delete(exchange: Exchange, pulse: Pulse) -> None:
    """``DELETE /v1/responses/{response_id}``."""
    id = exchange.params["response_id"]
    await exchange.engine.delete(exchange.owner, id)
    await exchange.reply(Deleted(id))


async def input_items(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /v1/responses/{response_id}/input_items``."""
    query = intake.page_query(exchange.query)
    page = await exchange.engine.input_items(
        exchange.owner, exchange.params["response_id"], after=query.after, limit=query.limit, order=query.order
    )
    await exchange.reply(item_page(page, query))


async def list_responses(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /v1/responses``: the stored responses, newest first (not in the official API)."""
    page = await exchange.engine.responses(exchange.owner, list_query(exchange.query))
    first, last = ends([response.id for response in page.found])
    await exchange.reply(ResponseList(data=page.found, first_id=first, last_id=last, has_more=page.has_more))


__all__ = ["ClientGone", "create", "delete", "input_items", "list_responses", "retrieve"]
