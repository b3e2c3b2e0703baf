"""The embedded model's child process, with the small model."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.real.conftest import small_settings

from antiphon.models import Finish, Model, Prompt, Text, TextFormat, Usage
from antiphon.models.answers import fits_format
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.embedded import FILE_POOL, EmbeddedModel, llamacpp
from antiphon.models.embedded.catalogue import Entry
from antiphon.models.embedded.child import turn_over
from antiphon.models.embedded.llamacpp import (
    EmbeddedServer,
    Settings,
    StartFailed,
    speed,
)
from antiphon.models.embedded.pool import Pool
from antiphon.wire.errors import Unavailable

pytestmark = pytest.mark.real

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def settings(small_entry: Entry, small_model_path: Path, tmp_path: Path) -> Settings:
    return small_settings(small_entry, small_model_path, tmp_path / "data" / "llamacpp.log", slots=1)


@pytest.fixture
async def own(settings: Settings) -> AsyncIterator[EmbeddedServer]:
    """A server that a test may ill-treat."""
    async with EmbeddedServer(settings) as server:
        yield server


async def ask(server: EmbeddedServer, *, key: str | None = None, **fields: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {server.api_key if key is None else key}"}
    body = {"messages": HELLO, "max_tokens": 4, "temperature": 0} | fields
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{server.base_url}/chat/completions", json=body) as answer,
    ):
        return answer.status, await answer.json()


def error(answer: tuple[int, Any]) -> Mapping[str, Any]:
    assert answer[0] >= 400
    return answer[1]["error"]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - another process's end raises no event here
            await asyncio.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_it_answers(small_server: EmbeddedServer) -> None:
    assert small_server.alive
    assert small_server.base_url.startswith("http://127.0.0.1:")
    assert small_server.load_s > 0
    status, body = await ask(small_server)
    assert status == 200
    assert body["model"] == "smollm2-135m-instruct"
    assert body["usage"]["completion_tokens"] == 4


async def test_the_context_is_what_the_catalogue_says(small_server: EmbeddedServer, small_entry: Entry) -> None:
    assert small_server.context_tokens == small_entry.context_tokens


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_other_users_of_the_machine_are_refused(small_server: EmbeddedServer, key: str) -> None:
    answer = await ask(small_server, key=key)
    assert answer[0] == 401


async def test_a_prompt_longer_than_the_context_is_an_error(small_server: EmbeddedServer) -> None:
    long = [{"role": "user", "content": "word " * 9000}]
    said = error(await ask(small_server, messages=long))
    assert said["type"] == "exceed_context_size_error"
    assert said["n_ctx"] == small_server.context_tokens
    assert said["n_prompt_tokens"] > 9000


async def test_an_answer_that_fills_the_context_ends_there(settings: Settings) -> None:
    async with EmbeddedServer(
        msgspec.structs.replace(settings, pool=Pool(window_tokens=256, tokens=256, slots=1))
    ) as server:
        status, body = await ask(server, max_tokens=-1, ignore_eos=True)
    assert status == 200
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["total_tokens"] == 256


async def test_speed_is_measured(small_server: EmbeddedServer) -> None:
    measured = await speed(small_server.base_url, small_server.api_key)
    assert measured.read > 0
    assert measured.write > 0


async def test_a_killed_child_is_started_again_at_the_same_address(own: EmbeddedServer) -> None:
    url, pid = own.base_url, own.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not own.alive)
    await own.ready()
    assert own.alive
    assert own.restarts == 1
    assert own.base_url == url
    assert own.pid != pid
    assert (await ask(own))[0] == 200


async def test_waiting_for_a_child_is_bounded(own: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_launch", never)
    assert own.pid is not None
    os.kill(own.pid, signal.SIGKILL)
    await until(lambda: not own.alive)
    with pytest.raises(Unavailable) as caught:
        await own.ready(timeout_s=0.05)
    assert caught.value.headers["Retry-After"] == "5"


async def never() -> None:
    await asyncio.sleep(3600)


async def test_restarts_are_ever_slower(own: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(llamacpp, "BACKOFF_MAX_S", 0.016)
    waits: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)
        await real_sleep(0)

    async def fail() -> None:
        if len(waits) == 7:
            await real_sleep(3600)
        raise StartFailed("no")

    monkeypatch.setattr(own, "_launch", fail)
    monkeypatch.setattr(llamacpp.asyncio, "sleep", sleep)
    relaunch = asyncio.create_task(own._relaunch(0.001))
    while len(waits) < 7:
        await real_sleep(0)
    relaunch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await relaunch
    assert waits == [0.001, 0.002, 0.004, 0.008, 0.016, 0.016, 0.016]


async def test_stop_ends_the_child_and_may_be_repeated(settings: Settings) -> None:
    server = EmbeddedServer(settings)
    await server.start()
    pid = server.pid
    assert pid is not None
    await server.stop()
    assert not running(pid)
    assert not server.alive
    await server.stop()


async def test_nothing_reaches_our_output(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    async with EmbeddedServer(settings):
        pass
    assert capfd.readouterr() == ("", "")
    assert settings.log.exists()


async def test_a_file_that_is_no_model_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF, but no more than that")
    server = EmbeddedServer(Settings(model=path, log=tmp_path / "log", alias="broken", pool=FILE_POOL))
    with pytest.raises(StartFailed, match=r"broken\.gguf could not be started: the child ended with code"):
        await server.start()
    assert "failed to load model" in server.last_error
    assert not server.alive


async def test_loading_is_bounded(settings: Settings) -> None:
    server = EmbeddedServer(msgspec.structs.replace(settings, start_s=0.01))
    with pytest.raises(StartFailed, match=r"did not answer within 0\.01 s"):
        await server.start()
    assert server.pid is not None
    assert not running(server.pid)


async def test_any_file_is_named_after_itself_and_held_to_its_trained_context(
    small_model_path: Path, small_entry: Entry, tmp_path: Path
) -> None:
    beyond = 2 * small_entry.context_tokens
    pool = Pool(window_tokens=beyond, tokens=beyond, slots=1)
    settings = Settings(model=small_model_path, log=tmp_path / "log", alias=small_model_path.stem, pool=pool)
    async with EmbeddedServer(settings) as server:
        assert server.context_tokens == small_entry.context_tokens
        assert (await ask(server))[1]["model"] == small_model_path.stem


PARENT = """
import asyncio, json, sys
from pathlib import Path
import msgspec
from antiphon.models.embedded.llamacpp import EmbeddedServer, Settings

