"""Any sequence of calls: SQLite answers as the model does, however often it is closed and opened again."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model import Model

from antiphon.store import (
    DuplicateItem,
    DuplicateResponse,
    Page,
    Record,
    Selection,
    Slice,
    Store,
    StoredItem,
    UnknownConversation,
    UnknownCursor,
)
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.testing.records import NOW, a_conversation, a_record, an_item
from antiphon.wire.queries import ListQuery

Call = tuple[Any, ...]

projects = st.sampled_from(["a", "a", "a", "b"])
ids = st.sampled_from([f"r{n}" for n in range(8)])
item_ids = st.sampled_from(["i0", "i1", "i2", "i3"])
listed = st.lists(item_ids, max_size=4)

times = st.integers(1, 4)
users = st.none() | st.sampled_from(["u", "v"])

commits = st.builds(
    lambda id, previous, project, input, output, created_at, user: (
        "commit",
        a_record(id, previous=previous, project=project, input=input, output=output, created_at=created_at, user=user),
    ),
    ids,
    st.none() | ids,
    projects,
    listed,
    listed,
    times,
    users,
).filter(lambda call: call[1].id != call[1].previous_response_id)
pages = st.tuples(
    st.just("items"), projects, ids, st.none() | item_ids, st.integers(1, 3), st.sampled_from(["asc", "desc"])
)
named = st.tuples(st.sampled_from(["get", "history", "delete", "delete"]), projects, ids)

conversation_ids = st.sampled_from(["c0", "c1", "c2"])
several = listed.map(lambda ids: [an_item(id) for id in ids])
turns = st.builds(
    lambda id, conversation, project, input, output, at, key_id: (
        "commit",
        a_record(
            id, conversation=conversation, project=project, input=input, output=output, created_at=at, key_id=key_id
        ),
    ),
    ids,
    conversation_ids,
    projects,
    listed,
    listed,
    times,
    st.none() | st.just("k"),
)
made = st.builds(
    lambda id, project, items, n, at: (
        "create_conversation",
        a_conversation(id, project=project, metadata={"n": n}, created_at=at),
        items,
    ),
    conversation_ids,
    projects,
    several,
    st.sampled_from("01"),
    times,
)
entries = st.one_of(
    st.tuples(st.just("append"), projects, conversation_ids, several, times),
    st.tuples(st.sampled_from(["remove_item", "conversation_item"]), projects, conversation_ids, item_ids),
    st.tuples(st.just("referenced"), projects, st.lists(item_ids, max_size=4)),
    st.tuples(
        st.just("conversation_items"),
        projects,
        conversation_ids,
        st.none() | item_ids,
        st.integers(1, 3),
        st.sampled_from(["asc", "desc"]),
    ),
    st.tuples(
        st.sampled_from(["conversation", "conversation_history", "delete_conversation"]), projects, conversation_ids
    ),
    st.tuples(st.just("update_conversation"), projects, conversation_ids, st.just({"n": "2"})),
    st.tuples(st.just("idle"), st.integers(1, 3)),
)
queries = st.builds(
    ListQuery,
    after=st.none() | ids | conversation_ids,
    limit=st.integers(1, 3),
    order=st.sampled_from(["asc", "desc"]),
    status=st.sampled_from([None, None, "completed", "failed"]),
    created_before=st.sampled_from([None, None, 3, NOW + 1]),
    metadata=st.sampled_from([{}, {}, {"n": "1"}, {"m": "1"}]),
)
lists = st.tuples(st.sampled_from(["responses", "conversations"]), projects, queries)
purges = st.tuples(
    st.just("purge"),
    st.builds(
        Selection,
        before=st.none() | times,
        project=st.none() | projects,
        user=users,
        key_id=st.sampled_from([None, None, "k"]),
    ),
    st.integers(1, 3),
)
exports = st.tuples(st.just("records"), st.none() | ids, st.integers(1, 3))
rest = st.one_of(made, entries, entries, lists, named, pages, purges, exports, st.just(("reopen",)))
calls = st.lists(st.one_of(commits, turns, rest, rest), max_size=60)


async def answer(store: Store | Model, call: Call) -> Any:
    """What a caller sees, in a form that compares: lists for any sequence, a name for an error."""
    try:
        return plain(await called(store, call))
    except (DuplicateItem, DuplicateResponse, UnknownConversation, UnknownCursor) as error:
        return type(error).__name__


PORTS = {
    "commit": "responses.commit", "get": "responses.get", "delete": "responses.delete",
    "responses": "responses.read_page", "items": "items.read_input", "history": "items.load_history",
    "referenced": "items.find", "create_conversation": "conversations.create", "conversation": "conversations.get",
    "conversations": "conversations.read_page", "update_conversation": "conversations.update",
    "delete_conversation": "conversations.delete", "append": "conversations.append",
    "conversation_items": "conversations.read_items", "conversation_history": "conversations.load_history",
    "conversation_item": "conversations.get_item", "remove_item": "conversations.remove_item",
    "idle": "retention.find_idle", "purge": "retention.purge", "records": "retention.read_records",
}  # fmt: skip
"""What the model does, and which method of which port that is."""


async def called(store: Store | Model, call: Call) -> Any:
    method = getattr(store, call[0]) if isinstance(store, Model) else attrgetter(PORTS[call[0]])(store)
    match call:
        case ("items" | "conversation_items", project, id, after, limit, order):
            return await method(project, id, after=after, limit=limit, order=order)
        case ("records", after, limit):
            return [comparable(record, whole=True) for record in await method(after=after, limit=limit)]
        case (_, *arguments):
            return await method(*arguments)


def plain(answer: Any) -> Any:
    match answer:
        case Record():
            return comparable(answer)
        case Page(items, has_more):
            return list(items), has_more
        case Slice(found, has_more):
            return [plain(each) for each in found], has_more
        case _:
            return answer


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
    model, sqlite = Model(), await SqliteStore.open(folder)
    try:
        # One is there from the start, so that most calls meet a conversation.
        for call in possible([("create_conversation", a_conversation("c0", project="a"), []), *sequence]):
            if call == ("reopen",):
                await sqlite.close()
                sqlite = await SqliteStore.open(folder)
                continue
            assert await answer(sqlite, call) == await answer(model, call), call
        await remove_all(model, sqlite)
    finally:
        await sqlite.close()
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as db:
        for table in ("response", "conversation", "item"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


async def remove_all(model: Model, sqlite: SqliteStore) -> None:
    for project in "ab":
        for n in range(8):
            call = ("delete", project, f"r{n}")
            assert await answer(sqlite, call) == await answer(model, call), call
        for n in range(3):
            call = ("delete_conversation", project, f"c{n}")
            assert await answer(sqlite, call) == await answer(model, call), call
    assert model._holders == {}
    assert len(model) == 0, "what nobody needs is kept"


def possible(sequence: list[Call]) -> Iterator[Call]:
    """Ids are made at random, so none is a parent before it exists: a response links to an earlier id alone, and no
    conversation has the id of another.
    """
    made: set[str] = set()
    for call in sequence:
        if call[0] == "commit" and (call[1].previous_response_id or "") >= call[1].id:
            continue
        if call[0] == "create_conversation":
            if call[1].id in made:
                continue
            made.add(call[1].id)
        yield call


@given(sequence=calls)
@settings(max_examples=150, deadline=None)
def test_sqlite_agrees_with_the_model(sequence: list[Call], fresh_database: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(fresh_database, Path(name) / DATABASE_NAME)
        asyncio.run(compare(sequence, Path(name)))
