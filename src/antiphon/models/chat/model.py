"""Any server that speaks OpenAI chat completions: vLLM, SGLang, llama-server, Ollama, LM Studio, hosted ones.

``chat_body`` says what is sent, ``chat_stream`` reads what comes back, ``chat_errors`` what comes back
instead; here is the conversation over HTTP between them.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from yarl import URL

from antiphon.models import ContextTooLong, Delta, Prompt, ToolHelp
from antiphon.models.chat.body import body, holds_to_schema
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.counter import TokenCounter
from antiphon.models.chat.errors import answered
from antiphon.models.chat.stream import ChatStream
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, Unavailable, UpstreamError, UpstreamTimeout

__all__ = ["ChatConfig", "ChatModel"]

_TRAILER_S: Final = 1.0
"""How long the last bytes of a finished answer are waited for, so that its connection can serve again."""
_PLAIN_BODY_BYTES_MAX: Final = 1024 * 1024
"""Above it aiohttp wants a file, which it sends in pieces."""
_SCHEMA_REFUSED: Final = ("response_format", "json_schema", "guided", "structured")
"""Words with which a server says that it holds no answer to any schema."""


class ChatModel:
    """One model of one server; implements ``antiphon.models.Model``.

    Args:
        config: the server and the model.
        session: whose connections are used; one of its own when None. A session passed in is not closed.
    """

    def __init__(self, config: ChatConfig, session: aiohttp.ClientSession | None = None) -> None:
        self.config = config
        self._base_url = config.base_url.rstrip("/")
        self._session = session
        self._own_session = session is None
        self._native_calls = config.forced_calls == "native"
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=config.connect_s, sock_read=config.idle_s)
        self._completions = URL(f"{self._base_url}/chat/completions")
        self._headers = {"Accept-Encoding": "identity", **config.headers, "Content-Type": "application/json"}
        if config.api_key:
            self._headers["Authorization"] = f"Bearer {config.api_key}"
        self._counter = TokenCounter(config, self._ask, self)

    @property
    def name(self) -> str:
        return self.config.name or self.config.model

    @property
    def supports_images(self) -> bool:
        return self.config.supports_images

    @property
    def context_tokens(self) -> int | None:
        return self.config.context_tokens

    @property
    def tool_help(self) -> ToolHelp:
        """See ``Model``."""
        return self.config.tool_help

    @property
    def supports_prefill(self) -> bool:
        """Whether ``Prompt.prefix`` may be used."""
        return self.config.supports_prefill is not None

    @property
    def estimates_tokens(self) -> bool:
        """Whether ``count`` only estimates."""
        return self.config.counter == "estimate"

    async def close(self) -> None:
        """Closes the connections that are its own."""
        if self._own_session and self._session is not None:
            await self._session.close()
            self._session = None

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Sample once; see ``Model.sample``. Leaving closes the connection at once unless the answer is
        complete.

        Raises:
            ContextTooLong: the prompt does not fit the model's window.
            InvalidRequest: the server refused what the caller asked for.
            RateLimited: the server is over its limit; its ``Retry-After`` is kept.
            Unavailable: the server cannot be reached.
            UpstreamTimeout: it is silent for longer than ``idle_s``.
            UpstreamError: it failed, in whatever other way, or ended in the midst of its answer.
        """
        return _Answer(partial(self._start, prompt), self.config.answer_bytes_max)

    async def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt, as a sample of it would report them; see ``TokenCounter``.

        Raises:
            ContextTooLong: it does not fit the model's window, and its server counts nothing that does not.
            InvalidRequest: ``unsupported_operation``, when the server has no way to count.
        """
        return await self._counter.count(prompt, native_calls=self._native_calls)

    # The request.

    async def _start(self, prompt: Prompt) -> tuple[aiohttp.ClientResponse, ChatStream]:
        try:
            return await self._start_either_way(prompt)
        except ContextTooLong as error:
            clipped = _clipped(prompt, error)
            if clipped is None:
                raise
            return await self._start_either_way(clipped)

    def _start_either_way(self, prompt: Prompt) -> Awaitable[tuple[aiohttp.ClientResponse, ChatStream]]:
        if self._native_calls or not holds_to_schema(prompt, self.config):
            return self._start_once(prompt, native=self._native_calls)
        return self._start_by_schema(prompt)

    async def _start_by_schema(self, prompt: Prompt) -> tuple[aiohttp.ClientResponse, ChatStream]:
        """A required call is had by a schema, or by the server's own ``tool_choice`` when it refuses that."""
        try:
            return await self._start_once(prompt, native=False)
        except InvalidRequest as refusal:
            started = await self._start_once(prompt, native=True)
            # One schema may be too much for it; remember only that it takes none.
            self._native_calls = any(word in refusal.message.lower() for word in _SCHEMA_REFUSED)
            return started

    async def _start_once(self, prompt: Prompt, *, native: bool) -> tuple[aiohttp.ClientResponse, ChatStream]:
        forced = holds_to_schema(prompt, self.config) and not native
        sent = body(prompt, self.config, native_calls=native)
        response = await self._post(self._completions, sent)
        whole = response.headers.get("Content-Type", "").startswith("application/json")
        return response, ChatStream(prompt, self.config, forced=forced, whole=whole)

    async def _post(self, url: URL | str, sent: Json) -> aiohttp.ClientResponse:
        """Posts, and returns once the server has answered 200.

        Posts again when the server was just closing the idle connection: sampling changes nothing.
        """
        data = msgspec.json.encode(sent)
        try:
            try:
                response = await self._post_once(url, data)
            except (aiohttp.ClientConnectorError, TimeoutError):
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                response = await self._post_once(url, data)
            if response.status == 200:
                return response
            try:
                error_body = await _read_bounded(response, self.config.error_bytes_max)
            finally:
                response.close()
        except _FAILURES as error:
            raise _failure(error) from error
        raise answered(response.status, error_body, response.headers, self.config.api_key)

    def _post_once(self, url: URL | str, data: bytes) -> Awaitable[aiohttp.ClientResponse]:
        large = len(data) > _PLAIN_BODY_BYTES_MAX
        return self._connections().post(
            url,
            data=io.BytesIO(data) if large else data,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,  # the key is for this server alone
        )

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self.config.connections_max)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _ask(self, url: str, sent: Json) -> Json:
        """Posts, and reads the whole answer."""
        response = await self._post(url, sent)
        try:
            data = await _read_bounded(response, self.config.line_bytes_max)
        except _FAILURES as error:
            raise _failure(error) from error
        finally:
            response.close()
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UpstreamError("The model's server wrote what cannot be read.", internal=str(error)) from None


