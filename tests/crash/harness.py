"""Kills a real server again and again while official clients use it, and looks for what it lost.

Run it by hand for as long as you like: ``python tests/crash/harness.py --kills 1000 --commits``. It prints its seed and
what it found; a run of the same seed makes the same choices, though not at the same moments.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import msgspec
import openai
from openai import AsyncOpenAI
from rich.progress import Progress

COMMITS_MAX = 200
HERE = Path(__file__).parent
RECORDER: Any = {
    "type": "mcp",
    "server_label": "recorder",
    "server_url": "https://example.org",
    "require_approval": "never",
    "allowed_tools": ["write", "read"],
}
BROKEN = (openai.APIConnectionError, openai.InternalServerError, httpx2.HTTPError, aiohttp.ClientError, OSError)
"""What a client sees of a server that dies, or is not back yet."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Story:
    """What a response is asked to tell."""

    name: str
    words: int
    tool: str

    @property
    def input(self) -> str:
        return f"story {self.name} words={self.words} tool={self.tool}"

    @property
    def text(self) -> str:
        turns = 1 if self.tool == "none" else 2
        return "".join(f"{self.name}.{turn}.{n} " for turn in range(turns) for n in range(self.words))


@dataclass
class Findings:
    """What was done, and what went wrong."""

    kills: int = 0
    stops: int = 0
    terms: int = 0
    responses: int = 0
    acknowledged: int = 0
    resumed: int = 0
    replays: int = 0
    events: int = 0
    longest_stall_s: float = 0.0
    cut_calls: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, fault: str) -> None:
        self.faults.append(fault)

    def summary(self) -> str:
        return (
            f"{self.kills} kill -9, {self.stops} pauses, {self.terms} SIGTERM; {self.responses} responses,"
            f" {self.resumed} streams resumed, {self.events} events, {self.replays} replays;"
            f" {self.cut_calls} calls cut off; longest stall {self.longest_stall_s:.1f} s; {len(self.faults)} faults"
        )


class Server:
    """The server's process, which comes back on the same port and folder."""

    def __init__(self, folder: Path, upstream: str, *flags: str) -> None:
        self.port = free_port()
        self.calls = folder / "calls.jsonl"
        self._folder = folder
        self._upstream = upstream
        self._flags = flags
        self.process: asyncio.subprocess.Process | None = None
        self.is_up = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, *flags: str) -> None:
        command = [
            sys.executable,
            str(HERE / "server.py"),
            "--port",
            str(self.port),
            "--data",
            str(self._folder / "data"),
        ]
        command += ["--upstream", self._upstream, "--calls", str(self.calls), *self._flags, *flags]
        self.is_up = False
        with (self._folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def up(self) -> None:
        """Until it answers."""
        async with aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError, OSError):
                    async with session.get(f"http://127.0.0.1:{self.port}/health") as answer:
                        if answer.status == 200:
                            self.is_up = True
                            return
                await asyncio.sleep(0.02)

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(sign)

    async def gone(self) -> int:
        assert self.process is not None
        return await self.process.wait()

    async def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.send(signal.SIGKILL)
            await self.gone()


@asynccontextmanager
async def upstream(pause_s: float) -> AsyncIterator[str]:
    """A model server that outlives them all."""
    port = free_port()
    command = [sys.executable, str(HERE / "upstream.py"), "--port", str(port), "--pause-s", str(pause_s)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError, OSError):
                    async with session.get(f"http://127.0.0.1:{port}/v1/models"):
                        break
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        await process.wait()


