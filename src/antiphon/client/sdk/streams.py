"""What ``responses.stream`` returns: the official helpers, whose events are dressed and whose answers are read in any
form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic

from openai.lib.streaming.responses._responses import (
    AsyncResponseStream,
    AsyncResponseStreamManager,
    ResponseStream,
    ResponseStreamManager,
)

from antiphon.client.sdk.form import T
from antiphon.client.sdk.reading import Reader
from antiphon.client.sdk.results import ParsedResponse


class Stream(ResponseStream[T], Generic[T]):
    """The official ``ResponseStream``; an answer that was cut is a final response too."""

    _reader: Reader

    def get_final_response(self) -> ParsedResponse[T]:
        """Reads to the end and returns the response.

        An answer that was cut (``incomplete``) is returned as well; its ``output_parsed`` is None.

        Raises:
            RuntimeError: the stream ended without the response's end: it failed, or was cancelled.
            pydantic.ValidationError: the answer does not have the form that was asked for.
        """
        self.until_done()
        return self._reader.cut or super().get_final_response()  # type: ignore[return-value]  # dressed by the reader


class StreamManager(ResponseStreamManager[T], Generic[T]):
    """Enter it to send the request; leaving it closes the connection, and with it stops the model."""

    def __init__(self, manager: ResponseStreamManager[Any], reader: Reader) -> None:
        self._manager = manager
        self._reader = reader

    def __enter__(self) -> Stream[T]:
        return _refitted(self._manager.__enter__(), self._reader)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self._manager.__exit__(exc_type, exc, exc_tb)


class AsyncStream(AsyncResponseStream[T], Generic[T]):
    """The official ``AsyncResponseStream``; an answer that was cut is a final response too."""

    _reader: Reader

    async def get_final_response(self) -> ParsedResponse[T]:
        """Reads to the end and returns the response; see ``Stream.get_final_response``."""
        await self.until_done()
        return self._reader.cut or await super().get_final_response()  # type: ignore[return-value]


class AsyncStreamManager(AsyncResponseStreamManager[T], Generic[T]):
    """Enter it to send the request; leaving it closes the connection, and with it stops the model."""

    def __init__(self, manager: AsyncResponseStreamManager[Any], reader: Reader) -> None:
        self._manager = manager
        self._reader = reader

    async def __aenter__(self) -> AsyncStream[T]:
        return _async_refitted(await self._manager.__aenter__(), self._reader)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self._manager.__aexit__(exc_type, exc, exc_tb)


def _refitted(stream: Any, reader: Reader) -> Stream[Any]:
    """The official helper's stream as ours: its events pass through the reader."""
    stream.__class__ = Stream
    stream._reader, stream._iterator = reader, _read(stream._iterator, reader)
    return stream


def _async_refitted(stream: Any, reader: Reader) -> AsyncStream[Any]:
    stream.__class__ = AsyncStream
    stream._reader, stream._iterator = reader, _async_read(stream._iterator, reader)
    return stream


def _read(events: Iterator[Any], reader: Reader) -> Iterator[Any]:
    for event in events:
        yield reader.event(event)


async def _async_read(events: AsyncIterator[Any], reader: Reader) -> AsyncIterator[Any]:
    async for event in events:
        yield reader.event(event)
