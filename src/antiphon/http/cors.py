"""Which pages of other origins a browser may let use the server: the middleware that every ASGI framework has."""

from __future__ import annotations

from collections.abc import Sequence
from re import ASCII, compile
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon.config import LOOPBACK

_THIS_MACHINE: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
HOST: Final = compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?", ASCII)
"""A host and perhaps its port, and nothing that only a lenient reader would take for one."""
_ORIGIN: Final = compile(rf"https?://{HOST.pattern}", ASCII)
_EXPOSED: Final = (
    "x-request-id",
    "x-antiphon-model",
    "x-antiphon-ignored",
    "x-antiphon-estimated",
    "x-antiphon-replayed",
    "x-antiphon-sequence-number",
    "x-antiphon-snapshot",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-poll-after-ms",
)
_PREFLIGHT_S: Final = 600


def allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The application, which tells browsers that pages of these origins, and of this machine, may use it."""
    for_pages = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_origin_regex=_THIS_MACHINE,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        # A page from elsewhere that may use a server may use it in its own network too.
        allow_private_network=True,
        expose_headers=_EXPOSED,
        max_age=_PREFLIGHT_S,
    )

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        # What no page sent passes nothing of this: it is most of what comes.
        is_from_page = any(name == b"origin" for name, _ in scope.get("headers", ()))
        await (for_pages if is_from_page else app)(scope, receive, send)

    return choose


def is_allowed(origin: str, origins: Sequence[str]) -> bool:
    """Whether a page of that origin may use the server."""
    written = _ORIGIN.fullmatch(origin)
    local = written is not None and written["name"].strip("[]").lower() in LOOPBACK
    return local or "*" in origins or origin in origins
