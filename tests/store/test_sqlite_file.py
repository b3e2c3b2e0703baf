"""SQLite alone: the folder, its lock, reopening, and what goes wrong with files and disks."""

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from antiphon.cli import doctor
from antiphon.config import Config
from antiphon.store import Record, StoredItem, StoreUnavailable
from antiphon.store.sqlite import DATABASE_NAME, FolderInUse, Limits, SqliteStore, journal, owner_of
from antiphon.store.sqlite.connection import unavailable
from antiphon.store.sqlite.keys import read_keys_of
from antiphon.testing.check_store import PROJECT, a_record, history_ids

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes and signals of POSIX")

HOLDS = """
import asyncio, sys
from pathlib import Path
from antiphon.store.sqlite import SqliteStore

async def hold():
    store = await SqliteStore.open(Path(sys.argv[1]))
    store.announce("http://127.0.0.1:8765/v1")
    print("open", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""

LANES = 16
COMMITS = """
import asyncio, sys
from pathlib import Path
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.check_store import a_record

async def commit(store, lane):
    previous = None
    for turn in range(int(sys.argv[2])):
        id = f"r{lane}x{turn}"
        await store.responses.commit(a_record(id, previous=previous))
        print(id, flush=True)
        previous = id

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await asyncio.gather(*(commit(store, lane) for lane in range(LANES)))
    await asyncio.Event().wait()

asyncio.run(main())
""".replace("LANES", str(LANES))


@contextmanager
def child(code: str, folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed, not asked to end."""
    command = [sys.executable, "-c", code, str(folder), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def large_record(id: str, size: int) -> Record:
    large = StoredItem(f"{id}_out", "message", json.dumps({"text": "x" * size}).encode())
    return msgspec.structs.replace(a_record(id), output=[large])


async def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("r1"))
    await store.responses.commit(a_record("r2", previous="r1"))
    await store.responses.delete(PROJECT, "r1")
    await store.close()
    store = await SqliteStore.open(tmp_path)
    assert await history_ids(store, "r2") == ["r1_in", "r1_out", "r2_in", "r2_out"]
    assert await store.responses.get(PROJECT, "r1") is None
    await store.close()
    assert contents(tmp_path).keys() == {DATABASE_NAME, "owner.lock"}


