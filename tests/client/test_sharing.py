"""One engine per folder: shared by the clients of a process, and found by those of others."""

import asyncio
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import openai
import pytest
from scripted_upstream import Upstream, finish, sse, text

from antiphon import AsyncOpenAI, EngineError, OpenAI
from antiphon.cli import main
from antiphon.client.inprocess import resolver
from antiphon.client.inprocess.host import HOSTS
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import owner_of
from antiphon.store.sqlite.lock import FolderLock
from antiphon.testing.inprocess import scripted
from antiphon.testing.serving import serving

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Counted:
    """Opens engines, and counts them."""

    def __init__(self) -> None:
        self.opened = 0
        self._open = scripted(ScriptedModel("Hello", again=True))

    def __call__(self, config: Config, url: str) -> AbstractAsyncContextManager[Engine]:
        self.opened += 1
        return self._open(config, url)


@contextmanager
def elsewhere(code: str, data: Path) -> Iterator[None]:
    """Another process, which runs the code until it says ``ready``, and ends afterwards."""
    command = [sys.executable, "-W", "error", "-c", f"{code}\nprint('ready', flush=True)\ninput()", str(data)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
            yield
        finally:
            _, error = process.communicate("\n", timeout=30)
    assert (process.returncode, error) == (0, "")


HOLDER = """
import sys
from antiphon import OpenAI
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import scripted
client = OpenAI(data=sys.argv[1], engine=scripted(ScriptedModel("from elsewhere", again=True)))
client.models.list()
"""


@asynccontextmanager
async def served(data: Path, upstream: Upstream) -> AsyncGenerator[str]:
    """A real server on the folder."""
    with ExitStack() as stack:
        # In a thread: it asks the upstream, which is served here, before it is up.
        yield await asyncio.to_thread(stack.enter_context, _served(data, upstream))
        await asyncio.to_thread(stack.close)


@contextmanager
def _served(data: Path, upstream: Upstream) -> Iterator[str]:
    command = [sys.executable, "-m", "antiphon", "serve", "--port", "0", "--data", str(data), "--model", "m"]
    command += ["--upstream", upstream.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        printed = ""
        while not (found := re.search(r"serves (http://\S+/v1)", printed)):
            line = process.stderr.readline()
            assert line, printed
            printed += line
        try:
            yield found[1]
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_many_clients_at_once_open_one_engine(tmp_path: Path) -> None:
    engine = Counted()
    together = threading.Barrier(8)
    finished = threading.Barrier(8)

    def ask(_: int) -> str:
        with OpenAI(data=tmp_path, engine=engine) as client:
            together.wait(20)
            id = client.responses.create(model="m", input="Hi").id
            finished.wait(20)
            return client.responses.retrieve(id).output_text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["Hello"] * 8
    assert engine.opened == 1


async def test_many_requests_at_once_on_one_client(tmp_path: Path) -> None:
    engine = Counted()
    async with AsyncOpenAI(data=tmp_path, engine=engine) as client:
        asked = [client.responses.create(model="m", input="Hi") for _ in range(20)]
        assert [response.output_text for response in await asyncio.gather(*asked)] == ["Hello"] * 20
    assert engine.opened == 1


def test_what_one_client_stores_another_sees_then_and_later(tmp_path: Path) -> None:
    engine = Counted()
    same = tmp_path / ".." / tmp_path.name
    with OpenAI(data=tmp_path, engine=engine) as one, OpenAI(data=same, engine=engine) as two:
        assert two.models.list().data
        response = one.responses.create(model="m", input="Hi")
        one.close()
        assert two.responses.retrieve(response.id) == response
    with OpenAI(data=str(tmp_path), engine=engine) as three:
        assert three.responses.retrieve(response.id) == response
        assert three.responses.create(model="m", input="Hi", previous_response_id=response.id).output_text == "Hello"
    assert engine.opened == 2


def test_two_folders_have_two_engines(tmp_path: Path) -> None:
    engine = Counted()
    with OpenAI(data=tmp_path / "a", engine=engine) as one, OpenAI(data=tmp_path / "b", engine=engine) as two:
        id = one.responses.create(model="m", input="Hi").id
        with pytest.raises(openai.NotFoundError):
            two.responses.retrieve(id)
    assert engine.opened == 2


def test_one_folder_with_two_settings_is_refused(tmp_path: Path) -> None:
    engine = Counted()
    with (
        OpenAI(data=tmp_path, engine=engine) as one,
        OpenAI(data=tmp_path, engine=engine, config={"strict": True}) as two,
    ):
        one.models.list()
        with pytest.raises(EngineError, match="open in this process already, with another strict"):
            two.models.list()
        one.close()
        assert two.models.list().data


def test_what_is_kept_in_memory_is_shared_as_long_as_somebody_is_there(tmp_path: Path) -> None:
    engine = Counted()
    settings = {"store": "memory"}
    with (
        OpenAI(data=tmp_path, engine=engine, config=settings) as one,
        OpenAI(data=tmp_path, engine=engine, config=settings) as two,
        OpenAI(data=tmp_path, engine=engine, config={**settings, "strict": True}) as three,
    ):
        response = one.responses.create(model="m", input="Hi")
        assert two.responses.retrieve(response.id) == response
        with pytest.raises(openai.NotFoundError):
            three.responses.retrieve(response.id)
    with OpenAI(data=tmp_path, engine=engine, config=settings) as four, pytest.raises(openai.NotFoundError):
        four.responses.retrieve(response.id)


# Where a server owns the folder


async def test_a_server_that_owns_the_folder_is_asked(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        async with served(tmp_path, upstream) as url:
            upstream.play(sse(text("Hel"), text("lo"), finish()), sse(text("Hello"), finish()))
            client = OpenAI(data=tmp_path)
            response = await asyncio.to_thread(client.responses.create, model="m", input="Hi")
            assert response.output_text == "Hello"
            async with openai.AsyncOpenAI(base_url=url, api_key="none") as official:
                assert (await official.responses.retrieve(response.id)).id == response.id
            async with AsyncOpenAI(data=tmp_path) as other:
                stream = await other.responses.create(model="m", input="Hi", stream=True)
                assert [event.type async for event in stream][-1] == "response.completed"
            assert HOSTS._hosts == []
        # It ended: the next request finds the folder free.
        client = client.copy()
        assert client._resolver is not None
        client._resolver.opener = Counted()
        with client:
            assert (await asyncio.to_thread(client.responses.retrieve, response.id)).output_text == "Hello"


async def test_a_server_with_keys_asks_for_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--data", str(tmp_path), "--project", "p"]) == 0
    found = re.search(r"sk-\S+", capsys.readouterr().out)
    assert found is not None
    async with Upstream() as upstream, served(tmp_path, upstream):
        upstream.play(sse(text("Hello"), finish()))
        with OpenAI(data=tmp_path, api_key=found[0]) as client:
            response = await asyncio.to_thread(client.responses.create, model="m", input="Hi")
        with OpenAI(data=tmp_path) as stranger, pytest.raises(openai.AuthenticationError):
            await asyncio.to_thread(stranger.responses.retrieve, response.id)
    engine = Counted()
    with (
        OpenAI(data=tmp_path, api_key=found[0], engine=engine) as client,
        OpenAI(data=tmp_path, engine=engine) as other,
    ):
        # In this process no key is asked for; it says whose things are seen.
        assert client.responses.retrieve(response.id).output_text == "Hello"
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(response.id)
        assert other.responses.create(model="m", input="Hi").output_text == "Hello"


async def test_a_server_that_just_starts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = asyncio.Event()
    loop = asyncio.get_running_loop()
    report_lost = resolver.EngineResolver.report_lost

    def noted(self: resolver.EngineResolver, where: object) -> bool:
        loop.call_soon_threadsafe(refused.set)
        return report_lost(self, where)  # type: ignore[arg-type]

    monkeypatch.setattr(resolver.EngineResolver, "report_lost", noted)
    lock = FolderLock.take(tmp_path)
    with contextlib.closing(_Released(lock)):
        lock.announce("http://127.0.0.1:1/v1")
        for client in (OpenAI(data=tmp_path), AsyncOpenAI(data=tmp_path)):
            refused.clear()
            lock.announce("http://127.0.0.1:1/v1")
            asking = asyncio.ensure_future(_listed(client))
            await refused.wait()
            async with serving(ScriptedModel()) as url:
                lock.announce(url)
                assert await asking == "scripted"
            await _closed(client)


class _Released:
    def __init__(self, lock: FolderLock) -> None:
        self.close = lock.release


async def _listed(client: OpenAI | AsyncOpenAI) -> str:
    if isinstance(client, OpenAI):
        return (await asyncio.to_thread(client.models.list)).data[0].id
    return (await client.models.list()).data[0].id


async def _closed(client: OpenAI | AsyncOpenAI) -> None:
    if isinstance(client, OpenAI):
        client.close()
    else:
        await client.close()


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/v1"])
def test_an_owner_that_does_not_listen_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(resolver, "NAMELESS_S", 0.0)
    monkeypatch.setattr(resolver, "STARTING_S", 0.0)
    lock = FolderLock.take(tmp_path)
    lock.announce(url)
    owner = owner_of(tmp_path)
    assert owner is not None
    with contextlib.closing(_Released(lock)), OpenAI(data=tmp_path, max_retries=0) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            client.models.list()
        if not url:
            assert isinstance(caught.value, EngineError)
            assert f"in use by process {owner.pid} " in str(caught.value)


# Where a client of another process owns it


def test_a_client_of_another_process_shares_its_engine(tmp_path: Path) -> None:
    with elsewhere(HOLDER, tmp_path), OpenAI(data=tmp_path) as client:
        response = client.responses.create(model="m", input="Hi")
        assert response.output_text == "from elsewhere"
        stream = client.responses.create(model="m", input="Hi", stream=True)
        assert [event.type for event in stream][-1] == "response.completed"
        assert HOSTS._hosts == []
    with OpenAI(data=tmp_path, engine=Counted()) as client:
        assert client.responses.retrieve(response.id) == response


def test_it_shares_it_with_asynchronous_clients_in_any_event_loop(tmp_path: Path) -> None:
    client = AsyncOpenAI(data=tmp_path)

    async def ask() -> str:
        return (await client.responses.create(model="m", input="Hi")).output_text

    with elsewhere(HOLDER, tmp_path):
        assert [asyncio.run(ask()) for _ in range(3)] == ["from elsewhere"] * 3
        asyncio.run(client.close())


def test_it_needs_no_key_though_there_are_keys(tmp_path: Path) -> None:
    assert main(["keys", "create", "--data", str(tmp_path)]) == 0
    with elsewhere(HOLDER, tmp_path), OpenAI(data=tmp_path) as client:
        assert client.responses.create(model="m", input="Hi").output_text == "from elsewhere"


def test_when_the_other_process_ends_the_engine_is_opened_here(tmp_path: Path) -> None:
    engine = Counted()
    with OpenAI(data=tmp_path, engine=engine) as client:
        with elsewhere(HOLDER, tmp_path):
            assert client.responses.create(model="m", input="Hi").output_text == "from elsewhere"
        assert client.responses.create(model="m", input="Hi").output_text == "Hello"
    assert engine.opened == 1


def test_purge_beside_a_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAI(data=tmp_path, engine=Counted()) as client:
        id = client.responses.create(model="m", input="Hi").id
        assert main(["purge", "--all", "--data", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "1 responses deleted\n"
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(id)


def test_a_server_is_refused_the_folder_of_a_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAI(data=tmp_path, engine=Counted()) as client:
        client.models.list()
        assert main(["serve", "--port", "0", "--data", str(tmp_path), "--upstream", "http://127.0.0.1:1/v1"]) == 1
        assert re.search(r"in use by process \d+ \(serving unix:/", capsys.readouterr().err)


def test_the_socket_file_is_ours_alone_and_goes(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, engine=Counted()) as client:
        client.models.list()
        (file,) = tmp_path.glob("*.sock")
        assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.sock")) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    code = HOLDER + "\nimport os\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.glob("*.sock")
    with OpenAI(data=tmp_path, engine=Counted()) as client:
        client.models.list()
        (ours,) = tmp_path.glob("*.sock")
        assert ours != left


def test_a_folder_with_a_long_name_is_shared_too(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    with elsewhere(HOLDER, long), OpenAI(data=long) as client:
        assert client.responses.create(model="m", input="Hi").output_text == "from elsewhere"
        owner = owner_of(long)
        assert owner is not None
        assert not Path(owner.socket).is_relative_to(long)
    assert not Path(owner.socket).parent.exists()
