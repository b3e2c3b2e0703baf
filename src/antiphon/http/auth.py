"""Who sent a request. Every path below ``/v1`` asks, known or not; what tells of the server's health is open."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import Scope

from antiphon.config import LOOPBACK
from antiphon.keyring import Caller, Keyring
from antiphon.wire.errors import InvalidRequest


def caller_of(scope: Scope, keyring: Keyring) -> Caller:
    """Whom the request acts for.

    Raises:
        Unauthorized: it needs a key, and brings none that opens.
        InvalidRequest: no key is needed, and a page of another site, open in a browser on this machine, would use
            the server behind its user's back.
    """
    if not keyring.asks:
        _refuse_foreign_pages(scope)
    return keyring.caller(secret_of(scope)) if _guarded(scope["path"]) else Caller()


def _guarded(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def secret_of(scope: Scope) -> str | None:
    """The bearer token; None without one."""
    scheme, _, secret = (header(scope, b"authorization") or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that name, which is in lower case; None without one."""
    for found, value in scope["headers"]:
        if found == name:
            return value.decode("latin-1")
    return None


def _refuse_foreign_pages(scope: Scope) -> None:
    origin = header(scope, b"origin")
    if origin is not None and _hostname(origin) not in LOOPBACK:
        raise InvalidRequest("Requests from web pages of other sites are refused.", code="foreign_origin")


def _hostname(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None
