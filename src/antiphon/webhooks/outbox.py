"""Webhooks as the official API has them: which endpoints there are, what they are told, and the signatures they check.

Only responses in the background bring webhooks about. The format is that of Standard Webhooks, which the official SDKs
verify with ``client.webhooks.unwrap``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from antiphon.store import Record
from antiphon.store.deliveries import Delivery
from antiphon.wire import Id

EVENTS = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
"""What endpoints can be told of."""

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN = 16
"""A shorter secret could be guessed."""
ENDPOINTS_MAX = 100
SECRETS_MAX = 4

_DEFAULT_PROJECT = "default"
"""What people call the project whose stored name is empty."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Who is told.

    Attributes:
        url: where to; also its name: deliveries that wait belong to the endpoint of that URL.
        keys: what signs; more than one while a secret is being replaced.
        events: of ``EVENTS``.
        project: whose responses it is told of; None for all.
        private: whether it may be at an address that is not public, and without TLS.
    """

    url: str
    keys: tuple[bytes, ...] = field(repr=False)
    events: tuple[str, ...] = EVENTS
    project: str | None = None
    private: bool = False

    def wants(self, record: Record) -> bool:
        """Whether it is told of that response."""
        return _type(record) in self.events and self.project in (None, record.project)


class _Table(msgspec.Struct):
    """An endpoint as it is configured."""

    url: str
    secret: str | list[str]
    events: list[str] = msgspec.field(default_factory=lambda: list(EVENTS))
    project: str | None = None
    private: bool = False


def endpoints(value: object) -> tuple[Endpoint, ...]:
    """The endpoints of a list of tables, or of JSON for one.

    Raises:
        ValueError: they cannot be used. The text says why, and holds no secret.
    """
    tables: object = json.loads(value) if isinstance(value, str) else value
    if not isinstance(tables, list | tuple):
        raise ValueError("expected a list of endpoints")
    found = tuple(_endpoint(table) for table in cast("Sequence[object]", tables))
    if len(found) > ENDPOINTS_MAX:
        raise ValueError(f"at most {ENDPOINTS_MAX} endpoints")
    if len({endpoint.url for endpoint in found}) < len(found):
        raise ValueError("two endpoints have the same URL")
    return found


def _endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    names = _Table.__struct_fields__
    # Not the name that is wrong: it may be a secret in the wrong place.
    if isinstance(value, dict) and not set(cast("dict[str, object]", value)) <= set(names):
        raise ValueError(f"an endpoint has nothing but {', '.join(names)}")
    try:
        table = msgspec.convert(value, _Table)
    except msgspec.ValidationError as error:
        raise ValueError(f"an endpoint: {error}") from None
    if not set(table.events) <= set(EVENTS):
        raise ValueError(f"events are {', '.join(EVENTS)}")
    _check_url(table.url, table.private)
    given = [table.secret] if isinstance(table.secret, str) else table.secret
    if not 0 < len(given) <= SECRETS_MAX:
        raise ValueError(f"an endpoint has 1 to {SECRETS_MAX} secrets")
    project = "" if table.project == _DEFAULT_PROJECT else table.project
    return Endpoint(table.url, tuple(map(_key, given)), tuple(table.events), project, table.private)


def _check_url(url: str, private: bool) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("a url that cannot be read") from None
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise ValueError("a url must begin with https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a url with a user or a password in it: URLs are stored and shown")
    if parts.scheme != "https" and not private:
        raise ValueError("a url must begin with https://, unless private = true")


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) < SECRET_BYTES_MIN:
        raise ValueError(
            f"a secret is {SECRET_PREFIX} and base64 of {SECRET_BYTES_MIN} bytes or more; `antiphon webhooks secret`"
            " makes one"
        )
    return key


def new_secret() -> str:
    """A new secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def hide_query(url: str) -> str:
    """The URL as people may read it: without its query."""
    bare, mark, _ = url.partition("?")
    return f"{bare}?…" if mark else bare


def body(delivery: Delivery) -> bytes:
    """What is sent: the same bytes in every attempt."""
    return msgspec.json.encode(
        {
            "id": delivery.event_id,
            "object": "event",
            "type": delivery.type,
            "created_at": delivery.created_at,
            "data": {"id": delivery.response_id},
        }
    )


def headers(id: Id, body: bytes, keys: Sequence[bytes], now: int) -> Mapping[str, str]:
    """The headers of an attempt at delivery ``id``, signed at that time, in Unix seconds."""
    signed = f"{id}.{now}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _type(record: Record) -> str:
    return f"response.{record.status}"


class Outbox:
    """Says who is to be told of a response that ended, and wakes who tells them. Belongs to one event loop.

    Args:
        ids: fresh ids, by prefix.
        clock: Unix seconds.
    """

    def __init__(self, endpoints: Sequence[Endpoint], ids: Callable[[str], Id], clock: Callable[[], float]) -> None:
        self.endpoints = tuple(endpoints)
        self._ids = ids
        self._clock = clock
        self._notifier: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def deliveries(self, record: Record) -> list[Delivery]:
        """One for each endpoint that wants to know; to be kept with the response's end."""
        wanted = [endpoint for endpoint in self.endpoints if endpoint.wants(record)]
        if not wanted:
            return []
        now = int(self._clock())
        event: dict[str, Any] = {"event_id": self._ids("evt"), "type": _type(record), "response_id": record.id}
        return [Delivery(id=self._ids("wh"), endpoint=each.url, created_at=now, due_at=now, **event) for each in wanted]

    def wakeup(self, endpoint: Endpoint) -> asyncio.Event:
        """Set when there may be something to deliver there. It may be lost; what counts is in the store."""
        return self._notifier[endpoint.url]

    def wake(self, deliveries: Sequence[Delivery]) -> None:
        """These have been kept."""
        for delivery in deliveries:
            self._notifier[delivery.endpoint].set()


def nobody() -> Outbox:
    """An outbox without endpoints."""
    return Outbox((), str, float)
