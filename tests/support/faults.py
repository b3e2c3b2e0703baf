"""A store with bad days: calls fail before they did anything or after they did it all, take their time, and go on
although nobody waits for them any more.

What happens to a call depends on the seed, the method, what it is about, and how often that was done before; not on
what others do meanwhile. So a run can be had again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from antiphon.store import ConversationLock, Store, StoreUnavailable
from antiphon.store.runs import NewRun
from antiphon.store.sqlite.locks import Locks
from antiphon.wire import Id

_WRITES = frozenset({
    "runs.enqueue", "runs.claim", "runs.append", "runs.finish", "runs.release", "runs.recover", "runs.requeue_lost",
    "runs.cancel", "runs.seal", "responses.delete",
})  # fmt: skip
_OF_NODES = frozenset({"runs.claim", "runs.recover", "runs.requeue_lost"})
"""Those that are about the process itself, whose name there is a random one."""
_READS = frozenset({
    "runs.read_events", "responses.get", "items.load_context", "items.load_history", "conversations.load_history",
})  # fmt: skip


class Weather(msgspec.Struct):
    """How often what goes wrong; shares from 0 to 1, seconds.

    Attributes:
        lost: calls that fail and have done nothing.
        unknown: writes that fail although they were done.
        late: cancelled writes that are done all the same, later.
        slow_s: how long a call takes at most, before it is done and again behind.
        down: whether every call fails.
    """

    lost: float = 0.0
    unknown: float = 0.0
    late: float = 0.0
    slow_s: float = 0.0
    down: bool = False


class Life:
    """One life of a process: after its crash nothing that it still tries has any effect, and nothing answers it.

    Attributes:
        crashed: whether it has ended without a chance to clean up.
        buried: whether what is left of it shall end, so that its event loop can be closed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.crashed = False
        self.buried = False
        self._awake = asyncio.Event()
        self._awake.set()

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does."""
        self._awake.clear()

    def resume(self) -> None:
        """Let it go on; it does not know that it was away."""
        self._awake.set()

    async def lived(self) -> None:
        """Returns while the process lives; never after its crash.

        Raises:
            StoreUnavailable: the process is to be cleared away.
        """
        if self.buried:
            raise StoreUnavailable("This process is no more.")
        if self.crashed:
            await asyncio.get_running_loop().create_future()
        if not self._awake.is_set():
            await self._awake.wait()
            await self.lived()


class FaultyStore:
    """A process's view of a store that others may share; implements ``antiphon.store.Store``.

    Locks on conversations end with the process, as where it owns the store.
    """

    def __init__(self, store: Store, life: Life, weather: Weather, seed: int) -> None:
        self._store = store
        self._life = life
        self._weather = weather
        self._seed = seed
        self._count: Counter[str] = Counter()
        self._under_way: set[asyncio.Task[Any]] = set()
        for name in ("responses", "items", "runs"):
            setattr(self, name, _FaultyPort(name, getattr(store, name), self.call))
        self.conversations = _FaultyConversations("conversations", store.conversations, self.call)

    @classmethod
    def of(cls, store: Store, life: Life, weather: Weather, seed: int) -> Store:
        """As the type checker shall see it."""
        return cast(Store, cls(store, life, weather, seed))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def call(self, name: str, subject: str, work: Callable[[], Awaitable[Any]]) -> Any:
        key = f"{self._seed} {self._life.name} {name} {subject}"
        self._count[key] += 1
        dice = random.Random(f"{key} {self._count[key]}")
        await self._life.lived()
        if self._weather.down or dice.random() < self._weather.lost:
            raise StoreUnavailable(f"{name} was not done.")
        unknown = name in _WRITES and dice.random() < self._weather.unknown
        doing = asyncio.create_task(self._done(work, dice))
        self._under_way.add(doing)
        doing.add_done_callback(self._over)
        try:
            found = await asyncio.shield(doing)
        except asyncio.CancelledError:
            # A write that is on its way arrives, or does not: who has left will not hear of it.
            if name not in _WRITES or dice.random() >= self._weather.late:
                doing.cancel()
            raise
        if unknown:
            raise StoreUnavailable(f"Whether {name} was done is not known.")
        return found

    async def _done(self, work: Callable[[], Awaitable[Any]], dice: random.Random) -> Any:
        before_s, after_s = (dice.random() ** 4 * self._weather.slow_s for _ in range(2))
        await asyncio.sleep(before_s)
        await self._life.lived()
        found = await work()
        await asyncio.sleep(after_s)
        await self._life.lived()
        return found

    def _over(self, doing: asyncio.Task[Any]) -> None:
        self._under_way.discard(doing)
        if not doing.cancelled():
            doing.exception()


class _FaultyPort:
    """One port of it."""

    def __init__(self, name: str, port: Any, call: Callable[..., Awaitable[Any]]) -> None:
        self._name = name
        self._port = port
        self._call = call

    def __getattr__(self, name: str) -> Any:
        method, full = getattr(self._port, name), f"{self._name}.{name}"
        if full not in _WRITES | _READS:
            return method

        async def call(*args: Any, **named: Any) -> Any:
            about = "" if full in _OF_NODES else _subject(args)
            return await self._call(full, about, lambda: method(*args, **named))

        return call


class _FaultyConversations(_FaultyPort):
    def __init__(self, name: str, port: Any, call: Callable[..., Awaitable[Any]]) -> None:
        super().__init__(name, port, call)
        self._locks = Locks()

    async def lock(self, project: str, id: Id) -> ConversationLock:
        """See ``ConversationStore.lock``."""
        return self._locks.take(project, id)


def _subject(args: tuple[Any, ...]) -> str:
    """The run or response that a call is about."""
    if args and isinstance(args[0], NewRun):
        return args[0].record.id
    return " ".join(arg for arg in args if isinstance(arg, str))