class _Answer:
    """One answer: a context that asks for it and lets its connection go, and the batches in it, one per read."""

    def __init__(
        self, start: Callable[[], Awaitable[tuple[aiohttp.ClientResponse, ChatStream]]], bytes_max: int
    ) -> None:
        self._start = start
        self._bytes_left = bytes_max

    async def __aenter__(self) -> Self:
        self._response, self._stream = await self._start()
        self._content = self._response.content
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stream.finished:
            self._response.close()
        elif not self._content.at_eof():
            # The last bytes are on their way; with them the connection is free to serve again.
            late = asyncio.get_running_loop().call_later(_TRAILER_S, self._response.close)
            self._content.on_eof(late.cancel)

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        while not self._stream.finished:
            try:
                data = await self._content.readany()
            except _FAILURES as error:
                raise _failure(error, streaming=True) from error
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                raise UpstreamError("The model's answer is too long.", code="upstream_too_long")
            batch = self._stream.feed(data) if data else self._stream.end()
            if batch:
                return batch
        raise StopAsyncIteration


async def _read_bounded(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body, or as much of it as the bound allows."""
    out = bytearray()
    while len(out) < bytes_max and not response.content.at_eof():
        out += await response.content.readany()
    return bytes(out[:bytes_max])


def _clipped(prompt: Prompt, error: ContextTooLong) -> Prompt | None:
    """The prompt with an answer short enough, when it was only the answer's bound that did not fit.

    ``max_output_tokens`` is a bound, not a wish: some servers refuse one that reaches beyond the window.
    """
    used, window, wanted = error.prompt_tokens, error.context_tokens, prompt.max_output_tokens
    if used is None or window is None or wanted is None or not 0 < window - used < wanted:
        return None
    return msgspec.structs.replace(prompt, max_output_tokens=window - used)


_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


def _failure(error: Exception, *, streaming: bool = False) -> ApiError:
    """aiohttp's failure as ours. No address in what callers read, and none of its words in the log: they may quote
    the answer.
    """
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The model's server did not answer in time.", internal=kind)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable("The model's server cannot be reached.", internal=repr(error.os_error))
    if streaming:
        return UpstreamError("The model's server ended mid-stream.", code="upstream_ended", internal=kind)
    return Unavailable("The model's server closed the connection.", internal=kind)
