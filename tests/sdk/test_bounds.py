"""What a stranger sends to the edge, byte by byte: it is refused in time, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.config import Config
from antiphon.http import body, connection
from antiphon.http.peers import LINGERING_MAX, Peers
from antiphon.http.websocket import protocol
from antiphon.models.scripted import ScriptedModel
from antiphon.net.descriptors import room_for
from antiphon.testing.serving import OneModel, serving
from antiphon.wire import counting
from antiphon.wire.errors import InvalidRequest, Unavailable

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
POST = b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[int]:
    async with serving(ScriptedModel("Hi.", again=True), config=Config(**settings)) as url:
        yield int(url.split(":")[2].split("/")[0])


async def told(port: int, *pieces: bytes, timeout_s: float = 10) -> bytes:
    """All that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(-1), timeout_s)
    finally:
        writer.close()


def envelope(answer: bytes) -> tuple[int, str]:
    """Status and code of the last answer."""
    head, _, data = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    error = json.loads(data)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["code"]


async def is_served(port: int) -> bool:
    async with aiohttp.request("GET", f"http://127.0.0.1:{port}/health") as answer:
        return answer.status == 200


LONG = b"a" * 200_000
REFUSED = {
    "no HTTP": ([b"hello\r\n\r\n"], (400, "invalid_http")),
    "a control character": ([HEAD + b"X: a\x01\r\n\r\n"], (400, "invalid_http")),
    "a long header": ([HEAD + b"X: " + LONG], (431, "headers_too_large")),
    "a whole long header": ([HEAD + b"X: " + LONG + b"\r\n\r\n"], (431, "headers_too_large")),
    "long headers": (
        [HEAD + b"".join(b"X%d: %s\r\n" % (i, b"a" * 900) for i in range(90))],
        (431, "headers_too_large"),
    ),
    "many headers": ([HEAD + b"X: a\r\n" * 200], (431, "headers_too_large")),
    "a long URL": ([b"GET /" + b"a" * 20_000], (414, "url_too_long")),
    "a long query": ([b"GET /health?" + b"a" * 20_000 + b" HTTP/1.1\r\n"], (414, "url_too_long")),
    "no handshake": ([UPGRADE.replace(b"-Key", b"-Lock") + b"\r\n"], (400, "invalid_handshake")),
    "another WebSocket": ([UPGRADE.replace(b"13", b"12") + b"\r\n"], (400, "invalid_handshake")),
    "a line that no WebSocket reads": ([UPGRADE + b"X: " + b"y" * 9000 + b"\r\n\r\n"], (431, "headers_too_large")),
    "long trailers": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"0\r\nX: " + LONG],
        (431, "headers_too_large"),
    ),
    "a long extension of a chunk": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n", b"2;" + LONG],
        (431, "headers_too_large"),
    ),
    "a body that says it is too long": (
        [POST + b"Expect: 100-continue\r\nContent-Length: 99000000000\r\n\r\n"],
        (413, "request_too_large"),
    ),
}


@pytest.mark.parametrize(("pieces", "refusal"), REFUSED.values(), ids=REFUSED)
async def test_what_is_too_much_is_refused_before_it_is_whole(pieces: list[bytes], refusal: tuple[int, str]) -> None:
    async with served() as port:
        assert envelope(await told(port, *pieces)) == refusal
        assert await is_served(port)


async def test_who_goes_on_sending_can_still_read_why() -> None:
    async with served() as port:
        answer = await told(port, HEAD + b"X: ", *[b"a" * (1 << 20)] * 16)
        assert envelope(answer) == (431, "headers_too_large")


