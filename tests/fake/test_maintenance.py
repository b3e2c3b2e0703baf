"""The commands that look after a data folder, as their users call them."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from scripted_upstream import Answer, Upstream, failure

from antiphon.cli import main
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore, owner_of
from antiphon.testing.check_store import STRANGER, a_record
from antiphon.testing.records import a_conversation, an_item
from antiphon.testing.serving import serving

LISTED = Answer(steps=(b'{"object":"list","data":[{"id":"qwen"}]}',), content_type="application/json")
DAY_S = 86_400
CANARY = "canary-5c8e"
TOKEN = "token-0a4d"


async def fill(folder: Path) -> None:
    store = await SqliteStore.open(folder)
    now = int(time.time())
    await store.responses.commit(a_record("r1", user="u1", created_at=now - 10 * DAY_S))
    await store.responses.commit(a_record("r2", previous="r1", project=STRANGER, created_at=now))
    await store.responses.commit(a_record("r3", user="u2", key_id="key_1", created_at=now))
    await store.responses.delete(STRANGER, "r2")
    await store.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    asyncio.run(fill(folder))
    return folder


def exported(data: Path) -> list[str]:
    file = data.parent / "out.jsonl"
    assert main(["export", "--data", str(data), str(file)]) == 0
    return [json.loads(line)["response"]["id"] for line in file.read_text().splitlines()]


def test_export_writes_whole_responses(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data.parent / "out.jsonl"
    assert main(["export", "--data", str(data), str(file)]) == 0
    first, second = [json.loads(line) for line in file.read_text().splitlines()]
    assert (first["project"], first["response"]["id"], second["response"]["id"]) == ("project_a", "r1", "r3")
    assert [item["id"] for item in first["response"]["output"]] == ["r1_out"]
    assert (first["key_id"], second["key_id"]) == (None, "key_1")
    assert first["input_items"][0]["text"] == "naïve 漢字 🙂 \0 \n"
    assert file.stat().st_mode & 0o077 == 0
    assert "2 responses written" in capsys.readouterr().out
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "out.jsonl"]


async def test_export_works_beside_a_server_and_migrate_does_not(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = await SqliteStore.open(data)
    store.announce("http://127.0.0.1:1/v1")
    await store.responses.commit(a_record("r9"))
    assert await asyncio.to_thread(exported, data) == ["r1", "r3", "r9"]
    assert await asyncio.to_thread(main, ["migrate", "--data", str(data)]) == 1
    assert "serving http://127.0.0.1:1/v1" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["migrate", "--check", "--data", str(data)]) == 0
    await store.responses.commit(a_record("r10"))
    await store.close()


def test_purge_by_user_by_key_by_day_and_whole(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", "--data", str(data)]) == 2
    assert main(["purge", "--data", str(data), "--before", "someday"]) == 2
    assert main(["purge", "--data", str(data), "--before", "2020-01-31"]) == 0
    assert exported(data) == ["r1", "r3"]
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 5 * DAY_S))
    assert main(["purge", "--data", str(data), "--before", day, "--user", "u2"]) == 0
    assert exported(data) == ["r1", "r3"], "all that is said must hold"
    assert main(["purge", "--data", str(data), "--before", day]) == 0
    assert exported(data) == ["r3"]
    assert main(["purge", "--data", str(data), "--key", "key_2", "--user", "u2"]) == 0
    assert exported(data) == ["r3"]
    assert main(["purge", "--data", str(data), "--key", "key_1"]) == 0
    assert exported(data) == []
    asyncio.run(fill_one(data))
    assert main(["purge", "--data", str(data), "--all"]) == 0
    assert exported(data) == []
    assert "1 responses deleted" in capsys.readouterr().out
    with closing(sqlite3.connect(data / DATABASE_NAME)) as db:
        assert db.execute("SELECT (SELECT count(*) FROM response), (SELECT count(*) FROM item)").fetchone() == (0, 0)
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,), "space was not given back"


async def fill_one(folder: Path) -> None:
    store = await SqliteStore.open(folder)
    await store.responses.commit(a_record("r5", output=[f"o{n}" for n in range(500)]))
    await store.close()


def test_purge_of_conversations(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With all, or those that were not used since; never with what is not known of them."""
    asyncio.run(converse(data))
    for named in (["--user", "u1"], ["--key", "key_1"], []):
        assert main(["purge", "--data", str(data), "--conversations", *named]) == 2
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 5 * DAY_S))
    assert main(["purge", "--data", str(data), "--before", day]) == 0
    capsys.readouterr()
    assert main(["purge", "--data", str(data), "--before", day, "--conversations"]) == 0
    assert capsys.readouterr().out == "0 responses deleted\n150 conversations deleted\n"
    assert main(["purge", "--data", str(data), "--all", "--conversations"]) == 0
    assert capsys.readouterr().out == "2 responses deleted\n1 conversations deleted\n"
    with closing(sqlite3.connect(data / DATABASE_NAME)) as db:
        assert db.execute("SELECT (SELECT count(*) FROM conversation), (SELECT count(*) FROM item)").fetchone() == (
            0,
            0,
        )


