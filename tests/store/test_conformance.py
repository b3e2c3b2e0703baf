"""Every promise of the interface, on every backend."""

import pytest

from antiphon.store import Record, StoreUnavailable
from antiphon.store.memory import MemoryStore
from antiphon.testing.check_store import CHECKS, OWNER, Check, OpenStore, a_record, check_store


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_promise(check: Check, open_store: OpenStore) -> None:
    async with open_store() as store:
        await check(store)


async def test_the_kit_as_a_whole(open_store: OpenStore) -> None:
    await check_store(open_store)


class Forgetful(MemoryStore):
    """Breaks one promise: it says that it has kept what it has not."""

    async def commit(self, record: Record) -> None:
        return


async def test_the_kit_names_the_broken_promise() -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def forgetful():
        yield Forgetful()

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
    store = MemoryStore(bytes_max=250)
    await store.commit(a_record("r1"))
    with pytest.raises(StoreUnavailable, match="full: it holds 250 bytes"):
        await store.commit(a_record("r2"))
    assert await store.delete(OWNER, "r1")
    await store.commit(a_record("r2"))
    assert len(store) == 1
