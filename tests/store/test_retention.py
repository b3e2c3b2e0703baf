"""What is over goes, and its room comes back."""

from pathlib import Path

import msgspec
import pytest

from antiphon import assembly
from antiphon.config import Config
from antiphon.retention import sweep
from antiphon.retention.clock import JUMP_HELD_S
from antiphon.retention.sweep import (
    DELIVERIES_KEPT_S,
    SAME_AGE_S,
    STEP_RESPONSES,
    Sweeper,
)
from antiphon.store import ConversationLock, Store, StoredItem, StoreStats, StoreUnavailable
from antiphon.store.deliveries import Attempt
from antiphon.store.keys import Charge, ChargeQuery, Spent
from antiphon.store.sqlite import DATABASE_NAME, MEMORY_BYTES_MAX, SqliteStore
from antiphon.testing import FakeClock
from antiphon.testing.check_deliveries import a_delivery, end
from antiphon.testing.check_store import PROJECT, OpenStore, a_record, history_ids
from antiphon.testing.records import a_conversation, an_item

DAY_S = 86_400


def sweeper(
    store: Store, clock: FakeClock, *, days: float = 0, bytes_max: int = 0, ticks: FakeClock | None = None
) -> Sweeper:
    return Sweeper(store, retention_days=days, bytes_max=bytes_max, clock=clock, ticks=ticks or clock)


async def test_what_is_past_its_time_goes(open_store: OpenStore) -> None:
    clock = FakeClock()
    async with open_store() as store:
        count = 2 * STEP_RESPONSES + 5
        for n in range(count):
            await store.responses.commit(a_record(f"r{n}", created_at=int(clock.now)))
        clock.now += 10 * DAY_S
        await store.responses.commit(a_record("child", previous="r0", created_at=int(clock.now)))
        clock.now += 20 * DAY_S
        assert (await sweeper(store, clock, days=30).sweep()).responses == 0, (
            "thirty days are not over before they are over"
        )
        clock.now += 1
        assert (await sweeper(store, clock, days=0).sweep()).responses == 0, "0 is for ever"
        assert (await sweeper(store, clock, days=30).sweep()).responses == count
        assert await store.responses.get(PROJECT, "r0") is None
        assert await history_ids(store, "child") == ["r0_in", "r0_out", "child_in", "child_out"]
        clock.now += 10 * DAY_S
        assert (await sweeper(store, clock, days=30).sweep()).responses == 1
        assert await store.retention.read_records(after=None, limit=1) == []


async def test_records_of_webhooks_go_and_what_waits_stays(open_store: OpenStore) -> None:
    clock = FakeClock()
    async with open_store() as store:
        at = int(clock.now)
        await end(store, "r1", [a_delivery("wh_1", at=at), a_delivery("wh_2", at=at)])
        await store.deliveries.record_attempt("wh_1", Attempt(number=1, at=at, outcome="200"), "delivered", None)
        clock.now += DELIVERIES_KEPT_S
        for left in (["wh_2", "wh_1"], ["wh_2"]):
            await sweeper(store, clock).sweep()
            assert [delivery.id for delivery, _ in await store.deliveries.read_recent(9)] == left
            clock.now += 1


async def test_what_a_response_cost_is_known_as_long_as_it_is_kept(open_store: OpenStore) -> None:
    clock = FakeClock()
    chosen = ChargeQuery(project="p", first_day="0000", last_day="9999")
    async with open_store() as store:
        spent = Spent(key_id="", day="2026-01-01", requests=1)
        made = [
            Charge(response_id=f"r{n}", project="p", model="m", settled_at=int(clock.now) + n, spent=spent)
            for n in range(2)
        ]
        await store.usage.add_usage([], made)
        clock.now += 86_401
        await sweeper(store, clock, days=0).sweep()
        assert len(await store.usage.read_charges(chosen, 9)) == 2, "kept for ever"
        await sweeper(store, clock, days=1).sweep()
        assert [charge.response_id for charge in await store.usage.read_charges(chosen, 9)] == ["r1"]


async def test_the_oldest_go_where_there_is_no_room(open_store: OpenStore) -> None:
    clock = FakeClock()
    async with open_store() as store:
        for n in range(300):
            output = [f"o{n}_{m}" for m in range(20)]
            await store.responses.commit(a_record(f"r{n:03}", created_at=n, output=output))
        bytes_max = (await store.read_stats()).used_bytes // 2
        assert 0 < (await sweeper(store, clock, bytes_max=bytes_max).sweep()).responses < 300
        assert (await store.read_stats()).used_bytes <= bytes_max
        left = [record.id for record in await store.retention.read_records(after=None, limit=300)]
        assert left == [f"r{n:03}" for n in range(300 - len(left), 300)], "not the oldest went"


