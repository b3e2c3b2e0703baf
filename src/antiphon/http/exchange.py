"""One HTTP request and its answer. Errors take the documented envelope here, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Message, Receive, Scope, Send

from antiphon.access.keyring import Caller
from antiphon.engine import Engine
from antiphon.http.body import BodyShare, decode_json
from antiphon.http.encoding import Unpacking, unpack
from antiphon.http.monitor import ConnectionMonitor
from antiphon.http.profile import choose_profile
from antiphon.wire.errors import ApiError, BodyTooLarge, ServerError, Unavailable
from antiphon.wire.files import body_of

log = logging.getLogger("antiphon.http.app")
_encode = msgspec.json.Encoder().encode


T = TypeVar("T")
_IGNORED: Final = "x-antiphon-ignored"
_FORM_BYTES: Final = 2 << 20
"""What stands around the file in a form, at most."""
GONE: Final = 499
"""The status of a request whose client left, or took nothing, before its answer was whole."""


class ClientDisconnected(Exception):
    """The client closed its connection before the answer was complete."""


class Exchange:
    """A request on its way through a handler.

    Attributes:
        request_id: ``req_…``, sent as ``x-request-id`` and named in the log.
        params: what the path held, by name.
        headers: extra headers of the answer.
        started: whether the answer's head has been sent.
        profile: the form of the API that the client reads.
        project: whom the request acts for; the project of what it stores, and of what it can see.
        key_id: the key it came with; empty without one.
        monitor: what looks after it, and after its stream.
        share: what its body takes of the budget for bodies.
        failed: whether an error was answered, in the middle of a stream too.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        engine: Engine,
        monitor: ConnectionMonitor,
        params: Mapping[str, str],
    ) -> None:
        self.scope = scope
        self.engine = engine
        self.monitor = monitor
        self.params = params
        self.request_id = engine.ids("req")
        self.headers: dict[str, str] = {}
        self.started = False
        self.status = 0
        self.failed = False
        self.share: BodyShare | None = None
        self._known_body: bytes | None = None
        self.project = ""
        # Of several of one name, the first.
        self._headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))
        self.profile = choose_profile(self._headers, engine.config.profile)
        self.key_id = ""
        self._abandoned = False
        self._work: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._receive = receive
        self._send = send

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query string's pairs, in order."""
        return parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)

    @property
    def caller(self) -> Caller:
        """Whom the request acts for, and with which key."""
        return Caller(self.project, self.key_id)

    def header(self, name: bytes) -> str | None:
        """The request's first header of that name (lower case); None without one."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def json(self, *, optional: bool = False) -> Any:
        """The body, decoded; where it is ``optional``, one that is empty says nothing.

        Raises:
            BodyTooLarge: over ``body_bytes_max``.
            InvalidRequest: not JSON, or too many values.
            Unavailable: the budget that all bodies share is used up.
        """
        body = await self.body()
        return {} if optional and not body else decode_json(body, self.share)

    async def read(self, kind: type[T], *, optional: bool = False, keep_null: Sequence[str] = ()) -> T:
        """The body as one of our structs; what is ignored of it is named. See ``json`` and ``body_of``.

        Raises:
            ApiError: see there.
        """
        body = await self.json(optional=optional)
        read, ignored = body_of(body, kind, strict=self.engine.config.strict, keep_null=keep_null)
        self.name_ignored(ignored)
        return read

    async def body(self) -> bytes:
        """The body, as it came; to be asked for once.

        Raises:
            BodyTooLarge: over ``body_bytes_max``, also when it is unpacked.
            Unavailable: the budget that all bodies share is used up.
            UnsupportedEncoding, InvalidRequest: it comes in an encoding that cannot be read.
        """
        if self._known_body is not None:
            return self._known_body
        bytes_max = self.engine.config.body_bytes_max
        chunks: list[bytes] = []
        try:
            if self.share is not None:
                self.share.expect(self.header(b"content-length"))
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                chunks.append(message.get("body", b""))
                if self.share is not None:
                    self.share.take(len(chunks[-1]))
                if not message.get("more_body"):
                    break
        except (BodyTooLarge, Unavailable):
            # The rest is not read; the connection cannot be used again.
            self.headers["connection"] = "close"
            raise
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = self._encoding
        return self._unpack(body, encoding, bytes_max) if encoding else body

    def _unpack(self, body: bytes, encoding: str, bytes_max: int) -> bytes:
        whole = unpack(body, encoding, bytes_max)
        if self.share is not None and len(whole) > len(body):
            self.share.take(len(whole) - len(body))
        return whole

    @property
    def _encoding(self) -> str:
        """How the body is packed, first to last; said in one header or in several."""
        return ", ".join(
            value.decode("latin-1") for name, value in self.scope["headers"] if name == b"content-encoding"
        )

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, for one that is too large to be held; whoever reads it bounds it, too.

        Raises:
            UnsupportedEncoding, InvalidRequest: it comes in an encoding that cannot be read.
            BodyTooLarge: it is larger than a file when it is unpacked.
        """
        unpacking = Unpacking(self._encoding, self.engine.config.file_bytes_max + _FORM_BYTES)
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            for piece in unpacking.feed(message.get("body", b"")):
                if piece:
                    yield piece
            if not message.get("more_body"):
                unpacking.end()
                return

    def while_connected(self) -> Self:
        """A context that is cancelled when the client disconnects; ``watch`` is called when the work takes long.

        Raises:
            ClientDisconnected: it disconnected; the work inside has been cancelled.
        """
        return self

    def __enter__(self) -> None:
        self._work = asyncio.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        work, self._work = self._work, None
        left = self._abandoned
        if self._watch is not None:
            left = left or self._watch.done()
            self._watch.cancel()
        if left and work is not None and isinstance(error, asyncio.CancelledError):
            work.uncancel()
            raise ClientDisconnected from None

    def name_ignored(self, paths: Sequence[str]) -> None:
        """Tell in a header what of the request is ignored, beside what was told already."""
        if paths:
            given = self.headers.get(_IGNORED)
            self.headers[_IGNORED] = ", ".join([given, *paths] if given else paths)

    def watch(self) -> None:
        """Cancel the work under ``while_connected`` once the client leaves. Harmless when called again."""
        if self._watch is None and self._work is not None:
            self._watch = asyncio.create_task(self._await_disconnect(self._work))

    def abandon(self) -> None:
        """Treat a client that reads nothing as one that disconnected. Its connection is dropped."""
        if self._work is not None and not self._abandoned:
            self._abandoned = True
            self._work.cancel()

    async def _await_disconnect(self, work: asyncio.Task[Any]) -> None:
        message: Message = {}
        while message.get("type") != "http.disconnect":
            message = await self._receive()
        work.cancel()

    def duplicate(self, body: bytes, send: Send) -> Exchange:
        """The same request, whose body has been read, answered to ``send``; its client never disconnects. Whoever makes
        one gives back its share.
        """

        async def receive() -> Message:
            return await asyncio.get_running_loop().create_future()

        other = Exchange(self.scope, receive, send, self.engine, self.monitor, self.params)
        other._known_body = body
        other.share = self.share and self.share.another()
        other.request_id, other.project, other.key_id = self.request_id, self.project, self.key_id
        return other

    async def relay(self, message: Message) -> None:
        """Send on a message of a duplicate, under this request's id and with its extra headers."""
        if message["type"] == "http.response.start":
            own = {"x-request-id": self.request_id, **self.headers}
            pairs = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in own.items()]
            kept = [pair for pair in message["headers"] if pair[0].decode("latin-1") not in own]
            message = {**message, "headers": [*kept, *pairs]}
            self.started, self.status = True, message["status"]
        await self._send(message)

    def start(self, status: int, content_type: str, length: int | None = None) -> Awaitable[None]:
        """Send the answer's head. ``length`` in bytes where it is known."""
        headers = {"content-type": content_type, "x-request-id": self.request_id, **self.headers}
        if length is not None:
            headers["content-length"] = str(length)
        self.started, self.status = True, status
        pairs: Sequence[tuple[bytes, bytes]] = [
            (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()
        ]
        return self._send({"type": "http.response.start", "status": status, "headers": pairs})

    def write(self, body: bytes, *, more: bool = False) -> Awaitable[None]:
        """Send bytes of the answer's body; waits while the client is slow."""
        return self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def reply(self, body: object, status: int = 200) -> None:
        """Answer with JSON."""
        data = _encode(body)
        await self.start(status, "application/json", len(data))
        await self.write(data)

    def write_json(self, body: object, *, more: bool = False) -> Awaitable[None]:
        """Send JSON as the rest of an answer that has begun, or as a part of it."""
        return self.write(_encode(body), more=more)

    async def fail(self, error: ApiError) -> None:
        """Answer with an error in the documented envelope, unless the answer has begun."""
        self.log_error(error)
        if self.started:
            return
        self.headers |= error.headers
        if error.status in (409, 500) or (error.status > 500 and error.status not in (502, 503, 504)):
            # The official clients try these again twice; nothing would be different the next time.
            self.headers["x-should-retry"] = "false"
        with suppress(OSError):
            await self.reply({"error": self.profile.error(error.body(), error.status)}, error.status)

    def log_error(self, error: ApiError) -> None:
        """Log the error under the request's id, without its public text: that may quote the answer."""
        self.failed = True
        code = error.code or error.type
        self.engine.meter.errors.add(1, code)
        if error.internal or error.status >= 500:
            cause = error.__cause__ if isinstance(error, ServerError) else None
            kind = type(error).__name__
            log.error("%d %s %s %s", error.status, kind, code, error.internal, exc_info=cause)