class Client:
    """Creates a response, follows its stream through every break, and checks all of it."""

    def __init__(
        self, url: str, story: Story, chance: random.Random, findings: Findings, *, streamed: bool = True
    ) -> None:
        self._client = AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, timeout=httpx2.Timeout(30.0, connect=5.0)
        )
        self._url = url
        self._story = story
        self._chance = chance
        self._findings = findings
        self._streamed = streamed
        self._id = ""
        self._last = -1
        self._moved = 0.0
        self._ended = False

    async def run(self) -> None:
        """From the request to the last check."""
        self._findings.responses += 1
        await self._create()
        while not self._ended:
            try:
                stream = await self._client.responses.retrieve(self._id, stream=True, starting_after=self._last)
                self._findings.resumed += 1
                await self._follow(stream)
            except openai.BadRequestError as error:
                self._fault(f"a number that was seen is refused: {error}")
                return
            except openai.NotFoundError:
                self._fault("an acknowledged response is lost")
                return
            except BROKEN:
                await asyncio.sleep(0.05)
        await self._check()
        await self._client.close()

    def _fault(self, text: str) -> None:
        self._findings.note(f"{self._story.name} {self._id} after {self._last}: {text}")

    async def _create(self) -> None:
        """Until it is acknowledged. A request that broke off may have been kept too; then it runs for nobody."""
        tools = [] if self._story.tool == "none" else [RECORDER]
        while not self._id:
            try:
                made: Any = await self._client.responses.create(
                    model="teller", input=self._story.input, tools=tools, background=True, stream=self._streamed
                )
                if self._streamed:
                    await self._follow(made)
                else:
                    self._acknowledged(made.id)
            except BROKEN:
                await asyncio.sleep(0.05)

    def _acknowledged(self, id: str) -> None:
        self._id = id
        self._findings.acknowledged += 1
        self._moved = time.monotonic()

    async def _follow(self, stream: Any) -> None:
        """Take events, and drop the connection now and then."""
        patience = self._chance.randint(1, 60) if self._chance.random() < 0.4 else None
        try:
            async for event in stream:
                self._take(event)
                if self._ended:
                    return
                if patience is not None and (patience := patience - 1) == 0:
                    return
        finally:
            await stream.close()

    def _take(self, event: Any) -> None:
        now = time.monotonic()
        if self._moved:
            self._findings.longest_stall_s = max(self._findings.longest_stall_s, now - self._moved)
        self._moved = now
        if event.type == "response.created" and not self._id:
            self._acknowledged(event.response.id)
        if event.sequence_number != self._last + 1:
            kind = "gap" if event.sequence_number > self._last + 1 else "duplicate"
            self._fault(f"{kind}: {event.sequence_number} after {self._last}")
        self._last = event.sequence_number
        self._findings.events += 1
        if event.type in ("response.completed", "response.failed", "response.incomplete"):
            self._ended = True

    # Once it has ended

    async def _check(self) -> None:
        first = await self._insisted(self._replay)
        if first != await self._insisted(self._replay):
            self._fault("two replays differ")
        numbers = [msgspec.json.decode(line)["sequence_number"] for line in data_of(first)]
        if numbers != list(range(self._last + 1)):
            self._fault(f"a replay has other numbers than the stream: {len(numbers)} of {self._last + 1}")
        self._findings.replays += 2
        response = await self._insisted(lambda: self._client.responses.retrieve(self._id))
        if response.status != "completed":
            self._fault(f"it ended {response.status}: {response.error}")
        if response.output_text != self._story.text:
            self._fault(f"the text is wrong: {response.output_text[:200]!r}")
        final = msgspec.json.decode(data_of(first)[-1])["response"]["output"]
        if [item["id"] for item in final] != [item.id for item in response.output]:
            self._fault("the stream's last event and the response differ")
        if await self._insisted(self._accumulated) != self._story.text:
            self._fault("the accumulator's text is wrong")

    async def _accumulated(self) -> str:
        async with self._client.responses.stream(response_id=self._id) as stream:
            return (await stream.get_final_response()).output_text

    async def _insisted(self, ask: Any) -> Any:
        while True:
            try:
                return await ask()
            except BROKEN:
                await asyncio.sleep(0.05)

    async def _replay(self) -> bytes:
        url = f"{self._url}/responses/{self._id}"
        async with aiohttp.ClientSession() as session, session.get(url, params={"stream": "true"}) as answer:
            body = await answer.read()
            if not body.endswith(b"data: [DONE]\n\n"):
                raise aiohttp.ClientPayloadError("cut off")
            return body


