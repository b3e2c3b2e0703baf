"""How things end: streams, clients, engines, processes, with nothing left behind."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon import AsyncOpenAI, EngineError, OpenAI
from antiphon.assembly import open_engine
from antiphon.client.inprocess.host import HOSTS
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.models import Delta, Prompt, embedded
from antiphon.models.embedded.progress import Abandoned
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import Gate, scripted
from antiphon.testing.serving import OneModel

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SOON_S = 20
"""A bound on waiting, for tests that would hang otherwise."""


class Watched(ScriptedModel):
    """A scripted model that tells when a sample of it is over."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts)
        self.over = threading.Event()

    @contextlib.asynccontextmanager
    async def sample(self, prompt: Prompt) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        try:
            async with super().sample(prompt) as batches:
                yield batches
        finally:
            self.over.set()


def test_closing_a_stream_stops_the_model(tmp_path: Path) -> None:
    model = Watched(["one", Gate()])
    with OpenAI(data=tmp_path, engine=scripted(model)) as client:
        with client.responses.create(model="m", input="Hi", stream=True) as stream:
            next(iter(stream))
        assert model.over.wait(SOON_S)
        assert model.samples[0].left_early


def test_a_stream_that_is_dropped_stops_the_model(tmp_path: Path) -> None:
    model = Watched(["one", Gate()])
    with OpenAI(data=tmp_path, engine=scripted(model)) as client:
        stream = client.responses.create(model="m", input="Hi", stream=True)
        next(iter(stream))
        del stream
        gc.collect()
        assert model.over.wait(SOON_S)


async def test_leaving_a_stream_stops_the_model_async(tmp_path: Path) -> None:
    model = Watched(["one", Gate()])
    async with AsyncOpenAI(data=tmp_path, engine=scripted(model)) as client:
        async with await client.responses.create(model="m", input="Hi", stream=True) as stream:
            await anext(aiter(stream))
        assert await asyncio.to_thread(model.over.wait, SOON_S)
        assert model.samples[0].left_early


async def test_cancelling_a_request_stops_the_model(tmp_path: Path) -> None:
    gate = Gate()
    model = Watched(["one", gate])
    async with AsyncOpenAI(data=tmp_path, engine=scripted(model)) as client:
        asking = asyncio.ensure_future(client.responses.create(model="m", input="Hi"))
        await asyncio.to_thread(gate.reached.wait, SOON_S)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(model.over.wait, SOON_S)


def test_an_event_loop_that_ends_around_a_stream_stops_the_model(tmp_path: Path) -> None:
    model = Watched(["one", Gate()])
    client = AsyncOpenAI(data=tmp_path, engine=scripted(model))

    async def begin() -> Any:
        stream = await client.responses.create(model="m", input="Hi", stream=True)
        await anext(aiter(stream))
        return stream

    asyncio.run(begin())
    assert model.over.wait(SOON_S)
    asyncio.run(client.close())


def test_closing_a_client_ends_its_streams_and_leaves_those_of_others(tmp_path: Path) -> None:
    gate = Gate()
    model = ScriptedModel(["one", Gate()], ["one", gate, "two"])
    engine = scripted(model)
    with OpenAI(data=tmp_path, engine=engine) as one, OpenAI(data=tmp_path, engine=engine) as two:
        mine = iter(one.responses.create(model="m", input="Hi", stream=True))
        others = iter(two.responses.create(model="m", input="Hi", stream=True))
        next(mine), next(others)
        one.close()
        with pytest.raises(openai.APIConnectionError):
            list(mine)
        gate.set()
        assert [event.type for event in others][-1] == "response.completed"


def test_closing_a_client_wakes_who_waits_for_it(tmp_path: Path) -> None:
    gate = Gate()
    client = OpenAI(data=tmp_path, engine=scripted(ScriptedModel(["one", gate])), max_retries=0)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            client.responses.create(model="m", input="Hi")
        except BaseException as error:
            caught.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert gate.reached.wait(SOON_S)
    client.close()
    asking.join(SOON_S)
    assert [type(error).__name__ for error in caught] == ["APIConnectionError"]