async def test_idle_conversations_go_too_where_there_is_no_room(open_store: OpenStore) -> None:
    """By age, among the responses; never by time, and not the one that is being written to."""
    async with open_store() as store:
        for n in range(60):
            items = [an_item(f"i{n}_{m}") for m in range(40)]
            await store.conversations.create(a_conversation(f"c{n:02}", created_at=SAME_AGE_S * n), items)
            await store.responses.commit(
                a_record(f"r{n:02}", created_at=SAME_AGE_S * n, output=[f"o{n}_{m}" for m in range(40)])
            )
        await store.conversations.append(PROJECT, "c03", [an_item("again")], SAME_AGE_S * 100)
        await store.responses.commit(a_record("last", conversation="c05", created_at=SAME_AGE_S * 100))
        held = await store.conversations.lock(PROJECT, "c07")
        assert await sweeper(store, FakeClock(), days=1).sweep() == (61, 0), "time is no conversation's end"
        for n in range(60):
            await store.responses.commit(
                a_record(f"s{n:02}", created_at=SAME_AGE_S * n, output=[f"p{n}_{m}" for m in range(40)])
            )

        bytes_max = (await store.read_stats()).used_bytes // 2
        swept = await sweeper(store, FakeClock(), bytes_max=bytes_max).sweep()
        assert (await store.read_stats()).used_bytes <= bytes_max
        left = [record.id for record in await store.retention.read_records(after=None, limit=99)]
        assert left == [f"s{n:02}" for n in range(swept.responses, 60)], "not the oldest went"
        idle = [each.id for each in await store.retention.find_idle(99)]
        oldest = int(idle[1][1:])
        assert idle == ["c07", *(f"c{n}" for n in range(oldest, 60)), "c03", "c05"], "not the longest idle went"
        assert oldest in (swept.responses - 1, swept.responses), "one kind went for the other"
        assert len(await store.conversations.load_history(PROJECT, "c07") or ()) == 40

        await sweeper(store, FakeClock(), bytes_max=1).sweep()
        assert [each.id for each in await store.retention.find_idle(99)] == ["c07"]
        await held.release()
        assert await sweeper(store, FakeClock(), bytes_max=1).sweep() == (0, 1)


async def test_a_conversation_that_was_used_meanwhile_stays(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store() as store:
        lock = store.conversations.lock

        async def lock_and_use(project: str, id: str) -> ConversationLock:
            held = await lock(project, id)
            await store.conversations.append(project, id, [], 9)
            return held

        await store.conversations.create(a_conversation("c1", created_at=1), [an_item("a")])
        monkeypatch.setattr(store.conversations, "lock", lock_and_use)
        assert await sweeper(store, FakeClock(), bytes_max=1).sweep() == (0, 0)
        assert await store.conversations.get(PROJECT, "c1") is not None


def test_a_store_in_memory_has_a_bound_in_any_case() -> None:
    most = MEMORY_BYTES_MAX * 3 // 4
    for store, said, meant in (
        ("sqlite", 0, 0),
        ("sqlite", 9, 9),
        ("memory", 0, most),
        ("memory", 9, 9),
        ("memory", 1 << 40, most),
    ):
        assert assembly._bytes_max(Config(store=store, store_bytes_max=said)) == meant  # type: ignore[arg-type]


async def test_a_bound_below_what_an_empty_store_takes_ends(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("r1"))
    assert (await sweeper(store, FakeClock(), bytes_max=1).sweep()).responses == 1
    assert (await sweeper(store, FakeClock(), bytes_max=1).sweep()).responses == 0
    await store.close()


async def test_space_goes_back_but_for_what_is_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_bytes = 2 << 20
    monkeypatch.setattr(sweep, "KEEP_FREE_BYTES", keep_bytes)
    store = await SqliteStore.open(tmp_path)
    long = msgspec.json.encode({"text": "x" * (1 << 20)})
    for n in range(8):
        item = StoredItem(f"o{n}", "message", long)
        await store.responses.commit(msgspec.structs.replace(a_record(f"r{n}", created_at=n), output=[item]))
    before = await store.read_stats()
    assert before.used_bytes > 2 * keep_bytes
    await sweeper(store, FakeClock(), days=1).sweep()
    after = await store.read_stats()
    await store.close()
    file_bytes = (tmp_path / DATABASE_NAME).stat().st_size
    assert after.used_bytes < 1 << 20
    assert keep_bytes <= file_bytes < keep_bytes + after.used_bytes + (1 << 20) < before.used_bytes


class Stubborn(SqliteStore):
    """Cannot be read the first time."""

    tries = 0

    async def read_stats(self) -> StoreStats:
        self.tries += 1
        if self.tries == 1:
            raise StoreUnavailable("the disk is gone")
        return await super().read_stats()


async def test_a_store_that_fails_once_is_swept_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import asyncio

    monkeypatch.setattr("antiphon.retention.sweep.INTERVAL_S", 0.001)
    store = await Stubborn.in_memory()
    await store.responses.commit(a_record("r1"))
    running = asyncio.create_task(sweeper(store, FakeClock(), bytes_max=1).run())
    async with asyncio.timeout(30):
        while await store.retention.read_records(after=None, limit=1):  # noqa: ASYNC110  (nothing to wait for)
            await asyncio.sleep(0.001)
    running.cancel()
    await store.close()
    assert "the disk is gone" in caplog.text


async def test_a_clock_that_jumps_deletes_nothing_until_it_is_believed(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    clock, ticks = FakeClock(), FakeClock()
    async with open_store() as store:
        await store.responses.commit(a_record("r1", created_at=int(clock.now)))
        sweeping = sweeper(store, clock, days=30, ticks=ticks)
        assert (await sweeping.sweep()).responses == 0
        clock.now += 365 * DAY_S
        for _ in range(2):
            assert (await sweeping.sweep()).responses == 0
        assert [record.message.split(":")[0] for record in caplog.records] == ["the clock jumped by 365.0 days"]
        clock.now -= 365 * DAY_S
        assert (await sweeping.sweep()).responses == 0
        clock.now += 365 * DAY_S
        assert (await sweeping.sweep()).responses == 0
        clock.now += JUMP_HELD_S
        ticks.now += JUMP_HELD_S
        assert (await sweeping.sweep()).responses == 1