async def main():
    server = EmbeddedServer(msgspec.json.decode(sys.argv[1], type=Settings, dec_hook=lambda kind, text: kind(text)))
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_the_child_ends_with_a_parent_that_is_killed(settings: Settings) -> None:
    orders = msgspec.json.encode(settings, enc_hook=str).decode()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, orders], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
    asyncio.run(until(lambda: not running(pid)))


async def test_the_child_ends_when_its_input_does(own: EmbeddedServer) -> None:
    """What ends it where the kernel cannot be asked to."""
    process = own._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 0


async def test_the_key_is_on_no_command_line(own: EmbeddedServer) -> None:
    process = Path(f"/proc/{own.pid}")
    assert own.api_key.encode() not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as writer:
        writer.write(b"x" * 11)
        writer.flush()
        turn_over(log, 11)
        assert log.stat().st_size == 11
        writer.write(b"y")
        writer.flush()
        turn_over(log, 11)
        writer.write(b"after")
    assert (tmp_path / "log.1").read_bytes() == b"x" * 11 + b"y"
    assert log.read_bytes() == b"after"


async def test_leaving_a_stream_stops_the_generation(own: EmbeddedServer) -> None:
    """With its one slot free again, the next request is served long before the first one's bound."""
    url = f"{own.base_url}/chat/completions"
    body = {"messages": HELLO, "stream": True, "ignore_eos": True, "max_tokens": 3500}
    headers = {"Authorization": f"Bearer {own.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        assert (await answer.content.readline()).startswith(b"data: ")
        answer.close()
    async with asyncio.timeout(20):
        assert (await ask(own))[0] == 200


async def test_a_trailing_answer_is_continued(small_server: EmbeddedServer) -> None:
    url = f"{small_server.base_url}/chat/completions"
    messages = [*HELLO, {"role": "assistant", "content": "Hello, I am"}]
    body = {"messages": messages, "stream": True, "max_tokens": 3, "temperature": 0}
    headers = {"Authorization": f"Bearer {small_server.api_key}"}
    text = ""
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as answer:
        async for line in answer.content:
            if line.startswith(b"data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    assert text
    assert not text.startswith("Hello")


async def test_an_answer_is_gone_on_with_at_every_token(small_server: EmbeddedServer) -> None:
    """Wherever an answer breaks off, what the model adds is what it would have said. Only where its text, read again,
    is split into other tokens than it was written in, it may choose other words; it never repeats or drops any.
    """
    headers = {"Authorization": f"Bearer {small_server.api_key}"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        root = small_server.base_url.removesuffix("/v1")

        async def tokens(text: str) -> list[int]:
            async with session.post(f"{root}/tokenize", json={"content": text}) as answer:
                return (await answer.json())["tokens"]

        model = ChatModel(
            ChatConfig(
                base_url=small_server.base_url, api_key=small_server.api_key, model="m", supports_prefill="llamacpp"
            ),
            session,
        )
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Tell me of the sea."}]}
        same, length = 0, 40

        async def said(prefix: str, count: int) -> list[str]:
            prompt = Prompt(items=(item,), temperature=0.0, max_output_tokens=count, prefix=prefix)
            async with model.sample(prompt) as batches:
                return [delta.text async for batch in batches for delta in batch if isinstance(delta, Text)]

        whole = await said("", length)
        written = [token for piece in whole for token in await tokens(piece)]
        assert len(whole) >= length - 2, "a piece is about a token"
        for at in range(1, len(whole)):
            prefix = "".join(whole[:at])
            rest = "".join(await said(prefix, len(whole) - at))
            assert rest and not rest.startswith(prefix), f"it begins anew at {at}"
            if await tokens(prefix) == written[: len(await tokens(prefix))]:
                assert prefix + rest == "".join(whole), f"broken off at {at}"
                same += 1
        assert same > length / 2


async def test_the_log_holds_nothing_of_a_request_and_is_its_projects(own: EmbeddedServer) -> None:
    schema = {"type": "object", "properties": {"secretword": {"type": "string", "pattern": "^secretword(?=x)"}}}
    format = {"type": "json_schema", "json_schema": {"name": "secretword", "schema": schema}}
    broken = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/secretword"}}}
    await ask(own, messages=[{"role": "user", "content": "secretword"}])
    for each in (format, broken):
        await ask(own, response_format=each)
    for value in (schema, {"$ref": "#/secretword"}, {"type": "string", "pattern": "secretword("}):
        await ask(own, grammar=f"%llguidance {{}}\nstart: %json {json.dumps(value)}")
    log = own.settings.log
    assert b"secretword" not in log.read_bytes()
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("question", "schema"),
    [
        ("Write down all that you know of cats.", {"type": "object", "additionalProperties": {"type": "string"}}),
        ("Make a tree of folders.", TREE),
        (
            "Who wrote Hamlet, and what else?",
            {
                "type": "object",
                "properties": {"author": {"type": "string"}, "works": {"type": "array", "items": {"type": "string"}}},
                "required": ["author", "works"],
            },
        ),
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_an_answer_in_a_format_ends_within_its_tokens(
    own: EmbeddedServer, question: str, schema: dict[str, Any], temperature: float
) -> None:
    model = await EmbeddedModel(own, (), "repair").find("")
    format = TextFormat("json_schema", "x", schema)
    prompt = Prompt(items=(said(question),), format=format, max_output_tokens=100, temperature=temperature)
    async with model.sample(prompt) as batches:
        deltas = [delta async for batch in batches for delta in batch]
    await asyncio.sleep(0.1)  # for the last bytes of its connection
    await model.close()
    last = deltas[-1]
    assert isinstance(last, Finish) and last.usage is not None
    assert last.usage.output <= 100
    text = "".join(delta.text for delta in deltas if isinstance(delta, Text))
    assert last.reason == "stop", text
    assert fits_format(format, text)


async def test_requests_of_all_sizes_share_a_pool_that_never_overflows(settings: Settings) -> None:
    """Three that would take twice the pool: two small ones at the same time, and the large one when it is empty."""
    pool = Pool(window_tokens=1024, tokens=1024, slots=2, cache="q8_0")
    async with EmbeddedServer(msgspec.structs.replace(settings, pool=pool)) as server:
        model = EmbeddedModel(server, (), "off")
        small = Prompt(items=(said("word " * 300),), max_output_tokens=64)
        large = Prompt(items=(said("word " * 900),), max_output_tokens=64)
        found = await model.find("")
        usages = await asyncio.gather(*(usage_of(found, each) for each in (small, large, small)))
        assert server.context_tokens == 1024
        await model.close()
    assert [usage.input > 900 for usage in usages] == [False, True, False]


def said(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


async def usage_of(model: Model, prompt: Prompt) -> Usage:
    async with model.sample(prompt) as batches:
        last = [batch async for batch in batches][-1][-1]
    assert isinstance(last, Finish) and last.usage is not None
    return last.usage
