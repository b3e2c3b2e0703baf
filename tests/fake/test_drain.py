"""What a server that is told to stop says to those who wait, on a real socket of a real process."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from scripted_upstream import Answer, Upstream, finish, frames, sse, text

from antiphon.cli.check_stream import check_stream

HANGS = Answer(steps=(frames(text("Hel"), done=False), "hang"))


@asynccontextmanager
async def served(
    data: Path, upstream: Upstream, drain_s: float
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    config = data / "antiphon.toml"
    config.write_text(f"drain_s = {drain_s}\n")
    command = [sys.executable, "-m", "antiphon", "serve", "--port", "0", "--config", str(config)]
    command += ["--data", str(data / "data"), "--upstream", upstream.url, "--model", "m"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    while b"serves http" not in (line := await process.stderr.readline()):
        assert line, "it did not start"
    try:
        yield process, next(word for word in line.decode().split() if word.startswith("http"))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def first_delta(body: aiohttp.StreamReader) -> bytes:
    return await body.readuntil(b"response.output_text.delta")


async def test_a_stream_ends_with_a_word_when_the_time_is_over(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        served(tmp_path, upstream, 0.2) as (process, url),
        aiohttp.ClientSession() as session,
    ):
        upstream.play(HANGS)
        async with session.post(f"{url}/responses", json={"model": "m", "input": "x", "stream": True}) as answer:
            begun = await first_delta(answer.content)
            process.send_signal(signal.SIGTERM)
            stream = begun + await answer.read()
        assert check_stream(stream).findings == []
        assert b'"code":"unavailable"' in stream and b"event: response.failed" in stream
        assert await process.wait() == 0


async def test_what_can_come_to_its_end_does(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        Upstream() as upstream,
        served(tmp_path, upstream, 30) as (process, url),
        aiohttp.ClientSession() as session,
    ):
        upstream.play(Answer(steps=(frames(text("Hel"), done=False), gate, frames(text("lo"), finish()))))
        async with session.post(f"{url}/responses", json={"model": "m", "input": "x", "stream": True}) as answer:
            begun = await first_delta(answer.content)
            process.send_signal(signal.SIGTERM)
            while True:
                # Until the signal is there: then nothing more is accepted.
                try:
                    async with session.get(f"{url}/models", headers={"connection": "close"}):
                        pass
                except aiohttp.ClientConnectorError:
                    break
            gate.set()
            stream = begun + await answer.read()
        assert b"event: response.completed" in stream and check_stream(stream).findings == []
        assert await process.wait() == 0


async def test_a_plain_request_is_told_too(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        served(tmp_path, upstream, 0.2) as (process, url),
        aiohttp.ClientSession() as session,
    ):
        upstream.play(HANGS)
        waiting = asyncio.create_task(session.post(f"{url}/responses", json={"model": "m", "input": "x"}))
        await upstream.reached.wait()
        process.send_signal(signal.SIGTERM)
        async with await waiting as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
        assert await process.wait() == 0


async def test_so_is_a_socket(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        served(tmp_path, upstream, 0.2) as (process, url),
        aiohttp.ClientSession() as session,
    ):
        upstream.play(HANGS)
        async with session.ws_connect(f"{url}/responses") as socket:
            await socket.send_json({"type": "response.create", "model": "m", "input": "x"})
            told = []
            async for message in socket:
                told.append(json.loads(message.data)["type"])
                if told[-1] == "response.output_text.delta":
                    process.send_signal(signal.SIGTERM)
        assert told[-2:] == ["error", "response.failed"]
        assert await process.wait() == 0


async def test_what_is_in_the_background_is_gone_on_with_by_the_next_server(tmp_path: Path) -> None:
    async with Upstream() as upstream, aiohttp.ClientSession() as session:
        async with served(tmp_path, upstream, 30) as (process, url):
            upstream.play(HANGS)
            body = {"model": "m", "input": "x", "background": True, "stream": True}
            async with session.post(f"{url}/responses", json=body) as answer:
                begun = await first_delta(answer.content)
                id = json.loads(begun.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
                process.send_signal(signal.SIGTERM)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            assert await process.wait() == 0
        # One for what is asked at the start, which only has to be answered; one to begin anew with.
        upstream.play(*[sse(text(" again"), finish())] * 2)
        async with (
            served(tmp_path, upstream, 30) as (process, url),
            session.get(f"{url}/responses/{id}", params={"stream": "true"}) as answer,
        ):
            stream = await answer.read()
    report = check_stream(stream)
    assert report.findings == [] and report.response is not None
    # A server of which nothing is known is not asked to go on with an answer: it begins anew.
    assert [item["content"][0]["text"] for item in report.response.output] == [" again"]
