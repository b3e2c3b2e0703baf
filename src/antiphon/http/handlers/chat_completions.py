"""The handler of ``/v1/chat/completions``: another dialect of the same engine. It carries; it decides nothing."""

from __future__ import annotations

from typing import Any, cast

from antiphon.http.chat import EXTRA, Chunks, rename_param, to_completion, to_responses
from antiphon.http.exchange import Exchange
from antiphon.http.handlers.responses import HttpSink
from antiphon.http.sse import EventStream
from antiphon.log import encode
from antiphon.wire import Json
from antiphon.wire.chat import ChatRequest
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.response import Response
from antiphon.wire.validation import check, find_undocumented, plain


async def create(exchange: Exchange) -> None:
    """``POST /v1/chat/completions``."""
    request, ignored, extra = _read(await exchange.json(), strict=exchange.engine.config.strict)
    options = request.stream_options
    sink = _ChatSink(exchange, include_usage=options is not None and bool(options.include_usage))
    if ignored:
        exchange.headers["x-antiphon-ignored"] = ", ".join(ignored)
    try:
        with exchange.while_connected():
            await exchange.engine.responses.respond(to_responses(request), exchange.caller, sink, extra=extra)
    except ApiError as error:
        raise rename_param(error) from error.__cause__
    finally:
        sink.drop()


def _read(body: Any, *, strict: bool) -> tuple[ChatRequest, tuple[str, ...], Json]:
    """The request, the paths of what is ignored, and the members that a model's server may know."""
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    # ``null`` means absent.
    raw = {name: value for name, value in cast(Json, body).items() if value is not None}
    request, ignored = check(raw, ChatRequest, strict=strict)
    extra = find_undocumented(raw, ChatRequest) | {name: raw[name] for name in EXTRA if name in raw}
    passed = set(map(plain, extra))
    return request, tuple(path for path in ignored if path not in passed), extra


class _ChatStream(EventStream):
    """An event stream whose events are chunks."""

    def __init__(self, exchange: Exchange, chunks: Chunks) -> None:
        super().__init__(exchange, obfuscate=False)
        self._chunks = chunks

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        for chunk in self._chunks.of(event):
            self.append_frame(b"data: " + encode(chunk) + b"\n\n")


class _ChatSink(HttpSink):
    """The answer as a completion; see ``Sink``."""

    def __init__(self, exchange: Exchange, *, include_usage: bool) -> None:
        super().__init__(exchange)
        self._chunks = Chunks(include_usage=include_usage)

    async def send(self, response: Response) -> None:
        """Answer with one completion."""
        await self._exchange.reply(to_completion(response))

    def make_stream(self) -> EventStream:
        """A stream of chunks."""
        return _ChatStream(self._exchange, self._chunks)
