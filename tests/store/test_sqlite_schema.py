"""SQLite alone: migrations, what they must produce, and how the statements find their way."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from antiphon.store import Selection, StoreUnavailable
from antiphon.store.migrations import HEAD
from antiphon.store.schema import metadata
from antiphon.store.sqlite import (
    DATABASE_NAME,
    Limits,
    SqliteStore,
    conversations,
    items,
    listing,
    responses,
    retention,
)
from antiphon.store.sqlite.connection import make_file
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.upgrade import SCRIPTS, bring_up_to_date
from antiphon.testing.check_store import PROJECT, a_record, history_ids
from antiphon.testing.records import a_conversation
from antiphon.wire.queries import ListQuery

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"

def upgrade():
    with op.batch_alter_table("response") as table:
        table.add_column(sa.Column("extra", sa.Text))
        table.alter_column("model", nullable=True)
    {more}
"""


def schema_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as db:
        made = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    # A table that was made anew has its name in quotes.
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in made if name != "alembic_version"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def filled(folder: Path) -> Path:
    store = await SqliteStore.open(folder)
    await store.responses.commit(a_record("r1"))
    await store.responses.commit(a_record("r2", previous="r1"))
    await store.close()
    return folder / DATABASE_NAME


def next_scripts(folder: Path, more: str = "") -> Path:
    """The shipped migrations and one more."""
    scripts = folder / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_next.py").write_text(NEXT.format(head=HEAD, more=more))
    return scripts


