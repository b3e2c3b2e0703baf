"""Any sequence of calls: memory and SQLite answer alike, however often SQLite is closed and opened again."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.store import DuplicateResponse, Record, ResponseStore, Selection, StoredItem, UnknownCursor
from antiphon.store.memory import MemoryStore
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.testing.check_store import a_record

Call = tuple[Any, ...]

owners = st.sampled_from(["a", "a", "a", "b"])
ids = st.sampled_from([f"r{n}" for n in range(8)])
item_ids = st.sampled_from(["i0", "i1", "i2", "i3"])
listed = st.lists(item_ids, max_size=4)

times = st.integers(1, 4)
users = st.none() | st.sampled_from(["u", "v"])

commits = st.builds(
    lambda id, previous, owner, input, output, created_at, user: (
        "commit",
        a_record(id, previous=previous, owner=owner, input=input, output=output, created_at=created_at, user=user),
    ),
    ids,
    st.none() | ids,
    owners,
    listed,
    listed,
    times,
    users,
).filter(lambda call: call[1].id != call[1].previous_response_id)
pages = st.tuples(
    st.just("items"), owners, ids, st.none() | item_ids, st.integers(1, 3), st.sampled_from(["asc", "desc"])
)
named = st.tuples(st.sampled_from(["get", "history", "delete", "delete"]), owners, ids)
purges = st.tuples(
    st.just("purge"),
    st.builds(Selection, before=st.none() | times, owner=st.none() | owners, user=users),
    st.integers(1, 3),
)
exports = st.tuples(st.just("records"), st.none() | ids, st.integers(1, 3))
calls = st.lists(st.one_of(commits, commits, named, pages, purges, exports, st.just(("reopen",))), max_size=40)


async def answer(store: ResponseStore, call: Call) -> Any:
    """What a caller sees, in a form that compares: lists for any sequence, a name for an error."""
    try:
        match call:
            case ("commit", record):
                return await store.commit(record)
            case ("items", owner, id, after, limit, order):
                page = await store.items(owner, id, after=after, limit=limit, order=order)
                return page and (list(page.items), page.has_more)
            case ("history", owner, id):
                return await store.history(owner, id)
            case ("delete", owner, id):
                return await store.delete(owner, id)
            case ("purge", selection, limit):
                return await store.purge(selection, limit)
            case ("records", after, limit):
                return [comparable(record, whole=True) for record in await store.records(after=after, limit=limit)]
            case ("get", owner, id):
                return comparable(await store.get(owner, id))
    except (DuplicateResponse, UnknownCursor) as error:
        return type(error).__name__


def comparable(record: Record | None, *, whole: bool = False) -> tuple[list[StoredItem], ...] | Any:
    if record is None:
        return None
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return fields | {"input": list(record.input), "output": list(record.output)}


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once, copied for each example."""
    folder = tmp_path_factory.mktemp("fresh")

    async def make() -> None:
        await (await SqliteStore.open(folder)).close()

    asyncio.run(make())
    return folder / DATABASE_NAME


async def compare(sequence: list[Call], folder: Path) -> None:
    memory, sqlite = MemoryStore(), await SqliteStore.open(folder)
    try:
        for call in without_rings(sequence):
            if call == ("reopen",):
                await sqlite.close()
                sqlite = await SqliteStore.open(folder)
                continue
            assert await answer(sqlite, call) == await answer(memory, call), call
        await remove_all(memory, sqlite)
    finally:
        await sqlite.close()
        await memory.close()
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as db:
        assert db.execute("SELECT (SELECT count(*) FROM response), (SELECT count(*) FROM item)").fetchone() == (0, 0)


async def remove_all(memory: MemoryStore, sqlite: SqliteStore) -> None:
    for owner in "ab":
        for n in range(8):
            call = ("delete", owner, f"r{n}")
            assert await answer(sqlite, call) == await answer(memory, call), call
    assert len(memory) == 0, "what nobody needs is kept"


def without_rings(sequence: list[Call]) -> list[Call]:
    """Ids are made at random, so none is a parent before it exists: a response links to an earlier id alone."""
    return [call for call in sequence if call[0] != "commit" or (call[1].previous_response_id or "") < call[1].id]


@given(sequence=calls)
@settings(max_examples=150, deadline=None)
def test_backends_agree(sequence: list[Call], fresh_database: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(fresh_database, Path(name) / DATABASE_NAME)
        asyncio.run(compare(sequence, Path(name)))
