"""Background responses under everything that can go wrong, in time that does not pass: workers that crash, pause, drain
and are overtaken, a store that fails before or after it did what it was asked, clients that leave, cancel and delete.

A seed gives a run, always the same one. ``ANTIPHON_SEEDS=5000`` tries more of them, ``ANTIPHON_SEED=17`` that one.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from faults import FaultyStore, Life, Weather
from memory_keys import MemoryKeys
from timeless import TimelessLoop

from antiphon.access.keyring import Admission, Caller, Keyring
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.log import Interrupted, decode_event
from antiphon.models import Call, Delta, Finish, Function, Prompt, Text, ToolHelp, Usage
from antiphon.state import State
from antiphon.store import Conversation, Record, Store, StoreUnavailable, sqlite
from antiphon.store.sqlite import DATABASE_NAME, Limits, SqliteStore, threads
from antiphon.store.sqlite.executor import Job, attempt
from antiphon.testing.serving import OneModel
from antiphon.tools import HostedTool, Outcome, Scope, ToolCall
from antiphon.tools.mcp import lower_mcp_call
from antiphon.tools.toolbox import Toolbox
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, UpstreamError
from antiphon.writer import Item

PROJECT = ""
BAD_S = 60.0
"""How long things go wrong; what was accepted has to come to its end behind it."""
PATIENCE_S = 300.0
TERMINAL = {"completed", "failed", "cancelled", "incomplete"}
ONE = os.environ.get("ANTIPHON_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("ANTIPHON_SEEDS", "200")))


class Turn(NamedTuple):
    text: str
    calls: Sequence[str]
    function: bool = False


class Tale(NamedTuple):
    """What the model says to one request, whatever happens meanwhile."""

    turns: Sequence[Turn]
    fails: bool

    def told(self) -> list[tuple[str, str]]:
        """The items of the answer as they are when nothing went wrong."""
        found: list[tuple[str, str]] = []
        for turn in self.turns:
            found.append(("message", turn.text))
            # Calls of the caller's tools become visible whole, behind all hosted ones or before them.
            found += [("function_call", "f")] if turn.function else []
            found += [("mcp_call", name) for name in turn.calls]
        return sorted(found)


def a_tale(n: int, dice: random.Random) -> Tale:
    turns = [
        Turn(
            f"({n}.{t}: {'tell me more ' * dice.randrange(1, 4)})",
            dice.choices(["write", "read"], k=dice.randrange(1, 3)),
        )
        for t in range(dice.choice([0, 0, 1, 2]))
    ]
    last = dice.choice([(), (), ("write",)])
    turns.append(Turn(f"({n}: the end.)", last, function=bool(last) or dice.random() < 0.2))
    return Tale(turns, fails=dice.random() < 0.1)


class Teller:
    """The model: goes on with what was begun, to the letter."""

    name, supports_images, context_tokens = "teller", True, None

    def __init__(self, world: "World", life: Life) -> None:
        self._world, self._life = world, life
        self.supports_prefill = world.supports_prefill
        self.tool_help: ToolHelp = "read"
        self.accepts = ()

    async def count(self, prompt: Prompt) -> int:
        return 0

    async def close(self) -> None: ...

    @asynccontextmanager
    async def sample(self, prompt: Prompt) -> AsyncIterator[AsyncIterator[Sequence[Delta]]]:
        await self._life.lived()
        async with aclosing(self._say(prompt)) as said:
            yield said

    async def _say(self, prompt: Prompt) -> AsyncIterator[Sequence[Delta]]:
        n, turn = self._place(prompt)
        tale = self._world.tales[n]
        told = tale.turns[turn]
        if not told.text.startswith(prompt.prefix):
            self._world.wrong(f"tale {n}: {told.text!r} does not begin with {prompt.prefix!r}")
        dice = self._world.dice("sample", n, turn, len(prompt.prefix), self._life.name)
        rest = told.text[len(prompt.prefix) :]
        while rest:
            size = dice.randrange(1, 12)
            await self._wait(dice)
            yield (Text(rest[:size]),)
            rest = rest[size:]
            if tale.fails and turn == len(tale.turns) - 1:
                break
        if tale.fails and turn == len(tale.turns) - 1:
            if n % 2:
                raise UpstreamError("It fell over.")
            return
        calls: list[Delta] = [Call(key, name, "{}", f"call_{key}") for key, name in enumerate(told.calls)]
        if told.function:
            calls.append(Call(len(calls), "f", '{"a":1}', "call_f"))
        await self._wait(dice)
        yield (*calls, Finish("stop", Usage(input=1, output=len(told.text))))

    async def _wait(self, dice: random.Random) -> None:
        await asyncio.sleep(dice.random() ** 3 * self._world.pace_s)
        await self._life.lived()

    def _place(self, prompt: Prompt) -> tuple[int, int]:
        last = max(i for i, item in enumerate(prompt.items) if item.get("role") == "user")
        n = int(prompt.items[last]["content"][0]["text"])
        made = sum(item.get("name") in ("write", "read") for item in prompt.items[last:])
        turns = self._world.tales[n].turns
        turn = next(
            (t for t in range(len(turns)) if sum(len(each.calls) for each in turns[: t + 1]) > made), len(turns) - 1
        )
        if turns[-1].calls and made >= sum(len(each.calls) for each in turns):
            self._world.wrong(f"tale {n}: asked again although all has been said")
        return n, turn


class Hand(HostedTool):
    """The hosted tool: what it does is written down, for ever."""

    kinds, items = ("mcp",), ("mcp_call",)

    def __init__(self, world: "World", life: Life) -> None:
        self._world, self._life = world, life

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("write", ""), Function("read", "")]

    def repeats(self, name: str) -> bool:
        return name == "read"

    def lower(self, item: Json) -> Sequence[Json]:
        return lower_mcp_call(item)

    def begin(self, call: ToolCall, spec: Json) -> Json:
        more = {"server_label": "x", "output": None, "error": None, "approval_request_id": None}
        return {"type": "mcp_call", "name": call.name, **more}

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        await self._life.lived()
        self._world.effects.append((item.id, call.name))
        dice = self._world.dice("tool", item.id, self._life.name)
        await asyncio.sleep(dice.random() ** 3 * 20)
        await self._life.lived()
        return Outcome({"output": "done"})

    def fail(self, reason: str) -> Outcome:
        return Outcome({"error": {"type": "mcp_tool_execution_error", "content": []}}, failed=True)


class Counting(Keyring):
    """Counts how often each response is settled, by the key that it came with: each has its own."""

    def __init__(self, world: "World", life: Life) -> None:
        super().__init__(MemoryKeys(), MemoryKeys(), clock=world.clock, now=world.clock)
        self._world, self._life = world, life

    def settle(
        self, admission: Admission, used: Usage, estimated: bool, cost_micros: int = 0, **charged: object
    ) -> None:
        if not self._life.crashed:
            self._world.settled.append((admission.key_id, self._life.name))


class Process:
    """A server's process, without its edge."""

    def __init__(self, world: "World", n: int) -> None:
        self.life = Life(f"life{n}")
        self.store = FaultyStore.of(world.raw, self.life, world.weather, world.seed)
        self.engine = Engine(
            Config(background_running_max=world.running_max, background_attempts_max=10_000_000),
            OneModel(Teller(world, self.life)),
            self.store,
            Counting(world, self.life),
            clock=world.clock,
            ids=world.ids,
            toolbox=Toolbox([Hand(world, self.life)]),
        )
        self.up = asyncio.Event()
        self.ending = asyncio.Event()
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        async with self.engine.background.working(2.0):
            self.up.set()
            await self.ending.wait()

    @property
    def open(self) -> bool:
        """Whether it answers, or seems to."""
        return self.up.is_set() and not self.ending.is_set() and not self.life.crashed and not self.task.done()

    async def stop(self) -> None:
        """SIGTERM, and then it is over."""
        self.ending.set()
        await asyncio.wait([self.task], timeout=60)
        self.life.crashed = True


