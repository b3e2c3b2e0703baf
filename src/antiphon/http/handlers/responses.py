"""The handlers of ``/v1/responses``. They carry; they decide nothing."""

from __future__ import annotations

from antiphon.http.exchange import ClientDisconnected, Exchange
from antiphon.http.listing import item_page, list_page
from antiphon.http.sse import EventStream
from antiphon.intake import ENCRYPTED_REASONING
from antiphon.log import Interrupted, Reader
from antiphon.run import Run
from antiphon.wire.errors import ApiError
from antiphon.wire.lists import Deleted, ResponseList
from antiphon.wire.queries import ListQuery, PageQuery, RetrieveQuery, read_query
from antiphon.wire.response import Response

_SNAPSHOT = "x-antiphon-snapshot"
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def create(exchange: Exchange) -> None:
    """``POST /v1/responses``."""
    body = await exchange.json()
    with exchange.while_connected():
        sink = HttpSink(exchange)
        try:
            await exchange.engine.responses.respond(body, exchange.caller, sink)
        finally:
            sink.drop()


class HttpSink:
    """The answer to a request over HTTP; see ``Sink``."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._obfuscate = True
        self._stream: EventStream | None = None

    def accept(self, run: Run) -> None:
        """Tell in headers who answers, and what was ignored."""
        exchange = self._exchange
        run.timer.request_id, run.timer.parent = exchange.request_id, exchange.header(b"traceparent") or ""
        exchange.headers |= exchange.engine.keyring.headers(exchange.key_id)
        exchange.headers["x-antiphon-model"] = run.model.name
        exchange.name_ignored([*map(self.name_of, run.plan.ignored)])
        self._obfuscate = run.plan.obfuscate

    def name_of(self, path: str) -> str:
        """What the caller calls a member of the request."""
        return path

    async def send(self, response: Response) -> None:
        """Answer with JSON."""
        await self._exchange.reply(response)

    def stream(self) -> EventStream:
        """Answer with events."""
        self._exchange.headers |= _STREAM_HEADERS
        self._stream = self.make_stream()
        return self._stream

    def make_stream(self) -> EventStream:
        """A stream of events."""
        return EventStream(self._exchange, obfuscate=self._obfuscate)

    async def end(self, error: ApiError | None) -> None:
        """Close the stream; an error of which nothing was sent is a plain answer instead."""
        assert self._stream is not None
        self._stream.drop()
        if error is not None and not self._exchange.started:
            raise error
        if error is not None:
            self._exchange.log_error(error)
        await self._stream.end()

    async def follow(self, reader: Reader) -> None:
        """Show a log that is kept."""
        await _follow(self._exchange, reader, obfuscate=self._obfuscate)

    def drop(self) -> None:
        """Nothing more is sent."""
        if self._stream is not None:
            self._stream.drop()


async def retrieve(exchange: Exchange) -> None:
    """``GET /v1/responses/{response_id}``: as it is now, or its stream."""
    query, id = read_query(exchange.query, RetrieveQuery), exchange.params["response_id"]
    if not query.stream:
        response, last = await exchange.engine.responses.retrieve_with_cursor(exchange.project, id)
        if last is not None:
            exchange.headers["x-antiphon-sequence-number"] = str(last)
        if ENCRYPTED_REASONING in query.include:
            response = exchange.engine.responses.include_sealed(response, exchange.project)
        return await exchange.reply(response)
    snapshot = exchange.header(_SNAPSHOT.encode()) == "true"
    reader = await exchange.engine.responses.follow(exchange.project, id, query.starting_after, snapshot=snapshot)
    if snapshot:
        exchange.headers[_SNAPSHOT] = "true"
    with exchange.while_connected():
        return await _follow(exchange, reader, obfuscate=query.include_obfuscation)


async def _follow(exchange: Exchange, reader: Reader, *, obfuscate: bool) -> None:
    """Show a log, from where the reader stands to its end."""
    exchange.headers |= _STREAM_HEADERS
    stream = EventStream(exchange, obfuscate=obfuscate)
    try:
        await stream.open()
        async with reader.pieces() as pieces:
            async for lines in pieces:
                stream.take(lines)
                await stream.flush()
    except Interrupted as error:
        # Cut off, and not ended: so the client can tell, and goes on later.
        raise ClientDisconnected from error
    finally:
        stream.drop()
    await stream.end()


async def cancel(exchange: Exchange) -> None:
    """``POST /v1/responses/{response_id}/cancel``."""
    await exchange.reply(await exchange.engine.responses.cancel(exchange.project, exchange.params["response_id"]))


async def delete(exchange: Exchange) -> None:
    """``DELETE /v1/responses/{response_id}``."""
    id = exchange.params["response_id"]
    await exchange.engine.responses.delete(exchange.project, id)
    await exchange.reply(Deleted(id))


async def input_items(exchange: Exchange) -> None:
    """``GET /v1/responses/{response_id}/input_items``."""
    query = read_query(exchange.query, PageQuery)
    page = await exchange.engine.responses.input_items(
        exchange.project, exchange.params["response_id"], after=query.after, limit=query.limit, order=query.order
    )
    await exchange.reply(item_page(page, query))


async def list_responses(exchange: Exchange) -> None:
    """``GET /v1/responses``: the stored responses, newest first (not in the official API)."""
    page = await exchange.engine.responses.list(exchange.project, read_query(exchange.query, ListQuery))
    await exchange.reply(list_page(ResponseList, page, lambda response: response))
