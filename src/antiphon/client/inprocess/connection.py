"""The official WebSocket connection, whose events are extended as a stream's are."""

from __future__ import annotations

from typing import Any

from openai.resources.responses.responses import (
    AsyncResponsesConnection,
    AsyncResponsesConnectionManager,
    ResponsesConnection,
    ResponsesConnectionManager,
)

from antiphon.client.sdk.results import extend


class ConnectionManager(ResponsesConnectionManager):
    """The official manager; events of its connections are extended."""

    def __enter__(self) -> ResponsesConnection:
        return _extend_events(super().__enter__())

    enter = __enter__


class AsyncConnectionManager(AsyncResponsesConnectionManager):
    """The official manager; events of its connections are extended."""

    async def __aenter__(self) -> AsyncResponsesConnection:
        return _extend_events(await super().__aenter__())

    enter = __aenter__


def _extend_events(connection: Any) -> Any:
    parse_event = connection.parse_event

    def parse_extended(data: str | bytes) -> Any:
        return extend(parse_event(data))

    connection.parse_event = parse_extended
    return connection
