"""A chain in this process: the engine on SQLite, with a model that costs nothing, and every statement counted."""

from __future__ import annotations

import sqlite3
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from antiphon.access.keyring import Caller
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.log import NullLog
from antiphon.models import Finish, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.run import respond
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import OneModel
from antiphon.wire.conversation import ConversationParams
from bench.chain.looks import QUESTION, Look, Way, lengths

ANSWER = "The third of them is the oldest, as the others know. " * 5
LOADS = 15
"""How often the context is loaded at each look."""


class Statements:
    """Counts the statements of the SQLite connections that this process opened."""

    def __init__(self) -> None:
        self.count = 0
        self._opened: list[sqlite3.Connection] = []
        sys.addaudithook(self._hear)

    def _hear(self, name: str, told: tuple[Any, ...]) -> None:
        # Too early to listen: the connection is not made yet.
        if name == "sqlite3.connect/handle" and isinstance(told[0], sqlite3.Connection):
            self._opened.append(told[0])

    def listen(self) -> None:
        """Count from now on, on all that are open."""
        for connection in self._opened:
            with suppress(sqlite3.ProgrammingError):  # closed
                connection.set_trace_callback(self._note)
        self._opened.clear()

    def _note(self, statement: str) -> None:
        self.count += 1

    def taken(self) -> int:
        """The count since it was last taken."""
        count, self.count = self.count, 0
        return count


class Chain:
    """A chain that grows turn by turn."""

    def __init__(self, store: SqliteStore, way: Way, statements: Statements) -> None:
        model = ScriptedModel((ANSWER, Finish(usage=Usage(input=1, output=1))), again=True)
        self._samples = model.samples
        self._engine = Engine(Config(), OneModel(model), store)
        self._store = store
        self._way: Way = way
        self._statements = statements
        self._continued = ""

    async def begin(self) -> None:
        """Make what the first turn continues, if that must be there."""
        if self._way == "conversation":
            self._continued = (await self._engine.conversations.create("", ConversationParams())).id

    async def turn(self) -> float:
        """One turn; how long it took, in seconds."""
        began = time.perf_counter()
        body = {"model": "m", "input": QUESTION} | ({self._way: self._continued} if self._continued else {})
        response = await respond(await self._engine.responses.accept(body, Caller()), NullLog())
        took = time.perf_counter() - began
        self._samples.clear()
        if self._way == "previous_response_id":
            self._continued = response.id
        return took

    async def load(self, turns: int) -> float:
        """Load the context as a turn does; how long it took, in seconds."""
        began = time.perf_counter()
        if self._way == "conversation":
            items = await self._store.conversations.load_history("", self._continued)
        else:
            items = await self._store.items.load_history("", self._continued)
        took = time.perf_counter() - began
        assert items is not None and len(items) == 2 * turns, "the context is not whole"
        return took

    async def look(self, turns: int, used_bytes: float, took: list[float]) -> Look:
        """What there is to see now. ``used_bytes`` and ``took``: of each of the turns since the last look."""
        self._statements.taken()
        loads = [await self.load(turns) for _ in range(LOADS)]
        statements = self._statements.taken()
        assert statements % LOADS == 0, "loads differ in their statements"
        return Look(
            turns=turns,
            turn_bytes=used_bytes,
            turn_ms=statistics.median(took) * 1000,
            load_ms=statistics.median(loads) * 1000,
            load_statements=statements // LOADS,
        )


async def grow(folder: Path, way: Way, turns: int, looks: int, statements: Statements) -> AsyncIterator[Look]:
    """Grow a chain, and look at it now and then."""
    store = await SqliteStore.open(folder)
    statements.listen()
    try:
        chain = Chain(store, way, statements)
        await chain.begin()
        done, used = 0, (await store.read_stats()).used_bytes
        for length in lengths(turns, looks):
            took: list[float] = []
            while done < length:
                statements.taken()
                took.append(await chain.turn())
                last = statements.taken()
                done += 1
            now = (await store.read_stats()).used_bytes
            seen = await chain.look(length, (now - used) / len(took), took)
            yield Look(**{**vars(seen), "turn_statements": last})
            used = now
    finally:
        await store.close()
