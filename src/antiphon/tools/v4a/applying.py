"""Applies V4A diffs to texts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from antiphon.tools.v4a.grammar import END_OF_DIFF, Change, Hunk, PatchInvalid, lines_of, parse, quote, shorten

_QUOTED_LINES_MAX: Final = 12
_WORDS_CHARS_MAX: Final = 200
_ALIKE_LINES_MAX: Final = 20_000
_ALIKE_MIN: Final = 0.5
_HINT_COMPARISONS_MAX: Final = 1_000_000

_FORMS: Final[tuple[Callable[[str], str], ...]] = (str, str.rstrip, str.strip)
"""What of a line has to agree, from strict to tolerant."""


def apply(text: str, diff: str) -> str:
    """What the diff of an ``update_file`` makes of a text.

    Raises:
        PatchInvalid: it is no V4A, its lines are not in the text, or its hunks overlap.
    """
    document = _Document(text, newline_of(text if "\n" in text else diff))
    cursor = 0
    edits: list[tuple[int, Change]] = []
    for number, hunk in enumerate(parse(diff), 1):
        start = document.locate(hunk, number, cursor)
        edits += [(start + change.offset, change) for change in hunk.changes]
        cursor = start + len(hunk.expected)
    return document.edit(edits)


def read_created_text(diff: str) -> str:
    """The text that the diff of a ``create_file`` holds. Its last line has no newline, unless it is an empty one.

    Raises:
        PatchInvalid: a line does not start with ``+``.
    """
    lines: list[str] = []
    for number, line in enumerate(lines_of(diff), 1):
        if line.startswith(END_OF_DIFF):
            break
        if not line.startswith("+"):
            raise PatchInvalid(f"Line {number} of the diff is {quote(line)}: each line of a new file starts with '+'.")
        lines.append(line[1:])
    return newline_of(diff).join(lines)


def split(text: str) -> list[str]:
    """A text's lines, without their endings; at least one."""
    return re.split(r"\r?\n", text)


