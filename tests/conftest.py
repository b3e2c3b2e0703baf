"""What tests of all kinds are given."""

from collections.abc import AsyncIterator

import pytest

from antiphon.store.sqlite import SqliteStore


@pytest.fixture
async def memory_store() -> AsyncIterator[SqliteStore]:
    """An empty store in memory."""
    store = await SqliteStore.in_memory()
    yield store
    await store.close()
