"""A fake model server that speaks chat-completions SSE as fast as the machine allows.

Promise: the model's name says how many deltas a stream has (`deltas-200`); all bytes are encoded once per
name; every SSE frame is one HTTP chunk and one write to the socket. Streams advance in step, one frame
each per turn of the event loop, as an engine with continuous batching does. Only what a client of such a
server sends is understood: HTTP/1.1, keep-alive, bodies with a Content-Length.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import re
from collections.abc import Iterator
from typing import cast

import uvloop

TEXT = " word"
"""The text of every delta."""
DELTAS_MAX = 100_000
"""Longest stream that is encoded, in deltas."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model"\s*:\s*"deltas-(\d{1,6})"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')

_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def _chunk(payload: str) -> bytes:
    """One SSE frame in one HTTP chunk."""
    frame = f"data: {payload}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def _payload(deltas: int, choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> str:
    """The JSON of one `chat.completion.chunk`."""
    chunk: dict[str, object] = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": f"deltas-{deltas}",
        "choices": choices,
    }
    if usage is not None:
        chunk["usage"] = usage
    return json.dumps(chunk, separators=(",", ":"))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(deltas: int) -> dict[str, int]:
    return {"prompt_tokens": 8, "completion_tokens": deltas, "total_tokens": deltas + 8}


@functools.cache
def stream_writes(deltas: int) -> tuple[bytes, ...]:
    """The writes of one stream: `deltas` frames of text, then finish, usage and `[DONE]`."""
    first = _chunk(_payload(deltas, [_choice({"role": "assistant", "content": TEXT})]))
    other = _chunk(_payload(deltas, [_choice({"content": TEXT})]))
    finish = _chunk(_payload(deltas, [_choice({}, "stop")]))
    usage = _chunk(_payload(deltas, [], _usage(deltas)))
    done = _chunk("[DONE]") + b"0\r\n\r\n"
    return (_SSE_HEAD + first, *[other] * (deltas - 1), finish, usage, done)


def _json_answer(status: str, value: object) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@functools.cache
def completion(deltas: int) -> bytes:
    """The whole answer to a request without `stream`."""
    message = {"role": "assistant", "content": TEXT * deltas}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    value = json.loads(_payload(deltas, [choice], _usage(deltas)))
    return _json_answer("200 OK", value | {"object": "chat.completion"})


def _refusal(status: str, message: str) -> bytes:
    return _json_answer(status, {"error": {"message": message, "type": "invalid_request_error"}})


_MODELS = _json_answer(
    "200 OK",
    {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1_767_225_600, "owned_by": "bench"}
            for name in ("deltas-1", "deltas-200", "deltas-20000")
        ],
    },
)
_NOT_FOUND = _refusal("404 Not Found", "no such route")
_NO_MODEL = _refusal("404 Not Found", "models are named deltas-N")


def answer(head: bytes, body: bytes) -> tuple[bytes, ...]:
    """The writes that answer one request; more than one only for a stream."""
    if head.startswith(b"GET /v1/models "):
        return (_MODELS,)
    if not head.startswith(b"POST /v1/chat/completions "):
        return (_NOT_FOUND,)
    model = _MODEL.search(body)
    deltas = int(model[1]) if model else 0
    if not 0 < deltas <= DELTAS_MAX:
        return (_NO_MODEL,)
    return stream_writes(deltas) if _STREAM.search(body) else (completion(deltas),)


class Ticker:
    """Advances all streams in step: each turn of the event loop, one write for each."""

    def __init__(self) -> None:
        self._streams: dict[Connection, Iterator[bytes]] = {}
        self._ticking = False

    def start(self, connection: Connection, writes: tuple[bytes, ...]) -> None:
        self._streams[connection] = iter(writes)
        if not self._ticking:
            self._tick()

    def stop(self, connection: Connection) -> None:
        self._streams.pop(connection, None)

    def _tick(self) -> None:
        for connection, writes in list(self._streams.items()):
            data = next(writes, None)
            if data is None:
                del self._streams[connection]
            else:
                connection.send(data)
        self._ticking = bool(self._streams)
        if self._ticking:
            asyncio.get_running_loop().call_soon(self._tick)


class Connection(asyncio.Protocol):
    """One keep-alive connection; a request that comes before its forerunner is answered waits."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ticker.stop(self)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            self._received = received
            return
        length = _CONTENT_LENGTH.search(received, 0, end)
        total = end + (int(length[1]) if length else 0)
        if len(received) < total:
            self._received = received
            return
        self._received = received[total:]
        self._ticker.start(self, answer(received[:end], received[end:total]))

    def send(self, data: bytes) -> None:
        """Write at once, past the event loop's own gathering of writes; fall back to it when the socket
        is full.
        """
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._transport.write(data)
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._transport.abort()
            return
        if sent < len(data):
            self._transport.write(data[sent:])


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until cancelled."""
    ticker = Ticker()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(ticker), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