def test_a_call_that_comes_when_the_engine_has_ended_is_reported(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel()), max_retries=0) as client:
        client.models.list()
        (host,) = HOSTS._hosts
        assert host.loop is not None
        start = host.start

        def start_and_stop(exchange: Any) -> None:
            start(exchange)
            host.stop()

        host.start = start_and_stop  # type: ignore[method-assign]
        # As if the event loop had made its last turn before.
        host._start = lambda call: None  # type: ignore[method-assign]
        with pytest.raises(openai.APIConnectionError):
            client.models.list()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as Python handles it; a run that was put into the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_the_model(tmp_path: Path) -> None:
    gate = Gate()
    model = Watched(["one", gate])

    def interrupt() -> None:
        assert gate.reached.wait(SOON_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt, daemon=True)
    with OpenAI(data=tmp_path, engine=scripted(model)) as client:
        client.models.list()
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            client.responses.create(model="m", input="Hi")
        assert model.over.wait(SOON_S)
        interrupting.join()


def test_a_client_that_is_dropped_closes_its_engine(tmp_path: Path) -> None:
    client = OpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello")))
    client.responses.create(model="m", input="Hi")
    (host,) = HOSTS._hosts
    del client
    gc.collect()
    host.wait_until_closed(SOON_S)
    assert HOSTS._hosts == []
    assert {path.name for path in tmp_path.iterdir()} == {"antiphon.db", "owner.lock", "sealing.key"}


def test_an_asynchronous_client_that_is_dropped_closes_its_engine(tmp_path: Path) -> None:
    client = AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello")))
    asyncio.run(client.responses.create(model="m", input="Hi"))  # type: ignore[arg-type]
    (host,) = HOSTS._hosts
    del client
    gc.collect()
    host.wait_until_closed(SOON_S)
    assert HOSTS._hosts == []


def test_closing_waits_for_the_folder_to_be_free(tmp_path: Path) -> None:
    for _ in range(3):
        with OpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello"))) as client:
            client.responses.create(model="m", input="Hi")
        assert {path.name for path in tmp_path.iterdir()} == {"antiphon.db", "owner.lock", "sealing.key"}


def test_a_client_that_was_never_used_has_nothing_to_close(tmp_path: Path) -> None:
    OpenAI(data=tmp_path / "none").close()
    asyncio.run(AsyncOpenAI(data=tmp_path / "none").close())
    assert not (tmp_path / "none").exists()


def test_closing_while_the_engine_opens(tmp_path: Path) -> None:
    opening, closed = threading.Event(), threading.Event()

    @contextlib.asynccontextmanager
    async def slow(config: Config, url: str) -> AsyncGenerator[Engine]:
        async with open_engine(config, None, url, roster=OneModel(ScriptedModel())) as engine:
            opening.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                closed.set()
            yield engine

    client = OpenAI(data=tmp_path, engine=slow, max_retries=0)
    caught: list[EngineError] = []

    def ask() -> None:
        try:
            client.models.list()
        except EngineError as error:
            caught.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    assert opening.wait(SOON_S)
    client.close()
    assert closed.is_set()
    asking.join(SOON_S)
    assert len(caught) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"antiphon.db", "owner.lock", "sealing.key"}


def test_closing_while_the_model_is_fetched_ends_the_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching = threading.Event()
    told: list[BaseException] = []

    def fetch(entry: object, into: Path | None = None, *, reporter: Any = None, **_: Any) -> Path:
        fetching.set()
        until = time.monotonic() + SOON_S  # a thread of this process: without an end it would slow all that follows
        try:
            while time.monotonic() < until:
                reporter.at(1)
                time.sleep(0.001)
        except Abandoned as error:
            told.append(error)
            raise
        raise TimeoutError("nobody closed the client")

    monkeypatch.setattr(embedded, "fetch", fetch)
    client = OpenAI(data=tmp_path, embedded="smollm2-135m-instruct")
    asking = threading.Thread(target=_asked, args=(client,), daemon=True)
    asking.start()
    assert fetching.wait(SOON_S)
    client.close()
    asking.join(SOON_S)
    assert len(told) == 1


