"""The handlers of ``/v1/responses``. They carry; they decide nothing."""

from __future__ import annotations

from antiphon import intake
from antiphon.http.exchange import ClientGone, Exchange
from antiphon.http.listing import ends, item_page
from antiphon.http.sse import EventStream, Pulse
from antiphon.log import Interrupted, NullLog, Reader
from antiphon.run import Failed, Run, respond
from antiphon.wire.listing import list_query
from antiphon.wire.lists import Deleted, ResponseList

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def create(exchange: Exchange, pulse: Pulse) -> None:
    """``POST /v1/responses``."""
    body = await exchange.json()
    with exchange.attended():
        run = await exchange.engine.accept(body, exchange.owner, exchange.key_id)
        run.timer.request_id, run.timer.parent = exchange.request_id, exchange.header(b"traceparent") or ""
        exchange.headers |= exchange.engine.keyring.headers(exchange.key_id)
        exchange.headers["x-antiphon-model"] = run.model.name
        if run.plan.ignored:
            exchange.headers["x-antiphon-ignored"] = ", ".join(run.plan.ignored)
        await _answer(exchange, run, pulse)


async def _answer(exchange: Exchange, run: Run, pulse: Pulse) -> None:
    plan, engine = run.plan, exchange.engine
    if plan.background:
        response = await engine.background.submit(run)
        if not plan.stream:
            return await exchange.reply(response)
        reader = await engine.follow(exchange.owner, response.id, -1)
        return await _follow(exchange, reader, pulse, obfuscate=plan.obfuscate)
    return await (_stream(exchange, run, pulse) if plan.stream else _whole(exchange, run))


async def _whole(exchange: Exchange, run: Run) -> None:
    try:
        response = await respond(run, NullLog())
    except Failed as failed:
        raise failed.error from failed
    await exchange.reply(response)


async def _stream(exchange: Exchange, run: Run, pulse: Pulse) -> None:
    exchange.headers |= _STREAM_HEADERS
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
    """``GET /v1/responses/{response_id}``: as it is now, or its stream."""
    query, id = intake.retrieve_query(exchange.query), exchange.params["response_id"]
    if not query.stream:
        response, last = await exchange.engine.complete_items(exchange.owner, id)
        if last is not None:
            exchange.headers["x-antiphon-sequence-number"] = str(last)
        return await exchange.reply(response)
    reader = await exchange.engine.follow(exchange.owner, id, query.starting_after)
    with exchange.attended():
        return await _follow(exchange, reader, pulse, obfuscate=query.include_obfuscation)


async def _follow(exchange: Exchange, reader: Reader, pulse: Pulse, *, obfuscate: bool) -> None:
    """Show a log, from where the reader stands to its end."""
    exchange.headers |= _STREAM_HEADERS
    stream = EventStream(exchange, pulse, obfuscate=obfuscate)
    try:
        await stream.open()
        async with reader.pieces() as pieces:
            async for lines in pieces:
                stream.take(lines)
                await stream.flush()
    except Interrupted as error:
        # Cut off, and not ended: so the client can tell, and goes on later.
        raise ClientGone from error
    finally:
        stream.drop()
    await stream.end()


async def cancel(exchange: Exchange, pulse: Pulse) -> None:
    """``POST /v1/responses/{response_id}/cancel``."""
    await exchange.reply(await exchange.engine.cancel(exchange.owner, exchange.params["response_id"]))


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


__all__ = ["ClientGone", "cancel", "create", "delete", "input_items", "list_responses", "retrieve"]