SLOW = {
    "half a head": HEAD + b"X: ",
    "half a body": POST + b"Content-Length: 1000\r\n\r\n{",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "half a second head": HEAD + b"\r\n" + HEAD + b"X: ",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
async def test_who_is_too_slow_is_told_so_and_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    monkeypatch.setattr(connection, "BODY_LOOK_S", 0.3)
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    async with served() as port:
        assert envelope(await told(port, sent)) == (408, "request_timeout")
        assert await is_served(port)


async def test_who_says_nothing_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    async with served() as port:
        assert await told(port) == b""


async def test_a_slow_body_that_comes_steadily_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_LOOK_S", 0.2)
    monkeypatch.setattr(connection, "BODY_BYTES_PER_LOOK", 10)
    data = json.dumps({"model": "m", "input": "x" * 400}).encode()
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), 20):
            writer.write(data[start : start + 20])
            await writer.drain()
            await asyncio.sleep(0.03)
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_idle_connections_make_room_and_busy_ones_do_not() -> None:
    async with served(connections_max=4) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        assert await is_served(port)
        assert await idle[0][0].read(1) == b""  # the oldest went
        busy = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        for _, writer in busy:
            writer.write(POST + b"Content-Length: 10000\r\n\r\n{")
            await writer.drain()
        await asyncio.sleep(0.2)
        assert envelope(await told(port, HEAD)) == (503, "too_many_connections")
        for _, writer in (*idle, *busy):
            writer.close()


class Someone:
    def __init__(self, address: str) -> None:
        self.address = address
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_one_address_does_not_take_all_the_room() -> None:
    peers = Peers(total_max=100, per_address_max=2)
    first, second, third = (Someone("192.0.2.1") for _ in range(3))
    assert peers.enter(first) and peers.enter(second) and peers.enter(third)
    assert (first.dropped, second.dropped) == (True, False)
    peers.work(second)
    peers.work(third)
    assert not peers.enter(Someone("192.0.2.1"))
    assert peers.enter(Someone("192.0.2.2"))
    assert sum(peers.may_linger(Someone("192.0.2.1")) for _ in range(100)) == LINGERING_MAX
    peers.leave(second)
    assert peers.enter(Someone("192.0.2.1"))
    assert all(peers.enter(Someone("127.0.0.1")) for _ in range(5))


def test_room_is_left_for_what_the_server_opens_itself() -> None:
    assert room_for(1024, 1000) == 1024 - 256 - 160
    assert room_for(65_536, 1000) == 65_536 - 1000 - 160
    assert room_for(64, 1000) == 32


async def test_all_bodies_together_have_a_bound() -> None:
    whole = json.dumps({"model": "m", "input": "x" * 50_000}).encode()
    async with served(bodies_bytes_max=133_000) as port:
        writers: list[asyncio.StreamWriter] = []
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(POST + b"Content-Length: 60000\r\n\r\n" + b"[" * 45_000)
            await writer.drain()
            writers.append(writer)
        await asyncio.sleep(0.2)
        request = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole
        refused = await told(port, request)
        assert envelope(refused) == (503, "too_many_bodies")
        assert b"retry-after: 2" in refused.lower()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.2)
        for _ in range(5):  # the room is given back
            assert (await told(port, request)).startswith(b"HTTP/1.1 200 ")


def test_one_project_leaves_room_to_others() -> None:
    room = body.BodyBudget(1000)
    first, second, other = (body.BodyShare(room, 1000, project) for project in ("a", "a", "b"))
    first.take(700)
    with pytest.raises(Unavailable):
        second.take(100)
    other.take(250)
    first.give_back()
    second.take(700)


