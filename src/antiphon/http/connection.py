"""uvicorn's protocol, bounded: what a client may send before it is listened to, and how long it may take.

Also settled here is what uvicorn leaves open: how an answer without a length ends on HTTP/1.0, and that what is no HTTP
is answered in the documented envelope.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.config import Config
from antiphon.http.body import BodyBudget
from antiphon.http.peers import Peers
from antiphon.http.websocket.protocol import LINGER_S, BoundedWebSocket
from antiphon.http.websocket.socket import PING_S, SILENT_S
from antiphon.net.descriptors import descriptors, room_for

log = logging.getLogger("antiphon.http")

HEAD_BYTES_MAX: Final = 64 * 1024
URL_BYTES_MAX: Final = 16 * 1024
HEADERS_MAX: Final = 128
UPGRADE_LINE_BYTES_MAX: Final = 8000
"""The WebSocket library reads no longer lines, and says nothing when there is one."""
HEAD_S: Final = 20.0
"""How long a head may take, and how long a new connection may be silent."""
BODY_LOOK_S: Final = 10.0
BODY_BYTES_PER_LOOK: Final = 4096
"""What must come of a body from look to look, while we would take more."""


READER_LOOK_S: Final = 60.0
READER_BYTES_PER_LOOK: Final = 4096
"""What a client must take from look to look of an answer that waits for it."""


class _AnyLength(int):
    """The length of an answer that ends when its connection does."""

    def __lt__(self, other: int) -> bool:
        return False

    def __sub__(self, other: int) -> _AnyLength:
        return self

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class Refusal(NamedTuple):
    """Why a request is not read to its end."""

    status: int
    code: str
    text: str

    def answer(self) -> bytes:
        """The whole answer, in the documented envelope; it ends the connection."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.text, "type": kind, "param": None, "code": self.code}
        body = msgspec.json.encode({"error": error})
        retry = "retry-after: 1\r\n" if self.status == 503 else ""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        return head.encode() + body


_INVALID: Final = Refusal(400, "invalid_http", "We could not parse your request as HTTP.")
_LONG_URL: Final = Refusal(414, "url_too_long", f"The URL is longer than {URL_BYTES_MAX} bytes.")
_LONG_HEAD: Final = Refusal(431, "headers_too_large", f"The headers take more than {HEAD_BYTES_MAX} bytes.")
_MANY_HEADERS: Final = Refusal(431, "headers_too_large", f"There are more than {HEADERS_MAX} headers.")
_SLOW_HEAD: Final = Refusal(408, "request_timeout", f"The head of the request did not come within {HEAD_S:g} seconds.")
_SLOW_BODY: Final = Refusal(408, "request_timeout", "The body of the request comes too slowly.")
_LONG_LINE: Final = Refusal(
    431, "headers_too_large", f"A header of an upgrade takes more than {UPGRADE_LINE_BYTES_MAX} bytes."
)
_FULL: Final = Refusal(503, "too_many_connections", "There are too many connections. Please retry in a moment.")


class _Refused(Exception):
    """Stops the parser; ``Protocol._refusal`` says why."""


