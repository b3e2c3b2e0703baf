"""Every promise of the interface, on every backend."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from antiphon.store import Record, Selection, StoreUnavailable
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.check_store import CHECKS, Check, OpenStore, a_record, check_store


@asynccontextmanager
async def in_memory() -> AsyncGenerator[SqliteStore]:
    store = await SqliteStore.in_memory()
    yield store
    await store.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_promise(check: Check, open_store: OpenStore) -> None:
    async with open_store() as store:
        await check(store)


async def test_the_kit_as_a_whole() -> None:
    await check_store(in_memory)


async def test_the_kit_names_the_broken_promise() -> None:
    async def forget(record: Record) -> None:
        """Breaks one promise: says that it has kept what it has not."""

    @asynccontextmanager
    async def forgetful():
        store = await SqliteStore.in_memory()
        store.responses.commit = forget
        try:
            yield store
        finally:
            await store.close()

    with pytest.raises(AssertionError, match="gives_back_what_was_committed: a committed response is missing"):
        await check_store(forgetful)


def test_the_kit_lists_all_of_its_checks() -> None:
    import inspect

    from antiphon.testing import check_conversations, check_deliveries, check_runs, check_store

    kit = vars(check_store) | vars(check_conversations) | vars(check_runs) | vars(check_deliveries)
    takes_a_store = {
        name
        for name, member in kit.items()
        if inspect.iscoroutinefunction(member)
        and not name.startswith("_")
        and list(inspect.signature(member).parameters) == ["store"]
    }
    assert {check.__name__ for check in CHECKS} == takes_a_store


async def test_memory_is_bounded_and_says_so() -> None:
    """Full, it takes nothing more, and still says what it has; where something goes there is room again."""
    store = await SqliteStore.in_memory(bytes_max=1 << 20)
    kept: list[str] = []
    with pytest.raises(StoreUnavailable, match="full"):
        for n in range(1000):
            await store.responses.commit(a_record(f"r{n}", output=[f"o{n}_{m}" for m in range(20)]))
            kept.append(f"r{n}")
    assert (await store.read_stats()).used_bytes <= 1 << 20
    assert sorted(record.id for record in await store.retention.read_records(after=None, limit=1000)) == sorted(kept)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.responses.commit(a_record("more", output=[f"o_{m}" for m in range(200)]))
    assert await store.retention.purge(Selection(), len(kept) // 2) == len(kept) // 2
    await store.responses.commit(a_record("more", output=[f"o_{m}" for m in range(200)]))
    await store.close()
