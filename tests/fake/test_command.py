"""The command itself: what it prints, how it starts without its upstream, how it ends."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from openai import OpenAI
from receiver import Receiver
from scripted_upstream import Upstream, finish, sse, text

from antiphon.cli import main
from antiphon.webhooks.outbox import new_secret


@asynccontextmanager
async def served(data: Path, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    command = [sys.executable, "-m", "antiphon", "serve", "--port", "0", "--data", str(data), *flags]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    printed = ""
    while not (found := re.search(r"serves (http://\S+)/v1", printed)):
        line = await process.stderr.readline()
        assert line, printed
        printed += line.decode()
    try:
        yield process, found[1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_starts_without_its_upstream_and_says_when_it_is_ready(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        gone = upstream.url
    async with served(tmp_path, "--upstream", gone, "--model", "m") as (_, url), aiohttp.ClientSession() as session:
        async with session.get(f"{url}/health") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "model_not_ready")
        async with session.post(f"{url}/v1/responses", json={"model": "m", "input": "x"}) as answer:
            assert answer.status == 503


async def test_what_it_says_first_is_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: dict[str, str] = {}
    for store in ("sqlite", "memory"):
        flags = ("--upstream", "http://127.0.0.1:1/v1", "--model", "m", "--store", store)
        async with served(tmp_path, *flags) as (process, _):
            process.terminate()
            assert process.stderr is not None
            said[store] = (await process.stderr.read()).decode()
        assert await asyncio.to_thread(main, ["keys", "create", "--data", str(tmp_path)]) == 0
    assert f"kept in {tmp_path}" in said["sqlite"] and 'api_key="none"' in said["sqlite"]
    assert "kept in memory" in said["memory"]
    assert "Authorization: Bearer YOUR_KEY" in said["memory"] and 'api_key="YOUR_KEY"' in said["memory"]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, sign: signal.Signals) -> None:
    async with served(tmp_path, "--upstream", "http://127.0.0.1:1/v1", "--model", "m") as (process, _):
        process.send_signal(sign)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"antiphon.db", "owner.lock", "sealing.key"}


async def test_purge_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        Upstream() as upstream,
        served(tmp_path, "--upstream", upstream.url, "--model", "m") as (_, url),
        aiohttp.ClientSession() as session,
    ):
        upstream.play(sse(text("Hello"), finish()))
        async with session.post(f"{url}/v1/responses", json={"model": "m", "input": "x"}) as answer:
            id = (await answer.json())["id"]
        assert await asyncio.to_thread(main, ["purge", "--all", "--data", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "1 responses deleted\n"
        async with session.get(f"{url}/v1/responses/{id}") as answer:
            assert answer.status == 404


async def test_a_webhook_outlives_the_process(tmp_path: Path) -> None:
    """Killed between the response's end and the receiver's answer."""
    secret = new_secret()
    async with Upstream() as upstream, Receiver(asyncio.Event()) as receiver, aiohttp.ClientSession() as session:
        config = tmp_path / "antiphon.toml"
        config.write_text(f'[[webhooks]]\nurl = "{receiver.url}"\nsecret = "{secret}"\nprivate = true\n')
        flags = ("--upstream", upstream.url, "--model", "m", "--config", str(config))
        async with served(tmp_path / "data", *flags) as (process, url):
            upstream.play(sse(text("Hello"), finish()))
            body = {"model": "m", "input": "x", "background": True}
            async with session.post(f"{url}/v1/responses", json=body) as answer:
                id = (await answer.json())["id"]
            await receiver.got(1)
            process.kill()
        async with served(tmp_path / "data", *flags) as (_, url):
            first, second = await receiver.got(2)
            async with session.get(f"{url}/v1/responses/{id}") as answer:
                told = await answer.json()
    assert told["status"] == "completed", told["error"]
    client = OpenAI(api_key="none", base_url="http://127.0.0.1:1", webhook_secret=secret)
    event = client.webhooks.unwrap(second.body, second.headers)
    assert (event.type, event.data.id) == ("response.completed", id)  # type: ignore[union-attr]
    assert first.headers["webhook-id"] == second.headers["webhook-id"] and first.body == second.body


def test_check_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Path(__file__).parents[1] / "golden" / "streams" / "text" / "stream.sse"
    assert main(["check-stream", str(good)]) == 0
    assert capsys.readouterr().out.endswith(" events, 0 findings\n")
    bad = tmp_path / "bad.sse"
    bad.write_bytes(good.read_bytes().replace(b'"sequence_number":3', b'"sequence_number":4'))
    assert main(["check-stream", str(bad)]) == 1
    assert "sequence_number 4 where 3 is due" in capsys.readouterr().out
    assert main(["check-stream", str(tmp_path / "none")]) == 2


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "smollm2-135m-instruct" in listed
    assert "Apache-2.0" in listed
    assert main(["models", "fetch", "nobody"]) == 2
    assert "unknown model 'nobody' (known models: qwen" in capsys.readouterr().err
    assert main(["models", "fetch"]) == 2
    assert "specify a model to fetch (known models: qwen" in capsys.readouterr().err


def test_mistakes_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--store", "memory", "--host", "0.0.0.0", "--port", "0", "--upstream", "http://x/v1"]) == 1
    assert "keys create" in capsys.readouterr().err
    assert main(["serve", "--port", "0", "--model", "/nowhere.gguf"]) == 1
    assert "there is no file /nowhere.gguf" in capsys.readouterr().err