class _Closing:
    """What answers a request, of a connection: it is closed in a way that leaves the client time to read the answer."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self.write, self.is_closing = protocol.transport.write, protocol.transport.is_closing

    def close(self) -> None:
        """Close it."""
        self._protocol.close()


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, peers: Peers, bodies: BodyBudget, **more: Any) -> None:
        super().__init__(*args, **more)
        self._peers = peers
        self.ws_protocol_class = cast(Any, partial(BoundedWebSocket, bodies=bodies, on_lost=partial(peers.leave, self)))
        self._refusal = _INVALID
        self._refused = False
        self._in_head = True
        self._head_begun = False
        self._line_bytes = 0
        """Bytes of this head, or, behind it, since the parser last told of any."""
        self._head_bytes = 0
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> str:
        """The client's address; empty where it has none."""
        return self.client[0] if self.client else ""

    def drop(self) -> None:
        """See ``Peer``."""
        self.transport.abort()

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Also: there must be room for it, and it must not be silent for ever."""
        super().connection_made(transport)
        if self._peers.enter(self):
            self._expect_head()
        else:
            self._refuse(_FULL, lingering=self._peers.may_linger(self))

    def connection_lost(self, exc: Exception | None) -> None:
        """Also: nothing is waited for any more."""
        self._stop_timer()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        self._peers.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Also: what has been refused is not read, and a line without an end is refused."""
        if self._refused:
            return
        if self._in_head and self._timer is None:
            self._expect_head()
        self._line_bytes += len(data)
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        if self._line_bytes > HEAD_BYTES_MAX:
            self._refuse(_LONG_HEAD)
        elif self._head_begun and self._in_head and self._timer is None:
            self._expect_head()  # one more began behind a request that was whole

    def pause_writing(self) -> None:
        """Also: what waits for the client does not wait for ever."""
        super().pause_writing()
        if self._reader_timer is None:
            self._await_reader()

    def send_400_response(self, msg: str) -> None:
        """Say why the parser stopped."""
        self._refuse(self._refusal)

    def handle_websocket_upgrade(self) -> None:
        """Also: it is never idle, and lines that the WebSocket library does not read are refused."""
        if any(len(name) + len(value) > UPGRADE_LINE_BYTES_MAX for name, value in self.headers):
            return self._refuse(_LONG_LINE)
        self._stop_timer()
        self._peers.work(self)
        return super().handle_websocket_upgrade()

    # What the parser tells

    def on_message_begin(self) -> None:
        """Also: a new head begins."""
        super().on_message_begin()
        self._in_head, self._head_begun, self._head_bytes = True, True, 0

    def on_url(self, url: bytes) -> None:
        """Also: it has a bound. The parser tells of it piece by piece."""
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._stop(_LONG_URL)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also: they have a bound, one by one and all together; a body's trailers count with them."""
        super().on_header(name, value)
        if not self._in_head:
            self._line_bytes = 0
        self._head_bytes += len(name) + len(value)
        if len(self.headers) > HEADERS_MAX:
            self._stop(_MANY_HEADERS)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._stop(_LONG_HEAD)

    def on_headers_complete(self) -> None:
        """Also: a client of HTTP/1.0 knows no chunks; what has no length ends with the connection."""
        self._in_head, self._line_bytes, self._body_bytes = False, 0, 0
        self._peers.work(self)
        self._stop_timer()
        super().on_headers_complete()
        # The attribute is missing where the request upgrades the connection.
        cycle: Any = getattr(self, "cycle", None)
        if cycle is None or cycle.scope is not self.scope:
            return
        cycle.transport = _Closing(self)
        if self.scope["http_version"] == "1.0":
            cycle.keep_alive = cycle.chunked_encoding = False
            cycle.expected_content_length = _AnyLength()
        self._timer = self.loop.call_later(BODY_LOOK_S, self._look_at_body)

    def on_body(self, body: bytes) -> None:
        """Also: it is seen that it comes."""
        self._body_bytes += len(body)
        self._line_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Also: nothing more is waited for."""
        self._stop_timer()
        self._in_head, self._head_begun, self._line_bytes = True, False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Also: it is idle, until more comes."""
        super().on_response_complete()
        if not self.pipeline:
            self._peers.rest(self)

    # Bounds

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Refused

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._time_out)

    def _time_out(self) -> None:
        """Whoever has said nothing is not answered: it would take that for the answer to its next request."""
        if self._head_begun:
            return self._refuse(_SLOW_HEAD)
        self._refused = True
        return self.transport.close()

    def _look_at_body(self) -> None:
        """Only what we would take is missed: a client is not to blame that nobody reads its body yet."""
        came, self._body_bytes = self._body_bytes, 0
        if came < BODY_BYTES_PER_LOOK and not self.flow.read_paused:
            self._refuse(_SLOW_BODY)
        else:
            self._timer = self.loop.call_later(BODY_LOOK_S, self._look_at_body)

    def _await_reader(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(READER_LOOK_S, self._look_at_reader, waiting)

    def _look_at_reader(self, before: int) -> None:
        self._reader_timer = None
        if not self.flow.write_paused:
            return None
        if before - self.transport.get_write_buffer_size() >= READER_BYTES_PER_LOOK:
            return self._await_reader()
        log.info("closed a connection: its client does not read the response")
        return self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, refusal: Refusal, *, lingering: bool = True) -> None:
        """Answer, unless an answer is under way, and throw away what still comes until the client has read it."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        log.info("refused a connection: %d %s", refusal.status, refusal.code)
        if not self._disconnect_app():
            self.transport.close()
            return
        self.transport.write(refusal.answer())
        if lingering:
            self._linger()
        else:
            self.transport.close()

    def close(self) -> None:
        """Close the connection behind an answer: at once, or, where the request is still coming, once the client has
        had time to read it. A connection that is closed with bytes unread takes the answer away.
        """
        if self._in_head or self._refused:
            self.transport.close()
            return
        self._refused = True
        self._stop_timer()
        self._linger()

    def _linger(self) -> None:
        self.flow.resume_reading()
        with suppress(OSError, NotImplementedError, RuntimeError):
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _disconnect_app(self) -> bool:
        """Tell who works on a request that its client is not heard any more; says whether it can still be answered."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        cycle.disconnected = True
        cycle.message_event.set()
        return not cycle.response_started


def uvicorn_options(config: Config, bodies: BodyBudget) -> dict[str, Any]:
    """How uvicorn is to speak HTTP and WebSocket. A longer frame than a body may be closes the connection with code
    1009. Nothing is compressed: the frames are small, and their sizes would tell what the padding hides.

    Args:
        bodies: the application's budget, which messages on WebSockets share.
    """
    possible = room_for(descriptors(), config.upstream_connections_max)
    total = min(possible, config.connections_max or possible)
    peers = Peers(total, config.connections_per_address_max or max(1, total // 2))
    return {
        "http": partial(Protocol, peers=peers, bodies=bodies),
        "timeout_keep_alive": config.keep_alive_s,
        "ws": BoundedWebSocket,
        "ws_max_size": config.body_bytes_max,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": SILENT_S,
        "ws_per_message_deflate": False,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
    }