async def test_close_finishes_what_is_queued(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, limits=Limits(group_max=4))
    commits = [asyncio.ensure_future(store.responses.commit(a_record(f"r{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*commits) == [None] * 50
    store = await SqliteStore.open(tmp_path)
    assert all([await store.responses.get(PROJECT, f"r{n}") for n in range(50)])
    await store.close()


async def test_a_deleted_text_is_in_no_file(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("r1", output=["remember-me"]))
    await store.responses.commit(a_record("r2"))
    await store.responses.delete(PROJECT, "r1")
    await store.close()
    assert not any(b"remember-me" in content for content in contents(tmp_path).values())


async def test_more_callers_than_slots_all_get_through(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, limits=Limits(pending_max=2, group_max=2, readers=1))
    await asyncio.gather(*(store.responses.commit(a_record(f"r{n}")) for n in range(40)))
    assert all(await asyncio.gather(*(store.responses.get(PROJECT, f"r{n}") for n in range(40))))
    await store.close()


async def test_a_cancelled_caller_does_not_use_up_a_slot(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, limits=Limits(pending_max=2))
    for n in range(10):
        commit = asyncio.ensure_future(store.responses.commit(a_record(f"r{n}")))
        await asyncio.sleep(0)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
    async with asyncio.timeout(30):
        await store.responses.commit(a_record("last"))
    assert await store.responses.get(PROJECT, "last")
    await store.close()


@posix_only
async def test_only_the_user_may_look(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    store = await SqliteStore.open(folder)
    await store.responses.commit(a_record("r1"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 4 and set(modes.values()) == {0o600}, modes
    await store.close()


# ---- one project


async def test_a_second_store_of_this_process_is_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(FolderInUse, match=rf"in use by process {os.getpid()} \(address not known\)"):
        await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("r1"))
    await store.close()
    await (await SqliteStore.open(tmp_path)).close()


async def test_a_second_process_is_refused_and_told_whom_to_ask(tmp_path: Path) -> None:
    with child(HOLDS, tmp_path) as process:
        assert process.stdout and process.stdout.readline() == "open\n"
        address = r"serving http://127\.0\.0\.1:8765/v1"
        with pytest.raises(FolderInUse, match=rf"process {process.pid} \({address}\)") as refused:
            await SqliteStore.open(tmp_path)
        assert refused.value.owner == owner_of(tmp_path)
    assert owner_of(tmp_path) is None, "the lock outlived its process"
    await (await SqliteStore.open(tmp_path)).close()


async def test_owner_of_tells_who_and_where(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "nowhere") is None
    store = await SqliteStore.open(tmp_path)
    found = owner_of(tmp_path)
    assert found and (found.pid, found.url) == (os.getpid(), None)
    store.announce("http://[::1]:1/a-long-one/v1")
    store.announce("http://[::1]:1/v1")
    found = owner_of(tmp_path)
    assert found and found.url == "http://[::1]:1/v1"
    await store.close()
    assert owner_of(tmp_path) is None


async def test_a_glance_at_the_project_keeps_nobody_out(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def glance() -> None:
        while not done.is_set():
            await asyncio.to_thread(owner_of, tmp_path)

    glances = asyncio.ensure_future(glance())
    for _ in range(20):
        await (await SqliteStore.open(tmp_path)).close()
    done.set()
    await glances


# ---- kill


@posix_only
@pytest.mark.parametrize("seed", range(3))
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, seed: int) -> None:
    wanted = random.Random(seed).randrange(50, 1500)
    with child(COMMITS, tmp_path, 100_000) as process:
        assert process.stdout
        printed = [process.stdout.readline() for _ in range(wanted)]
        process.send_signal(signal.SIGKILL)
        # The last line may be half a line.
        printed += [line for line in process.stdout if line.endswith("\n")]
    store = await SqliteStore.open(tmp_path)
    for id in map(str.strip, printed):
        turn = int(id.partition("x")[2])
        told = await history_ids(store, id)
        assert told is not None, f"{id} was acknowledged and is lost"
        assert len(told) == 2 * (turn + 1), f"{id} lost a part of its history"
    await store.close()


# ---- a damaged write-ahead log


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a killed process leaves: a database, its log of 240 responses, and the log's index."""
    folder = tmp_path_factory.mktemp("killed")
    with child(COMMITS, folder, 15) as process:
        assert process.stdout
        for _ in range(15 * LANES):
            process.stdout.readline()
    return folder


def cut(log: Path) -> None:
    os.truncate(log, log.stat().st_size // 2)


def overwrite(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(b"garbage." * 2000)


def overwrite_end(log: Path) -> None:
    with log.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"garbage." * 512)


def overwrite_all(log: Path) -> None:
    log.write_bytes(b"garbage." * (log.stat().st_size // 8))


async def open_and_close(folder: Path) -> None:
    await (await SqliteStore.open(folder)).close()


def start(folder: Path) -> None:
    asyncio.run(open_and_close(folder))


def look(folder: Path) -> None:
    list(doctor.run_checks(Config(data=folder, upstream="http://127.0.0.1:9/v1")))


def read_keys(folder: Path) -> None:
    read_keys_of(folder / DATABASE_NAME)


@posix_only
@pytest.mark.parametrize(
    ("damage", "index", "opener", "seen"),
    [
        (cut, True, start, True),
        (overwrite, True, look, True),
        (overwrite, False, start, True),
        (overwrite_all, False, read_keys, True),
        (Path.unlink, True, look, True),
        # Without its index, nothing tells of what stood behind the end of a file.
        (cut, False, start, False),
        (overwrite_end, True, start, True),
        # And the last commit may be one that was never written to its end.
        (overwrite_end, False, start, False),
    ],
)
def test_what_a_damaged_log_lacks_is_said_and_kept(
    killed: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    index: bool,
    opener: Callable[[Path], None],
    seen: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(killed, folder)
    log = folder / f"{DATABASE_NAME}-wal"
    damage(log)
    damaged = [log.read_bytes()] if log.exists() else []
    if not index:
        (folder / f"{DATABASE_NAME}-shm").unlink()
    opener(folder)
    assert ("changed pages" in caplog.text and "continuing without them" in caplog.text) is seen
    assert [each.read_bytes() for each in folder.glob("*-wal.damaged-*")] == (damaged if seen else [])
    start(folder)
    caplog.clear()
    start(folder)
    assert not caplog.text
    assert len(list(folder.glob("*-wal.damaged-*"))) == (len(damaged) if seen else 0)
    found = list(doctor.run_checks(Config(data=folder, upstream="http://127.0.0.1:9/v1")))
    assert any(each.level == "WARN" and "cannot be read" in each.text for each in found) is seen


@posix_only
def test_a_killed_servers_log_lacks_nothing(killed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(killed, folder)
    assert journal.find_loss(folder / DATABASE_NAME) is None
    (folder / f"{DATABASE_NAME}-shm").unlink()
    assert journal.find_loss(folder / DATABASE_NAME) is None


@posix_only
@pytest.mark.parametrize("page", [b"", b"half" * 512, b"of an earlier log's" * 216], ids=["none", "half", "another"])
@pytest.mark.parametrize("index", [True, False])
def test_a_commit_that_did_not_come_to_its_end_is_no_loss(
    killed: Path, tmp_path: Path, index: bool, page: bytes
) -> None:
    """SQLite writes a frame's head before its page, a kill can come between, and nobody was told of the commit."""
    folder = tmp_path / "data"
    shutil.copytree(killed, folder)
    log = folder / f"{DATABASE_NAME}-wal"
    written = log.read_bytes()
    salts = written[16:24]
    head = struct.pack(">II8s8x", 1, 99, salts)
    log.write_bytes(written + head + page[:4096])
    if not index:
        (folder / f"{DATABASE_NAME}-shm").unlink()
    assert journal.find_loss(folder / DATABASE_NAME) is None


# ---- files and disks


@pytest.mark.parametrize("content", [b"this is no database" * 500, b"SQLite format 3\0" + b"\xff" * 8000])
async def test_garbage_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"antiphon\.db.*(not a database|damaged)"):
        await SqliteStore.open(tmp_path)
    assert (tmp_path / DATABASE_NAME).read_bytes() == content
    assert owner_of(tmp_path) is None


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        db.execute("CREATE TABLE song (title)")
    with pytest.raises(StoreUnavailable, match="another program"):
        await SqliteStore.open(tmp_path)


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="Not a directory"):
        await SqliteStore.open(tmp_path / "file" / "folder")


async def test_a_full_database_refuses_one_and_reads_on(tmp_path: Path) -> None:
    limits = Limits(database_bytes_max=768 * 1024)
    store = await SqliteStore.open(tmp_path, limits=limits)
    await store.responses.commit(a_record("small"))
    large = large_record("large", 1_000_000)
    results = await asyncio.gather(
        store.responses.commit(a_record("before")),
        store.responses.commit(large),
        store.responses.commit(a_record("after")),
        return_exceptions=True,
    )
    assert results[0] is None and results[2] is None, results
    assert isinstance(results[1], StoreUnavailable) and "full" in str(results[1])
    for id in ("small", "before", "after"):
        assert await history_ids(store, id) == [f"{id}_in", f"{id}_out"]
    assert await store.responses.get(PROJECT, "large") is None
    assert await store.responses.delete(PROJECT, "small"), "deleting is the way out"
    await store.close()
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(large)
    await store.close()


@contextmanager
def file_bytes_max(size: int) -> Iterator[None]:
    """No file of this process may grow past ``size``: the operating system refuses the write."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix_only
async def test_a_disk_that_refuses_writes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("before"))
    log_bytes = (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size
    with file_bytes_max(log_bytes + 1000):
        results = await asyncio.gather(
            *(store.responses.commit(a_record(f"r{n}")) for n in range(5)), return_exceptions=True
        )
        assert all(isinstance(result, StoreUnavailable) for result in results), results
        assert "input/output error" in str(results[0]) or "full" in str(results[0])
        assert await history_ids(store, "before") == ["before_in", "before_out"]
        assert await store.responses.get(PROJECT, "r0") is None
    for n in range(5):
        await store.responses.commit(a_record(f"r{n}"))
    await store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(*) FROM response").fetchone() == (6,)


async def test_a_database_that_turned_read_only(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("before"))
    # The nearest to a file system remounted read-only that needs no mount: the same error code, for real.
    await store._writer.run(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.responses.commit(a_record("r1"))
    assert await store.responses.get(PROJECT, "before") is not None
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.responses.delete(PROJECT, "before")
    await store.close()


SCHEMA_BYTES_MAX = 120 * 4096
"""More than an empty database takes."""


async def test_pages_that_were_damaged(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    for n in range(200):
        await store.responses.commit(large_record(f"r{n}", 4000))
    await store.close()
    path = tmp_path / DATABASE_NAME
    with path.open("r+b") as file:
        file.seek(SCHEMA_BYTES_MAX)
        file.write(b"\xa5" * (path.stat().st_size - SCHEMA_BYTES_MAX))
    store = await SqliteStore.open(tmp_path)
    with pytest.raises(StoreUnavailable, match="damaged"):
        for n in range(200):
            await store.items.load_history(PROJECT, f"r{n}")
    await store.close()


def test_a_requests_own_mistake_is_not_the_stores() -> None:
    assert unavailable(sqlite3.ProgrammingError("Cannot operate on a closed database.")) is None
    assert unavailable(ValueError()) is None


async def test_a_group_that_cannot_commit_is_tried_one_by_one(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)

    def dangling(db: sqlite3.Connection) -> None:
        # A deferred foreign key fails at COMMIT, not before.
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute(
            "INSERT INTO item (project, response_id, dir, pos, id, type, doc) VALUES ('', 'no', 'in', 0, '', '', '')"
        )

    results = await asyncio.gather(
        store.responses.commit(a_record("r1")), store._writer.run(dangling), return_exceptions=True
    )
    assert results[0] is None and isinstance(results[1], sqlite3.IntegrityError), results
    assert await store.responses.get(PROJECT, "r1") is not None
    await store.responses.commit(a_record("r2"))
    await store.close()


async def test_another_program_that_holds_the_database(tmp_path: Path) -> None:
    """Its lock is waited for, then named; afterwards all is well."""
    store = await SqliteStore.open(tmp_path)
    await store.responses.commit(a_record("before"))
    await store._writer.run(lambda db: db.execute("PRAGMA busy_timeout = 50"))
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program holds"):
            await store.responses.commit(a_record("r1"))
        assert await store.responses.get(PROJECT, "before") is not None
        other.execute("ROLLBACK")
    await store.responses.commit(a_record("r1"))
    await store.close()