def test_closing_while_the_engine_is_leased_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = OpenAI(data=tmp_path, engine=scripted(ScriptedModel()), max_retries=0)
    lease = HOSTS.lease

    def slow(config: Config, opener: Any = None) -> Any:
        held = lease(config, opener)
        client.close()  # another thread's, before this one has put the lease down
        return held

    monkeypatch.setattr(HOSTS, "lease", slow)
    with pytest.raises(EngineError):
        client.models.list()


def _asked(client: OpenAI) -> None:
    with contextlib.suppress(EngineError):
        client.models.list()


def test_an_engine_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, embedded="no-such-model") as client:
        with pytest.raises(EngineError, match="unknown model 'no-such-model'; known models: "):
            client.models.list()
        with pytest.raises(EngineError, match="unknown model 'no-such-model'; known models: "):
            client.models.list()
    with OpenAI(data=tmp_path, embedded=tmp_path / "none.gguf") as client, pytest.raises(EngineError, match="no file"):
        client.models.list()


async def test_an_engine_that_cannot_be_opened_says_why_async(tmp_path: Path) -> None:
    async with AsyncOpenAI(data=tmp_path, embedded="no-such-model") as client:
        with pytest.raises(EngineError, match="unknown model 'no-such-model'; known models: "):
            await client.models.list()


def test_the_engines_own_thread_cannot_wait_for_it(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    class CreateParams(ScriptedModel):
        @contextlib.asynccontextmanager
        async def sample(self, prompt: Prompt) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
            try:
                client.models.list()
            except RuntimeError as error:
                caught.append(error)
            async with super().sample(prompt) as batches:
                yield batches

    with OpenAI(data=tmp_path, engine=scripted(CreateParams("Hello"))) as client:
        assert client.responses.create(model="m", input="Hi").output_text == "Hello"
    assert "own thread" in str(caught[0])


# The interpreter's end

BEGIN = """
import asyncio, os, sys, threading
from antiphon import AsyncOpenAI, OpenAI
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import Gate, scripted

engine = scripted(ScriptedModel(["Hel", "lo"], ["one", Gate()]))
client = OpenAI(data=sys.argv[1], engine=engine)
assert client.responses.create(model="m", input="Hi").output_text == "Hello"
"""

ENDS = {
    "simply": "",
    "exit": "sys.exit(0)",
    "in mid stream": "stream = iter(client.responses.create(model='m', input='Hi', stream=True)); next(stream)",
    "with a thread": """
        def late():
            threading.main_thread().join()
            assert client.models.list().data
            print("listed")
        threading.Thread(target=late).start()
    """,
    "asynchronous": """
        other = AsyncOpenAI(data=sys.argv[1], engine=engine)
        async def main():
            stream = await other.responses.create(model="m", input="Hi", stream=True)
            await anext(aiter(stream))
        asyncio.run(main())
    """,
    "forked": """
        child = os.fork()
        if not child:
            client.close()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert client.models.list().data
    """,
    "cyclic": "client.me = client; del client",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_interpreters_end_closes_everything(tmp_path: Path, end: str) -> None:
    code = BEGIN + textwrap.dedent(ENDS[end])
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == ("listed\n" if end == "with a thread" else "")
    assert {path.name for path in tmp_path.iterdir()} == {"antiphon.db", "owner.lock", "sealing.key"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_asks_its_parents_engine_and_does_not_hold_its_folder(tmp_path: Path) -> None:
    code = (
        BEGIN
        + """
child = os.fork()
if not child:
    assert client.models.list().data[0].id == "scripted"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
sleeper = os.fork()
if not sleeper:
    sys.stdin.read()
    os._exit(0)
client.close()
with OpenAI(data=sys.argv[1], engine=engine) as again:
    assert again.models.list().data
print("free")
"""
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, input="")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "free\n", "")
