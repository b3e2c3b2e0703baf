"""Who sent a request. Every path below ``/v1`` asks, known or not; what tells of the server's health is open."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from antiphon.config import LOOPBACK
from antiphon.keyring import Caller, Keyring
from antiphon.wire.errors import InvalidRequest

Header = Callable[[bytes], str | None]
"""A request's first header of a name, which is in lower case; None without one."""


def caller_of(path: str, header: Header, keyring: Keyring) -> Caller:
    """Whom the request acts for.

    Raises:
        Unauthorized: it needs a key, and brings none that opens.
        InvalidRequest: no key is needed, and a page of another site, open in a browser on this machine, would use
            the server behind its user's back.
    """
    if not keyring.asks:
        _refuse_foreign_pages(header(b"origin"))
    return keyring.caller(secret_of(header(b"authorization"))) if _guarded(path) else Caller()


def _guarded(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def secret_of(authorization: str | None) -> str | None:
    """The bearer token; None without one."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _refuse_foreign_pages(origin: str | None) -> None:
    if origin is not None and _hostname(origin) not in LOOPBACK:
        raise InvalidRequest("Requests from web pages of other sites are refused.", code="foreign_origin")


def _hostname(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None
