"""``/v1/responses`` over a WebSocket: responses one after another in each lane, and the lanes side by side.

A lane is what frames of one ``stream_id`` share; those without one share a lane too. The connection remembers the
latest response of each lane, so that a response that is not stored can be continued on it.

Source: the official guide to WebSocket mode, and the Open Responses specification of 2026-04-24.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, Final, cast

import msgspec

from antiphon.engine.memory import Memory
from antiphon.engine.room import take_from
from antiphon.http.auth import reauthenticate
from antiphon.http.body import BodyShare, decode_json
from antiphon.http.exchange import ClientDisconnected, Exchange
from antiphon.http.profile import OPEN_RESPONSES, Profile
from antiphon.http.websocket.socket import SocketStream, WebSocketExchange
from antiphon.log import Reader, encode
from antiphon.run import Run, to_api_error
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, RateLimited
from antiphon.wire.response import Response

RUNNING_MAX: Final = 16
"""Responses that run at once on a connection; the next wait for one of them to end."""
NAMED_MAX: Final = 32
WAITING_MAX: Final = 64
"""Frames that wait on a connection for their lane; together they may take as much room as one body."""
MEMORY_BYTES_MAX: Final = 64 * 1024 * 1024

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_FRAME_ONLY: Final = {"type", "stream_id", "generate", "stream", "background"}
_HTTP_ONLY: Final = ("stream", "stream_options", "background")


async def converse(exchange: Exchange) -> None:
    """``/v1/responses`` as a WebSocket: ``response.create`` frames in, the events of their responses out."""
    assert isinstance(exchange, WebSocketExchange), "the table of routes has this under the method of upgrades"
    open_sockets = sum(isinstance(other, WebSocketExchange) for other in exchange.monitor.exchanges)
    if open_sockets > exchange.engine.config.websockets_max:
        raise RateLimited(
            "Too many WebSocket connections are open on this server. Try again when some have closed.",
            code="websocket_connections_limit_reached",
            headers={"retry-after": "10"},
        )
    await exchange.accept()
    await Connection(exchange).run()


class Create(msgspec.Struct, frozen=True):
    """A ``response.create`` frame: the body of the request, and what stands beside it."""

    body: Json
    generate: bool
    share: BodyShare


class Lane(msgspec.Struct):
    """The frames of one ``stream_id`` that wait for their turn."""

    stream_id: str | None
    waiting: deque[Create]
    busy: bool = False


class Connection:
    """One client's lanes."""

    def __init__(self, socket: WebSocketExchange) -> None:
        self._socket = socket
        self._lanes: dict[str | None, Lane] = {}
        self._room = asyncio.Semaphore(RUNNING_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory = Memory(MEMORY_BYTES_MAX, socket.engine.memories)

    async def run(self) -> None:
        """Take frames until the client leaves or the connection's time is over; then whatever runs is stopped."""
        life_s = self._socket.engine.config.websocket_lifetime_s
        try:
            async with asyncio.timeout(life_s):
                while True:
                    await self._take(await self._socket.receive_text())
        except ClientDisconnected:
            pass
        except TimeoutError:
            await self._socket.send_error(_lifetime_over(life_s))
        finally:
            await self._stop()
        await self._socket.close()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for create in lane.waiting:
                create.share.give_back()
        self._memory.close()

    # --- frames in

    async def _take(self, text: str | None) -> None:
        stream_id: str | None = None
        assert self._socket.share is not None, "every request has a share"
        share = self._socket.share.another()
        try:
            frame = _frame(text, share)
            if frame["type"] == "response.steer":
                share.give_back()
                await self._socket.send_text(encode(_refuse_steering(frame)))
                return
            stream_id = _stream_id(frame)
            self._enqueue(stream_id, _create(frame, share, self._socket.profile))
        except ApiError as error:
            share.give_back()
            await self._socket.send_error(error, stream_id)

    def _enqueue(self, stream_id: str | None, create: Create) -> None:
        lane = self._lane(stream_id)
        waiting = [other.share.size for lane in self._lanes.values() for other in lane.waiting]
        bytes_max = self._socket.engine.config.body_bytes_max
        if len(waiting) >= WAITING_MAX or (waiting and sum(waiting) + create.share.size > bytes_max):
            raise RateLimited(
                "Too many requests wait on this WebSocket connection. Try again when a response has ended.",
                code="websocket_queue_full",
            )
        lane.waiting.append(create)
        if not lane.busy:
            lane.busy = True
            task = asyncio.create_task(self._serve(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _lane(self, stream_id: str | None) -> Lane:
        if stream_id is not None and stream_id not in self._lanes and len(self._lanes.keys() - {None}) >= NAMED_MAX:
            raise InvalidRequest(
                f"This WebSocket connection has reached its maximum number of distinct stream IDs ({NAMED_MAX}). "
                "Reuse an existing stream_id or open a new WebSocket connection.",
                code="websocket_stream_limit_reached",
                param="stream_id",
            )
        return self._lanes.setdefault(stream_id, Lane(stream_id, deque()))

    # --- responses out

    async def _serve(self, lane: Lane) -> None:
        while lane.waiting:
            async with self._room:
                await self._answer(lane.stream_id, lane.waiting.popleft())
        lane.busy = False

    async def _answer(self, stream_id: str | None, create: Create) -> None:
        socket, engine = self._socket, self._socket.engine
        sink = SocketSink(SocketStream(socket, stream_id), socket, stream_id)
        take_from(create.share.take_more)
        try:
            reauthenticate(socket.scope, socket.key_id, engine.keyring)
            lane = self._memory.lane(stream_id)
            await engine.responses.respond(create.body, socket.caller, sink, memory=lane, generate=create.generate)
        except Exception as cause:
            await socket.send_error(to_api_error(cause), stream_id)
        finally:
            create.share.give_back()
            sink.drop()


class SocketSink:
    """The answer to a frame; see ``Sink``. What HTTP alone can ask for was refused before."""

    def __init__(self, log: SocketStream, socket: WebSocketExchange, stream_id: str | None) -> None:
        self._log = log
        self._socket = socket
        self._stream_id = stream_id

    def accept(self, run: Run) -> None:
        """Take over what the request says of its stream."""
        run.timer.request_id = self._socket.request_id
        self._log.obfuscate = run.plan.obfuscate

    def stream(self) -> SocketStream:
        """Answer with frames."""
        return self._log

    async def end(self, error: ApiError | None) -> None:
        """A failure of which the client has seen the beginning is told in the stream, another by a frame of its own."""
        if error is None:
            return
        if not self._log.shown:
            await self._socket.send_error(error, self._stream_id)
            return
        self._socket.log_error(error)
        await self._log.flush()

    async def send(self, response: Response) -> None:
        """Never asked for: every frame is answered with a stream."""
        raise AssertionError("a frame's response is streamed")

    async def follow(self, reader: Reader) -> None:
        """Never asked for: no frame's response runs in the background."""
        raise AssertionError("a frame's response is not in the background")

    def drop(self) -> None:
        """Nothing more is sent."""
        self._log.drop()


# --- what a frame may hold -------------------------------------------------------------------------------------------


def _frame(text: str | None, share: BodyShare) -> Json:
    if text is None:
        raise InvalidRequest("Expected a text frame that holds one JSON object, but got a binary one.")
    share.take(len(text))
    frame: Any = decode_json(text, share)
    if not isinstance(frame, dict):
        raise InvalidRequest("Invalid frame: expected a JSON object.", code="invalid_type")
    known = cast(Json, frame)
    if known.get("type") not in ("response.create", "response.steer"):
        raise InvalidRequest(
            f"Invalid value: '{known.get('type')}'. Supported values are: 'response.create' and 'response.steer'.",
            code="invalid_value",
            param="type",
        )
    return known


def _stream_id(frame: Json) -> str | None:
    stream_id = frame.get("stream_id")
    if stream_id is not None and not (isinstance(stream_id, str) and _STREAM_ID.fullmatch(stream_id)):
        raise InvalidRequest(
            "The 'stream_id' field must be a non-empty string with at most 256 characters and may only contain "
            "letters, numbers, underscores, hyphens, and periods.",
            code="invalid_stream_id",
            param="stream_id",
        )
    return stream_id


def _create(frame: Json, share: BodyShare, profile: Profile) -> Create:
    """The request in a frame. ``stream`` goes without saying on a socket; Open Responses forbids to say it."""
    unwelcome = _HTTP_ONLY if profile is OPEN_RESPONSES else ("background",)
    for name in unwelcome:
        if frame.get(name) not in (None, False):
            text = f"Unsupported parameter: '{name}' is not supported over WebSocket."
            raise InvalidRequest(text, code="unsupported_parameter", param=name)
    generate = frame.get("generate")
    if not isinstance(generate, bool | None):
        raise InvalidRequest("Invalid type for 'generate': expected a boolean.", code="invalid_type", param="generate")
    body = {name: value for name, value in frame.items() if name not in _FRAME_ONLY}
    return Create(body | {"stream": True}, generate is not False, share)


def _refuse_steering(frame: Json) -> Json:
    """The answer to ``response.steer``, which hands the input back."""
    return {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "This server does not steer responses. Send the input when the response has ended.",
        },
        "steer": {name: frame.get(name, "") for name in ("previous_response_id", "input")},
    }


def _lifetime_over(life_s: float) -> InvalidRequest:
    return InvalidRequest(
        f"Responses websocket connection limit reached ({life_s / 60:g} minutes). "
        "Create a new websocket connection to continue.",
        code="websocket_connection_limit_reached",
    )
