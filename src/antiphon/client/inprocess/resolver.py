"""Where the requests of a client go: to the engine in this process, or to the server that owns its folder."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx2

from antiphon.client.inprocess.host import (
    HOSTS,
    EngineError,
    Host,
    Lease,
    Opener,
    OwnedElsewhere,
)
from antiphon.config import Config

if TYPE_CHECKING:
    from antiphon.store.sqlite import Owner

ENGINE_HOST = "antiphon.invalid"
"""Stands for the engine in URLs. The name can belong to nobody (RFC 6761, 6.4): what leaks out goes nowhere."""
BASE_URL = f"http://{ENGINE_HOST}/v1"

STARTING_S = 60.0
"""How long an owner is asked again that does not answer: it is just starting or ending."""
NAMELESS_S = 5.0
"""How long an owner is waited for that listens nowhere."""
PAUSE_S = 0.1


class Server(NamedTuple):
    """A process that owns the folder and listens.

    Attributes:
        url: its base URL, ending in ``/v1``; empty where it listens at a socket file.
        socket: the path of that.
    """

    url: str
    socket: str

    def redirect(self, request: httpx2.Request) -> httpx2.Request:
        """The request, sent there.

        Raises:
            httpx2.ConnectError: the socket file is gone, and the server with it.
        """
        if self.socket:
            if not Path(self.socket).exists():
                raise httpx2.ConnectError(f"There is no {self.socket}.")
        else:
            url = httpx2.URL(self.url)
            request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)
            request.headers["host"] = url.netloc.decode("ascii")
        return request


class EngineResolver:
    """Shared by a client and its copies. What is found at the first request holds until it is lost."""

    def __init__(self, config: Config, opener: Opener | None) -> None:
        self.config = config
        self.opener = opener
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._released: object = None
        self._server: Server | None = None
        self._until = 0.0

    def resolve(self) -> Host | Server:
        """Where to now; waits while the engine is opened.

        Raises:
            EngineError: neither is it opened, nor is there a server.
        """
        while True:
            if self._server is not None:
                return self._server
            host = self._lease_host().host
            try:
                host.wait_until_open()
            except OwnedElsewhere as error:
                self._follow_owner(error)
            else:
                return host
            time.sleep(PAUSE_S if self._server is None else 0)

    async def resolve_async(self) -> Host | Server:
        """See ``resolve``."""
        import anyio

        while True:
            if self._server is not None:
                return self._server
            host = self._lease_host().host
            try:
                await host.wait_until_open_async()
            except OwnedElsewhere as error:
                self._follow_owner(error)
            else:
                return host
            await anyio.sleep(PAUSE_S if self._server is None else 0)

    @property
    def host(self) -> Host | None:
        """The host that was found."""
        lease = self._lease
        return None if lease is None or self._server is not None else lease.host

    @property
    def server(self) -> Server | None:
        """The server that was found."""
        return self._server

    def report_lost(self, where: Host | Server) -> bool:
        """It does not answer any more. Says whether to look again, for some time."""
        if self._server == where:
            self._server = None
        return self._may_wait(STARTING_S)

    def report_reached(self) -> None:
        """There was an answer."""
        self._until = 0.0

    def release(self) -> Host | None:
        """Let go. Returns the host that closes with that. Takes no lock: the garbage collector calls it."""
        self._released = object()
        lease, self._lease = self._lease, None
        if lease is None:
            return None
        lease.release()
        return lease.host if lease.host.closing else None

    def _lease_host(self) -> Lease:
        with self._lock:
            lease = self._lease
            if lease is None or not lease.host.alive:
                released = self._released
                lease = self._lease = HOSTS.lease(self.config, self.opener)
                if self._released is not released:
                    # Closed by another thread since: it may have found no lease to give back.
                    self._lease = None
                    lease.release()
            return lease

    def _follow_owner(self, elsewhere: OwnedElsewhere) -> None:
        with self._lock:
            self._lease = None
        owner: Owner | None = elsewhere.owner
        if owner is not None and owner.url:
            self._server = Server("" if owner.socket else owner.url, owner.socket)
        elif not self._may_wait(NAMELESS_S):
            raise EngineError(str(elsewhere)) from elsewhere

    def _may_wait(self, patience_s: float) -> bool:
        now = time.monotonic()
        self._until = self._until or now + patience_s
        return now < self._until
