"""A document in chunks, which are found and returned, and in windows, which are embedded.

Chunks are as large as the request says and overlap; windows are small and do not. A chunk scores by its best window:
a model that reads 256 tokens would pass over most of a chunk of 800. Both are cut where the text is: before a heading,
else between paragraphs, lines or sentences, else between tokens. All spans are offsets of characters in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import msgspec

from antiphon.files.document import Document
from antiphon.files.tokens import token_starts

CHUNK_TOKENS, OVERLAP_TOKENS = 800, 400
WINDOW_TOKENS = 128

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？]")
_FILLED = 0.5
"""The share of its size that a chunk has at least, where it is cut before it is full."""


class Chunk(msgspec.Struct, frozen=True):
    """A passage that can be found; ``end`` is behind its last character."""

    start: int
    end: int
    text: str
    tokens: int
    page: int | None = None
    heading: str = ""


class Window(msgspec.Struct, frozen=True):
    """A passage that is embedded, for the chunks with the ordinals ``first`` to ``last``."""

    text: str
    first: int
    last: int


class Chunked(msgspec.Struct, frozen=True):
    """A document in pieces."""

    chunks: Sequence[Chunk]
    windows: Sequence[Window]


def chunk_document(document: Document, size: int = CHUNK_TOKENS, overlap: int = OVERLAP_TOKENS) -> Chunked:
    """Cut a document. It may take seconds: to be called in a thread.

    Args:
        size: tokens that a chunk has at most; ``overlap``: tokens that it shares with the one before at most, half of
            ``size`` or less.
    """
    assert 0 <= overlap * 2 <= size, "half of a chunk may overlap"
    cuts = _Cuts(document)
    spans = cuts.spans(size, overlap)
    chunks = [_chunk(document, cuts, start, end) for start, end in spans]
    windows = [_window(document.text, chunks, start, end) for start, end in cuts.spans(min(WINDOW_TOKENS, size), 0)]
    return Chunked(chunks, windows)


def _chunk(document: Document, cuts: _Cuts, start: int, end: int) -> Chunk:
    mark = document.mark(start)
    return Chunk(start, end, document.text[start:end], cuts.tokens(start, end), mark.page, mark.heading)


def _window(text: str, chunks: Sequence[Chunk], start: int, end: int) -> Window:
    """The window, with the chunks that hold half of it, or half of which it holds."""
    near = range(bisect_right(chunks, start, key=lambda chunk: chunk.end), len(chunks))
    held: list[int] = []
    for ordinal in near:
        chunk = chunks[ordinal]
        if chunk.start >= end:
            break
        shared = min(end, chunk.end) - max(start, chunk.start)
        if 2 * shared >= min(end - start, chunk.end - chunk.start):
            held.append(ordinal)
    held = held or [min(near.start, len(chunks) - 1)]
    return Window(text[start:end], held[0], held[-1])


class _Cuts:
    """Where a text can be cut, by how good a cut it is."""

    def __init__(self, document: Document) -> None:
        self._text = text = document.text
        self._starts = token_starts(text)
        self._ranks = [
            [mark.start for mark in document.marks],
            [match.end() for match in _PARAGRAPH.finditer(text)],
            [match.end() for match in _LINE.finditer(text)],
            [match.end() for match in _SENTENCE.finditer(text)],
        ]

    def tokens(self, start: int, end: int) -> int:
        """How many tokens a span has."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def spans(self, size: int, overlap: int) -> list[tuple[int, int]]:
        """The text in spans of up to ``size`` tokens, each sharing up to ``overlap`` with the one before."""
        starts, found = self._starts, list[tuple[int, int]]()
        first = 0
        while first < len(starts):
            if first + size >= len(starts):
                found.append(self._trim(starts[first], len(self._text)))
                break
            end = self._last(starts[first + int(size * _FILLED)], starts[first + size])
            found.append(self._trim(starts[first], end))
            after = bisect_left(starts, end)
            if overlap:
                again = self._first(starts[after - overlap], starts[after - overlap // 2])
                after = max(first + 1, bisect_left(starts, again))
            first = after
        return [span for span in found if span[0] < span[1]]

    def _last(self, low: int, high: int) -> int:
        """The best cut behind ``low``, not behind ``high``; of several the last."""
        for places in self._ranks:
            place = bisect_right(places, high) - 1
            if place >= 0 and places[place] > low:
                return places[place]
        return high

    def _first(self, low: int, high: int) -> int:
        """The best cut from ``low`` on, not behind ``high``; of several the first."""
        for places in self._ranks:
            place = bisect_left(places, low)
            if place < len(places) and places[place] <= high:
                return places[place]
        return low

    def _trim(self, start: int, end: int) -> tuple[int, int]:
        """The span without the blanks at its end."""
        piece = self._text[start:end]
        return start, start + len(piece.rstrip())
