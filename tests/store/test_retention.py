"""What is over goes, and its room comes back."""

from pathlib import Path

import pytest

from antiphon.store import Figures, Store, StoreUnavailable
from antiphon.store.memory import MemoryStore
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.sweeper import KEEP_FREE_BYTES, STEP_RESPONSES, Sweeper
from antiphon.testing import FakeClock
from antiphon.testing.check_store import OWNER, OpenStore, a_record, history_ids

DAY_S = 86_400


def sweeper(store: Store, clock: FakeClock, *, days: float = 0, bytes_max: int = 0) -> Sweeper:
    return Sweeper(store, retention_days=days, bytes_max=bytes_max, clock=clock)


async def test_what_is_past_its_time_goes(open_store: OpenStore) -> None:
    clock = FakeClock()
    async with open_store() as store:
        count = 2 * STEP_RESPONSES + 5
        for n in range(count):
            await store.commit(a_record(f"r{n}", created_at=int(clock.now)))
        clock.now += 10 * DAY_S
        await store.commit(a_record("child", previous="r0", created_at=int(clock.now)))
        clock.now += 20 * DAY_S
        assert await sweeper(store, clock, days=30).sweep() == 0, "thirty days are not over before they are over"
        clock.now += 1
        assert await sweeper(store, clock, days=0).sweep() == 0, "0 is for ever"
        assert await sweeper(store, clock, days=30).sweep() == count
        assert await store.get(OWNER, "r0") is None
        assert await history_ids(store, "child") == ["r0_in", "r0_out", "child_in", "child_out"]
        clock.now += 10 * DAY_S
        assert await sweeper(store, clock, days=30).sweep() == 1
        assert await store.records(after=None, limit=1) == []


async def test_the_oldest_go_where_there_is_no_room(open_store: OpenStore) -> None:
    clock = FakeClock()
    async with open_store() as store:
        for n in range(300):
            output = [f"o{n}_{m}" for m in range(20)]
            await store.commit(a_record(f"r{n:03}", created_at=n, output=output))
        bytes_max = (await store.figures()).used_bytes // 2
        assert 0 < await sweeper(store, clock, bytes_max=bytes_max).sweep() < 300
        assert (await store.figures()).used_bytes <= bytes_max
        left = [record.id for record in await store.records(after=None, limit=300)]
        assert left == [f"r{n:03}" for n in range(300 - len(left), 300)], "not the oldest went"


async def test_a_bound_below_what_an_empty_store_takes_ends(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.commit(a_record("r1"))
    assert await sweeper(store, FakeClock(), bytes_max=1).sweep() == 1
    assert await sweeper(store, FakeClock(), bytes_max=1).sweep() == 0
    await store.close()


async def test_space_goes_back_but_for_what_is_needed_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    output = [f"o{n}" for n in range(3000)]
    for n in range(100):
        await store.commit(a_record(f"r{n}", created_at=n, output=output))
    before = await store.figures()
    assert before.used_bytes > 2 * KEEP_FREE_BYTES
    await sweeper(store, FakeClock(), days=1).sweep()
    after = await store.figures()
    await store.close()
    file_bytes = (tmp_path / DATABASE_NAME).stat().st_size
    assert after.used_bytes < 1 << 20
    assert KEEP_FREE_BYTES <= file_bytes < KEEP_FREE_BYTES + after.used_bytes + (1 << 20) < before.used_bytes


class Stubborn(MemoryStore):
    """Cannot be read the first time."""

    tries = 0

    async def figures(self) -> Figures:
        self.tries += 1
        if self.tries == 1:
            raise StoreUnavailable("the disk is gone")
        return await super().figures()


async def test_a_store_that_fails_once_is_swept_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    monkeypatch.setattr("antiphon.sweeper.INTERVAL_S", 0.001)
    store = Stubborn()
    await store.commit(a_record("r1"))
    running = asyncio.create_task(sweeper(store, FakeClock(), bytes_max=1).run())
    async with asyncio.timeout(30):
        while len(store):  # noqa: ASYNC110  (nothing to wait for)
            await asyncio.sleep(0.001)
    running.cancel()
    assert "the disk is gone" in caplog.text
