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
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import openai.resources.responses as official
from openai import AsyncStream, Omit, Stream, omit
from openai._compat import cached_property
from openai.lib.streaming.responses._responses import AsyncResponseStreamManager, ResponseStreamManager
from openai.resources.responses.input_tokens import AsyncInputTokens, InputTokens
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from typing_extensions import Unpack

from antiphon.client.inprocess.connection import AsyncConnectionManager, ConnectionManager
from antiphon.client.inprocess.wiring import wired
from antiphon.client.sdk.arguments import (
    Arguments,
    Asking,
    CallOptions,
    Compacting,
    Counting,
    Effort,
    Input,
    Retrieving,
    Verbosity,
    given,
)
from antiphon.client.sdk.arguments import official as in_official_form
from antiphon.client.sdk.form import (
    Shape,
    ShapeOf,
    T,
    form_of,
)
from antiphon.client.sdk.reading import Reader, asked_and_read
from antiphon.client.sdk.results import CompactedResponse, ParsedResponse, Response
from antiphon.client.sdk.resuming import async_resume, resume
from antiphon.client.sdk.streams import AsyncStreamManager, StreamManager

Method = TypeVar("Method", bound=Callable[..., Any])
Manager = TypeVar("Manager")
Resource = TypeVar("Resource", official.Responses, official.AsyncResponses)


def _signed(original: Callable[..., Any], *added: str) -> Callable[[Method], Method]:
    """Gives a method the official one's signature for ``help`` and ``inspect``, with the parameters added here."""
    theirs = inspect.signature(original).parameters

    def sign(method: Method) -> Method:
        ours = inspect.signature(method).parameters
        named = {name: ours.get(name, parameter) for name, parameter in theirs.items()}
        named |= {name: ours[name] for name in added}
        ordered = sorted(named.values(), key=lambda parameter: parameter.kind)
        method.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        return method

    return sign


