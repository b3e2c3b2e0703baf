"""One opener per backend; a test that takes ``open_store`` runs on all of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from antiphon.store import Store
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.check_store import OpenStore


@asynccontextmanager
async def opened_memory(_folders: Iterator[Path]) -> AsyncIterator[Store]:
    store = await SqliteStore.in_memory()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_sqlite(folders: Iterator[Path]) -> AsyncIterator[Store]:
    store = await SqliteStore.open(next(folders))
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=[opened_memory, opened_sqlite], ids=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    folders = (tmp_path / f"store{n}" for n in count())
    return lambda: request.param(folders)
