"""Databases of earlier releases, as SQL dumps named after their schema: upgraded, read, and continued."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from antiphon.access.keyring import Caller
from antiphon.cli import main, maintenance
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.log import NullLog
from antiphon.models.scripted import ScriptedModel
from antiphon.run import respond
from antiphon.store import Selection
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.testing.serving import OneModel
from antiphon.wire.conversation import ConversationParams

DUMPS = sorted(Path(__file__).parent.glob("*.sql"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the old database in it."""
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        db.executescript(request.param.read_text())
    (tmp_path / DATABASE_NAME).chmod(0o600)
    return tmp_path


async def check_content(folder: Path) -> None:
    store = await SqliteStore.open(folder)
    model = ScriptedModel("Still here", again=True)
    engine = Engine(Config(), OneModel(model), store)
    try:
        first = await engine.responses.retrieve("", "resp_1")
        assert first.output[0]["content"][0]["text"] == "Bonjour"
        assert (first.user, (await engine.responses.retrieve("", "resp_4")).metadata) == ("u1", {"a": "b"})
        assert await store.responses.get("", "resp_2") is None, "a deleted response came back"
        run = await engine.responses.accept(
            {"model": "m", "input": "Go on", "previous_response_id": "resp_3"}, Caller()
        )
        await respond(run, NullLog())
        told = [item["type"] for item in model.prompts[0].items]
        assert told == ["message", "message", "message", "function_call", "function_call_output", "message", "message"]
        await continue_in_a_conversation(engine, run.plan.response.id)
        assert await store.retention.purge(Selection(user="u1"), 9) == 1
    finally:
        await store.close()


async def continue_in_a_conversation(engine: Engine, response: str) -> None:
    """What is new since, with items that are old."""
    (item,) = (await engine.responses.retrieve("", response)).output
    told = ConversationParams(items=({"type": "item_reference", "id": item["id"]},))
    made = await engine.conversations.create("", told)
    run = await engine.responses.accept({"model": "m", "input": "Go on", "conversation": made.id}, Caller())
    await respond(run, NullLog())
    history = await engine.conversations.history("", made.id)
    assert [each["content"][0]["text"] for each in history] == ["Still here", "Go on", "Still here"]


async def test_opening_upgrades(old: Path) -> None:
    await check_content(old)
    assert (old / f"{DATABASE_NAME}.before-{HEAD}").exists()


def test_migrate_upgrades_and_says_so(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio

    before = (old / DATABASE_NAME).read_bytes()
    assert main(["migrate", "--check", "--data", str(old)]) == 1
    assert (old / DATABASE_NAME).read_bytes() == before, "--check changed something"
    assert main(["migrate", "--data", str(old)]) == 0
    said = capsys.readouterr().out
    assert f"a copy of it is {old / DATABASE_NAME}.before-{HEAD}" in said and "rebuilt" in said
    assert main(["migrate", "--check", "--data", str(old)]) == 0
    assert main(["migrate", "--data", str(old)]) == 0
    assert capsys.readouterr().out == "The database is up to date.\n" * 2
    asyncio.run(check_content(old))
    with closing(sqlite3.connect(old / DATABASE_NAME)) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    if os.name == "posix":
        assert (old / DATABASE_NAME).stat().st_mode & 0o077 == 0


async def test_an_upgraded_database_gives_space_back_once_rebuilt(old: Path) -> None:
    store = await SqliteStore.open(old)
    await store.retention.purge(Selection(), 9)
    assert await store.retention.shrink(0) == 0
    await store.close()
    import asyncio

    assert (await asyncio.to_thread(maintenance.migrate, old)).rebuilt
