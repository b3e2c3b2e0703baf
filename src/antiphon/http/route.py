"""A row of the route table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from re import Pattern

from starlette.routing import compile_path

from antiphon.http.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        method: ``WEBSOCKET`` for an upgrade.
        path: may hold ``{names}``.
        answer: the type of a successful answer, for the OpenAPI document.
        query: the query parameters it reads.
        body: what the request's body is, where it has one.
        form: where the body is a form, the field with its file.
        forgets: the part of the path that names what is deleted, so that no recorded answer shows it any more; ``*``
            for all answers.
        once: whether an ``Idempotency-Key`` makes it safe to send again.
    """

    method: str
    path: str
    handler: Handler
    answer: type
    query: tuple[str, ...] = ()
    body: type | None = None
    form: str = ""
    once: bool = False
    forgets: str = ""
    pattern: Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", compile_path(self.path)[0])
