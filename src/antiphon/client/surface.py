"""The official clients with this package's results: what is asked for, what comes back, and ``run``.

Where the requests go is not decided here.
"""

from __future__ import annotations

from typing import Any

import openai
from openai._compat import cached_property

from antiphon.client.responses import AsyncResponses, Responses
from antiphon.client.results import dress


class Surface(openai.OpenAI):
    """The synchronous client's side towards the caller."""

    @cached_property
    def responses(self) -> Responses:
        """Responses: create, retrieve, stream, parse …"""
        return Responses(self)

    def _process_response_data(self, **parts: Any) -> Any:
        """Where the SDK makes an object of every answer and every event."""
        return dress(super()._process_response_data(**parts))


class AsyncSurface(openai.AsyncOpenAI):
    """The asynchronous client's side towards the caller."""

    @cached_property
    def responses(self) -> AsyncResponses:
        """Responses: create, retrieve, stream, parse …"""
        return AsyncResponses(self)

    def _process_response_data(self, **parts: Any) -> Any:
        """Where the SDK makes an object of every answer and every event."""
        return dress(super()._process_response_data(**parts))
