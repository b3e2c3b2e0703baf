"""``client.responses``: the official resource, which takes a little more and gives what ``antiphon.client.sdk.results``
describes.

Every method sends what the official one sends, through the official one, so that timeouts, retries, errors, raw and
streaming responses are the SDK's own. Parameters that are not named here are the official ones, with their types and
meanings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import openai.resources.responses as official
from openai import AsyncStream, Omit, Stream, omit
from openai.lib.streaming.responses import AsyncResponseStreamManager, ResponseStreamManager
from openai.resources.responses.input_tokens import AsyncInputTokens, InputTokens
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from typing_extensions import Unpack

from antiphon.client.inprocess.connection import AsyncConnectionManager, ConnectionManager
from antiphon.client.inprocess.websocket import connect_options
from antiphon.client.sdk.params import (
    Arguments,
    CallOptions,
    CompactParams,
    CountParams,
    CreateParams,
    RetrieveParams,
    is_given,
    to_official,
)
from antiphon.client.sdk.parsing import ResponseParser, prepare_parsing
from antiphon.client.sdk.results import CompactedResponse, ParsedResponse, Response
from antiphon.client.sdk.resumption import async_resume, resume
from antiphon.client.sdk.streams import AsyncStreamManager, StreamManager
from antiphon.client.sdk.text_format import (
    Shape,
    ShapeOf,
    T,
    make_text_format,
)

Method = TypeVar("Method", bound=Callable[..., Any])
Manager = TypeVar("Manager")
Resource = TypeVar("Resource", official.Responses, official.AsyncResponses)


def _sign_like(original: Callable[..., Any], *added: str) -> Callable[[Method], Method]:
    """Gives a method the official one's signature for ``help`` and ``inspect``, with the parameters added here."""
    theirs = inspect.signature(original).parameters

    def sign(method: Method) -> Method:
        ours = inspect.signature(method).parameters
        named = {name: ours.get(name, parameter) for name, parameter in theirs.items()}
        named |= {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=omit) for name in added}
        ordered = sorted(named.values(), key=lambda parameter: parameter.kind)
        method.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        return method

    return sign


