"""Searching vector stores: what a ``SearchIndex`` is asked, and what it answers. One suite tests all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from antiphon.wire import Id

FileFilter = Callable[[dict[str, Any]], bool]
"""Whether a file with those attributes is to be searched."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One query.

    Attributes:
        words: for the full text; empty for none.
        vectors: the query's vector for each embedder, by its id; none where a store is searched by words alone.
        admits: None for all files.
        candidates: chunks that each side brings.
    """

    words: Sequence[str]
    vectors: dict[str, Any] = {}
    admits: FileFilter | None = None
    candidates: int = 100


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that was found.

    Attributes:
        cosine: of its best window, -1 to 1; None where it was not compared.
        bm25: of its words, 0 or more; None where none was found.
    """

    chunk: int
    cosine: float | None
    bm25: float | None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chunk stands, as what outlives a restart: the number of a chunk does not outlive its being cut again.

    Attributes:
        ordinal: of the chunk in its file, from 0.
        start, end: in the file's text, in characters.
    """

    vector_store_id: Id
    file_id: Id
    ordinal: int
    start: int
    end: int

    @property
    def place(self) -> Place:
        """The place alone, of what stands there."""
        return Place(
            vector_store_id=self.vector_store_id,
            file_id=self.file_id,
            ordinal=self.ordinal,
            start=self.start,
            end=self.end,
        )


class Passage(Place, frozen=True, kw_only=True):
    """A chunk that was found, whole."""

    chunk: int
    filename: str
    attributes: dict[str, Any]
    text: str
    page: int | None
    heading: str


class SearchIndex(Protocol):
    """Finds chunks in one vector store."""

    async def find(self, vector_store_id: Id, query: Query) -> list[Candidate]:
        """The best chunks by either measure; exact, not approximate."""
        ...

    async def read(self, chunks: Sequence[int]) -> dict[int, Passage]:
        """Those of the chunks that can still be found."""
        ...

    async def find_places(self, project: str, places: Sequence[Place]) -> dict[Place, Passage]:
        """What of the project's stands at those places, as far as it can still be found."""
        ...
