"""Requests to addresses that others may have chosen: never to what only this machine, or its network, can reach.

A name is resolved, and each address looked at when a socket to it is made: it is that address which is connected to, so
that no second answer of a name server can lead elsewhere. Proxies of the environment are not used, no cookies kept. Of
an answer to a post nothing is read but its status, and no redirect is followed; what is got may be redirected, each
address being looked at as the first one was.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Any, Self

import aiohttp

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
"""Addresses of IPv4 hosts as networks without IPv4 reach them (RFC 6052)."""

_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""Of the registries of special-purpose addresses (RFC 6890), what ``ipaddress`` does not know in every version."""

NOT_PUBLIC = "address not public"
TIMED_OUT = "timeout"
UNRESOLVED = "name not found"
REFUSED = "connection refused"
UNREACHABLE = "not reachable"
NO_TLS = "tls"
BROKEN = "connection broken"
TOO_LARGE = "too large"
NO_URL = "not an http or https address"

_SCHEMES = ("http://", "https://")

_REDIRECTS_MAX = 5
_PIECE_BYTES = 64 * 1024

Address = IPv4Address | IPv6Address


class Outbound:
    """Posts to URLs and gets from them. Belongs to one event loop; a context that closes its connections.

    Args:
        private: whether addresses that are not public may be reached.
        timeout_s: for a whole request.
        connections_max: at once, to one host.
    """

    def __init__(self, *, private: bool, timeout_s: float, connections_max: int) -> None:
        self._private = private
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._connections_max,
            socket_factory=_socket if self._private else _public_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int | str:
        """Send it; the status that came back, or the kind of the error. Never fails."""
        assert self._session is not None, "entered"
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except TimeoutError:
            return TIMED_OUT
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _kind(error)

    async def get(self, url: str, bytes_max: int, take: Callable[[int], None] | None = None) -> bytes | str:
        """What is there, or the kind of the error. Takes no more than so many bytes, and fails only as ``take`` does,
        which is told of them as they come.
        """
        assert self._session is not None, "entered"
        if not url.lower().startswith(_SCHEMES):
            return NO_URL
        # Not packed: what a few bytes unpack to has no bound.
        headers = {"accept-encoding": "identity"}
        try:
            async with self._session.get(url, headers=headers, max_redirects=_REDIRECTS_MAX) as answer:
                return await _content(answer, bytes_max, take)
        except TimeoutError:
            return TIMED_OUT
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _kind(error)


async def _content(answer: aiohttp.ClientResponse, bytes_max: int, take: Callable[[int], None] | None) -> bytes | str:
    if answer.status != 200:
        return f"status {answer.status}"
    found = bytearray()
    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
        found += piece
        if take is not None:
            take(len(piece))
        if len(found) > bytes_max:
            return TOO_LARGE
    return bytes(found)


def _kind(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return NO_TLS
        case aiohttp.ClientConnectorDNSError():
            return UNRESOLVED
        case aiohttp.ClientConnectorError(os_error=_NotPublic()):
            return NOT_PUBLIC
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return REFUSED
        case aiohttp.ClientConnectorError():
            return UNREACHABLE
        case _:
            return BROKEN


class _NotPublic(OSError):
    """The address is none that everybody can reach."""


def _socket(info: Any) -> socket.socket:
    family, type, protocol, *_ = info
    return socket.socket(family, type, protocol)


def _public_socket(info: Any) -> socket.socket:
    host = str(info[4][0])
    if not is_public(host):
        raise _NotPublic("the address is not public")
    return _socket(info)


def is_public(host: str) -> bool:
    """Whether an IP address is one that everybody can reach. False for what is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    within = _within(address)
    if within is not None:
        return is_public(str(within))
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _within(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
