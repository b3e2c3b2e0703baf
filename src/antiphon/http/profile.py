"""Which of the two published forms of the API a caller reads: the official one, or Open Responses.

They differ in the names of the raw reasoning events and in the types of errors, and in nothing else that this server
sends. The translation is made here, on what is about to leave; no other code knows that there are two.

Source: the Open Responses specification of 2026-04-24, events and errors.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final, Literal

import msgspec

from antiphon.wire import Json

VERSION_HEADER: Final = b"openresponses-version"
"""A request that carries it, with whatever value, is answered in the form of Open Responses."""

EVENT_NAMES: Final[Mapping[str, str]] = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}
"""What Open Responses calls an event, where that is not what the official API calls it."""

_ERROR_TYPES: Final = {"invalid_request_error": "invalid_request", "rate_limit_error": "too_many_requests"}
_OURS: Final = {"server_error", "unavailable", "model_not_ready"}
"""Codes of a ``server_error`` that the model has no part in; the others say that the model's server failed."""


class Profile(msgspec.Struct, frozen=True):
    """One form of the API.

    Attributes:
        renames: event names that differ from the official ones; none means the official form itself.
    """

    name: Literal["openai", "openresponses"]
    renames: Mapping[str, str]

    def event(self, event: Json) -> Json:
        """The event as this form has it; the given one is left as it is."""
        type = event["type"]
        if type in self.renames:
            return event | {"type": self.renames[type]}
        if type == "error" and self.renames:
            return event | {"error": self.error(event["error"])}
        return event

    def error(self, body: Json, status: int = 0) -> Json:
        """The inner ``error`` object as this form has it. ``status``: HTTP's, where there is one."""
        return body | {"type": _error_type(body, status)} if self.renames else body


def _error_type(body: Json, status: int) -> str:
    if status == 404:
        return "not_found"
    if body["type"] == "server_error" and body["code"] not in _OURS:
        return "model_error"
    return _ERROR_TYPES.get(body["type"], body["type"])


OPENAI: Final = Profile("openai", {})
OPEN_RESPONSES: Final = Profile("openresponses", EVENT_NAMES)


def choose_profile(headers: Container[bytes], configured: str) -> Profile:
    """What a request with headers of these names is answered in, where ``configured`` is the server's own setting."""
    if configured == OPEN_RESPONSES.name or VERSION_HEADER in headers:
        return OPEN_RESPONSES
    return OPENAI
