"""Who sent a request. Every path below ``/v1`` asks, known or not; what tells of the server's health is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon.access.keyring import Caller, Keyring
from antiphon.http.cors import HOST, is_allowed
from antiphon.wire.errors import InvalidRequest, Unauthorized

_TRUSTED = "antiphon.trusted"
"""The mark in a scope, where no request can put it, that its sender may read the data folder anyway."""

_HOSTS_MAX = 64
"""How many names are remembered: clients use few, and looking at one takes microseconds."""

Header = Callable[[bytes], str | None]
"""A request's first header of a name, which is in lower case; None without one."""


def trust_callers(app: ASGIApp) -> ASGIApp:
    """The application for callers who may read the data folder: needs no key; a key says which project they act for."""

    async def open_to_all(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _TRUSTED: True}, receive, send)

    return open_to_all


def authenticate(scope: Scope, header: Header, keyring: Keyring, origins: Sequence[str]) -> Caller:
    """Whom the request acts for; pages of ``origins`` may use a server without keys, as those of this machine may.

    Raises:
        Unauthorized: it needs a key, and brings none that opens.
        InvalidRequest: no key is needed, and a page of another site, open in a browser on this machine, would use
            the server behind its user's back: as another site, or by a name of its own that it makes lead here.
    """
    if _TRUSTED in scope:
        return _try_caller(header, keyring)
    if not keyring.requires_key:
        _refuse_repeated_host(scope)
        _refuse_rebound_host(header(b"host"))
        _refuse_cross_origin(header(b"origin"), origins)
        return Caller()
    return keyring.caller(bearer_token(header(b"authorization"))) if _needs_key(scope["path"]) else Caller()


def reauthenticate(scope: Scope, key_id: str, keyring: Keyring) -> None:
    """Look at the caller of a connection that lasts once more.

    Raises:
        Unauthorized: the key opens nothing any more, or there is none, and one is needed now.
    """
    if _TRUSTED not in scope:
        keyring.check(key_id)


def _try_caller(header: Header, keyring: Keyring) -> Caller:
    try:
        return keyring.caller(bearer_token(header(b"authorization")))
    except Unauthorized:
        return Caller()


def _needs_key(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def bearer_token(authorization: str | None) -> str | None:
    """The bearer token; None without one."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _refuse_cross_origin(origin: str | None, origins: Sequence[str]) -> None:
    if origin is not None and not is_allowed(origin, origins):
        raise InvalidRequest("Requests from web pages of other sites are refused.", code="foreign_origin")


def _refuse_repeated_host(scope: Scope) -> None:
    if sum(name == b"host" for name, _ in scope["headers"]) > 1:
        raise InvalidRequest("A request has one Host header.", code="foreign_host")


def _refuse_rebound_host(host: str | None) -> None:
    if host and _is_public_name(host):
        raise InvalidRequest(
            f"This server asks for no key, so it answers to no name that another site could have: {host!r}. Use"
            " 127.0.0.1 or localhost, or make a key with `antiphon keys create`.",
            code="foreign_host",
        )


@lru_cache(maxsize=_HOSTS_MAX)
def _is_public_name(host: str) -> bool:
    """Whether anyone on the internet can have the name, and say to what address it leads. Addresses lead to themselves;
    names of one word, and those with the three endings, are this machine's, its network's or nobody's.
    """
    written = HOST.fullmatch(host)
    if written is None:
        return True
    name = written["name"].strip("[]").lower()
    return "." in name and not name.endswith((".localhost", ".internal", ".invalid")) and not _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