def newline_of(text: str) -> str:
    """The line ending that most of a text's lines have."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


class _Document:
    """A text as lines with their endings, and where lines are found in it."""

    def __init__(self, text: str, newline: str) -> None:
        self._newline = newline
        self._endings = re.findall(r"\r?\n", text)
        self._lines = split(text)
        self._forms: dict[Callable[[str], str], tuple[list[str], dict[str, list[int]]]] = {}

    def locate(self, hunk: Hunk, number: int, cursor: int) -> int:
        """Where a hunk's ``expected`` begins, not before the line ``cursor``."""
        for at, anchor in enumerate(hunk.anchors):
            found = self._after(anchor, cursor, passed=at == 0)
            if found is None and hunk.headers > 1:
                raise PatchInvalid(
                    f"Hunk {number}: there is no line {quote(anchor)} from line {cursor + 1} of the file on."
                )
            cursor = cursor if found is None else found
        start = self._at_end(hunk.expected, cursor) if hunk.at_end else self._find(hunk.expected, cursor)
        if start is None:
            raise PatchInvalid("\n".join([*_expected_lines(hunk, number, cursor), *self._hint(hunk, cursor)]))
        return start

    def edit(self, edits: Iterable[tuple[int, Change]]) -> str:
        """The text after changes at these lines. Lines keep their endings; new ones have those of the lines they
        replace, or of the line before."""
        lines = list(self._edit(edits)) or [("", None)]
        return "".join([line + (ending or self._newline) for line, ending in lines[:-1]]) + lines[-1][0]

    def _edit(self, edits: Iterable[tuple[int, Change]]) -> Iterator[tuple[str, str | None]]:
        lines = list(zip(self._lines, [*self._endings, None], strict=True))
        cursor = 0
        for start, change in edits:
            if start < cursor:
                raise PatchInvalid(f"Two hunks change line {start + 1} of the file: hunks must not overlap.")
            yield from lines[cursor:start]
            cursor = start + change.deleted
            models = lines[start:cursor] or lines[max(0, start - 1) : start] or [("", None)]
            yield from ((line, models[min(at, len(models) - 1)][1]) for at, line in enumerate(change.inserted))
        yield from lines[cursor:]

    def _after(self, anchor: str, cursor: int, *, passed: bool) -> int | None:
        """The line after an anchor; ``cursor`` itself, if the anchor may stand before it, and does."""
        for form in (str, str.strip):
            places = self._form(form)[1].get(form(anchor), [])
            if passed and places and places[0] < cursor:
                return cursor
            if (at := bisect_left(places, cursor)) < len(places):
                return places[at] + 1
        return None

    def _at_end(self, wanted: Sequence[str], cursor: int) -> int | None:
        """At the end, where an empty last line is none; else anywhere."""
        end = len(self._lines) - (self._lines[-1] == "")
        last = self._find(wanted, max(0, end - len(wanted)), end)
        return last if last is not None else self._find(wanted, min(cursor, end), end)

    def _find(self, wanted: Sequence[str], start: int, end: int | None = None) -> int | None:
        """Where the lines stand, from ``start`` on and before ``end``."""
        if not wanted:
            return start
        end = len(self._lines) if end is None else end
        for form in _FORMS:
            lines, places = self._form(form)
            sought = [form(line) for line in wanted]
            candidates = places.get(sought[0], [])
            first = bisect_left(candidates, start)
            if first < len(candidates) and (at := _search(lines, sought, candidates[first], end)) is not None:
                return at
        return None

    def _form(self, form: Callable[[str], str]) -> tuple[list[str], dict[str, list[int]]]:
        """The lines in a form, and where each of them stands."""
        if form not in self._forms:
            lines = [form(line) for line in self._lines]
            places: dict[str, list[int]] = {}
            for at, line in enumerate(lines):
                places.setdefault(line, []).append(at)
            self._forms[form] = (lines, places)
        return self._forms[form]

    def _hint(self, hunk: Hunk, cursor: int) -> list[str]:
        """What stands in the file instead of what was expected, where that can be said."""
        earlier = self._find(hunk.expected, 0)
        if earlier is not None:
            return [f"They stand at line {earlier + 1}: hunks must be in the order of the file."]
        lines = self._form(str.strip)[0]
        wanted = [line.strip() for line in hunk.expected]
        if len(lines) * len(wanted) > _HINT_COMPARISONS_MAX:
            return []
        nearest = max(range(len(lines)), key=lambda at: (_agreeing(lines, wanted, at), at >= cursor))
        if not _agreeing(lines, wanted, nearest):
            return self._alike(wanted)
        differs = next(at for at, line in enumerate(wanted) if lines[nearest + at : nearest + at + 1] != [line])
        there = self._lines[nearest + differs] if nearest + differs < len(lines) else "the end of the file"
        where = f"The nearest place is line {nearest + 1}; at line {nearest + differs + 1} the file has"
        return [where, f"  {shorten(there)}", "where the diff expects", f"  {shorten(hunk.expected[differs])}"]

    def _alike(self, wanted: Sequence[str]) -> list[str]:
        """The line of the file that shares most words with the first line that was expected."""
        sought = _words(next(filter(None, wanted), ""))
        alike = {at: _overlap(sought, _words(line)) for at, line in enumerate(self._lines[:_ALIKE_LINES_MAX])}
        at = max(alike, key=lambda at: alike[at])
        if alike[at] < _ALIKE_MIN:
            return []
        return [f"The line most like them is line {at + 1}:", f"  {shorten(self._lines[at])}"]


def _search(lines: Sequence[str], sought: Sequence[str], start: int, end: int) -> int | None:
    """Where ``sought`` stands first, from ``start`` on and before ``end``; no line is looked at more often than twice
    (Knuth, Morris and Pratt)."""
    if lines[start : start + len(sought)] == sought and start + len(sought) <= end:
        return start
    back, held = [0], 0
    """How much of ``sought`` is still held where what follows so many of its lines is another one."""
    for at in range(1, len(sought)):
        while held and sought[at] != sought[held]:
            held = back[held - 1]
        held += sought[at] == sought[held]
        back.append(held)
    held = 0
    for at in range(start, min(end, len(lines))):
        while held and lines[at] != sought[held]:
            held = back[held - 1]
        held += lines[at] == sought[held]
        if held == len(sought):
            return at + 1 - held
    return None


def _expected_lines(hunk: Hunk, number: int, cursor: int) -> list[str]:
    where = "at the end of the file" if hunk.at_end else f"from line {cursor + 1} of the file on"
    lines = [f"  {shorten(line)}" for line in hunk.expected[:_QUOTED_LINES_MAX]]
    more = [f"  … ({len(hunk.expected)} lines)"] if len(hunk.expected) > _QUOTED_LINES_MAX else []
    return [f"Hunk {number}: these lines are not to be found {where}:", *lines, *more]


def _agreeing(lines: Sequence[str], wanted: Sequence[str], at: int) -> int:
    """How many lines that say something agree there."""
    return sum(1 for line, there in zip(wanted, lines[at : at + len(wanted)], strict=False) if line and line == there)


def _words(line: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", line[:_WORDS_CHARS_MAX]))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """How much of the words of both are the same, from 0 to 1."""
    return len(one & other) / len(one | other) if one and other else 0.0
