"""Citations of a model that was never trained to make any: markers taken out of the stream, or a likeness of words.

The model is shown numbered sources and asked to write ``[n]`` behind what it takes from one. ``CitationFilter`` turns
``[n]``, ``[n, m]``, ``【n】`` and ``【n†…】`` into citations while the text streams. It holds back an open marker and
the blank before it, nothing else. Markers in code stay, as do indexes such as ``a[1]`` and links such as ``[1](…)``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from antiphon.store.search import Place

Mode: TypeAlias = Literal["auto", "markers", "overlap", "off"]
"""How citations are found: ``auto`` compares words until the model has written a marker of its own."""

MARKER_CHARS_MAX = 48
NUMBER_MAX = 999
"""Of a passage: numbers of more digits are no markers."""
SHARE_MIN, LEAD_MIN = 0.6, 0.15
"""A sentence without a marker cites the source that holds that share of its words, and so much more than any other
file."""
WORDS_MIN = 3
SENTENCE_CHARS_MAX = 2000

_OPENERS = {"[": "]", "【": "】"}
_NUMBERS = re.compile(r"\d{1,3}")
_SQUARE = re.compile(r"\[\^?\d{1,3}(?:[ ]?[,;][ ]?\d{1,3})*\]")
_SQUARE_BEGUN = re.compile(r"\[(?:\^?(?:\d{1,3}(?:[ ]?[,;][ ]?\d{1,3})*(?:[ ]?(?:[,;][ ]?)?)?)?)?")
_CORNER = re.compile(r"【\d{1,3}(?:†[^】\n]*)?】")
_CORNER_BEGUN = re.compile(r"【(?:\d{1,3}(?:†[^】\n]*)?)?")
_INDEXED = re.compile(r"(?:^|[^A-Za-z0-9_])(?:[A-Za-z_][A-Za-z0-9_]?|[A-Za-z]*[0-9_][A-Za-z0-9_]*|[\])])$")
_WORD = re.compile(r"\w{3,}")
_TAIL = 24


class Source(msgspec.Struct, frozen=True):
    """A passage that the model was shown under a number."""

    file_id: str
    filename: str
    text: str


class Sources:
    """The passages that the model is shown in one context, numbered from 1 through all its searches. Behind
    ``NUMBER_MAX`` the numbers begin again, and mean what was shown last.
    """

    def __init__(self) -> None:
        self._numbers: dict[Place, int] = {}
        self._last = 0
        self.by_number: dict[int, Source | None] = {}

    def number(self, place: Place, source: Source) -> int:
        """The number of a passage; the same each time that it is found."""
        if place not in self._numbers:
            self.restore(self._last % NUMBER_MAX + 1, place, source)
        return self._numbers[place]

    def restore(self, number: int, place: Place, source: Source | None) -> None:
        """A passage was shown under that number; those that are found from now on have others. One that is gone cannot
        be cited, but its markers are markers.
        """
        self._numbers[place] = self._last = number
        self.by_number[number] = source


class Citation(msgspec.Struct, frozen=True):
    """What is cited at ``index``: the number of characters of clean text before it."""

    index: int
    file_id: str
    filename: str


Piece: TypeAlias = str | Citation


class CitationFilter:
    """Takes a text in pieces and gives clean text and citations, the same for any pieces.

    Args:
        sources: by number, as the model was shown them.
        index: how many characters of the text there are already.
    """

    def __init__(self, sources: Mapping[int, Source | None], mode: Mode = "auto", index: int = 0) -> None:
        self._sources: Mapping[int, Source | None] = sources if mode != "off" else {}
        self._marked = mode == "overlap"
        self._reads_markers = mode in ("auto", "markers")
        self._overlap = _Overlap(sources) if mode in ("auto", "overlap") else None
        self._out: list[Piece] = []
        self._text: list[str] = []
        self._index = index
        self._tail = ""
        self._held = ""
        self._run = 0
        self._code = 0
        self._cited_at_index: set[str] = set()

    def feed(self, text: str) -> list[Piece]:
        """Take a piece; what can be shown now, in order. Citations come where they belong between the texts."""
        if not self._sources:
            return [text] if text else []
        for char in text:
            self._take(char)
        return self._flush()

    def end(self) -> list[Piece]:
        """The text is over: what was held back."""
        if self._held:
            self._settle("")
        self._put(self._held)
        self._held = ""
        if self._overlap is not None:
            self._compare(self._overlap.end())
        return self._flush()

    def _flush(self) -> list[Piece]:
        self._gather()
        out, self._out = self._out, []
        return out

    def _gather(self) -> None:
        if self._text:
            self._out.append("".join(self._text))
            self._text.clear()

    # Characters

    def _take(self, char: str) -> None:
        if len(self._held) > 1 or self._held in _OPENERS:
            if self._continues(char):
                self._held += char
                return
            self._settle(char)
        if char == "`":
            self._release()
            self._run += 1
            self._put(char)
            return
        if self._run:
            self._end_run()
        if self._code:
            self._code = 0 if char == "\n" and self._code < 3 else self._code
            self._put(char)
        elif char == " ":
            self._release()
            self._held = char
        elif char in _OPENERS and self._reads_markers and not self._is_index():
            self._held += char
        else:
            self._release()
            self._put(char)

    def _is_index(self) -> bool:
        """Whether a bracket here would belong to what stands before it, as in ``a[1]``."""
        return not self._held and not self._cited_at_index and _INDEXED.search(self._tail) is not None

    def _end_run(self) -> None:
        """Back ticks have ended: they open code, or close it."""
        if not self._code:
            self._code = self._run
        elif self._run == self._code or (self._code >= 3 and self._run >= self._code):
            self._code = 0
        self._run = 0

    def _continues(self, char: str) -> bool:
        marker = self._held.lstrip(" ") + char
        if len(marker) > MARKER_CHARS_MAX:
            return False
        begun, whole = (_SQUARE_BEGUN, _SQUARE) if marker[0] == "[" else (_CORNER_BEGUN, _CORNER)
        return begun.fullmatch(marker) is not None or whole.fullmatch(marker) is not None

    def _settle(self, char: str) -> None:
        """What was held is a marker, or text; ``char`` comes behind it."""
        marker = self._held.lstrip(" ")
        whole = _SQUARE.fullmatch(marker) or _CORNER.fullmatch(marker)
        numbers = [int(found) for found in _NUMBERS.findall(marker.partition("†")[0])] if whole else []
        known = [source for number in numbers if (source := self._sources.get(number)) is not None]
        if char == "(" or not (known or len(numbers) == 1):
            self._release()
            return
        self._held = ""
        self._marked = self._marked or bool(known)
        if self._overlap is not None:
            self._overlap.note_marker()
        for source in known:
            self._cite(source)

    def _release(self) -> None:
        """What was held is text."""
        self._put(self._held)
        self._held = ""

    def _put(self, text: str) -> None:
        for char in text:
            if self._overlap is not None:
                self._compare(self._overlap.before(char))
            self._text.append(char)
            self._index += 1
            self._cited_at_index.clear()
        if text:
            self._tail = (self._tail + text)[-_TAIL:]

    # Citations

    def _compare(self, source: Source | None) -> None:
        """A sentence has ended that is like a source; it counts unless the model marks its sources itself."""
        if source is not None and not (self._marked and self._reads_markers):
            self._cite(source)

    def _cite(self, source: Source) -> None:
        if source.file_id in self._cited_at_index:
            return
        self._cited_at_index.add(source.file_id)
        self._gather()
        self._out.append(Citation(self._index, source.file_id, source.filename))


class _Overlap:
    """Finds the source that a sentence is like, at the sentence's end."""

    def __init__(self, sources: Mapping[int, Source | None]) -> None:
        shown = [source for source in sources.values() if source is not None]
        self._words = [(source, frozenset(_words(source.text))) for source in shown]
        self._sentence: list[str] = []
        self._is_marked = False
        self._is_ended = False

    def note_marker(self) -> None:
        """The sentence carries a marker."""
        self._is_marked = True

    def before(self, char: str) -> Source | None:
        """A character is about to come; the source of the sentence that ends before it, if one does."""
        found = None
        if char == "\n" or (self._is_ended and char == " ") or len(self._sentence) > SENTENCE_CHARS_MAX:
            found = self.end()
        self._is_ended = char in ".!?" or (self._is_ended and char in "\"')”")
        self._sentence.append(char)
        return found

    def end(self) -> Source | None:
        """The sentence is over; the source that it is like."""
        words = list(_words("".join(self._sentence)))
        is_marked, self._is_marked = self._is_marked, False
        self._sentence.clear()
        if is_marked or len(words) < WORDS_MIN:
            return None
        shares = sorted(self._shares(words), key=lambda each: -each[0])
        if not shares or shares[0][0] < SHARE_MIN:
            return None
        best, source = shares[0]
        others = (share for share, other in shares if other.file_id != source.file_id)
        return source if best - next(others, 0.0) >= LEAD_MIN else None

    def _shares(self, words: Sequence[str]) -> Iterator[tuple[float, Source]]:
        for source, known in self._words:
            yield sum(word in known for word in words) / len(words), source


def _words(text: str) -> Iterator[str]:
    return (match[0] for match in _WORD.finditer(text.lower()))
