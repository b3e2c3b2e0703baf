"""uvicorn's WebSocket, bounded: fragments, pings, and an opening that is none."""

from __future__ import annotations

import logging
from typing import Any, Final, cast

import msgspec
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

FRAGMENTS_MAX: Final = 10_000
"""How many frames one message may come in."""
PINGS_MAX: Final = 100
"""How many pings may come without a message between them in ``PINGS_S``."""
PINGS_S: Final = 10.0
_POLICY: Final = 1008


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
    """One client's WebSocket."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = _Handshake(max_size=self.config.ws_max_size, logger=logging.getLogger("uvicorn.error"))
        self._fragments = 0
        self._pings = 0
        self._pings_since = 0.0

    def data_received(self, data: bytes) -> None:
        """Also: an opening that cannot be read is answered."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.conn.send_response(self.conn.reject(400, "This is no WebSocket handshake."))
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

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
            self._fragments = 0
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

    def _end(self, why: str) -> None:
        if self.transport.is_closing() or self.close_sent:
            return
        self.close_sent = True
        self.conn.send_close(_POLICY, why)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
