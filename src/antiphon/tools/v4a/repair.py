"""Mends the small errors with which models write V4A diffs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from antiphon.tools.v4a.grammar import PatchInvalid, lines_of, parse

_FENCE: Final = re.compile(r"\s*(```|~~~)[^\n]*\n")
_RANGES: Final = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_PREFIXES: Final = ("@@", "***", " ", "+", "-")


def strip_fence(text: str) -> str:
    """A text without the Markdown fence around it."""
    opened, closed = _FENCE.match(text), text.rstrip()
    if opened is None or not closed.endswith(opened[1]) or len(closed) < opened.end() + len(opened[1]):
        return text
    return closed[opened.end() :].rstrip(opened[1][0]).rstrip(" \t").removesuffix("\n")


def content_lines(text: str) -> list[str]:
    """The lines of a patch, without empty ones around it."""
    lines = lines_of(text)
    filled = [at for at, line in enumerate(lines) if line]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def has_ranges(lines: Sequence[str]) -> bool:
    """Whether hunks say their line numbers, as those of unified diffs do."""
    return any(_RANGES.match(line) for line in lines)


def repair(lines: Sequence[str]) -> str:
    """The V4A diff out of lines that are nearly one.

    Headers with line numbers become bare ones. A line without a prefix is context whose space was forgotten. The final
    newline stays what it was: ``\\ No newline at end of file`` is left out.

    Raises:
        PatchInvalid: lines are inserted at a number alone, which V4A cannot say.
    """
    return "\n".join(line for block in _blocks(lines) for line in _repair(block))


def check(diff: str) -> str:
    """A diff that can be read and changes something.

    Raises:
        PatchInvalid: it does not.
    """
    if not any(hunk.changes for hunk in parse(diff)):
        raise PatchInvalid("The diff changes nothing: no line starts with '+' or '-'.")
    return diff


def _blocks(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """The lines from one header to the next."""
    starts = [at for at, line in enumerate(lines) if line.startswith("@@")]
    cuts = sorted({0, *starts, len(lines)})
    yield from (lines[start:end] for start, end in pairwise(cuts))


def _repair(block: Sequence[str]) -> Iterator[str]:
    ranges = _RANGES.match(block[0])
    body = [line for line in block[bool(ranges) :] if not line.startswith("\\")]
    while body and not body[-1]:
        body.pop()
    if ranges:
        if int(ranges[1]) > 1 and body and all(line.startswith("+") for line in body):
            raise PatchInvalid(f"The hunk at line {ranges[1]} lacks context: give the lines around what it inserts.")
        yield "@@"
    yield from (line if line.startswith(_PREFIXES) else f" {line}" for line in body)
