"""What vector stores hold of their files in SQLite: chunks, words in a full-text table of the store, and vectors."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from antiphon.store.vector_stores import ChunkRow, PassageRow

MERGE_PAGES = 500
"""How many pages one step of tidying merges."""

_ADD_CHUNK = """
INSERT INTO chunk (store_file_pk, generation, ordinal, start, end, tokens, page, heading, text)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""

_ADD_PASSAGE = """
INSERT INTO passage (store_file_pk, generation, first, last, digest, vector) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""


def create_words(db: sqlite3.Connection, store_pk: int) -> None:
    """Make the full-text table of a store. It holds words, not the text, which the chunks hold."""
    tokens = "porter unicode61 remove_diacritics 2"
    db.execute(f"CREATE VIRTUAL TABLE fts_{store_pk:d} USING fts5(text, heading, content='', tokenize='{tokens}')")


def drop_words(db: sqlite3.Connection, store_pk: int) -> None:
    """Remove it, with every word in it."""
    db.execute(f"DROP TABLE IF EXISTS fts_{store_pk:d}")


def add_chunks(db: sqlite3.Connection, store_pk: int, key: int, generation: int, chunks: Sequence[ChunkRow]) -> None:
    """Keep chunks; those of that ordinal and generation that are there stay as they are."""
    word = f"INSERT INTO fts_{store_pk:d} (rowid, text, heading) VALUES (?, ?, ?)"
    for each in chunks:
        row = (key, generation, each.ordinal, each.start, each.end, each.tokens, each.page, each.heading, each.text)
        cursor = db.execute(_ADD_CHUNK, row)
        if cursor.rowcount:
            db.execute(word, (cursor.lastrowid, each.text, each.heading))


def add_passages(db: sqlite3.Connection, key: int, generation: int, passages: Sequence[PassageRow]) -> None:
    """Keep vectors; those that are there stay."""
    rows = [(key, generation, each.first, each.last, each.digest, each.vector) for each in passages]
    db.executemany(_ADD_PASSAGE, rows)


def drop(db: sqlite3.Connection, store_pk: int, key: int, *, keep: int = -1, only: int | None = None) -> None:
    """Remove what there is of a file: all but the generation ``keep``, or that of ``only`` alone."""
    condition = "store_file_pk = ? AND generation <> ?" if only is None else "store_file_pk = ? AND generation = ?"
    values = (key, keep if only is None else only)
    words = f"""
    INSERT INTO fts_{store_pk:d} (fts_{store_pk:d}, rowid, text, heading)
    SELECT 'delete', pk, text, heading FROM chunk WHERE {condition}"""
    if db.execute(words, values).rowcount:
        db.execute("UPDATE vector_store SET untidy = 1 WHERE pk = ?", (store_pk,))
    db.execute(f"DELETE FROM chunk WHERE {condition}", values)
    db.execute(f"DELETE FROM passage WHERE {condition}", values)


def mark_changed(db: sqlite3.Connection, store_pk: int) -> None:
    """What can be found in the store is different from now on."""
    db.execute("UPDATE vector_store SET version = version + 1 WHERE pk = ?", (store_pk,))


def tidy(db: sqlite3.Connection) -> bool:
    """One step of merging the words of an untidy store, until no word of what was deleted is left in its table. Whether
    there was something to do.
    """
    row = db.execute("SELECT pk FROM vector_store WHERE untidy = 1 LIMIT 1").fetchone()
    if row is None:
        return False
    (pk,) = row
    before = db.total_changes
    # A negative number merges everything into one, in steps.
    db.execute(f"INSERT INTO fts_{pk:d} (fts_{pk:d}, rank) VALUES ('merge', ?)", (-MERGE_PAGES,))
    if db.total_changes - before < 2:
        db.execute("UPDATE vector_store SET untidy = 0 WHERE pk = ?", (pk,))
    return True
