"""uvicorn's WebSocket, bounded: fragments, pings, what arrives of messages, and an opening that is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import msgspec
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from antiphon.http.body import BodyBudget
from antiphon.wire.errors import Unavailable

log = logging.getLogger("antiphon.http")

FRAGMENTS_MAX: Final = 10_000
"""How many frames one message may come in."""
PINGS_MAX: Final = 100
"""How many pings may come without a message between them in ``PINGS_S``."""
PINGS_S: Final = 10.0
LOOK_S: Final = 10.0
BYTES_PER_LOOK: Final = 4096
"""What must come of a message that has begun from look to look, while we would take more."""
FREE_BYTES: Final = 16 * 1024
"""What of a message may arrive uncounted: a frame as clients send them."""
LINGER_S: Final = 5.0
"""How long what a refused client still sends is thrown away, so that it can read why."""
_POLICY: Final = 1008
_TRY_AGAIN_LATER: Final = 1013


class _Handshake(ServerProtocol):
    """The library's protocol, which refuses in the documented envelope."""

    def reject(self, status: StatusLike, text: str) -> Response:
        """See ``ServerProtocol.reject``."""
        response = super().reject(status, text)
        error = {"message": text.strip(), "type": "invalid_request_error", "param": None, "code": "invalid_handshake"}
        response.body = msgspec.json.encode({"error": error})
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(response.body)))):
            del response.headers[name]
            response.headers[name] = value
        return response


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One client's WebSocket.

    Args:
        bodies: the budget that all bodies share; messages count as they come, until they are received.
        on_lost: told when the connection is closed.
    """

    def __init__(self, *args: Any, bodies: BodyBudget, on_lost: Callable[[], None], **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = _Handshake(max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error"))
        self._bodies = bodies
        self._on_lost = on_lost
        self._taken = 0
        self._queued_bytes = 0
        self._came_bytes = 0
        self._look: asyncio.TimerHandle | None = None
        self._ended = False
        self._fragments = 0
        self._pings = 0
        self._pings_since = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """Also: nothing is held or waited for any more."""
        self._bodies.give_back(self._taken, self._sender)
        self._taken = 0
        self._stop_looking()
        self._on_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Also: an opening that cannot be read is answered, and what is held has a bound."""
        if self._ended:
            return
        self._came_bytes += len(data)
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.conn.send_response(self.conn.reject(400, "This is not a WebSocket handshake."))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        self._weigh()

    def send_receive_event_to_app(self) -> None:
        """Also: it is held until it is received."""
        self._fragments = 0
        self._queued_bytes += sum(map(len, self.frames))
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        """Also: what is received is no longer held here."""
        message = await super().receive()
        if message["type"] == "websocket.receive":
            if self.queue.empty():
                self._queued_bytes = 0
            self._weigh()
        return message

    @property
    def _sender(self) -> str:
        """Whom bytes count for while they are not received: their project is known to who receives them."""
        return f"socket {self.client[0] if self.client else ''}"

    def _weigh(self) -> None:
        """Count what has come and was not received, and see that the rest of it comes."""
        if self._ended:
            return None
        arriving = len(self.conn.reader.buffer) + sum(map(len, self.frames))
        held = arriving + self._queued_bytes
        wanted = held if held > FREE_BYTES and not self.disconnected else 0
        if wanted > self._taken:
            try:
                self._bodies.take(wanted - self._taken, self._sender)
            except Unavailable:
                return self._end("the server is at its limit of request bodies", _TRY_AGAIN_LATER)
        else:
            self._bodies.give_back(self._taken - wanted, self._sender)
        self._taken = wanted
        if not arriving:
            self._stop_looking()
        elif self._look is None:
            self._look_again()
        return None

    def _look_again(self) -> None:
        self._came_bytes = 0
        self._look = self.loop.call_later(LOOK_S, self._look_at_message)

    def _look_at_message(self) -> None:
        if self._came_bytes < BYTES_PER_LOOK and not self.read_paused:
            return self._end("the rest of a message did not come", _POLICY)
        return self._look_again()

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    async def send(self, message: Any) -> None:
        """Also: a refusal ends the handshake; else each is logged as if the application had not answered."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        """Also: a message grows in one place, and has not more pieces than anyone needs."""
        self._fragments += 1
        if self._fragments > FRAGMENTS_MAX:
            return self._end("a message came in too many frames")
        whole: Any = self.frames[0]
        if not isinstance(whole, bytearray):
            self.frames[:] = [whole := cast(Any, bytearray(whole))]
        whole += event.data
        if event.fin:
            self.frames[0] = bytes(whole)
            self.send_receive_event_to_app()
        return None

    def handle_ping(self) -> None:
        """Also: nobody needs so many, and each costs an answer."""
        now = self.loop.time()
        if now - self._pings_since > PINGS_S:
            self._pings, self._pings_since = 0, now
        self._pings += 1
        if self._pings > PINGS_MAX:
            return self._end("too many pings")
        return super().handle_ping()

    def _end(self, why: str, code: int = _POLICY) -> None:
        """Close, and throw away for a moment what still comes, so that the client can read why."""
        self._stop_looking()
        if self._ended or self.transport.is_closing() or self.close_sent:
            return
        log.info("closed a WebSocket: %s", why)
        self._ended = self.close_sent = True
        self.conn.send_close(code, why)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self._bodies.give_back(self._taken, self._sender)
        self._taken = 0
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        with suppress(OSError, NotImplementedError, RuntimeError):
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": why})
