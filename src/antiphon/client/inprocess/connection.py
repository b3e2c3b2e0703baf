"""The official WebSocket connection, whose events are dressed as a stream's are."""

from __future__ import annotations

from typing import Any

from openai.resources.responses.responses import (
    AsyncResponsesConnection,
    AsyncResponsesConnectionManager,
    ResponsesConnection,
    ResponsesConnectionManager,
)

from antiphon.client.sdk.results import dress


class ConnectionManager(ResponsesConnectionManager):
    """The official manager; what it connects is dressed."""

    def __enter__(self) -> ResponsesConnection:
        return _dressing(super().__enter__())

    enter = __enter__


class AsyncConnectionManager(AsyncResponsesConnectionManager):
    """The official manager; what it connects is dressed."""

    async def __aenter__(self) -> AsyncResponsesConnection:
        return _dressing(await super().__aenter__())

    enter = __aenter__


def _dressing(connection: Any) -> Any:
    parse_event = connection.parse_event

    def dressed(data: str | bytes) -> Any:
        return dress(parse_event(data))

    connection.parse_event = dressed
    return connection