async def converse(data: Path) -> None:
    store = await SqliteStore.open(data)
    now = int(time.time())
    for n in range(151):
        await store.conversations.create(a_conversation(f"c{n}", created_at=now - 10 * DAY_S), [an_item("a")])
    await store.responses.commit(a_record("r9", conversation="c7", created_at=now))
    await store.close()


def content_of(data: Path) -> bytes:
    """All bytes of the database's files."""
    return b"".join(path.read_bytes() for path in sorted(data.glob(f"{DATABASE_NAME}*")))


@asynccontextmanager
async def owned(data: Path, token: str = TOKEN) -> AsyncIterator[tuple[SqliteStore, str]]:
    """A server that owns the folder; what it keeps, and its URL."""
    store = await SqliteStore.open(data)
    async with serving(ScriptedModel(), store=store, token=TOKEN) as url:
        store.announce(url, token)
        yield store, url
    await store.close()


async def test_purge_asks_the_server_that_owns_the_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with owned(data) as (store, _):
        # More than one step's worth, and more than the files keep by chance.
        for n in range(100):
            await store.responses.commit(
                a_record(f"r_{CANARY}_{n:03}", user="u9", output=[f"{CANARY}_{n}_{m}" for m in range(20)])
            )
        before = await store.read_stats()
        assert CANARY.encode() in content_of(data)
        command = ["purge", "--data", str(data), "--user", "u9"]
        assert await asyncio.to_thread(main, command) == 0
        assert capsys.readouterr() == ("100 responses deleted\n", "")
        assert await asyncio.to_thread(exported, data) == ["r1", "r3"]
        assert CANARY.encode() not in content_of(data), "what was deleted can still be read"
        assert (await store.read_stats()).file_bytes < before.used_bytes / 2, "space was not given back"
        assert await asyncio.to_thread(main, [*command[:-2], "--all"]) == 0
        assert "2 responses deleted" in capsys.readouterr().out