class World:
    """One run of the simulation."""

    def __init__(self, seed: int, raw: Store) -> None:
        self.seed, self.raw = seed, raw
        dice = self._dice = random.Random(seed)
        self.several = seed % 3 == 2
        self.supports_prefill = dice.random() < 0.7
        self.running_max = dice.choice([1, 2, 8])
        self.pace_s = dice.choice([0.2, 4.0])
        rough = dice.choice([0.0, 0.02, 0.1])
        self.weather = Weather(
            lost=rough, unknown=rough, late=dice.choice([0.0, 0.5]), slow_s=dice.choice([0.0, 0.05, 3.0])
        )
        self.tales = [a_tale(n, dice) for n in range(dice.randrange(2, 7))]
        self.processes: list[Process] = []
        self.effects: list[tuple[str, str]] = []
        self.settled: list[tuple[str, str]] = []
        self.accepted: dict[int, str] = {}
        self.seen: dict[str, list[list[bytes]]] = {}
        self.cancelled: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.faults: list[str] = []
        self._numbers = count()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[Any]] = []

    def clock(self) -> float:
        return 1_700_000_000 + self._loop.time()

    def ids(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):012d}"

    def dice(self, *about: object) -> random.Random:
        return random.Random(f"{self.seed} {about}")

    def wrong(self, text: str) -> None:
        self.faults.append(text)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def run(self) -> None:
        for n in range(2):
            new = Conversation(id=f"conv_{n}", project=PROJECT, created_at=0, used_at=0, metadata={})
            await self.raw.conversations.create(new, [])
        lives = asyncio.create_task(self._several() if self.several else self._one_after_the_other())
        for n in range(len(self.tales)):
            self.spawn(self._client(n, self.dice("client", n)))
        if self._dice.random() < 0.3:
            self.spawn(self._outage())
        await asyncio.sleep(BAD_S)
        self.weather.lost = self.weather.unknown = 0.0
        self.weather.down = False
        await lives
        until_s = self._loop.time() + PATIENCE_S
        # Clients start readers.
        while (late := [task for task in self._tasks if not task.done()]) and self._loop.time() < until_s:
            await asyncio.wait(late, timeout=1)
        if late:
            self.wrong(f"{len(late)} clients or readers wait for ever")
        await self._quiet()
        for task in self._tasks:
            if task.done():
                task.result()
        await self._check()

    async def _quiet(self) -> None:
        for _ in range(int(PATIENCE_S)):
            if not await self.raw.runs.requeue_lost("nobody", []):
                return
            await asyncio.sleep(1)
        self.wrong(f"not ended: {await self.raw.runs.requeue_lost('nobody', [])}")

    # Processes

    def _begin(self) -> Process:
        self.processes.append(Process(self, len(self.processes)))
        return self.processes[-1]

    async def _started(self) -> Process:
        """A process that is up; a supervisor starts it again until it is."""
        while True:
            process = self._begin()
            up = asyncio.create_task(process.up.wait())
            await asyncio.wait([up, process.task], return_when=asyncio.FIRST_COMPLETED)
            if not process.task.done():
                return process
            up.cancel()
            if not isinstance(process.task.exception(), StoreUnavailable):
                process.task.result()
            process.life.crashed = True
            await asyncio.sleep(1)

    async def _one_after_the_other(self) -> None:
        dice = self.dice("lives")
        while True:
            process = await self._started()
            await asyncio.sleep(dice.choice([0.3, 5.0, 30.0]) * dice.random())
            if self._loop.time() > BAD_S:
                return
            if dice.random() < 0.5:
                process.life.crashed = True
            else:
                await process.stop()

    async def _several(self) -> None:
        """Each new one takes over from all before it, which go on as if nothing had happened."""
        dice = self.dice("lives")
        while self._loop.time() < BAD_S:
            process = await self._started()
            await asyncio.sleep(20 * dice.random())
            match dice.randrange(3):
                case 0:
                    process.life.pause()
                    self._loop.call_later(30 * dice.random(), process.life.resume)
                case 1:
                    process.life.crashed = True
                case _:
                    pass
        await self._started()

    async def _outage(self) -> None:
        dice = self.dice("outage")
        await asyncio.sleep(30 * dice.random())
        self.weather.down = True
        await asyncio.sleep(60 * dice.random())
        self.weather.down = False

    async def _process(self, dice: random.Random) -> Process:
        while not (found := [process for process in self.processes if process.open]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return dice.choice(found)

    # Clients

    async def _asked(self, dice: random.Random, work: Callable[[Engine], Coroutine[Any, Any, Any]]) -> Any:
        """What a process answers; None for an error, or when the client has waited long enough."""
        process = await self._process(dice)
        with suppress(ApiError, TimeoutError):
            patience_s = dice.choice([0.01, 1.0, 30.0, 30.0])
            return await asyncio.wait_for(work(process.engine), patience_s)
        return None

    async def _client(self, n: int, dice: random.Random) -> None:
        await asyncio.sleep(dice.random() * 30)
        body: Json = {"model": "m", "input": str(n), "background": True, "tools": TOOLS, "store": dice.random() < 0.9}
        if not self.several and dice.random() < 0.5:
            body["conversation"] = f"conv_{dice.randrange(2)}"
        id = await self._asked(dice, lambda engine: self._submitted(engine, body, str(n)))
        if id is None:
            return
        self.accepted[n] = id
        for _ in range(dice.randrange(3)):
            self.spawn(self._reader(id, random.Random(dice.random())))
        await asyncio.sleep(dice.random() * 10)
        match dice.randrange(6):
            case 0 | 1:
                await self._cancel(id, dice)
            case 2:
                if await self._asked(dice, lambda engine: self._deleted(engine, id)):
                    self.deleted.add(id)
            case _:
                pass

    async def _submitted(self, engine: Engine, body: Json, key: str) -> str:
        run = await engine.responses.accept(body, Caller(PROJECT, key))
        return (await engine.background.submit(run)).id

    async def _deleted(self, engine: Engine, id: str) -> bool:
        await engine.responses.delete(PROJECT, id)
        return True

    async def _cancel(self, id: str, dice: random.Random) -> None:
        for _ in range(3):
            found = await self._asked(dice, lambda engine: engine.responses.cancel(PROJECT, id))
            if found is not None and found.status == "cancelled":
                self.cancelled[id] = len(await self._log(id))
                return

    async def _reader(self, id: str, dice: random.Random) -> None:
        seen: list[bytes] = []
        self.seen.setdefault(id, []).append(seen)
        while True:
            process = await self._process(dice)
            tail = process.engine.background.tail(PROJECT, id, len(seen) - 1)
            with suppress(TimeoutError, Interrupted, StoreUnavailable):
                async with asyncio.timeout(dice.random() * 20), tail.pieces() as pieces:
                    async for lines in pieces:
                        seen += lines
                    return
            await asyncio.sleep(dice.random())

    async def _log(self, id: str) -> list[bytes]:
        piece = await self.raw.runs.read_events(PROJECT, id, after=-1, bytes_max=1 << 30)
        return list(piece.batch.events) if piece else []

    # What must hold

    async def _check(self) -> None:
        records = {record.id: record for record in await self.raw.retention.read_records(after=None, limit=1000)}
        for n, id in self.accepted.items():
            if id not in records and id not in self.deleted and not await self._was_deleted(id):
                self.wrong(f"tale {n} was accepted, and is lost")
        for record in records.values():
            await self._check_response(record)
        for (item, name), times in Counter(self.effects).items():
            if times > 1 and name == "write":
                self.wrong(f"{item} was done {times} times")
        await self._check_conversations(list(records.values()))
        self._check_usage(records)

    async def _was_deleted(self, id: str) -> bool:
        # By a client that did not hear of it.
        return await self.raw.responses.get(PROJECT, id) is None

    async def _check_response(self, record: Record) -> None:
        id, log = record.id, await self._log(record.id)
        events = [decode_event(line) for line in log]
        state = State()
        for event in events:
            state.fold(event)
        if record.status not in TERMINAL:
            self.wrong(f"{id} is still {record.status}")
        if state.ended == (record.status == "cancelled"):
            self.wrong(f"{id} is {record.status}, and its log has {'an' if state.ended else 'no'} end")
        if msgspec.json.decode(record.doc)["status"] != record.status:
            self.wrong(f"{id} is {record.status}, and says something else")
        for seen in self.seen.get(id, ()):
            if seen != log[: len(seen)] or len(seen) < len(log):
                self.wrong(f"a reader of {id} saw {len(seen)} events, not the {len(log)} that there are")
        if id in self.cancelled and (record.status != "cancelled" or len(log) != self.cancelled[id]):
            self.wrong(f"{id} went on after it was cancelled")
        if record.status in ("completed", "failed"):
            self._check_answer(record)

    def _check_answer(self, record: Record) -> None:
        items = [msgspec.json.decode(item.doc) for item in record.output]
        (asked,) = record.input
        n = int(msgspec.json.decode(asked.doc)["content"][0]["text"])
        tale = self.tales[n]
        if tale.fails != (record.status == "failed"):
            self.wrong(f"tale {n} is {record.status}")
        told = sorted((item["type"], _gist(item)) for item in items)
        if record.status == "completed" and told != tale.told():
            self.wrong(f"tale {n}: {told} instead of {tale.told()}")

    async def _check_conversations(self, records: Sequence[Record]) -> None:
        for n in range(2):
            found = [item.id for item in await self.raw.conversations.load_history(PROJECT, f"conv_{n}") or ()]
            for record in records:
                if record.conversation_id != f"conv_{n}":
                    continue
                own = [item.id for item in (*record.input, *record.output)]
                at = found.index(own[0]) if own[0] in found else -1
                if (found[at : at + len(own)] == own) != (record.status == "completed"):
                    self.wrong(f"{record.id} is {record.status}, and conversation {n} holds {found}")
            last = self.processes[-1]
            try:
                await last.store.conversations.lock(PROJECT, f"conv_{n}")
            except Exception:
                self.wrong(f"conversation {n} is locked for ever")

    def _check_usage(self, records: dict[str, Record]) -> None:
        times = Counter(key for key, _ in self.settled)
        crashed = any(process.life.crashed and not process.ending.is_set() for process in self.processes)
        for n, id in self.accepted.items():
            ended = id in records and records[id].status in ("completed", "failed")
            if not self.several and (times[str(n)] > 1 or (ended and not crashed and not times[str(n)])):
                self.wrong(f"tale {n} was settled {times[str(n)]} times")

    async def trace(self) -> list[Any]:
        """All that came of the run."""
        records = await self.raw.retention.read_records(after=None, limit=1000)
        return [self._loop.time(), self.effects, self.settled, [(each, await self._log(each.id)) for each in records]]


TOOLS: list[Json] = [
    {"type": "mcp", "server_label": "x", "server_url": "https://example.org", "require_approval": "never"},
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}},
]


