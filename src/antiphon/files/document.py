"""What a parser makes of a file: its text, and where in it pages and sections begin."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

FileErrorCode: TypeAlias = Literal["server_error", "unsupported_file", "invalid_file"]


class FileRefused(Exception):
    """A file whose text cannot be had.

    Attributes:
        code: as the API has it in ``last_error``: ``unsupported_file`` for a kind of file that is not read here,
            ``invalid_file`` for one that is damaged, encrypted, over a limit or without text, ``server_error`` for
            a fault of ours.
    """

    def __init__(self, code: FileErrorCode, text: str) -> None:
        super().__init__(text)
        self.code: FileErrorCode = code


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """From the character ``start`` on, until the next mark: the page, and the heading that it stands under.

    Attributes:
        page: from 1; None where the format has no pages.
        heading: the path of headings, such as ``Install > From source``; empty without one.
    """

    start: int
    page: int | None = None
    heading: str = ""


class Document(msgspec.Struct, frozen=True, array_like=True):
    """The text of a file. ``marks`` rise in ``start``."""

    text: str
    marks: Sequence[Mark] = ()

    def mark(self, at: int) -> Mark:
        """The mark that holds for the character at that offset."""
        place = bisect_right(self.marks, at, key=lambda mark: mark.start) - 1
        return self.marks[place] if place >= 0 else Mark(0)


class DocumentBuilder:
    """Puts a document together from its blocks, in order."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self._path: list[tuple[int, str]] = []
        self._page: int | None = None

    def page(self, number: int) -> None:
        """What follows stands on that page."""
        self._page = number
        self._mark()

    def heading(self, text: str, level: int) -> None:
        """A heading, which is a block too; ``level`` from 1."""
        title = " ".join(text.split())
        if title:
            self.section(title, level)
            self.block(title)

    def section(self, title: str, level: int) -> None:
        """What follows stands under that heading, which is no block itself."""
        self._path = [*((depth, name) for depth, name in self._path if depth < level), (level, title[:200])]
        self._mark()

    def block(self, text: str) -> None:
        """A paragraph, a row, a piece of code: what belongs together."""
        text = text.strip("\n").rstrip()
        if text:
            self.raw(text + "\n\n")

    def raw(self, text: str) -> None:
        """Text as it is."""
        self._pieces.append(text)
        self._length += len(text)

    def _mark(self) -> None:
        mark = Mark(self._length, self._page, " > ".join(name for _, name in self._path))
        if self._marks and self._marks[-1].start == mark.start:
            self._marks.pop()
        self._marks.append(mark)

    def build(self) -> Document:
        """The document."""
        return Document("".join(self._pieces).rstrip(), tuple(self._marks))
