"""The handler of ``/v1/chat/completions``: another dialect of the same engine. It carries; it decides nothing."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from antiphon.http.chat import EXTRA, KNOWN, Chunks, name_in_chat, to_chat_error, to_completion, to_responses
from antiphon.http.chat_functions import (
    is_in_functions,
    name_in_functions,
    rename_param_to_functions,
    to_functions,
    to_tools,
)
from antiphon.http.exchange import Exchange
from antiphon.http.handlers.responses import HttpSink
from antiphon.http.sse import EventStream
from antiphon.intake import Extra
from antiphon.log import encode
from antiphon.wire import Json
from antiphon.wire.chat import ChatRequest
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.response import Response
from antiphon.wire.validation import check, find_undocumented, plain


async def create(exchange: Exchange) -> None:
    """``POST /v1/chat/completions``."""
    raw = _without_nulls(await exchange.json())
    try:
        await _respond(exchange, raw)
    except ApiError as error:
        raise rename_param_to_functions(error, raw) from error.__cause__


async def _respond(exchange: Exchange, raw: Json) -> None:
    request, ignored, extra = _read(to_tools(raw), strict=exchange.engine.config.strict)
    sink = _ChatSink(exchange, raw, request)
    exchange.name_ignored([name_in_functions(path, raw) for path in ignored])
    try:
        with exchange.while_connected():
            await exchange.engine.responses.respond(to_responses(request), exchange.caller, sink, extra=extra)
    except ApiError as error:
        raise to_chat_error(error, request) from error.__cause__
    finally:
        sink.drop()


def _without_nulls(body: Any) -> Json:
    """The body; ``null`` means absent.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    return {name: value for name, value in cast(Json, body).items() if value is not None}


def _read(raw: Json, *, strict: bool) -> tuple[ChatRequest, tuple[str, ...], Extra]:
    """The request, the paths of what is ignored, and the members that a model's server may know."""
    request, ignored = check(raw, ChatRequest, strict=strict)
    members = find_undocumented(raw, ChatRequest) | {name: raw[name] for name in EXTRA if name in raw}
    passed = set(map(plain, members))
    return request, tuple(path for path in ignored if path not in passed), Extra(members, KNOWN)


class _ChatStream(EventStream):
    """An event stream whose events are chunks."""

    def __init__(self, exchange: Exchange, chunks: Chunks, *, in_functions: bool) -> None:
        super().__init__(exchange, obfuscate=False, holds_opening=True)
        self._chunks = chunks
        self._in_functions = in_functions

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        for chunk in self._chunks.of(event):
            shown = to_functions(chunk) if self._in_functions else chunk
            self.append_frame(b"data: " + encode(shown) + b"\n\n")


class _ChatSink(HttpSink):
    """The answer as a completion; see ``Sink``.

    Args:
        raw: the request as it came; ``request``: what was read of it.
    """

    def __init__(self, exchange: Exchange, raw: Json, request: ChatRequest) -> None:
        super().__init__(exchange)
        options = request.stream_options
        self._chunks = Chunks(include_usage=options is not None and bool(options.include_usage))
        self._raw, self._request = raw, request
        self._in_functions = is_in_functions(raw)

    def name_of(self, path: str) -> str:
        """What the caller calls a member of the request."""
        return name_in_functions(name_in_chat(path, self._request), self._raw)

    async def send(self, response: Response) -> None:
        """Answer with one completion."""
        completion = to_completion(response)
        in_functions = self._in_functions
        await self._exchange.reply(to_functions(msgspec.to_builtins(completion)) if in_functions else completion)

    def make_stream(self) -> EventStream:
        """A stream of chunks."""
        return _ChatStream(self._exchange, self._chunks, in_functions=self._in_functions)
