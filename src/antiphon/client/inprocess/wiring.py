"""``responses.connect`` where the engine is in this process: the WebSocket runs through a pair of sockets, or through
the socket file of the process that owns the folder.

The official SDK connects with the library ``websockets`` and hands its options on; among them is a socket to be used.
What has to be found first, is found in the client's ``_prepare_options``, which the SDK calls before it connects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
from openai._models import FinalRequestOptions

from antiphon.client.inprocess.route import ENGINE_HOST, Route, Server


def is_ours(options: FinalRequestOptions) -> bool:
    """Whether a WebSocket to the engine is about to be connected."""
    return options.url.startswith(f"ws://{ENGINE_HOST}/")


def addressed(options: FinalRequestOptions, server: Server) -> FinalRequestOptions:
    """The options, for the server that owns the folder."""
    if server.url:
        there = httpx2.URL(server.url)
        scheme = "wss" if there.scheme == "https" else "ws"
        options.url = str(httpx2.URL(options.url).copy_with(scheme=scheme, host=there.host, port=there.port))
    return options


def wired(client: object, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The connection options for a client: as they were given, and where to, if it is an in-process one."""
    route: Route | None = getattr(client, "_route", None)
    return given if route is None else Wires(given, route)


class Wires(Mapping[str, Any]):
    """Connection options as they were given, and the way to the engine, made anew whenever they are used."""

    def __init__(self, given: Mapping[str, Any], route: Route) -> None:
        self._given = given
        self._route = route

    def __getitem__(self, name: str) -> Any:
        if name == "sock" and (host := self._route.host) is not None:
            return host.dial()
        return {**self._given, **self._file()}[name]

    def __iter__(self) -> Iterator[str]:
        yield from {**self._given, **self._file()}
        if self._route.host is not None:
            yield "sock"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _file(self) -> dict[str, Any]:
        server = self._route.server
        if server is not None and server.socket:
            return {"unix": True, "path": server.socket}
        # The pair of sockets is of that kind too, and takes no options of TCP.
        return {"unix": True} if self._route.host is not None else {}
