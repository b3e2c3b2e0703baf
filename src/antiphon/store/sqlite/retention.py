"""What goes, and how it is found, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from antiphon.store.conversations import Conversation
from antiphon.store.responses import Record
from antiphon.store.retention import Selection
from antiphon.store.sqlite import conversations, responses, space
from antiphon.store.sqlite.executor import Execute, Executor
from antiphon.store.sqlite.listing import to_items
from antiphon.store.sqlite.places import Places
from antiphon.store.sqlite.port import Port, reading, writing
from antiphon.store.transitions import FINISH
from antiphon.wire import Id

# The newest rows have the largest rowid: of one second, the first that came is the oldest.
_OLDEST = """
SELECT project, id FROM response
WHERE deleted_at IS NULL AND {conditions} ORDER BY created_at, rowid LIMIT :limit"""

_CONDITIONS = {
    "before": "created_at < :before",
    "expired": "id IN (SELECT response_id FROM expiry WHERE expires_at <= :expired)",
    "ended": f"NOT EXISTS (SELECT 1 FROM run WHERE run.response_id = response.id AND run.status <> '{FINISH.after}')",
    "project": "project = :project",
    "key_id": "key_id = :key_id",
    "user": ":user IN (json_extract(doc, '$.user'), json_extract(doc, '$.safety_identifier'))",
}

# A document is large: it comes with the first row of each side alone.
_RECORDS = """
SELECT page.id, page.project, page.status, page.model, page.previous_response_id, page.conversation_id,
       page.created_at, page.key_id,
       CASE WHEN i.pos > 0 THEN NULL ELSE CAST(page.doc AS BLOB) END, i.dir, i.id, i.type, CAST(i.doc AS BLOB)
FROM (SELECT * FROM response WHERE deleted_at IS NULL AND id > :after ORDER BY id LIMIT :limit) page
LEFT JOIN item i ON i.response_id = page.id
ORDER BY page.id, i.dir, i.pos"""

_IDLE = """
SELECT project, id, created_at, used_at, metadata FROM conversation
WHERE deleted_at IS NULL ORDER BY used_at, rowid LIMIT ?"""


def find_selected(db: sqlite3.Connection, selection: Selection, limit: int) -> list[tuple[str, Id]]:
    """Projects and ids of the oldest of the selected responses."""
    named = {name: getattr(selection, name) for name in _CONDITIONS} | {"limit": limit}
    return db.execute(select_oldest(selection), named).fetchall()


def delete_all(db: sqlite3.Connection, places: Places, ids: Sequence[tuple[str, Id]]) -> int:
    """Delete the responses, as ``delete`` does; says how many were there."""
    return sum(responses.delete(db, places, project, id) for project, id in ids)


def select_oldest(selection: Selection) -> str:
    """The statement that finds them. Only the conditions that are conditions for, so that each finds its index."""
    conditions = [text for name, text in _CONDITIONS.items() if getattr(selection, name) is not None]
    return _OLDEST.format(conditions=" AND ".join(conditions or ["TRUE"]))


def read_records(db: sqlite3.Connection, *, after: Id | None, limit: int) -> list[Record]:
    """Visible responses behind ``after``, whole."""
    rows = db.execute(_RECORDS, {"after": after or "", "limit": limit}).fetchall()
    return [_build_record(list(group)) for _, group in groupby(rows, key=itemgetter(0))]


def _build_record(rows: Sequence[Sequence[Any]]) -> Record:
    """A response from its rows, one for each item of either side."""
    id, project = rows[0][:2]
    sides = {side: to_items(row[10:] for row in rows if row[9] == side) for side in ("in", "out")}
    record = responses.build_record(project, id, [rows[0][2:9]])
    return msgspec.structs.replace(record, input=sides["in"], output=sides["out"])


def find_idle(db: sqlite3.Connection, limit: int) -> list[Conversation]:
    """Visible conversations of all projects, the one that was not used for longest first."""
    return [conversations.build_conversation(*row) for row in db.execute(_IDLE, (limit,))]


class SqliteRetention(Port):
    """A ``RetentionStore`` on the threads of a ``SqliteStore``."""

    def __init__(self, read: Execute, writer: Executor, places: Places) -> None:
        super().__init__(read, writer.run)
        self._writer = writer
        self._places = places

    async def purge(self, selection: Selection, limit: int) -> int:
        """See ``RetentionStore.purge``."""
        # Where nothing points to what is chosen, looking for it takes as long as there are responses.
        while found := await self._read(partial(find_selected, selection=selection, limit=limit)):
            if deleted := await self._write(partial(delete_all, places=self._places, ids=found)):
                return deleted
        return 0

    read_records = reading(read_records)
    find_idle = reading(find_idle)

    shrink = writing(space.shrink)  # databases made before schema 0004 give back only when they are rebuilt

    async def scrub(self) -> bool:
        """See ``RetentionStore.scrub``; False while another program reads the database."""
        return await self._writer.run(space.scrub, alone=True)