async def test_values_take_room_too_as_long_as_the_request_is_answered() -> None:
    gate = asyncio.Event()
    # A small body of many values, in a member that nobody reads, is kept while the model works.
    many = b'{"model":"m","stream":true,"input":"x","other":[' + b"{}," * 50_000 + b"{}]}"
    request = POST + b"Content-Length: %d\r\n\r\n" % len(many) + many
    async with serving(ScriptedModel([gate, "Hi."], again=True), config=Config(bodies_bytes_max=10_000_000)) as url:
        port = int(url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        async with asyncio.timeout(10):
            await reader.readuntil(b"response.created")
            assert envelope(await told(port, request.replace(b"Host", b"Connection: close\r\nHost"))) == (
                503,
                "too_many_bodies",
            )
            gate.set()
            await reader.readuntil(b"[DONE]")
        writer.close()
        assert b" 200 " in await told(port, request.replace(b"Host", b"Connection: close\r\nHost"))


def test_a_body_holds_not_more_values_than_there_is_memory_for() -> None:
    with pytest.raises(InvalidRequest, match="more than 1000000 values"):
        body.decode_json(b"[" + b"[]," * 1_000_000 + b"[]]")
    text = "[]," * 1_000_000
    assert body.decode_json(json.dumps({"a": text, "b": '\\"' + text}).encode())["a"] == text


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.text(',[]{}"\\a', max_size=5), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_values_are_counted_outside_texts_alone(value: object) -> None:
    text = json.dumps([value, "x"]).encode()

    def marks(value: object) -> int:
        if not isinstance(value, list | dict):
            return 0
        each = list(value.values() if isinstance(value, dict) else value)
        return 1 + max(0, len(each) - 1) + sum(map(marks, each))

    with patch.object(counting, "_EXACT_FROM", -1), patch.object(counting, "_BLOCK_BYTES", 3):
        assert counting.count_values(text) == marks([value, "x"])


async def test_a_packed_body_can_be_sent_again_with_its_key() -> None:
    data = gzip.compress(json.dumps({"model": "m", "input": "x"}).encode())
    head = POST + b"Connection: close\r\nContent-Encoding: gzip\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n"
    async with served() as port:
        assert [(await told(port, head % len(data) + data))[:13] for _ in range(2)] == [b"HTTP/1.1 200 "] * 2


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket, byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return reader, writer


FIRST, NEXT, LAST, PING = 0x01, 0x00, 0x80, 0x89


def frame(kind: int, data: bytes = b"a") -> bytes:
    """A frame, masked with zeros."""
    return bytes([kind, 0x80 | len(data), 0, 0, 0, 0]) + data


@pytest.mark.parametrize("frames", [frame(FIRST) + frame(NEXT) * 20_000, frame(PING) * 300], ids=["fragments", "pings"])
async def test_a_socket_sends_not_more_frames_than_anyone_needs(frames: bytes) -> None:
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(frames)
        async with asyncio.timeout(10):
            answer = await reader.read(-1)
        assert (1008).to_bytes(2, "big") in answer
        writer.close()


async def test_an_answer_that_nobody_reads_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READER_LOOK_S", 0.5)
    body = json.dumps({"model": "m", "input": "x"}).encode()
    async with serving(ScriptedModel("y" * 12_000_000)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        transport = cast(asyncio.ReadTransport, writer.transport)
        transport.pause_reading()
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(2)
        transport.resume_reading()
        came = 0
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while piece := await reader.read(1 << 20):
                    came += len(piece)
        assert came < 12_000_000
        writer.close()


def long_head(length: int) -> bytes:
    """The head of one long text frame."""
    return bytes([0x81, 0x80 | 127]) + length.to_bytes(8, "big") + bytes(4)


async def test_what_arrives_on_sockets_shares_the_room_of_bodies() -> None:
    async with served(bodies_bytes_max=133_000) as port:
        first = await opened(port)
        first[1].write(long_head(90_000) + b"[" * 80_000)
        await first[1].drain()
        second = await opened(port)
        second[1].write(long_head(90_000) + b"[" * 80_000)
        async with asyncio.timeout(10):
            assert (1013).to_bytes(2, "big") in await second[0].read(-1)
        first[1].close()
        third = await opened(port)
        message = b'{"type":"response.create","model":"m","input":"' + b"x" * 60_000 + b'"}'
        for _ in range(4):  # each gives back its room
            third[1].write(long_head(len(message)) + message)
            async with asyncio.timeout(10):
                await third[0].readuntil(b'"type":"response.completed"')
        for _, writer in (second, third):
            writer.close()


async def test_a_frame_holds_not_more_values_than_a_body() -> None:
    message = b'{"type":"response.create","model":"m","input":[' + b"[]," * 1_000_000 + b"1]}"
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(long_head(len(message)) + message)
        async with asyncio.timeout(10):
            await reader.readuntil(b'"code":"too_many_values"')
        writer.close()


async def test_the_rest_of_a_message_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LOOK_S", 0.2)
    async with served() as port:
        for half in (frame(FIRST), frame(FIRST, b"abc")[:-1]):
            reader, writer = await opened(port)
            writer.write(half)
            async with asyncio.timeout(10):
                assert (1008).to_bytes(2, "big") in await reader.read(-1)
            writer.close()


async def test_sockets_count_as_connections() -> None:
    async with served(connections_max=2) as port:
        sockets = [await opened(port) for _ in range(2)]
        assert envelope(await told(port)) == (503, "too_many_connections")
        for reader, writer in sockets:
            writer.close()
            await reader.read(-1)
        assert await is_served(port)


async def test_fragments_and_pings_are_read_as_they_are_meant() -> None:
    message = b'{"type":"response.create","model":"m","input":"x"}'
    async with served() as port:
        reader, writer = await opened(port)
        pieces = [frame(FIRST, message[:1]), *(frame(NEXT, message[i : i + 1]) for i in range(1, len(message) - 1))]
        writer.write(b"".join(pieces) + frame(PING) + frame(LAST, message[-1:]))
        async with asyncio.timeout(10):
            await reader.readuntil(b"response.created")
            await reader.readuntil(b"response.completed")
        writer.close()


class Hanging(OneModel):
    """A roster whose server takes connections and says nothing."""

    async def ready(self) -> bool:
        await asyncio.sleep(60)
        return True


async def test_whether_it_is_ready_is_said_within_a_second() -> None:
    async with (
        serving(roster=Hanging(ScriptedModel())) as url,
        asyncio.timeout(1),
        aiohttp.request("GET", url.replace("/v1", "/readyz")) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "model_not_ready")


ASK = b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n"
FOREIGN = [
    "evil.example",
    "evil.example#@localhost",
    "localhost@evil.example",
    "127.0.0.1\\\\.evil.example",
    "localhost/.evil.example",
    "localhost:80:80",
    "[::1].evil.example",
    "lo calhost",
    "localhost?x",
    "127.0.0.1.evil.example",
]


@pytest.mark.parametrize("name", FOREIGN)
async def test_names_and_origins_are_read_strictly(name: str) -> None:
    async with served() as port:
        for head in (b"Host: " + name.encode(), b"Host: localhost\r\nOrigin: http://" + name.encode()):
            answer = await told(port, ASK + head + b"\r\n\r\n")
            assert envelope(answer)[1] in ("foreign_host", "foreign_origin")
        twice = ASK + b"Host: localhost\r\nHost: " + name.encode() + b"\r\n\r\n"
        assert envelope(await told(port, twice))[0] == 400


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:8484", "127.0.0.1:1", "[::1]:8484", "box", "a.internal"])
async def test_names_of_this_machine_are_answered(name: str) -> None:
    async with served() as port:
        answer = await told(port, ASK + b"Host: " + name.encode() + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_the_document_says_what_is_true() -> None:
    async with served() as port, aiohttp.request("GET", f"http://127.0.0.1:{port}/openapi.json") as answer:
        document = await answer.json()
    page = document["paths"]["/v1/responses"]["get"]["parameters"]
    assert {each["name"]: each["schema"]["type"] for each in page}["limit"] == "integer"
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    stream = document["paths"]["/v1/responses/{response_id}"]["get"]["responses"]["200"]["content"]
    assert set(stream) == {"application/json", "text/event-stream"}
    assert '"additionalProperties": false' not in json.dumps(document)
