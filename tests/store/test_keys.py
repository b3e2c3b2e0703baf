"""Keys in the database: beside a server, before there is a database, in an older one; and the command line."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from antiphon import cli
from antiphon.store import StoreUnavailable
from antiphon.store.keys import Allowance, Charge, ChargeQuery, Spent, mint_key
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.store.sqlite import keys as statements
from antiphon.testing.check_store import PROJECT, a_record

WITHOUT_KEYS = Path(__file__).parents[1] / "upgrade" / "0001.sql"


def keys_command(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = cli.main(["keys", *words, "--data", str(folder)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_key_is_shown_once_and_kept_hashed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "not" / "there"
    status, out, err = keys_command(
        folder, "create", "--name", "bot", "--project", "p", "--rpm", "3", "--tpm", "4", capsys=capsys
    )
    secret = out.strip()
    assert status == 0 and len(secret) > 64 and secret not in err
    assert b"".join(path.read_bytes() for path in folder.iterdir()).count(secret.encode()) == 0
    (key,) = statements.read_keys_of(folder / DATABASE_NAME)
    assert (key.name, key.project, key.allowance) == ("bot", "p", Allowance(rpm=3, tpm=4))
    assert (folder / DATABASE_NAME).stat().st_mode & 0o077 == 0
    _, listed, _ = keys_command(folder, "list", capsys=capsys)
    assert key.id in listed and "rpm=3 tpm=4" in listed and secret not in listed and key.digest not in listed
    assert keys_command(folder, "revoke", key.id, capsys=capsys)[0] == 0
    assert "revoked" in keys_command(folder, "list", capsys=capsys)[1]
    status, _, err = keys_command(folder, "revoke", key.id, capsys=capsys)
    assert status == 1 and "no active key" in err


def test_no_key_is_made_twice() -> None:
    made = [mint_key("", "", Allowance(), 0) for _ in range(100)]
    assert len({key.id for key, _ in made} | {secret for _, secret in made}) == 200


async def test_another_process_makes_and_closes_keys_while_a_store_owns_the_folder(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("r1"))

    def command(*words: str) -> str:
        words = ("-m", "antiphon", "keys", *words, "--data", str(tmp_path))
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout

    await asyncio.gather(
        asyncio.to_thread(command, "create", "--name", "bot"),
        *(store.responses.commit(a_record(f"c{n}")) for n in range(50)),
    )
    (key,) = await store.keys.read_keys()
    assert key.name == "bot" and key.revoked_at is None
    await store.usage.add_usage([Spent(key_id=key.id, day="2026-01-01", requests=1, input_tokens=2)])
    await asyncio.to_thread(command, "revoke", key.id)
    (key,) = await store.keys.read_keys()
    assert key.revoked_at is not None
    assert await store.responses.get(PROJECT, "r1") is not None
    await store.close()


async def test_usage_adds_up(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    one = Spent(key_id="k", day="2026-01-02", requests=1, estimated=1, input_tokens=2, cached_tokens=1, output_tokens=3)
    other = Spent(key_id="", day="2026-01-01", requests=1, reasoning_tokens=4)
    await store.usage.add_usage([one, other])
    await store.usage.add_usage([one])
    assert list(await store.usage.read_usage("2026-01-01", "2026-01-02")) == [one + one, other]
    assert list(await store.usage.read_usage("2026-01-01", "2026-01-01")) == [other]
    await store.close()


def a_charge(id: str, at: int, *, key: str = "k", project: str = "p", model: str = "m", cost: int = 7) -> Charge:
    spent = Spent(
        key_id=key,
        day="2026-01-02",
        requests=1,
        input_tokens=5,
        cached_tokens=4,
        output_tokens=3,
        reasoning_tokens=2,
        cost_micros=cost,
    )
    return Charge(response_id=id, project=project, model=model, settled_at=at, spent=spent)


async def test_what_single_responses_used(tmp_path: Path) -> None:
    made = [
        a_charge("a", 1),
        a_charge("b", 2, key="l"),
        a_charge("c", 2, model="n"),
        a_charge("d", 3),
        a_charge("x", 3, project="q"),
    ]
    store = await SqliteStore.open(tmp_path)
    await store.usage.add_usage([], made)
    await store.usage.add_usage([], [a_charge("d", 4)])
    mine = ChargeQuery(project="p", first_day="2026-01-02", last_day="2026-01-02")

    async def ids(limit: int = 9, **members: str) -> list[str]:
        query = msgspec.structs.replace(mine, **members)
        return [charge.response_id for charge in await store.usage.read_charges(query, limit)]

    (again, *_, first) = await store.usage.read_charges(mine, 9)
    assert first == made[0] and again.spent == made[3].spent + made[3].spent
    assert await ids() == ["d", "c", "b", "a"] and await ids(2) == ["d", "c"]
    assert await ids(after="c") == ["b", "a"] and await ids(after="x") == await ids(after="gone") == []
    assert await ids(key_id="l") == ["b"] and await ids(response_id="c") == ["c"]
    assert await ids(first_day="2026-01-03", last_day="2026-01-03") == []
    sums = await store.usage.sum_charges(mine)
    assert [(model, spent.key_id, spent.requests, spent.cost_micros) for model, spent in sums] == [
        ("m", "k", 3, 21),
        ("n", "k", 1, 7),
        ("m", "l", 1, 7),
    ]
    assert (await store.usage.forget_charges(3, 2), await store.usage.forget_charges(3, 9)) == (2, 1)
    assert await ids() == ["d"]
    await store.close()


async def test_a_database_without_keys_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / DATABASE_NAME
    with closing(sqlite3.connect(path)) as db:
        db.executescript(WITHOUT_KEYS.read_text())
    assert statements.read_keys_of(path) == []
    with statements.open_beside(path) as db:
        assert statements.read_keys(db) == []
        assert db.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    await (await SqliteStore.open(tmp_path)).close()


async def test_the_database_of_a_running_older_server_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path)
    monkeypatch.setattr(statements, "_STARTING_S", 0.0)
    path = tmp_path / DATABASE_NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = '0001'")
        db.commit()
    refused = pytest.raises(StoreUnavailable, match="stop it, then start it with this version")
    with refused, statements.open_beside(path):
        raise AssertionError("opened")
    await store.close()


def test_a_foreign_database_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
    status, _, err = keys_command(tmp_path, "list", capsys=capsys)
    assert status == 1 and "another program" in err


def test_usage_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys_command(tmp_path, "create", "--name", "bot", capsys=capsys)
    (key,) = statements.read_keys_of(tmp_path / DATABASE_NAME)
    with statements.open_beside(tmp_path / DATABASE_NAME) as db:
        day = db.execute("SELECT date('now')").fetchone()[0]
        statements.add_usage(db, [Spent(key_id=key.id, day=day, requests=12, input_tokens=345, output_tokens=678)])
        statements.add_usage(db, [Spent(key_id=key.id, day="2001-01-01", requests=99)])
    lines = keys_command(tmp_path, "usage", capsys=capsys)[1].splitlines()
    assert [line.split() for line in lines[1:]] == [[day, key.id, "12", "345", "678", "bot"]]


@pytest.mark.parametrize("wrong", [["--rpm", "0"], ["--tpm", "many"]])
def test_limits_are_positive_numbers(tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["keys", "create", "--data", str(tmp_path), *wrong])
