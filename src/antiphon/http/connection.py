"""uvicorn's protocol, with what it leaves open settled: how an answer without a length ends on HTTP/1.0."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon.config import Config
from antiphon.http.websocket.socket import PING_S, SILENT_S


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


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    def on_headers_complete(self) -> None:
        """Also: a client of HTTP/1.0 knows no chunks; what has no length ends with the connection."""
        super().on_headers_complete()
        # The attribute is missing where the request upgrades the connection.
        cycle: Any = getattr(self, "cycle", None)
        if cycle is not None and cycle.scope is self.scope and self.scope["http_version"] == "1.0":
            cycle.keep_alive = cycle.chunked_encoding = False
            cycle.expected_content_length = _AnyLength()


def uvicorn_options(config: Config) -> dict[str, Any]:
    """How uvicorn is to speak HTTP and WebSocket. A longer frame than a body may be closes the connection with code
    1009. Nothing is compressed: the frames are small, and their sizes would tell what the padding hides.
    """
    return {
        "http": Protocol,
        "timeout_keep_alive": config.keep_alive_s,
        "ws": "websockets-sansio",
        "ws_max_size": config.body_bytes_max,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": SILENT_S,
        "ws_per_message_deflate": False,
    }