async def test_a_reader_of_old_content_is_reported(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with owned(data) as (store, _):
        await store.responses.commit(a_record("r9"))
        with closing(sqlite3.connect(data / DATABASE_NAME)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM response").fetchone()
            assert await asyncio.to_thread(main, ["purge", "--data", str(data), "--all"]) == 0
            said = capsys.readouterr()
            assert "3 responses deleted" in said.out and "another program reads it" in said.err
        assert await asyncio.to_thread(main, ["purge", "--data", str(data), "--all"]) == 0
        assert capsys.readouterr().err == ""


async def test_only_who_can_read_the_folder_can_have_it_purged(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with owned(data, "another") as (store, url):
        assert await asyncio.to_thread(main, ["purge", "--data", str(data), "--all"]) == 1
        assert "answers 401" in capsys.readouterr().err
        place = url.removesuffix("/v1") + "/antiphon/purge"
        mine = {"Authorization": f"Bearer {TOKEN}"}
        every: Any = {"selection": {}}
        for body, headers, status in (
            (every, {}, 401),
            (every, {"Authorization": "Bearer "}, 401),
            ({}, mine, 400),
            ({"selection": {"unknown": "x"}}, mine, 400),
            ({"selection": {"before": "x"}}, mine, 400),
        ):
            async with aiohttp.request("POST", place, json=body, headers=headers) as answer:
                assert (answer.status, set(await answer.json())) == (status, {"error"})
        assert len(await store.retention.read_records(after=None, limit=9)) == 2, "something went"
    assert TOKEN not in repr(owner_of(data))


async def test_a_server_without_a_token_takes_none(data: Path) -> None:
    async with serving(ScriptedModel()) as url:
        place = url.removesuffix("/v1") + "/antiphon/purge"
        async with aiohttp.request(
            "POST", place, json={"selection": {}}, headers={"Authorization": "Bearer "}
        ) as answer:
            assert answer.status == 401


async def test_a_server_that_does_not_answer_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await SqliteStore.open(data)
    for token, said in ((None, "is in use by"), (TOKEN, "did not answer as expected")):
        store.announce("http://127.0.0.1:1/v1", token)
        assert await asyncio.to_thread(main, ["purge", "--data", str(data), "--all"]) == 1
        told = capsys.readouterr().err
        assert said in told and "serving http://127.0.0.1:1/v1" in told and TOKEN not in told
    await store.close()


def test_purge_tells_of_copies(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / f"{DATABASE_NAME}.before-0002").write_bytes(b"")
    assert main(["purge", "--data", str(data), "--all"]) == 0
    assert f"{DATABASE_NAME}.before-0002 was made by an upgrade" in capsys.readouterr().err


def test_no_database_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["export", str(tmp_path / "x")], ["migrate"], ["migrate", "--check"]):
        assert main([*command, "--data", str(tmp_path)]) == 1
        assert "There is no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---- doctor


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    status = main(["doctor", *arguments])
    lines = capsys.readouterr().out.splitlines()
    return status, {line[5:].partition(":")[0]: line for line in lines}


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    return str(tmp_path / "m.gguf")


def test_doctor_on_a_healthy_folder(data: Path, gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = examined(capsys, "--data", str(data), "--model", gguf)
    assert status == 0, found
    for subject in ("versions", "data folder", "owner", "schema", "database", "model", "traces"):
        assert found[subject].startswith("OK  "), found[subject]
    assert "no fault found" in found["database"]


def test_doctor_before_the_first_start(tmp_path: Path, gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = examined(capsys, "--data", str(tmp_path / "none"), "--model", gguf)
    assert (status, "does not exist yet" in found["data folder"], "none yet" in found["database"]) == (0, True, True)
    assert not (tmp_path / "none").exists()


def test_doctor_finds_damage(data: Path, gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(data / DATABASE_NAME)) as db:
        db.execute(
            "INSERT INTO item (project, response_id, dir, pos, id, type, doc) VALUES ('', 'no', 'in', 0, '', '', '')"
        )
        db.commit()
    status, found = examined(capsys, "--data", str(data), "--model", gguf)
    assert status == 1
    assert found["database"].startswith("FAIL") and "of item points at nothing" in found["database"]
    (data / DATABASE_NAME).write_bytes(b"no database at all" * 400)
    status, found = examined(capsys, "--data", str(data), "--model", gguf)
    assert status == 1 and found["database"].startswith("FAIL")


def test_doctor_on_schemas_of_other_versions(data: Path, gguf: str, capsys: pytest.CaptureFixture[str]) -> None:
    for revision, level, exit_status in (("0000", "WARN", 0), ("7777", "FAIL", 1)):
        with closing(sqlite3.connect(data / DATABASE_NAME)) as db:
            db.execute("UPDATE alembic_version SET version_num = ?", (revision,))
            db.commit()
        status, found = examined(capsys, "--data", str(data), "--model", gguf)
        assert (status, found["schema"][:4]) == (exit_status, level)


def test_doctor_looks_at_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from antiphon.models.embedded import catalogue

    monkeypatch.setenv("ANTIPHON_MODELS", str(tmp_path))
    (tmp_path / "bad.gguf").write_bytes(b"PK")
    assert examined(capsys, "--data", str(tmp_path), "--model", str(tmp_path / "bad.gguf"))[0] == 1
    assert examined(capsys, "--data", str(tmp_path), "--model", str(tmp_path / "none.gguf"))[0] == 1
    assert examined(capsys, "--data", str(tmp_path), "--model", "nobody")[0] == 1
    entry = min(catalogue.load(), key=lambda entry: entry.bytes)
    status, found = examined(capsys, "--data", str(tmp_path), "--model", entry.name)
    assert (status, "not fetched" in found["model"]) == (0, True)
    with (tmp_path / entry.file).open("wb") as file:
        file.truncate(entry.bytes)
    monkeypatch.setattr("antiphon.models.embedded.download.verify", lambda path, entry: False)
    status, found = examined(capsys, "--data", str(tmp_path), "--model", entry.name)
    assert (status, "is damaged" in found["model"]) == (1, True)


async def test_doctor_asks_the_upstream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Upstream() as upstream:
        upstream.play(LISTED, LISTED, failure(401, "no"))
        asked = ["--data", str(tmp_path), "--upstream", upstream.url]
        status, found = await asyncio.to_thread(examined, capsys, *asked)
        assert (status, "offers qwen" in found["upstream"]) == (0, True)
        status, found = await asyncio.to_thread(examined, capsys, *asked, "--model", "llama")
        assert (status, found["upstream"][:4]) == (0, "WARN")
        status, found = await asyncio.to_thread(examined, capsys, *asked)
        assert (status, "refused this server's key" in found["upstream"]) == (1, True)
    status, found = await asyncio.to_thread(examined, capsys, *asked)
    assert (status, "cannot be reached" in found["upstream"]) == (1, True)


def test_doctor_misses_the_extra(
    data: Path, gguf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    status, found = examined(capsys, "--data", str(data), "--model", gguf)
    assert (status, "antiphon[otel]" in found["traces"]) == (1, True)


def test_doctor_tells_no_password(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--data", str(data), "--upstream", "http://user:secret@127.0.0.1:1/v1?key=secret"])
    shown = capsys.readouterr()
    assert "secret" not in shown.out + shown.err
    assert "http://***@127.0.0.1:1/v1?***" in shown.out
