"""What ``responses.stream`` returns: the official helpers, whose events are extended and whose answers are parsed into
any shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic

from openai.lib.streaming.responses import (
    AsyncResponseStream,
    AsyncResponseStreamManager,
    ResponseStream,
    ResponseStreamManager,
)

from antiphon.client.sdk.parsing import ResponseParser
from antiphon.client.sdk.results import ParsedResponse
from antiphon.client.sdk.text_format import T


class Stream(ResponseStream[T], Generic[T]):
    """The official ``ResponseStream``; an answer that was cut is a final response too."""

    _parser: ResponseParser

    def get_final_response(self) -> ParsedResponse[T]:
        """Reads to the end and returns the response.

        An answer that was cut (``incomplete``) is returned as well; its ``output_parsed`` is None.

        Raises:
            RuntimeError: the stream ended without the response's end: it failed, or was cancelled.
            pydantic.ValidationError: the answer does not have the form that was asked for.
        """
        self.until_done()
        return self._parser.incomplete or super().get_final_response()  # type: ignore[return-value]  # extended by the parser


class StreamManager(ResponseStreamManager[T], Generic[T]):
    """Enter it to send the request; leaving it closes the connection, and with it stops the model."""

    def __init__(self, manager: ResponseStreamManager[Any], parser: ResponseParser) -> None:
        self._manager = manager
        self._parser = parser

    def __enter__(self) -> Stream[T]:
        return _wrap(self._manager.__enter__(), self._parser)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._manager.__exit__(exc_type, exc, exc_tb)


class AsyncStream(AsyncResponseStream[T], Generic[T]):
    """The official ``AsyncResponseStream``; an answer that was cut is a final response too."""

    _parser: ResponseParser

    async def get_final_response(self) -> ParsedResponse[T]:
        """Reads to the end and returns the response; see ``Stream.get_final_response``."""
        await self.until_done()
        return self._parser.incomplete or await super().get_final_response()  # type: ignore[return-value]


class AsyncStreamManager(AsyncResponseStreamManager[T], Generic[T]):
    """Enter it to send the request; leaving it closes the connection, and with it stops the model."""

    def __init__(self, manager: AsyncResponseStreamManager[Any], parser: ResponseParser) -> None:
        self._manager = manager
        self._parser = parser

    async def __aenter__(self) -> AsyncStream[T]:
        return _wrap_async(await self._manager.__aenter__(), self._parser)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self._manager.__aexit__(exc_type, exc, exc_tb)


def _wrap(stream: Any, parser: ResponseParser) -> Stream[Any]:
    """The official helper's stream as ours: its events pass through the reader."""
    stream.__class__ = Stream
    stream._parser, stream._iterator = parser, _parse_events(stream._iterator, parser)
    return stream


def _wrap_async(stream: Any, parser: ResponseParser) -> AsyncStream[Any]:
    stream.__class__ = AsyncStream
    stream._parser, stream._iterator = parser, _parse_events_async(stream._iterator, parser)
    return stream


def _parse_events(events: Iterator[Any], parser: ResponseParser) -> Iterator[Any]:
    for event in events:
        yield parser.event(event)


async def _parse_events_async(events: AsyncIterator[Any], parser: ResponseParser) -> AsyncIterator[Any]:
    async for event in events:
        yield parser.event(event)
