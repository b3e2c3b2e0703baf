"""A database that is full, read-only or damaged, seen by clients: what was accepted is not lost, and reads go on."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from antiphon.assembly import CannotOpen
from antiphon.assembly import _make_sealer as make_sealer  # pyright: ignore[reportPrivateUsage]
from antiphon.config import Config
from antiphon.models import Finish, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import StoreUnavailable
from antiphon.store.sqlite import SqliteStore, connection
from antiphon.testing.serving import serving

DONE = Finish("stop", Usage(input=3, output=4))
LONG = "long " * 50_000


def full(db: sqlite3.Connection) -> None:
    """No page more than there are; SQLite says the same where a disk is full."""
    db.execute("PRAGMA incremental_vacuum")
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")


def roomy(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA max_page_count = 1000000")


def read_only(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA query_only = ON")


def writable(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA query_only = OFF")


@asynccontextmanager
async def client_of(model: ScriptedModel, store: SqliteStore) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, store=store) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client
    await store.close()


@pytest.mark.parametrize(
    ("breaks", "mends", "reason"),
    [(full, roomy, "is full"), (read_only, writable, "read-only")],
    ids=["full", "read-only"],
)
async def test_what_runs_waits_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Any, mends: Any, reason: str
) -> None:
    store = await SqliteStore.open(tmp_path)
    refused, gate, log = asyncio.Event(), asyncio.Event(), store.runs.append

    async def noted(*args: Any) -> None:
        try:
            await log(*args)
        except StoreUnavailable:
            refused.set()
            raise

    monkeypatch.setattr(store.runs, "append", noted)
    async with client_of(ScriptedModel(["ok", DONE], ["So ", gate, LONG, DONE], ["ok", DONE]), store) as client:
        before = await client.responses.create(model="m", input="hi")
        stream = await client.responses.create(model="m", input="hi", background=True, stream=True)
        id, events = "", []
        async for event in stream:
            events.append(event)
            id = event.response.id if event.type == "response.created" else id
            if event.type == "response.output_text.delta":
                break
        await store._writer.run(breaks, alone=True)
        gate.set()
        await refused.wait()
        for background in (True, False):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.responses.create(model="m", input=LONG, background=background)
            error = caught.value
            assert (error.status_code, error.type) == (503, "server_error") and reason in error.message, error.body
        assert (await client.responses.retrieve(before.id)).output_text == "ok"
        half = await client.responses.retrieve(id)
        assert (half.status, half.output_text) == ("in_progress", "So ")
        await store._writer.run(mends, alone=True)
        events += [event async for event in stream]
        done = await client.responses.retrieve(id)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[-1].type, done.status, done.output_text) == ("response.completed", "completed", f"So {LONG}")


async def test_a_stream_is_cut_off_and_not_ended_where_the_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path)
    gate = asyncio.Event()
    async with client_of(ScriptedModel(["So ", gate, "it goes", DONE]), store) as client:
        stream = await client.responses.create(model="m", input="hi", background=True, stream=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        id, read = seen[0].response.id, store.runs.read_events

        async def damaged(*args: Any, **named: Any) -> Any:
            raise StoreUnavailable("The file is damaged.")

        monkeypatch.setattr(store.runs, "read_events", damaged)
        with pytest.raises(openai.APIConnectionError):
            async for event in stream:
                seen.append(event)
        assert seen[-1].type == "response.output_text.delta", "an event was invented"
        monkeypatch.setattr(store.runs, "read_events", read)
        gate.set()
        rest = [event async for event in await client.responses.retrieve(id, stream=True, starting_after=len(seen) - 1)]
    assert rest[-1].type == "response.completed"


def test_a_start_on_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(CannotOpen, match=r"sealing\.key: No space left on device"):
            make_sealer(Config(data=tmp_path))
    with monkeypatch.context() as full:
        full.setattr(connection.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with (
            pytest.raises(StoreUnavailable, match=r"antiphon\.db: .*The disk is full\."),
            connection.translating(tmp_path / "antiphon.db"),
        ):
            raise sqlite3.OperationalError("disk I/O error")
