"""One WebSocket: its upgrade request, its text frames, and a log whose only reader is at its other end.

A refused upgrade is answered like any HTTP request. A reader that is slow holds up the responses on its own socket and
nothing else: each waits in ``flush`` until its frames have been taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from antiphon.engine import Engine
from antiphon.http.exchange import ClientDisconnected, Exchange
from antiphon.http.monitor import FLUSH_AFTER_S, ConnectionMonitor
from antiphon.http.sse import encode_message
from antiphon.log import encode
from antiphon.wire import Json
from antiphon.wire.errors import ApiError

METHOD = "WEBSOCKET"
"""What stands for the method in the table of routes: an upgrade is a GET, but no GET."""
PING_S = 20.0
SILENT_S = 600.0
"""A client busy with a tool call takes no frames, and so answers no ping: it is given as long as the official client
waits for us.
"""


class WebSocketExchange(Exchange):
    """A request to speak WebSocket; once it is accepted, the socket."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        engine: Engine,
        monitor: ConnectionMonitor,
        params: dict[str, str],
    ) -> None:
        async def deny(answer: Message) -> None:
            await send({**answer, "type": f"websocket.{answer['type']}"})

        super().__init__(scope, receive, deny, engine, monitor, params)
        self._speak = send

    async def accept(self) -> None:
        """Agree to speak WebSocket."""
        await self._receive()  # "websocket.connect", always the first
        self.started, self.status = True, 101
        headers = [(b"x-request-id", self.request_id.encode())]
        await self._speak({"type": "websocket.accept", "headers": headers})

    async def receive_text(self) -> str | None:
        """The next text frame; None for a binary one.

        Raises:
            ClientDisconnected: there is none, for the socket is closed.
        """
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnected
        return message.get("text")

    async def send_text(self, text: bytes) -> None:
        """Send a text frame; wait while the client is slow. If it has disconnected, only ``receive_text`` says so."""
        with suppress(OSError, RuntimeError):
            await self._speak({"type": "websocket.send", "text": text.decode()})

    async def send_error(self, error: ApiError, stream_id: str | None = None) -> None:
        """Send an error frame: ``{"type": "error", "status", "error": {…}}``, and the lane it belongs to."""
        self.log_error(error)
        body = self.profile.error(error.body(), error.status)
        frame: Json = {
            "type": "error",
            "status": error.status,
            "error": body | {"code": error.code or body["type"]},
        }
        if error.headers:
            frame["error"]["headers"] = dict(error.headers)
        await self.send_text(encode(frame | ({} if stream_id is None else {"stream_id": stream_id})))

    async def close(self, code: int = 1000) -> None:
        """Close the socket, if it is still open."""
        with suppress(OSError, RuntimeError):
            await self._speak({"type": "websocket.close", "code": code})


class SocketStream:
    """The log of a response on a socket.

    Attributes:
        obfuscate: whether deltas are padded.
        shown: whether the client has been sent anything of it.
    """

    def __init__(self, socket: WebSocketExchange, stream_id: str | None) -> None:
        self.obfuscate = True
        self.shown = False
        self._socket = socket
        self._monitor = socket.monitor
        self._lane: Json = {} if stream_id is None else {"stream_id": stream_id}
        self._frames: deque[bytes] = deque()
        self._turn = asyncio.Lock()
        self._moved = self._monitor.now()
        self._monitor.streams.add(self)

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        named = self._socket.profile.event(event)
        self._frames.append(encode_message(named | self._lane, obfuscate=self.obfuscate))

    async def flush(self) -> None:
        """See ``Log.flush``. The lock keeps the order where the monitor flushes too."""
        async with self._turn:
            while self._frames:
                self.shown = True
                await self._socket.send_text(self._frames.popleft())
        self._moved = self._monitor.now()

    async def check(self, now: float) -> None:
        """Flush frames that have waited too long."""
        if self._frames and not self._turn.locked() and now - self._moved > FLUSH_AFTER_S:
            await self.flush()

    def drop(self) -> None:
        """Write nothing more."""
        self._monitor.streams.discard(self)
