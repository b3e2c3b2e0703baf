"""``responses.connect`` where the engine is in this process: the WebSocket runs through a pair of sockets, or through
the socket file of the process that owns the folder.

The official SDK connects with the library ``websockets`` and hands its options on; among them is a socket to be used.
What has to be found first, is found in the client's ``_prepare_options``, which the SDK calls before it connects.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import httpx2

from antiphon.client.inprocess.resolver import ENGINE_HOST, EngineResolver, Server


class RequestOptions(Protocol):
    """What the SDK is about to send; of that, where to."""

    url: str


def is_engine_websocket(options: RequestOptions) -> bool:
    """Whether a WebSocket to the engine is about to be connected."""
    return options.url.startswith(f"ws://{ENGINE_HOST}/")


def redirect_websocket(options: RequestOptions, server: Server) -> RequestOptions:
    """The options, for the server that owns the folder."""
    if server.url:
        there = httpx2.URL(server.url)
        scheme = "wss" if there.scheme == "https" else "ws"
        options.url = str(httpx2.URL(options.url).copy_with(scheme=scheme, host=there.host, port=there.port))
    return options


def connect_options(client: object, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The connection options for a client: as they were given, and where to, if it is an in-process one."""
    resolver: EngineResolver | None = getattr(client, "_resolver", None)
    return given if resolver is None else ConnectOptions(given, resolver)


class ConnectOptions(Mapping[str, Any]):
    """Connection options as they were given, and the way to the engine, made anew whenever they are used."""

    def __init__(self, given: Mapping[str, Any], resolver: EngineResolver) -> None:
        self._given = given
        self._resolver = resolver

    def __getitem__(self, name: str) -> Any:
        value = {**self._given, **self._target()}[name]
        return value() if name == "sock" and self._resolver.host is not None else value

    def __iter__(self) -> Iterator[str]:
        return iter({**self._given, **self._target()})

    def __len__(self) -> int:
        return len({**self._given, **self._target()})

    def _target(self) -> dict[str, Any]:
        """What leads to the engine; ``sock`` as a function, as every connection needs a socket of its own."""
        host, server = self._resolver.host, self._resolver.server
        if host is not None:
            # A pair of sockets has no TCP options to be set, except on Windows, where it is one of TCP.
            return {"sock": host.connect, **({} if sys.platform == "win32" else {"unix": True})}
        return {"unix": True, "path": server.socket} if server is not None and server.socket else {}