async def test_migrations_make_the_schema_and_nothing_else(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


async def test_migrations_write_the_same_sql_as_the_schema(tmp_path: Path) -> None:
    """Sees what the comparison above does not: checks, partial indexes, actions of foreign keys."""
    path = await filled(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    metadata.create_all(engine)
    engine.dispose()

    def parts(path: Path) -> dict[str, list[str]]:
        # Constraints come in either order.
        split = {name: re.split(r", (?=[A-Z])|[(] ", sql) for name, sql in schema_of(path).items()}
        return {name: sorted(part.rstrip(" )") for part in made) for name, made in split.items()}

    assert parts(path) == parts(tmp_path / "direct.db")


def test_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    for script in scripts.walk_revisions():
        assert Path(script.path).name.partition("_")[0] == script.revision, "a file is named after its revision"


async def test_an_older_database_is_backed_up_and_upgraded(tmp_path: Path) -> None:
    path = await filled(tmp_path / "store")
    before = schema_of(path)
    bring_up_to_date(path, Limits(), head="9999", scripts=next_scripts(tmp_path))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        assert db.execute("SELECT id, extra FROM response ORDER BY id").fetchall() == [("r1", None), ("r2", None)]
        assert db.execute("SELECT count(*) FROM item").fetchone() == (4,), "rebuilding a table took its items along"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    (backup,) = path.parent.glob("*.before-9999*")
    assert schema_of(backup) == before
    assert backup.stat().st_mode & 0o077 == 0
    (tmp_path / "restored").mkdir()
    backup.rename(tmp_path / "restored" / DATABASE_NAME)
    store = await SqliteStore.open(tmp_path / "restored")
    assert await history_ids(store, "r2") == ["r1_in", "r1_out", "r2_in", "r2_out"]
    await store.close()


async def test_conversations_of_old_were_last_used_with_their_last_response(tmp_path: Path) -> None:
    """Those that nobody continued were last used when they were made."""
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__", "000[6-9]_*", "00[1-9]?_*"))
    path = tmp_path / DATABASE_NAME
    make_file(path)
    bring_up_to_date(path, Limits(), head="0005", scripts=scripts)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("""
            INSERT INTO conversation (id, owner, created_at, next_pos, metadata)
            VALUES ('c1', '', 5, 0, '{}'), ('c2', '', 4, 0, '{}');
            INSERT INTO response (id, owner, status, model, conversation_id, conversation_pos, created_at, doc)
            VALUES ('r1', '', 'completed', 'm', 'c1', 0, 6, '{}'), ('r2', '', 'completed', 'm', 'c1', 0, 7, '{}');
        """)
    store = await SqliteStore.open(tmp_path)
    assert [(each.id, each.used_at) for each in await store.retention.find_idle(9)] == [("c2", 4), ("c1", 7)]
    await store.close()


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = await filled(tmp_path / "store")
    before = schema_of(path)
    scripts = next_scripts(tmp_path, more="op.execute('INSERT INTO nowhere VALUES (1)')")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        bring_up_to_date(path, Limits(), head="9999", scripts=scripts)
    assert schema_of(path) == before
    store = await SqliteStore.open(tmp_path / "store")
    assert await store.responses.get(PROJECT, "r1") is not None
    await store.close()


async def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE alembic_version SET version_num = '7777'")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=f"schema 7777, made by a newer version.*up to {HEAD}"):
        await SqliteStore.open(tmp_path)
    assert path.read_bytes() == before
    assert names(tmp_path) == {DATABASE_NAME, "owner.lock"}, "a backup of what was not changed"


def test_opening_a_current_database_imports_neither_alembic_nor_sqlalchemy(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path))
    code = """
import asyncio, sys
from pathlib import Path
from antiphon.store.sqlite import SqliteStore

async def main():
    await (await SqliteStore.open(Path(sys.argv[1]))).close()

asyncio.run(main())
print(sorted({"alembic", "sqlalchemy", "mako"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


async def test_no_statement_reads_a_whole_table(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    named = {"project": PROJECT, "id": "r2", "after": "r2_in", "limit": 5, "before": 5}
    queries = [
        responses._GET,
        *items._PAGES.values(),
        items._HISTORY,
        responses._HIDE,
        responses._DOOMED,
        retention.select_oldest(Selection()),
        retention.select_oldest(Selection(before=5)),
        retention._RECORDS,
    ]
    with closing(sqlite3.connect(path)) as db:
        for query in queries:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", named)]
            scans = [step for step in plan if re.match(r"SCAN (r|i|child|response|item)\b", step)]
            assert not [step for step in scans if "USING INDEX ix_response_created_at" not in step], plan
            assert query not in map(retention.select_oldest, (Selection(), Selection(before=5))) or not sorts(plan), (
                plan
            )


async def test_conversations_find_their_way(tmp_path: Path) -> None:
    """Also what SQLite does by itself when a conversation goes: it looks for what points at it."""
    path = await filled(tmp_path)
    named = {"project": PROJECT, "id": "c1", "item_id": "i", "after": "i", "limit": 5, "ids": "[]", "count": 1, "at": 1}
    named["place"] = None
    query = ListQuery(after="c1", created_after=1, metadata={"a": "b"})
    with closing(sqlite3.connect(path)) as db:
        conversations.create(db, a_conversation("c1"), [])
        db.execute("UPDATE response SET conversation_id = 'c1', id = 'c1' WHERE id = 'r2'")
        named |= listing.build_conditions("conversation", db, Places(), PROJECT, query).values
        queries = [
            conversations._GET,
            conversations._HIDE,
            conversations._RESERVE,
            conversations._TAKEN,
            conversations._HISTORY,
            *conversations._PAGES.values(),
            conversations._ITEM,
            conversations._ENTRY,
            items._REFERENCED,
            conversations._REMOVE.replace("?", ":id"),
            conversations._KEEP.replace("?", ":id"),
            "SELECT 1 FROM response WHERE conversation_id = :id",
            "DELETE FROM item WHERE conversation_id = :id",
            conversations._LIST.format(
                filters=listing.build_conditions("conversation", db, Places(), PROJECT, query).filters, order="desc"
            ),
            responses._LIST.format(
                filters=listing.build_conditions("response", db, Places(), PROJECT, query).filters, order="desc"
            ),
        ]
        for query in queries:
            plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", named)]
            assert not [step for step in plan if re.match(r"SCAN (r|i|c|response|item|conversation)\b", step)], plan


def sorts(plan: list[str]) -> bool:
    return any("TEMP B-TREE" in step for step in plan)


async def test_a_turn_is_stored_once(tmp_path: Path) -> None:
    """A chain grows by what each turn adds: rows per turn do not depend on its length."""
    store = await SqliteStore.open(tmp_path)
    ids = [f"r{n}" for n in range(50)]
    for previous, id in zip([None, *ids], ids, strict=False):
        await store.responses.commit(a_record(id, previous=previous))
    await store.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as db:
        assert db.execute("SELECT count(*) FROM item").fetchone() == (100,)
