"""Clients that leave, and clients that do not read, on real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from scripted_upstream import Answer, Upstream, frames, text

from antiphon.http import sse
from antiphon.models import Delta, Finish, Prompt, Text
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.model import ChatModel
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

GUARD_S = 20
STATM = Path("/proc/self/statm")
PIECE = "x" * 65_536
BRIEF = 16
"""The bound by which the model knows a brief request."""


def request(**more: object) -> bytes:
    body = json.dumps({"model": "m", "input": "x", **more}).encode()
    head = (
        f"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}Connection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def connected(
    url: str, receive_bytes: int | None = None
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = int(url.rpartition(":")[2].removesuffix("/v1"))
    raw = socket.socket()
    if receive_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def until(*conditions: object) -> None:
    """Waits; the guard around it turns waiting for ever into a failure."""
    async with asyncio.timeout(GUARD_S):
        while not all(condition() for condition in conditions):  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("how", ["abort", "close"])
async def test_a_client_that_leaves_stops_the_upstream(stream: bool, how: str) -> None:
    """The connection to the model's server is gone too: that is what stops its work."""
    async with Upstream() as upstream:
        upstream.play(Answer(steps=(frames(text("Hel"), done=False), "hang")))
        model = ChatModel(ChatConfig(base_url=upstream.url, model="m"))
        async with serving(model) as url, connected(url) as (reader, writer):
            writer.write(request(stream=stream))
            if stream:
                await reader.readuntil(b"output_text.delta")
            await until(lambda: upstream.asked)
            assert not upstream.asked[0].left.is_set()
            writer.transport.abort() if how == "abort" else writer.close()
            async with asyncio.timeout(GUARD_S):
                await upstream.asked[0].left.wait()
        await model.close()


async def test_a_client_that_leaves_before_the_model_is_found() -> None:
    """Even then nothing goes on behind its back."""
    model = ScriptedModel([asyncio.Event()])
    async with serving(model) as url, connected(url) as (_, writer):
        writer.write(request())
        await until(lambda: model.samples)
        writer.transport.abort()
        await until(lambda: model.samples[0].left_early)


class Talker(ScriptedModel):
    """Says ``pieces`` pieces of 64 KiB as fast as they are taken, and counts them."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.said = 0
        self.left = asyncio.Event()

    @asynccontextmanager
    async def sample(self, prompt: Prompt) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        brief = prompt.max_output_tokens == BRIEF
        try:
            yield self._say(1 if brief else self.pieces, count=not brief)
        finally:
            if not brief:
                self.left.set()

    async def _say(self, pieces: int, *, count: bool) -> AsyncIterator[Sequence[Delta]]:
        for _ in range(pieces):
            await asyncio.sleep(0)
            self.said += count
            yield (Text(PIECE),)
        yield (Finish(),)


def resident_bytes() -> int:
    """Memory of this process; nothing where there is no Linux to ask."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[1]) * 4096


async def brief_requests(url: str, count: int) -> None:
    for _ in range(count):
        async with connected(url) as (reader, writer):
            writer.write(request(max_output_tokens=BRIEF, store=False))
            assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_a_reader_that_does_not_read_holds_up_itself_alone() -> None:
    """Its model waits, memory stays, others are served; when it reads at last it gets everything."""
    model = Talker(pieces=600)
    async with serving(model) as url, connected(url, receive_bytes=4096) as (reader, writer):
        await brief_requests(url, 5)
        before = resident_bytes()
        writer.write(request(stream=True, store=False, stream_options={"include_obfuscation": False}))
        await until(lambda: model.said > 2)
        await brief_requests(url, 20)
        held = model.said
        await brief_requests(url, 20)
        assert model.said == held, "the model goes on although nobody reads"
        assert held * len(PIECE) < 16 << 20, "more was taken than the sockets hold"
        assert resident_bytes() - before < 48 << 20
        received, tail = 0, b""
        async with asyncio.timeout(60):
            while data := await reader.read(1 << 16):
                received, tail = received + len(data), (tail + data)[-40:]
        writer.close()
    assert received > model.pieces * len(PIECE) and b"data: [DONE]" in tail


async def test_many_readers_that_do_not_read_take_little_memory() -> None:
    model = Talker(pieces=10_000)
    async with serving(model) as url, AsyncExitStack() as stack:
        await brief_requests(url, 2)
        before = resident_bytes()
        clients = [await stack.enter_async_context(connected(url, receive_bytes=4096)) for _ in range(16)]
        for _, writer in clients:
            writer.write(request(stream=True, store=False))
        await until(lambda: model.said > 16)
        await brief_requests(url, 10)
        assert resident_bytes() - before < 160 << 20
        for _, writer in clients:
            writer.transport.abort()
        await until(model.left.is_set)


async def test_a_reader_that_takes_nothing_for_too_long_frees_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALLED_S", 0.2)
    model = Talker(pieces=10_000)
    async with serving(model) as url, connected(url, receive_bytes=4096) as (_, writer):
        writer.write(request(stream=True, store=False))
        async with asyncio.timeout(GUARD_S):
            await model.left.wait()
        assert model.said < 10_000
        await brief_requests(url, 1)
        writer.transport.abort()


async def test_a_slow_reader_is_not_a_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its time, and something every now and then."""
    monkeypatch.setattr(sse, "STALLED_S", 1.0)
    model = Talker(pieces=60)
    async with serving(model) as url, connected(url, receive_bytes=1 << 16) as (reader, writer):
        writer.write(request(stream=True, store=False))
        received = b""
        async with asyncio.timeout(60):
            while data := await reader.read(1 << 17):
                received = (received + data)[-40:]
                await asyncio.sleep(0.02)
        writer.close()
    assert b"data: [DONE]" in received
