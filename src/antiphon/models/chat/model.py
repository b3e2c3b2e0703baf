"""Any server that speaks OpenAI chat completions: vLLM, SGLang, llama-server, Ollama, LM Studio, hosted ones.

``body`` says what is sent, ``stream`` reads what comes back, ``errors`` what comes back instead; here
is the conversation over HTTP between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from yarl import URL

from antiphon.models import ContextTooLong, Delta, Prompt, ToolHelp
from antiphon.models.chat.body import (
    body,
    format_schema,
    held_function,
    holds_to_schema,
    is_bound,
    limit_answer,
    with_n_probs,
)
from antiphon.models.chat.choice import is_choice, sample_choice
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.connections import (
    FAILURES,
    HEADERS,
    Body,
    failure,
    is_stale,
    open_session,
    payload,
    read_error,
    read_whole,
    url_of,
)
from antiphon.models.chat.counter import TokenCounter
from antiphon.models.chat.errors import (
    error_of_answer,
    is_refusal_of_images,
    is_refusal_of_logprobs,
    misses_thoughts,
    no_images,
    refused_aside,
    wanted_back,
)
from antiphon.models.chat.stream import ChatStream
from antiphon.models.chat.to_end import sample_to_end
from antiphon.models.tokens import shows_images
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, UpstreamError

__all__ = ["ChatConfig", "ChatModel"]

_TRAILER_S: Final = 1.0
"""How long the last bytes of a finished answer are waited for, so that its connection can serve again."""
_USAGE_S: Final = 2.0
"""How long a server that has said why the answer ends is waited for to say what it used."""
_DONE_S: Final = 0.25
"""The same once it has said that too."""
_DOUBTFUL_S: Final = 30.0
"""The same where the answer went on behind its end."""
_STALE_MAX: Final = 3
"""How many idle connections a request may find closed by the server: those of one moment of idleness close together."""
_OPTIONS: Final = "stream_options"
"""What nobody asked for, and a server may not know."""
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
        self._wants_n_probs = False
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=config.connect_s, sock_read=config.idle_s)
        self._completions = url_of(self._base_url, "chat/completions")
        self._headers = {**HEADERS, **config.headers, "Content-Type": "application/json"}
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

    @property
    def accepts(self) -> Sequence[str]:
        """See ``Model``."""
        return self.config.accepts

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
            ImagesRefused: it takes no images, and there are some.
            RateLimited: the server is over its limit; its ``Retry-After`` is kept.
            Unavailable: the server cannot be reached.
            UpstreamTimeout: it is silent for longer than ``idle_s``.
            UpstreamError: it failed, in whatever other way, or ended in the midst of its answer.
        """
        prompt = limit_answer(prompt, self.config)
        if is_choice(prompt, self.config):
            return sample_choice(self._open, prompt, self.config)
        schema = format_schema(prompt, self.config) if is_bound(prompt, self.config) and not prompt.prefix else None
        return sample_to_end(self._open, prompt, schema) if schema is not None else self._open(prompt)

    def _open(self, prompt: Prompt, begun: str = "") -> _Answer:
        shows_any = self.config.supports_images and shows_images(prompt)
        return _Answer(partial(self._start, prompt, begun), self.config.answer_bytes_max, shows_images=shows_any)

    async def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt, as a sample of it would report them; see ``TokenCounter``.

        Raises:
            ContextTooLong: it does not fit the model's window, and its server counts nothing that does not.
            InvalidRequest: ``unsupported_operation``, when the server has no way to count.
        """
        return await self._counter.count(prompt, native_calls=self._native_calls)

    # The request.

    async def _start(self, prompt: Prompt, begun: str = "") -> tuple[aiohttp.ClientResponse, ChatStream]:
        try:
            return await self._start_either_way(prompt, begun)
        except ContextTooLong as error:
            clipped = _clip_answer(prompt, error)
            if clipped is None:
                raise
            return await self._start_either_way(clipped, begun)

    def _start_either_way(self, prompt: Prompt, begun: str) -> Awaitable[tuple[aiohttp.ClientResponse, ChatStream]]:
        if not self._native_calls and holds_to_schema(prompt, self.config):
            return self._start_by_schema(prompt)
        if format_schema(prompt, self.config) is not None and not prompt.prefix:
            return self._start_by_grammar(prompt)
        return self._start_once(prompt, native=self._native_calls, begun=begun)

    async def _start_by_grammar(self, prompt: Prompt) -> tuple[aiohttp.ClientResponse, ChatStream]:
        """A format is had by a grammar, or as the server makes one of its schema when it refuses that."""
        try:
            return await self._start_once(prompt, native=self._native_calls)
        except InvalidRequest:
            return await self._start_once(prompt, native=self._native_calls, by_grammar=False)

    async def _start_by_schema(self, prompt: Prompt) -> tuple[aiohttp.ClientResponse, ChatStream]:
        """A required call is had by a grammar or a schema, or by the server's own ``tool_choice`` when it refuses
        those.
        """
        try:
            return await self._start_once(prompt, native=False)
        except InvalidRequest as refusal:
            if held_function(prompt, self.config):
                return await self._start_by_schema(_without_grammars(prompt))
            started = await self._start_once(prompt, native=True)
            # One schema may be too much for it; remember only that it takes none.
            self._native_calls = any(word in refusal.message.lower() for word in _SCHEMA_REFUSED)
            return started

    async def _start_once(
        self, prompt: Prompt, *, native: bool, begun: str = "", by_grammar: bool = True
    ) -> tuple[aiohttp.ClientResponse, ChatStream]:
        def known(config: ChatConfig) -> ChatConfig:
            return config if by_grammar else msgspec.structs.replace(config, schemas="response_format")

        config = known(self.config)
        forced = holds_to_schema(prompt, config) and not native
        sent = body(prompt, config, native_calls=native, begun=begun)
        try:
            response = await self._ask_for_answer(sent)
        except InvalidRequest as refusal:
            again = body(prompt, known(self._learn_from(refusal)), native_calls=native, begun=begun)
            if again == sent:
                raise
            response = await self._ask_for_answer(again)
        return response, ChatStream(prompt, config, forced=forced, begun=begun)

    def _learn_from(self, refusal: InvalidRequest) -> ChatConfig:
        """What is known of the model now that it refused a prompt. What it wants to have back is sent from now on; what
        it does not take may have come from another model, so that the next prompt has it again.
        """
        if (learned := self._lasting(refusal)) is not None:
            self.config = self._counter.config = learned
            return learned
        if misses_thoughts(refusal):
            return msgspec.structs.replace(self.config, effort=None)
        why = refused_aside(refusal)
        if why is None:
            return self.config
        return msgspec.structs.replace(self.config, returns_asides=False, signs_calls=why == "signature")

    def _lasting(self, refusal: InvalidRequest) -> ChatConfig | None:
        """What the refusal says of every prompt; None where it says nothing new."""
        wanted = wanted_back(refusal)
        if wanted is not None and not getattr(self.config, wanted):
            return msgspec.structs.replace(self.config, **{wanted: True})
        if _OPTIONS in refusal.message and _OPTIONS not in self.config.extra:
            return msgspec.structs.replace(self.config, extra={**self.config.extra, _OPTIONS: None})
        return None

    async def _ask_for_answer(self, sent: Json) -> aiohttp.ClientResponse:
        beside_tools = "tools" in sent and "top_logprobs" in sent
        if beside_tools and self._wants_n_probs:
            return await self._post(self._completions, with_n_probs(sent))
        try:
            return await self._post(self._completions, sent)
        except InvalidRequest as refusal:
            if not beside_tools or not is_refusal_of_logprobs(refusal):
                raise
        self._wants_n_probs = True
        return await self._post(self._completions, with_n_probs(sent))

    async def _post(self, url: URL | str, sent: Json) -> aiohttp.ClientResponse:
        """Posts, and returns once the server has answered with success.

        Posts again when the server was just closing the idle connection: sampling changes nothing.
        """
        data = msgspec.json.encode(sent)
        try:
            response = await self._post_once(url, data)
            if 200 <= response.status < 300:
                return response
            try:
                error_body = await read_error(response, self.config.error_bytes_max)
            finally:
                response.close()
        except FAILURES as error:
            raise failure(error) from error
        raise error_of_answer(response.status, error_body, response.headers, self.config.api_key)

    async def _post_once(self, url: URL | str, data: bytes) -> aiohttp.ClientResponse:
        for _ in range(_STALE_MAX):
            try:
                return await self._request(url, data)
            except FAILURES as error:
                if not is_stale(error):
                    raise
        return await self._request(url, data)

    def _request(self, url: URL | str, data: bytes) -> Awaitable[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = open_session(self.config.connections_max)
        return self._session.post(
            url,
            data=payload(data),
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,  # the key is for this server alone
        )

    async def _ask(self, url: str, sent: Json) -> Json:
        """Posts, and reads the whole answer."""
        response = await self._post(url, sent)
        try:
            data = await read_whole(response, self.config.line_bytes_max)
        except FAILURES as error:
            raise failure(error) from error
        finally:
            response.close()
        try:
            return msgspec.json.decode(data, type=dict[str, Any])
        except ValueError as error:
            raise UpstreamError("The model's server wrote what cannot be read.", internal=str(error)) from None


class _Answer:
    """One answer: a context that asks for it and lets its connection go, and the batches in it, one per read."""

    def __init__(
        self,
        start: Callable[[], Awaitable[tuple[aiohttp.ClientResponse, ChatStream]]],
        bytes_max: int,
        *,
        shows_images: bool,
    ) -> None:
        self._start = start
        self._bytes_max = bytes_max
        self._shows_images = shows_images
        self._trailer_until: float | None = None

    async def __aenter__(self) -> Self:
        try:
            self._response, self._stream = await self._start()
        except ApiError as error:
            raise self._to_reported(error) from error.__cause__
        try:
            self._body = Body(self._response, self._bytes_max)
        except UpstreamError:
            self._response.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream.finished:
            self._body.release(self._response, _TRAILER_S)
        else:
            self._response.close()

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        stream = self._stream
        while not stream.finished:
            if stream.is_over:
                batch = await self._read_trailer()
            else:
                try:
                    data = await self._body.read()
                    batch = stream.feed(data) if data is not None else stream.end()
                except FAILURES as error:
                    batch = stream.cut()
                    if batch is None:
                        raise failure(error, streaming=True) from error
                except ApiError as error:
                    raise self._to_reported(error) from error.__cause__
            if batch:
                return batch
        raise StopAsyncIteration

    def _to_reported(self, error: ApiError) -> ApiError:
        return no_images() if self._shows_images and is_refusal_of_images(error) else error

    async def _read_trailer(self) -> Sequence[Delta]:
        """What comes behind the end of the answer, which is mostly what it used. It is waited for briefly, and nothing
        that happens meanwhile takes the answer away.
        """
        stream, now = self._stream, asyncio.get_running_loop().time()
        if self._trailer_until is None:
            self._trailer_until = now + _USAGE_S
        until = min(self._trailer_until, now + _DONE_S) if stream.has_usage else self._trailer_until
        self._trailer_until = until
        try:
            async with asyncio.timeout_at(until):
                data = await self._body.read()
        except (*FAILURES, UpstreamError):
            return stream.end()
        if data is None:
            return stream.end()
        batch = stream.feed(data)
        if batch and not stream.finished:
            # It says in every chunk that it is over, or says it too early: only silence tells.
            self._trailer_until = now + _DOUBTFUL_S
        return batch


def _without_grammars(prompt: Prompt) -> Prompt:
    """A grammar may be beyond what the server makes of grammars; the answer is looked at in any case."""
    functions = tuple(msgspec.structs.replace(function, grammar=None) for function in prompt.functions)
    return msgspec.structs.replace(prompt, functions=functions)


def _clip_answer(prompt: Prompt, error: ContextTooLong) -> Prompt | None:
    """The prompt with an answer short enough, when it was only the answer's bound that did not fit.

    ``max_output_tokens`` is a bound, not a wish: some servers refuse one that reaches beyond the window.
    """
    used, window, wanted = error.prompt_tokens, error.context_tokens, prompt.max_output_tokens
    if used is None or window is None or wanted is None or not 0 < window - used < wanted:
        return None
    return msgspec.structs.replace(prompt, max_output_tokens=window - used)