class Responses(official.Responses):
    """The official ``Responses``, dressed. ``retrieve``, ``delete``, ``cancel``, ``input_items`` are used as they
    are."""

    @overload
    def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: Literal[False] | Omit | None = ...,
        **arguments: Unpack[Asking],
    ) -> Response: ...

    @overload
    def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: Literal[True],
        **arguments: Unpack[Asking],
    ) -> Stream[ResponseStreamEvent]: ...

    @overload
    def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: bool,
        **arguments: Unpack[Asking],
    ) -> Response | Stream[ResponseStreamEvent]: ...

    @_signed(official.Responses.create, "reasoning_effort")
    def create(
        self,
        *,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[Asking],
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
        asked = in_official_form({**arguments, "input": input, "reasoning_effort": reasoning_effort, "stream": stream})
        return cast("Response | Stream[ResponseStreamEvent]", super().create(**asked))

    if TYPE_CHECKING:  # used as they are; what they return is dressed

        @overload
        def retrieve(
            self, response_id: str, *, stream: Literal[False] | Omit = ..., **arguments: Unpack[Retrieving]
        ) -> Response: ...

        @overload
        def retrieve(
            self, response_id: str, *, stream: Literal[True], **arguments: Unpack[Retrieving]
        ) -> Stream[ResponseStreamEvent]: ...

        @overload
        def retrieve(
            self, response_id: str, *, stream: bool, **arguments: Unpack[Retrieving]
        ) -> Response | Stream[ResponseStreamEvent]: ...

        def retrieve(self, response_id: str, **arguments: Any) -> Any: ...

        def cancel(self, response_id: str, **options: Unpack[CallOptions]) -> Response: ...

    @_signed(official.Responses.parse, "reasoning_effort")
    def parse(
        self,
        *,
        text_format: ShapeOf[T] = omit,
        parse_as: ShapeOf[T] = omit,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        verbosity: Verbosity | Omit | None = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[Asking],
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
        added = {"input": input, "reasoning_effort": reasoning_effort, "verbosity": verbosity}
        asked, reader = asked_and_read(text_format, parse_as, in_official_form({**arguments, **added}))
        return cast("ParsedResponse[T]", official.Responses.parse(_read_by(self, reader), **asked))

    @_signed(official.Responses.stream, "reasoning_effort", "verbosity")
    def stream(  # type: ignore[override]  # pyright: the official overloads, in one
        self,
        *,
        response_id: str | Omit = omit,
        starting_after: int | Omit = omit,
        text_format: ShapeOf[T] = omit,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        verbosity: Verbosity | Omit | None = omit,
        **arguments: Unpack[Asking],
    ) -> StreamManager[T]:
        """Streams a new response, or the events of one that there is.

        Args:
            response_id: the response to read; without it a new one is asked for.
            starting_after: with ``response_id``, the ``sequence_number`` of the last event that you have. The server
                sends what comes behind it, and ``snapshot``s still hold the whole text; see
                ``antiphon.client.sdk.resuming``.
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
        added = {"input": input, "reasoning_effort": reasoning_effort, "verbosity": verbosity}
        asked, reader = _streamed(response_id, text_format, in_official_form({**arguments, **added}))
        if _resumes(response_id, starting_after, asked):
            again = partial(resume, self, str(response_id), cast(int, starting_after), _options(asked))
            manager = _official_manager(ResponseStreamManager, again, starting_after, asked)
            return StreamManager(manager, reader)
        found = {"response_id": response_id, "starting_after": starting_after}
        return StreamManager(super().stream(**found, **asked), reader)

    @_signed(official.Responses.compact)
    def compact(self, *, input: Input | Omit | None = omit, **arguments: Unpack[Compacting]) -> CompactedResponse:
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
        asked = in_official_form({**arguments, "input": input})
        return cast(CompactedResponse, super().compact(**asked))

    def connect(
        self,
        extra_query: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, Any] | None = None,
        websocket_connection_options: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> ConnectionManager:
        """Connects by WebSocket, for many responses on one connection; parameters as in the official SDK."""
        wires: Any = wired(self._client, websocket_connection_options or {})
        manager = cast(Any, super().connect(extra_query or {}, extra_headers or {}, wires, *more, **options))
        manager.__class__ = ConnectionManager
        return manager

    @cached_property
    def input_tokens(self) -> Counts:
        """Counts what a request would read."""
        return Counts(self._client)


class AsyncResponses(official.AsyncResponses):
    """The official ``AsyncResponses``, dressed; every method is the asynchronous twin of that of ``Responses``."""

    @overload
    async def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: Literal[False] | Omit | None = ...,
        **arguments: Unpack[Asking],
    ) -> Response: ...

    @overload
    async def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: Literal[True],
        **arguments: Unpack[Asking],
    ) -> AsyncStream[ResponseStreamEvent]: ...

    @overload
    async def create(
        self,
        *,
        input: Input | Omit | None = ...,
        reasoning_effort: Effort | Omit | None = ...,
        stream: bool,
        **arguments: Unpack[Asking],
    ) -> Response | AsyncStream[ResponseStreamEvent]: ...

    @_signed(official.AsyncResponses.create, "reasoning_effort")
    async def create(
        self,
        *,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[Asking],
    ) -> Response | AsyncStream[ResponseStreamEvent]:
        """Asks for a response; see ``Responses.create``. With ``stream=True`` the events are an asynchronous
        iterator."""
        asked = in_official_form({**arguments, "input": input, "reasoning_effort": reasoning_effort, "stream": stream})
        return cast("Response | AsyncStream[ResponseStreamEvent]", await super().create(**asked))

    if TYPE_CHECKING:  # used as they are; what they return is dressed

        @overload
        async def retrieve(
            self, response_id: str, *, stream: Literal[False] | Omit = ..., **arguments: Unpack[Retrieving]
        ) -> Response: ...

        @overload
        async def retrieve(
            self, response_id: str, *, stream: Literal[True], **arguments: Unpack[Retrieving]
        ) -> AsyncStream[ResponseStreamEvent]: ...

        @overload
        async def retrieve(
            self, response_id: str, *, stream: bool, **arguments: Unpack[Retrieving]
        ) -> Response | AsyncStream[ResponseStreamEvent]: ...

        async def retrieve(self, response_id: str, **arguments: Any) -> Any: ...

        async def cancel(self, response_id: str, **options: Unpack[CallOptions]) -> Response: ...

    @_signed(official.AsyncResponses.parse, "reasoning_effort")
    async def parse(
        self,
        *,
        text_format: ShapeOf[T] = omit,
        parse_as: ShapeOf[T] = omit,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        verbosity: Verbosity | Omit | None = omit,
        stream: bool | Omit | None = omit,
        **arguments: Unpack[Asking],
    ) -> ParsedResponse[T]:
        """Asks for an answer of a given shape, and reads it; see ``Responses.parse``."""
        added = {"input": input, "reasoning_effort": reasoning_effort, "verbosity": verbosity}
        asked, reader = asked_and_read(text_format, parse_as, in_official_form({**arguments, **added}))
        return cast("ParsedResponse[T]", await official.AsyncResponses.parse(_read_by(self, reader), **asked))

    @_signed(official.AsyncResponses.stream, "reasoning_effort", "verbosity")
    def stream(  # type: ignore[override]
        self,
        *,
        response_id: str | Omit = omit,
        starting_after: int | Omit = omit,
        text_format: ShapeOf[T] = omit,
        input: Input | Omit | None = omit,
        reasoning_effort: Effort | Omit | None = omit,
        verbosity: Verbosity | Omit | None = omit,
        **arguments: Unpack[Asking],
    ) -> AsyncStreamManager[T]:
        """Streams a new response, or the events of one that there is; see ``Responses.stream``. Enter it with ``async
        with``."""
        added = {"input": input, "reasoning_effort": reasoning_effort, "verbosity": verbosity}
        asked, reader = _streamed(response_id, text_format, in_official_form({**arguments, **added}))
        if _resumes(response_id, starting_after, asked):
            again = async_resume(self, str(response_id), cast(int, starting_after), _options(asked))
            manager = _official_manager(AsyncResponseStreamManager, again, starting_after, asked)
            return AsyncStreamManager(manager, reader)
        found = {"response_id": response_id, "starting_after": starting_after}
        return AsyncStreamManager(super().stream(**found, **asked), reader)

    @_signed(official.AsyncResponses.compact)
    async def compact(self, *, input: Input | Omit | None = omit, **arguments: Unpack[Compacting]) -> CompactedResponse:
        """Makes a conversation shorter; see ``Responses.compact``."""
        asked = in_official_form({**arguments, "input": input})
        return cast(CompactedResponse, await super().compact(**asked))

    def connect(
        self,
        extra_query: Mapping[str, object] | None = None,
        extra_headers: Mapping[str, Any] | None = None,
        websocket_connection_options: Mapping[str, Any] | None = None,
        *more: Any,
        **options: Any,
    ) -> AsyncConnectionManager:
        """Connects by WebSocket, for many responses on one connection; parameters as in the official SDK."""
        wires: Any = wired(self._client, websocket_connection_options or {})
        manager = cast(Any, super().connect(extra_query or {}, extra_headers or {}, wires, *more, **options))
        manager.__class__ = AsyncConnectionManager
        return manager

    @cached_property
    def input_tokens(self) -> AsyncCounts:
        """Counts what a request would read."""
        return AsyncCounts(self._client)


class Counts(InputTokens):
    """``client.responses.input_tokens``."""

    @_signed(InputTokens.count)
    def count(self, *, input: Input | Omit | None = omit, **arguments: Unpack[Counting]) -> InputTokenCountResponse:
        """Counts the tokens that such a request would read, without making it.

        Args:
            input: in any form that ``create`` takes.
            **arguments: the official parameters.

        Returns:
            The count, as ``input_tokens``.

        Raises:
            openai.APIError: as in ``Responses.create``.
        """
        return super().count(**in_official_form({**arguments, "input": input}))


class AsyncCounts(AsyncInputTokens):
    """``client.responses.input_tokens`` of an asynchronous client."""

    @_signed(AsyncInputTokens.count)
    async def count(
        self, *, input: Input | Omit | None = omit, **arguments: Unpack[Counting]
    ) -> InputTokenCountResponse:
        """Counts the tokens that such a request would read; see ``Counts.count``."""
        return await super().count(**in_official_form({**arguments, "input": input}))


def _read_by(resource: Resource, reader: Reader) -> Resource:
    """The resource for one request, whose answer the reader takes where the SDK's parser would; raw responses too."""
    reading = copy(resource)
    post = resource._post  # pyright: ignore[reportPrivateUsage]

    def read_post(path: str, *, options: Mapping[str, Any], **rest: Any) -> Any:
        return post(path, options={**options, "post_parser": reader.response}, **rest)  # type: ignore[arg-type]

    vars(reading)["_post"] = read_post
    return reading


def _streamed(response_id: object, text_format: Shape, asked: Arguments) -> tuple[Arguments, Reader]:
    """A new response is asked for its shape; one that there is was, and is only read."""
    if not given(response_id):
        return asked_and_read(text_format, omit, asked)
    form = form_of(text_format) if given(text_format) and text_format is not None else None
    return asked, Reader(form, asked.get("tools"))


def _resumes(response_id: object, starting_after: object, asked: Arguments) -> bool:
    """Whether a stream is gone on with, and nothing said beside that the official helper refuses."""
    after = starting_after if isinstance(starting_after, int) else -1
    return isinstance(response_id, str) and after >= 0 and asked.keys() <= {*CallOptions.__annotations__, "tools"}


def _options(asked: Arguments) -> Arguments:
    return {name: value for name, value in asked.items() if name != "tools"}


def _official_manager(kind: Callable[..., Manager], request: Any, after: object, asked: Arguments) -> Manager:
    return kind(request, text_format=omit, input_tools=asked.get("tools", omit), starting_after=after)
