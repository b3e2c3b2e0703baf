"""The loop that claims jobs: room, refusals of the store, handing on."""

import asyncio
from collections.abc import Sequence

from antiphon.background.jobs import JobLoop
from antiphon.log import Notifier
from antiphon.store import StoreUnavailable


class Errands:
    """Jobs that last until they are told to end."""

    topic = "errands"

    def __init__(self, *waiting: str) -> None:
        self.waiting = list(waiting)
        self.refusals = 0
        self.begun: list[str] = []
        self.given_back: list[str] = []
        self.settled: list[str] = []
        self.stopped: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.news = asyncio.Event()
        self.claiming = asyncio.Event()
        self.claiming.set()

    def key(self, job: str) -> str:
        return job

    async def claim(self, room: int) -> Sequence[str]:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("full")
        found, self.waiting = self.waiting[:room], self.waiting[room:]
        await self.claiming.wait()
        return found

    async def give_back(self, job: str) -> None:
        self.given_back.append(job)

    async def settle(self, job: str) -> None:
        assert job not in self.stopped
        self.settled.append(job)

    async def work_on(self, job: str) -> None:
        self.begun.append(job)
        self.ends[job] = asyncio.Event()
        self.news.set()
        try:
            await self.ends[job].wait()
        except asyncio.CancelledError:
            self.stopped.append(job)
            raise

    def drop(self, job: str) -> None:
        self.news.set()

    async def heard(self) -> None:
        """Until something has happened."""
        await self.news.wait()
        self.news.clear()


async def test_jobs_are_done_as_there_is_room() -> None:
    kind, notifier = Errands("a", "b", "c"), Notifier()
    loop = JobLoop(kind, notifier, 2)
    working = asyncio.create_task(loop.work())
    while len(kind.begun) < 2:
        await kind.heard()
    assert kind.begun == ["a", "b"] and list(loop.held) == ["a", "b"]
    kind.ends["a"].set()
    while len(kind.begun) < 3:
        await kind.heard()
    await loop.stop("b")
    assert kind.stopped == ["b"] and list(loop.held) == ["c"]
    await loop.drain(1)
    await working
    assert (kind.settled, kind.stopped) == (["c"], ["b", "c"]), "handed on once it may be stopped"


async def test_a_store_that_cannot_be_asked_is_asked_again() -> None:
    kind, notifier = Errands(), Notifier()
    loop = JobLoop(kind, notifier, 1)
    kind.waiting, kind.refusals = ["a"], 1
    working = asyncio.create_task(loop.work())
    await asyncio.sleep(0)
    notifier.notify("errands")
    await kind.heard()
    assert kind.begun == ["a"]
    await loop.drain(0)
    await working


async def test_what_is_claimed_while_it_drains_is_given_back() -> None:
    kind, notifier = Errands("a"), Notifier()
    kind.claiming.clear()
    loop = JobLoop(kind, notifier, 1)
    working = asyncio.create_task(loop.work())
    await asyncio.sleep(0)
    await loop.drain(0)
    kind.claiming.set()
    await working
    assert (kind.begun, kind.given_back) == ([], ["a"])
