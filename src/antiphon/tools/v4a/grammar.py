"""What a V4A diff says: its hunks, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

END_OF_FILE: Final = "*** End of File"
END_OF_DIFF: Final = ("*** End Patch", "*** Update File:", "*** Add File:", "*** Delete File:")
START_OF_DIFF: Final = ("*** Begin Patch", "*** Update File:", "*** Add File:")

_QUOTED_CHARS_MAX: Final = 200


class PatchInvalid(ValueError):
    """A diff that is no V4A, or that does not fit the text. The message is for whoever wrote the diff."""


@dataclass(frozen=True)
class Change:
    """``deleted`` lines of a hunk's ``expected``, from ``offset`` on, give way to ``inserted``."""

    offset: int
    deleted: int
    inserted: tuple[str, ...]


@dataclass(frozen=True)
class Hunk:
    """A place in a file and what changes there.

    Attributes:
        expected: the lines that must be there: context and deleted ones.
        changes: what becomes of them, in order.
        anchors: the lines that its headers name.
        headers: how many ``@@`` lines it has; if several, each anchor must be found.
        at_end: it stands at the end of the file.
    """

    expected: tuple[str, ...]
    changes: tuple[Change, ...]
    anchors: tuple[str, ...] = ()
    headers: int = 1
    at_end: bool = False


def parse(diff: str) -> tuple[Hunk, ...]:
    """The hunks of an ``update_file``'s diff. The lines around them that name a file are passed over.

    Raises:
        PatchInvalid: it is no V4A.
    """
    reader = _Reader(lines_of(diff))
    reader.take_while(lambda line: line.startswith(START_OF_DIFF))
    hunks: list[Hunk] = []
    while (line := reader.peek()) is not None and not line.startswith(END_OF_DIFF):
        hunks.append(_hunk(reader, first=not hunks))
    return tuple(hunks)


def write(hunks: Iterable[Hunk]) -> str:
    """The diff that says these hunks."""
    return "\n".join(line for hunk in hunks for line in _write_hunk(hunk))


def lines_of(diff: str) -> list[str]:
    """A diff's lines; a newline at its end is not one more."""
    lines = [line.rstrip("\r") for line in diff.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def quote(line: str) -> str:
    """A line as an error shows it."""
    return repr(shorten(line))


def shorten(line: str) -> str:
    """As much of a line as an error shows."""
    return line if len(line) <= _QUOTED_CHARS_MAX else f"{line[:_QUOTED_CHARS_MAX]}…"


class _Reader:
    """Lines, and how far they have been read."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self.read = 0

    def peek(self) -> str | None:
        return self._lines[self.read] if self.read < len(self._lines) else None

    def take(self, fits: Callable[[str], bool]) -> bool:
        """Whether the next line fits; then it has been read."""
        line = self.peek()
        taken = line is not None and fits(line)
        self.read += taken
        return taken

    def take_while(self, fits: Callable[[str], bool]) -> Sequence[str]:
        start = self.read
        while (line := self.peek()) is not None and fits(line):
            self.read += 1
        return self._lines[start : self.read]

    def refuse(self, why: str) -> PatchInvalid:
        line = self.peek()
        where = "The diff ends too early" if line is None else f"Line {self.read + 1} of the diff is {quote(line)}"
        return PatchInvalid(f"{where}: {why}.")


def _hunk(reader: _Reader, *, first: bool) -> Hunk:
    headers = reader.take_while(lambda line: line == "@@" or line.startswith("@@ "))
    if not headers and not first:
        raise reader.refuse("expected '@@' in front of the next hunk")
    start = reader.read
    body = reader.take_while(lambda line: not line.startswith(("@@", "***")))
    expected, changes = _body(reader, start, body)
    if not body:
        raise reader.refuse("expected lines of this hunk, which start with ' ', '-' or '+'")
    at_end = reader.take(lambda line: line.rstrip() == END_OF_FILE)
    after = reader.peek()
    if after is not None and after.startswith("***") and not after.startswith(END_OF_DIFF):
        raise reader.refuse("a line of a diff starts with ' ', '-', '+' or '@@'")
    anchors = tuple(anchor for header in headers if (anchor := header[3:]).strip())
    return Hunk(expected, changes, anchors, len(headers), at_end)


def _body(reader: _Reader, start: int, lines: Sequence[str]) -> tuple[tuple[str, ...], tuple[Change, ...]]:
    """What a hunk expects, and its changes: each run of ``-`` and ``+`` lines is one."""
    expected: list[str] = []
    changes: list[Change] = []
    deleted, inserted = 0, list[str]()
    for at, line in enumerate([*lines, " "]):
        match line[:1]:
            case "+":
                inserted.append(line[1:])
            case "-":
                deleted += 1
                expected.append(line[1:])
            case " " | "":
                if deleted or inserted:
                    changes.append(Change(len(expected) - deleted, deleted, tuple(inserted)))
                deleted, inserted = 0, []
                expected.append(line[1:])
            case _:
                reader.read = start + at
                raise reader.refuse("a line of a hunk starts with ' ', '-' or '+'")
    return tuple(expected[:-1]), tuple(changes)


def _write_hunk(hunk: Hunk) -> Iterator[str]:
    yield from ["@@"] * max(hunk.headers - len(hunk.anchors), not hunk.anchors)
    yield from (f"@@ {anchor}" for anchor in hunk.anchors)
    cursor = 0
    for change in hunk.changes:
        yield from (f" {line}" for line in hunk.expected[cursor : change.offset])
        cursor = change.offset + change.deleted
        yield from (f"-{line}" for line in hunk.expected[change.offset : cursor])
        yield from (f"+{line}" for line in change.inserted)
    yield from (f" {line}" for line in hunk.expected[cursor:])
    if hunk.at_end:
        yield END_OF_FILE