def _gist(item: Json) -> str:
    return "".join(part["text"] for part in item["content"]) if item["type"] == "message" else item["name"]


def simulated(seed: int, opened: Callable[[], Coroutine[Any, Any, Store]]) -> list[Any]:
    """Run it; what came of it."""

    kept: list[Store] = []

    async def main() -> list[Any]:
        raw = await opened()
        world = World(seed, raw)
        try:
            await world.run()
            assert not world.faults, f"seed {seed}: " + "; ".join(world.faults)
            return await world.trace()
        finally:
            for process in world.processes:
                process.life.buried = True
                process.life.resume()
            kept.append(raw)

    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        try:
            return runner.run(main())
        finally:
            # What is left of the processes has to be gone first.
            left = asyncio.all_tasks(runner.get_loop())
            for task in left:
                task.cancel()
            runner.run(_closed(left, kept))


async def _closed(left: set[asyncio.Task[Any]], stores: Sequence[Store]) -> None:
    await asyncio.gather(*left, return_exceptions=True)
    for store in stores:
        await store.close()


class Straight:
    """An ``Executor`` that works where it is asked to, without threads, which keep a time of their own."""

    def __init__(self, name: str, pending_max: int, bodies: Sequence[Any]) -> None:
        self._body, self._db, self.pending = bodies[0], bodies[0].args[0], 0

    async def run(self, work: Any, *, alone: bool = False) -> Any:
        job = Job(work, asyncio.get_running_loop().create_future(), alone)
        if alone or self._body.func is threads.read:
            outcome = attempt(job, self._db)
        else:
            (outcome,) = threads.commit_group(self._db, [job], self._body.args[2])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    async def close(self) -> None:
        self._db.close()


@pytest.fixture(autouse=True)
def straight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "Executor", Straight)


async def in_memory() -> Store:
    limits = Limits()
    return SqliteStore(sqlite.open_memory(limits), limits)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens(seed: int) -> None:
    simulated(seed, in_memory)


@pytest.mark.parametrize("seed", SEEDS[: max(1, len(SEEDS) // 5)])
def test_whatever_happens_in_a_file(seed: int, tmp_path: Path) -> None:
    async def on_disk() -> Store:
        limits = Limits(readers=1)
        opened = sqlite.open_file(tmp_path / DATABASE_NAME, limits)
        # Nobody pulls the plug here.
        opened.writer.execute("PRAGMA synchronous = OFF")
        return SqliteStore(opened, limits)

    simulated(seed, on_disk)


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    assert simulated(seed, in_memory) == simulated(seed, in_memory)
