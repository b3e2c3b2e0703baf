"""A fake model server on a real socket: it plays byte for byte what a test wrote down, and notes what it was
asked.

    async with Upstream() as upstream:
        upstream.play(sse(text("Hel"), text("lo"), finish()))
        model = ChatModel(ChatConfig(base_url=upstream.url, model="any"))
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec

from antiphon.wire import Json

Step: TypeAlias = bytes | asyncio.Event | Literal["hang", "cut"]
"""``bytes`` are one write and one HTTP chunk; an event is waited for; ``hang`` stays silent until the client
leaves; ``cut`` drops the connection there and then."""

_HEAD_BYTES_MAX: Final = 64 * 1024
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. ``steps`` make its body; ``status`` 0 drops the connection before any answer."""

    steps: tuple[Step, ...] = ()
    status: int = 200
    headers: Mapping[str, str] = {}
    content_type: str = "text/event-stream"


class Asked(msgspec.Struct):
    """One request.

    Attributes:
        path: the request's target, such as ``/v1/chat/completions``.
        headers: names in lower case.
        body: the raw body.
        connection: number of the connection it came on, from 0.
        left: set once its connection is gone before the answer was complete.
        answered: set once the answer is complete.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    left: asyncio.Event
    answered: asyncio.Event

    @property
    def json(self) -> Json:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


def delta(**fields: Any) -> Json:
    """A chunk with one choice that says ``fields``."""
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def text(content: str) -> Json:
    """A chunk of answer text."""
    return delta(content=content)


def finish(reason: str = "stop", usage: Json | None = None) -> Json:
    """The chunk that ends the answer, with ``usage`` in it when given."""
    chunk: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return chunk | ({"usage": usage} if usage else {})


def usage(input_tokens: int, output_tokens: int, **details: Json) -> Json:
    """The chunk with the token counts and no choices."""
    return {
        "choices": [],
        "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, **details},
    }


def frames(*chunks: Json, done: bool = True) -> bytes:
    """Chunks as the bytes of a stream of events."""
    whole = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)
    return whole + b"data: [DONE]\n\n" if done else whole


def sse(*chunks: Json, done: bool = True) -> Answer:
    """A stream that writes each chunk by itself."""
    last = (b"data: [DONE]\n\n",) if done else ()
    return Answer(steps=(*(frames(chunk, done=False) for chunk in chunks), *last))


def split(data: bytes, size: int) -> tuple[bytes, ...]:
    """``data`` in pieces of ``size`` bytes, wherever that cuts."""
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def plain(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that is one JSON document: a completion without a stream, or an error."""
    body = msgspec.json.encode(value)
    return Answer(steps=(body,), status=status, headers=headers or {}, content_type="application/json")


def failure(status: int, message: str, **fields: Any) -> Answer:
    """An error in the usual envelope."""
    return plain({"error": {"message": message, **fields}}, status)


class Upstream:
    """The server; an async context manager.

    Attributes:
        asked: the requests, oldest first.
        fixed: answers that a path gets each time, such as ``/v1/models``, or what makes one of each request; all others
            are played in their turn.
        reached: set once there was a request.
        connections: how many were opened.
    """

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.asked: list[Asked] = []
        self.fixed: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self.reached = asyncio.Event()
        self.connections = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen: on a free port at first, on the same one after ``stop``."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=_HEAD_BYTES_MAX)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: every connection is reset, and nobody listens any more."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def url(self) -> str:
        """The base URL, with ``/v1``."""
        assert self._port, "not started"
        return f"http://127.0.0.1:{self._port}/v1"

    def play(self, *answers: Answer) -> None:
        """Queues answers, one for each request to come. A request without one is answered 500."""
        self._answers.extend(answers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while asked := await _request(reader, number):
                self.asked.append(asked)
                self.reached.set()
                await self._answer(self._next(asked), asked, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._serving.discard(task)

    def _next(self, asked: Asked) -> Answer:
        fixed = self.fixed.get(asked.path)
        if fixed is not None:
            return fixed if isinstance(fixed, Answer) else fixed(asked)
        return self._answers.popleft() if self._answers else failure(500, "nothing to play")

    async def _answer(
        self, answer: Answer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if answer.status == 0:
            raise ConnectionResetError
        gone = asyncio.create_task(_wait_for_disconnect(reader))
        playing = asyncio.create_task(_play(answer, writer))
        try:
            await asyncio.wait((gone, playing), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                asked.left.set()
                raise ConnectionResetError
            playing.result()
            asked.answered.set()
        finally:
            for task in (gone, playing):
                task.cancel()
            await asyncio.gather(gone, playing, return_exceptions=True)


async def _wait_for_disconnect(reader: asyncio.StreamReader) -> None:
    """Returns when the client has left. It sends nothing while it is being answered, so nothing of it is read here."""
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110  (to read would be to take the start of the next request)
        await asyncio.sleep(0.001)


async def _request(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await _body(reader, headers)
    return Asked(first.split(" ")[1], headers, body, connection, asyncio.Event(), asyncio.Event())


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    out = b""
    while size := int(await reader.readline(), 16):
        out += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return out


async def _play(answer: Answer, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(answer))
    for step in answer.steps:
        await _do(step, writer)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _do(step: Step, writer: asyncio.StreamWriter) -> None:
    match step:
        case "hang":
            await asyncio.Event().wait()
        case "cut":
            raise ConnectionResetError
        case asyncio.Event():
            await step.wait()
        case _:
            writer.write(b"%x\r\n%b\r\n" % (len(step), step))
            await writer.drain()
            await asyncio.sleep(0)  # a turn for the client, so that writes are likely to be read one by one


def _head(answer: Answer) -> bytes:
    lines: Sequence[str] = (
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Other')}",
        f"content-type: {answer.content_type}",
        "transfer-encoding: chunked",
        *_header_lines(answer.headers.items()),
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _header_lines(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {value}" for name, value in pairs]