class Responses(official.Responses):
    """The official ``Responses``, extended. ``retrieve``, ``delete``, ``cancel``, ``input_items`` are used as they
    are."""

    @overload
    def create(self, *, stream: Literal[False] | Omit | None = ..., **arguments: Unpack[CreateParams]) -> Response: ...

    @overload
    def create(self, *, stream: Literal[True], **arguments: Unpack[CreateParams]) -> Stream[ResponseStreamEvent]: ...

    @overload
    def create(self, *, stream: bool, **arguments: Unpack[CreateParams]) -> Response | Stream[ResponseStreamEvent]: ...

    @_sign_like(official.Responses.create, "reasoning_effort")
    def create(
        self, *, stream: bool | Omit | None = omit, **arguments: Unpack[CreateParams]
    ) -> Response | Stream[ResponseStreamEvent]:
        """Asks for a response.

        Args:
            input: a text, one message as a dict, or a list of messages and items.
            reasoning_effort: short for ``reasoning={"effort": …}``.
            stream: True for the events as they come, instead of the whole.
            **arguments: the official parameters. ``tools`` may hold functions in the nested form of chat completions.

        Returns:
            The response; with ``stream=True`` an iterator over its events, on each of which ``delta`` is None or a
            string whose ``content`` is what it adds to the answer's text.

        Raises:
            openai.APIStatusError: the server refused or failed; ``code``, ``param`` and ``message`` say why.
            openai.APIConnectionError: it was not reached, or not within ``timeout`` seconds (``APITimeoutError``).
            TypeError: ``reasoning_effort`` contradicts ``reasoning``.
        """
        params = to_official({**arguments, "stream": stream})
        return cast("Response | Stream[ResponseStreamEvent]", super().create(**params))

    if TYPE_CHECKING:  # used as they are; what they return is extended

        @overload
        def retrieve(
            self, response_id: str, *, stream: Literal[False] | Omit = ..., **arguments: Unpack[RetrieveParams]
        ) -> Response: ...

        @overload
        def retrieve(
            self, response_id: str, *, stream: Literal[True], **arguments: Unpack[RetrieveParams]
        ) -> Stream[ResponseStreamEvent]: ...

        @overload
        def retrieve(
            self, response_id: str, *, stream: bool, **arguments: Unpack[RetrieveParams]
        ) -> Response | Stream[ResponseStreamEvent]: ...

        def retrieve(self, response_id: str, **arguments: Any) -> Any: ...

        def cancel(self, response_id: str, **options: Unpack[CallOptions]) -> Response: ...

    @_sign_like(official.Responses.parse, "reasoning_effort")
    def parse(
        self,
        *,
        text_format: ShapeOf[T] = omit,
        parse_as: ShapeOf[T] = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[CreateParams],
    ) -> ParsedResponse[T]:
        """Asks for an answer of a given shape, and reads it.

        Args:
            text_format: a Pydantic model, a dataclass, a ``TypedDict``, any other type that Pydantic validates, or a
                JSON schema as a dict. The schema is sent as strict where it can be.
            parse_as: read the answer as this instead of ``text_format``; None to leave it unread.
            input: as in ``create``.
            reasoning_effort: short for ``reasoning={"effort": …}``.
            verbosity: short for ``text={"verbosity": …}``.
            stream: without effect, a parsed response is whole; see ``stream`` for events.
            **arguments: the official parameters.

        Returns:
            The response; ``output_parsed`` is the value. It is None for a refusal and for an answer that was cut or
            failed, and ``output_parsed_reason`` says which.

        Raises:
            pydantic.ValidationError: a completed answer does not have the shape (``WrongShape`` for a JSON schema).
                Antiphon's server does not complete such an answer, and fails with ``invalid_output``.
            TypeError: no schema can be made of ``text_format``, or ``text["format"]`` is given as well.
            openai.APIError: as in ``create``.
        """
        params, parser = prepare_parsing(text_format, parse_as, to_official(arguments))
        return cast("ParsedResponse[T]", official.Responses.parse(_parse_with(self, parser), **params))

    @_sign_like(official.Responses.stream, "reasoning_effort", "verbosity")
    def stream(  # type: ignore[override]  # pyright: the official overloads, in one
        self,
        *,
        response_id: str | Omit = omit,
        starting_after: int | Omit = omit,
        text_format: ShapeOf[T] = omit,
        **arguments: Unpack[CreateParams],
    ) -> StreamManager[T]:
        """Streams a new response, or the events of one that there is.

        Args:
            response_id: the response to read; without it a new one is asked for.
            starting_after: with ``response_id``, the ``sequence_number`` of the last event that you have. The server
                sends what comes behind it, and ``snapshot``s still hold the whole text; see
                ``antiphon.client.sdk.resumption``.
            text_format: as in ``parse``; a finished text's event has ``parsed``, the final response ``output_parsed``.
            input: as in ``create``.
            reasoning_effort: short for ``reasoning={"effort": …}``.
            verbosity: short for ``text={"verbosity": …}``.
            **arguments: the official parameters.

        Returns:
            A context manager; inside it, iterate over the events, or call ``get_final_response``.

        Raises:
            ValueError: parameters of a new response together with ``response_id``, or neither.
            TypeError: as in ``parse``.
            openai.APIError: on entering, and from the iteration when the response fails.
        """
        params, parser = _prepare_stream(response_id, text_format, to_official(arguments))
        if _is_resumption(response_id, starting_after, params):
            again = partial(resume, self, str(response_id), cast(int, starting_after), _options(params))
            manager = _official_manager(ResponseStreamManager, again, starting_after, params)
            return StreamManager(manager, parser)
        found = {"response_id": response_id, "starting_after": starting_after}
        return StreamManager(super().stream(**found, **params), parser)

    @_sign_like(official.Responses.compact)
    def compact(self, **arguments: Unpack[CompactParams]) -> CompactedResponse:
        """Makes a conversation shorter. The output is the next request's ``input``, as it is.

        Args:
            input: what is to be made shorter, in any form that ``create`` takes.
            **arguments: the official parameters.

        Returns:
            The compacted conversation; ``original_token_count``, ``token_count`` and ``reduction_percentage`` say what
            it saves.

        Raises:
            openai.APIError: as in ``create``.
        """
        return cast(CompactedResponse, super().compact(**to_official(arguments)))

    def connect(
        self,
        extra_query: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, Any] | None = None,
        websocket_connection_options: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> ConnectionManager:
        """Connects by WebSocket, for many responses on one connection; parameters as in the official SDK."""
        connection_options: Any = connect_options(self._client, websocket_connection_options or {})
        manager = cast(
            Any, super().connect(extra_query or {}, extra_headers or {}, connection_options, *more, **options)
        )
        manager.__class__ = ConnectionManager
        return manager

    @cached_property
    def input_tokens(self) -> TokenCounter:  # pyright: ignore[reportIncompatibleMethodOverride]  # cached there too
        """Counts what a request would read."""
        return TokenCounter(self._client)