def data_of(body: bytes) -> list[bytes]:
    """The events of a stream as JSON."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return lines[:-1]


def check_calls(calls: Path, findings: Findings) -> None:
    """Every call that writes was begun once at most; what reads may be called again."""
    begun: dict[str, int] = {}
    ended: set[str] = set()
    for line in calls.read_bytes().splitlines() if calls.exists() else ():
        call = msgspec.json.decode(line)
        key = f"{call['name']} {call['response']}"
        if call["event"] == "begun":
            begun[key] = begun.get(key, 0) + 1
        else:
            ended.add(key)
    for key, count in begun.items():
        if count > 1 and key.startswith("write"):
            findings.note(f"{key} was begun {count} times")
    findings.cut_calls = len(begun.keys() - ended)


async def torment(server: Server, kills: int, chance: random.Random, findings: Findings, done: asyncio.Event) -> None:
    """Kill, pause and stop the server until it has been killed often enough."""
    with Progress(transient=True) as progress:
        bar = progress.add_task("kills", total=kills)
        while findings.kills < kills:
            await asyncio.sleep(chance.uniform(0.0, 1.2))
            fate = chance.random()
            if fate < 0.1:
                server.send(signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(0.2, 2.0))
                server.send(signal.SIGCONT)
                findings.stops += 1
                continue
            if fate < 0.2:
                server.send(signal.SIGTERM)
                findings.terms += 1
                status = await server.gone()
                if status != 0 and server.is_up:
                    findings.note(f"SIGTERM ended it with status {status}")
            else:
                server.send(signal.SIGKILL)
                findings.kills += 1
                await server.gone()
            await server.start()
            # Now and then before it is up, too.
            if chance.random() < 0.8:
                await server.up()
            progress.update(bar, completed=findings.kills)
    done.set()


async def tell(server: Server, number: int, chance: random.Random, findings: Findings, done: asyncio.Event) -> None:
    """One client's responses, one after the other."""
    told = 0
    while not done.is_set():
        story = Story(f"s{number}x{told}", chance.randint(3, 60), chance.choice(["none", "write", "read"]))
        await Client(server.url, story, chance, findings, streamed=chance.random() < 0.8).run()
        told += 1


async def chaos(kills: int, clients: int, seed: int, folder: Path) -> Findings:
    """Clients and a tormentor, until the server has died often enough and every response has come to its end."""
    chance, findings, done = random.Random(seed), Findings(), asyncio.Event()
    async with upstream(0.02) as model_server:
        server = Server(folder, model_server)
        await server.start()
        await server.up()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(torment(server, kills, chance, findings, done))
                for number in range(clients):
                    group.create_task(tell(server, number, random.Random(seed * 1000 + number), findings, done))
            await no_run_is_left(server, findings)
        finally:
            await server.end()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{model_server.removesuffix('/v1')}/faults") as answer,
        ):
            findings.faults += await answer.json()
    check_calls(server.calls, findings)
    return findings


async def no_run_is_left(server: Server, findings: Findings) -> None:
    """Requests whose clients never heard of them come to their end too."""
    client = AsyncOpenAI(base_url=server.url, api_key="none")
    for status in ("queued", "in_progress"):
        query: Any = {"params": {"status": status}}
        while (await client.get("/responses", cast_to=dict[str, Any], options=query))["data"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await client.close()


async def at_each_commit(where: str, folder: Path) -> Findings:
    """One response with a tool, once for every commit that it takes; at each of them the server dies."""
    findings = Findings()
    async with upstream(0.01) as model_server:
        for commit in range(1, COMMITS_MAX):
            kills = findings.kills
            await one_death(model_server, folder / f"{where}{commit}", commit, where, findings)
            if findings.kills == kills:
                return findings
    raise AssertionError(f"a response takes {COMMITS_MAX} commits")


async def one_death(model_server: str, folder: Path, commit: int, where: str, findings: Findings) -> None:
    """A server that dies at one of its commits, if it has so many."""
    folder.mkdir(parents=True)
    server = Server(folder, model_server, "--call-s", "0.02")
    await server.start("--die", f"{commit}:{where}")
    watching = asyncio.create_task(reborn(server, findings))
    try:
        story = Story(f"c{commit}", 4, ("write", "read")[commit % 2])
        await Client(server.url, story, random.Random(commit), findings).run()
        # Packing the log is a commit that nobody waits for: the next request comes behind it.
        await Client(server.url, Story("last", 1, "none"), random.Random(0), findings).run()
    finally:
        watching.cancel()
        await server.end()
    check_calls(server.calls, findings)


async def reborn(server: Server, findings: Findings) -> None:
    """Start the server again when it has died."""
    await server.gone()
    findings.kills += 1
    await server.start()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--commits", action="store_true", help="die at each commit in turn as well")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="antiphon-crash-"))
    print(f"seed {options.seed}, folder {folder}", flush=True)
    all_findings = [asyncio.run(chaos(options.kills, options.clients, options.seed, folder))]
    if options.commits:
        all_findings += [asyncio.run(at_each_commit(where, folder)) for where in ("before", "after")]
    for findings in all_findings:
        print(findings.summary())
        print(*findings.faults[:50], sep="\n")
    return int(any(findings.faults for findings in all_findings))


if __name__ == "__main__":
    os.environ.pop("OPENAI_BASE_URL", None)
    sys.exit(main())
