"""Brings a database to today's schema when it is opened. SQLAlchemy and Alembic are imported only when there
is something to do: a start on a current database pays neither their time nor their memory.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from antiphon.store.errors import StoreUnavailable
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite.connection import Limits, connect, make_file
from antiphon.store.sqlite.space import can_shrink

SCRIPTS = Path(__file__).parents[1] / "migrations"


def bring_up_to_date(path: Path, limits: Limits, *, head: str = HEAD, scripts: Path = SCRIPTS) -> None:
    """Make the tables in an empty file; migrate an older schema, after a backup copy beside it.

    All migrations run in one transaction: one that fails leaves the database as it was.

    Raises:
        StoreUnavailable: the schema is a newer program's, or the database is not ours.
        sqlite3.Error: the file is no database, or the disk refuses.
    """
    with closing(connect(path, limits)) as db:
        found = revision_of(db, path)
        if found == head:
            return
        if found is not None:
            _refuse_unknown(found, path, head, scripts)
            _back_up(db, backup_of(path, head))
        # Rebuilding a table, as SQLite's migrations do, must not touch the rows that point at it.
        db.execute("PRAGMA foreign_keys = OFF")
        create_tables(db, scripts)


def backup_of(path: Path, head: str) -> Path:
    """Where the copy is kept that is made before an upgrade to ``head``."""
    return path.with_name(f"{path.name}.before-{head}")


def revision_of(db: sqlite3.Connection, path: Path) -> str | None:
    """The schema's revision; None for a database without tables.

    Raises:
        StoreUnavailable: another program's database.
    """
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StoreUnavailable(f"{path} is a database of another program: it has tables, but no alembic_version.")
    row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def rebuild(path: Path) -> bool:
    """Write the database anew where it cannot give space back as it is; says whether. Needs as much room again, and
    is whole or not done at all.

    Raises:
        sqlite3.Error: there is no room.
    """
    with closing(connect(path, Limits())) as db:
        if can_shrink(db):
            return False
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
        return can_shrink(db)


def _refuse_unknown(found: str, path: Path, head: str, scripts: Path) -> None:
    known = {script.name.partition("_")[0] for script in (scripts / "versions").glob("*.py")}
    if found not in known:
        raise StoreUnavailable(
            f"{path} has schema {found}, made by a newer version of Antiphon; this one knows schemas up to"
            f" {head}. Upgrade Antiphon, or open a backup made before that upgrade."
        )


def _back_up(db: sqlite3.Connection, copy: Path) -> None:
    """A whole copy under its final name, or none."""
    unfinished = copy.with_name(f"{copy.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    make_file(unfinished)
    with closing(sqlite3.connect(unfinished)) as target:
        db.backup(target)
    unfinished.replace(copy)
    if os.name == "posix":
        _sync_folder(copy.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_tables(db: sqlite3.Connection, scripts: Path = SCRIPTS) -> None:
    """Do the migrations that are still to do, in one transaction: all of them in an empty database."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import Connection, create_engine, event
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite+pysqlite://", creator=lambda: db, poolclass=StaticPool)

    def begin(connection: Connection) -> None:
        # The module's own transactions would leave table changes outside.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "begin", begin)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise error.orig or error from error