class AsyncResponses(official.AsyncResponses):
    """The official ``AsyncResponses``, extended; every method is the asynchronous twin of that of ``Responses``."""

    @overload
    async def create(
        self, *, stream: Literal[False] | Omit | None = ..., **arguments: Unpack[CreateParams]
    ) -> Response: ...

    @overload
    async def create(
        self, *, stream: Literal[True], **arguments: Unpack[CreateParams]
    ) -> AsyncStream[ResponseStreamEvent]: ...

    @overload
    async def create(
        self, *, stream: bool, **arguments: Unpack[CreateParams]
    ) -> Response | AsyncStream[ResponseStreamEvent]: ...

    @_sign_like(official.AsyncResponses.create, "reasoning_effort")
    async def create(
        self, *, stream: bool | Omit | None = omit, **arguments: Unpack[CreateParams]
    ) -> Response | AsyncStream[ResponseStreamEvent]:
        """Asks for a response; see ``Responses.create``. With ``stream=True`` the events are an asynchronous
        iterator."""
        params = to_official({**arguments, "stream": stream})
        return cast("Response | AsyncStream[ResponseStreamEvent]", await super().create(**params))

    if TYPE_CHECKING:  # used as they are; what they return is extended

        @overload
        async def retrieve(
            self, response_id: str, *, stream: Literal[False] | Omit = ..., **arguments: Unpack[RetrieveParams]
        ) -> Response: ...

        @overload
        async def retrieve(
            self, response_id: str, *, stream: Literal[True], **arguments: Unpack[RetrieveParams]
        ) -> AsyncStream[ResponseStreamEvent]: ...

        @overload
        async def retrieve(
            self, response_id: str, *, stream: bool, **arguments: Unpack[RetrieveParams]
        ) -> Response | AsyncStream[ResponseStreamEvent]: ...

        async def retrieve(self, response_id: str, **arguments: Any) -> Any: ...

        async def cancel(self, response_id: str, **options: Unpack[CallOptions]) -> Response: ...

    @_sign_like(official.AsyncResponses.parse, "reasoning_effort")
    async def parse(
        self,
        *,
        text_format: ShapeOf[T] = omit,
        parse_as: ShapeOf[T] = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[CreateParams],
    ) -> ParsedResponse[T]:
        """Asks for an answer of a given shape, and reads it; see ``Responses.parse``."""
        params, parser = prepare_parsing(text_format, parse_as, to_official(arguments))
        return cast("ParsedResponse[T]", await official.AsyncResponses.parse(_parse_with(self, parser), **params))

    @_sign_like(official.AsyncResponses.stream, "reasoning_effort", "verbosity")
    def stream(  # type: ignore[override]
        self,
        *,
        response_id: str | Omit = omit,
        starting_after: int | Omit = omit,
        text_format: ShapeOf[T] = omit,
        **arguments: Unpack[CreateParams],
    ) -> AsyncStreamManager[T]:
        """Streams a new response, or the events of one that there is; see ``Responses.stream``. Enter it with ``async
        with``."""
        params, parser = _prepare_stream(response_id, text_format, to_official(arguments))
        if _is_resumption(response_id, starting_after, params):
            again = async_resume(self, str(response_id), cast(int, starting_after), _options(params))
            manager = _official_manager(AsyncResponseStreamManager, again, starting_after, params)
            return AsyncStreamManager(manager, parser)
        found = {"response_id": response_id, "starting_after": starting_after}
        return AsyncStreamManager(super().stream(**found, **params), parser)

    @_sign_like(official.AsyncResponses.compact)
    async def compact(self, **arguments: Unpack[CompactParams]) -> CompactedResponse:
        """Makes a conversation shorter; see ``Responses.compact``."""
        return cast(CompactedResponse, await super().compact(**to_official(arguments)))

    def connect(
        self,
        extra_query: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, Any] | None = None,
        websocket_connection_options: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> AsyncConnectionManager:
        """Connects by WebSocket, for many responses on one connection; parameters as in the official SDK."""
        connection_options: Any = connect_options(self._client, websocket_connection_options or {})
        manager = cast(
            Any, super().connect(extra_query or {}, extra_headers or {}, connection_options, *more, **options)
        )
        manager.__class__ = AsyncConnectionManager
        return manager

    @cached_property
    def input_tokens(self) -> AsyncTokenCounter:  # pyright: ignore[reportIncompatibleMethodOverride]  # cached there too
        """Counts what a request would read."""
        return AsyncTokenCounter(self._client)


