"""One request on its way through the application, from a reader in any thread to the engine in its own and back.

Each message of the answer is handed over as it is sent. A reader that is slow holds up its own answer and nothing
else; one that leaves is a client that closed its connection: the application is told ``http.disconnect``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import anyio
import httpx2

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

log = logging.getLogger("antiphon.client")

BUFFERED_BYTES_MAX = 64 * 1024
"""How far the application may be ahead of its reader."""

POLL_S = 0.5
"""How long a thread waits before it looks up. A signal that comes just as it begins to wait does not wake it, and on
Windows none does."""

_INTERNAL_ERROR = b'{"error":{"message":"The engine failed.","type":"server_error","param":null,"code":null}}'


class Head(NamedTuple):
    """What an answer begins with."""

    status: int
    headers: list[tuple[bytes, bytes]]


Part: TypeAlias = Head | bytes | httpx2.TransportError | None
"""A head, bytes of a body, None at its end, or what went wrong instead of one of them."""


class Inbox(Protocol):
    """Where a reader waits."""

    def put(self, part: Part) -> None:
        """Hand a part over; called in the engine's thread.

        Raises:
            RuntimeError: the reader's event loop is closed.
        """
        ...


class SyncInbox:
    """Where a thread waits."""

    def __init__(self) -> None:
        self._parts: queue.SimpleQueue[Part] = queue.SimpleQueue()

    def put(self, part: Part) -> None:
        """See ``Inbox.put``; never fails."""
        self._parts.put(part)

    def get(self, timeout_s: float | None) -> Part:
        """The next part.

        Raises:
            TimeoutError: there is none within ``timeout_s``.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = POLL_S if until is None else min(POLL_S, until - time.monotonic())
            try:
                return self._parts.get(timeout=max(left_s, 0.0))
            except queue.Empty:
                if until is not None and time.monotonic() >= until:
                    raise TimeoutError from None


Schedule: TypeAlias = Callable[[Callable[[], object]], object]
"""Has a function called in an event loop; may be used in any thread."""


def get_scheduler() -> Schedule:
    """The way into the event loop that runs here, asyncio's or trio's."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio: Any = importlib.import_module("trio.lowlevel")  # it runs us, so it is there
        return trio.current_trio_token().run_sync_soon


class AsyncInbox:
    """Where a task waits. Belongs to the event loop that runs when it is made."""

    def __init__(self) -> None:
        self._parts: deque[Part] = deque()
        self._schedule = get_scheduler()
        self._wake_scheduled = False
        self._arrived = anyio.Event()

    def put(self, part: Part) -> None:
        """See ``Inbox.put``; one wake-up for all that arrives before the reader's turn."""
        self._parts.append(part)
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._schedule(self._wake)

    def _wake(self) -> None:
        self._wake_scheduled = False
        self._arrived.set()

    async def get(self, timeout_s: float | None) -> Part:
        """The next part.

        Raises:
            TimeoutError: there is none within ``timeout_s``.
        """
        if not self._parts:
            with anyio.fail_after(timeout_s):
                while not self._parts:
                    self._arrived = anyio.Event()
                    await self._arrived.wait()
        return self._parts.popleft()


class AsgiExchange:
    """A request, its answer, and both ends of the way between. ``start`` belongs to the engine's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: ASGIApp, scope: Scope, body: bytes, inbox: Inbox) -> None:
        self._loop = loop
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._inbox = inbox
        self._lock = threading.Lock()
        self._buffered_bytes = 0
        self._held = False
        self._abandoned = False
        self._started = False
        self._ended = False
        self._disconnected = asyncio.Event()
        self._drained = asyncio.Event()

    # The reader's end

    def acknowledge(self, size_bytes: int) -> None:
        """The reader took so much."""
        with self._lock:
            self._buffered_bytes -= size_bytes
            freed = self._held and self._buffered_bytes <= BUFFERED_BYTES_MAX // 2
            self._held = self._held and not freed
        if freed:
            self._schedule_in_engine(self._drained.set)

    def abandon(self) -> None:
        """The reader takes no more. Harmless when the answer is over."""
        if not self._abandoned and not self._ended:
            self._abandoned = True
            self._schedule_in_engine(self._mark_abandoned)

    def abort(self) -> None:
        """End the call; the reader is told."""
        self._schedule_in_engine(self.disconnect)

    def _schedule_in_engine(self, callback: Callable[[], object]) -> None:
        # A closed loop has nobody to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    # The engine's end

    async def run(self) -> None:
        """Have the application answer."""
        try:
            await self._app(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            self._fail("The engine was closed before its answer was complete.")
            raise
        except Exception:
            log.exception("the application failed")
            if not self._started:
                await self._send_internal_error()
        self._fail("The engine ended its answer before it was complete.")

    def fail_closed(self) -> None:
        """There is no engine to answer any more; the reader is told."""
        self._fail("The engine was closed.")

    def _mark_abandoned(self) -> None:
        self._abandoned = True
        self._disconnected.set()
        self._drained.set()

    def disconnect(self) -> None:
        """Have the application think that its reader left."""
        self._disconnected.set()

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._put(Head(message["status"], list(message.get("headers", ()))))
            return
        body: bytes = b"" if self._scope["method"] == "HEAD" else message.get("body", b"")
        if body:
            self._put(body)
        if not message.get("more_body", False):
            self._end(None)
        elif self._is_over_limit(len(body)):
            await self._drained.wait()

    def _is_over_limit(self, size_bytes: int) -> bool:
        with self._lock:
            self._buffered_bytes += size_bytes
            self._held = self._buffered_bytes > BUFFERED_BYTES_MAX and not self._abandoned
            if self._held:
                self._drained.clear()
            return self._held

    def _put(self, part: Part) -> None:
        if self._abandoned:
            return
        try:
            self._inbox.put(part)
        except RuntimeError:
            # Its event loop was closed around the reader.
            self._mark_abandoned()

    def _end(self, part: Part) -> None:
        if not self._ended:
            self._put(part)
            self._ended = True
            self._disconnected.set()

    def _fail(self, why: str) -> None:
        self._end(httpx2.RemoteProtocolError(why))

    async def _send_internal_error(self) -> None:
        headers = [(b"content-type", b"application/json"), (b"x-should-retry", b"false")]
        await self._send({"type": "http.response.start", "status": 500, "headers": headers})
        await self._send({"type": "http.response.body", "body": _INTERNAL_ERROR})


def build_scope(request: httpx2.Request, **more: Any) -> Scope:
    """The request as ASGI's HTTP scope (asgi.readthedocs.io, HTTP & WebSocket message format 2.4)."""
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (url.host, None),
        "client": None,
        **more,
    }