class TokenCounter(InputTokens):
    """``client.responses.input_tokens``."""

    @_sign_like(InputTokens.count)
    def count(self, **arguments: Unpack[CountParams]) -> InputTokenCountResponse:
        """Counts the tokens that such a request would read, without making it.

        Args:
            input: in any form that ``create`` takes.
            **arguments: the official parameters.

        Returns:
            The count, as ``input_tokens``.

        Raises:
            openai.APIError: as in ``Responses.create``.
        """
        return super().count(**to_official(arguments))


class AsyncTokenCounter(AsyncInputTokens):
    """``client.responses.input_tokens`` of an asynchronous client."""

    @_sign_like(AsyncInputTokens.count)
    async def count(self, **arguments: Unpack[CountParams]) -> InputTokenCountResponse:
        """Counts the tokens that such a request would read; see ``Counts.count``."""
        return await super().count(**to_official(arguments))


def _parse_with(resource: Resource, parser: ResponseParser) -> Resource:
    """The resource for one request, whose answer the reader takes where the SDK's parser would; raw responses too."""
    reading = copy(resource)
    post = resource._post  # pyright: ignore[reportPrivateUsage]

    def read_post(path: str, *, options: Mapping[str, Any], **rest: Any) -> Any:
        return post(path, options={**options, "post_parser": parser.response}, **rest)  # type: ignore[arg-type]

    vars(reading)["_post"] = read_post
    return reading


def _prepare_stream(response_id: object, text_format: Shape, params: Arguments) -> tuple[Arguments, ResponseParser]:
    """A new response is asked for its shape; one that there is was, and is only read."""
    if not is_given(response_id):
        return prepare_parsing(text_format, omit, params)
    form = make_text_format(text_format) if is_given(text_format) and text_format is not None else None
    return params, ResponseParser(form, params.get("tools"))


def _is_resumption(response_id: object, starting_after: object, params: Arguments) -> bool:
    """Whether a stream is gone on with, and nothing said beside that the official helper refuses."""
    after = starting_after if isinstance(starting_after, int) else -1
    return isinstance(response_id, str) and after >= 0 and params.keys() <= {*CallOptions.__annotations__, "tools"}


def _options(params: Arguments) -> Arguments:
    return {name: value for name, value in params.items() if name != "tools"}


def _official_manager(kind: Callable[..., Manager], request: Any, after: object, params: Arguments) -> Manager:
    return kind(request, text_format=omit, input_tools=params.get("tools", omit), starting_after=after)
