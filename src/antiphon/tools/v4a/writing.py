"""Writes V4A diffs: of two texts, and of a new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from antiphon.tools.v4a.applying import apply, newline_of, read_created_text, split
from antiphon.tools.v4a.grammar import Change, Hunk, PatchInvalid, write

_CONTEXT_LINES: Final = 3
_CONTEXT_LINES_MORE: Final = 24
_COMPARED_LINES_MAX: Final = 20_000

Edit = tuple[int, int, Sequence[str]]
"""Lines of the old text, from and to, and what they give way to."""


def create(text: str) -> str:
    """The diff of a ``create_file`` that makes a text.

    Raises:
        PatchInvalid: its line endings cannot be written in a diff.
    """
    diff = newline_of(text).join([f"+{line}" for line in split(text)])
    return _verify(diff, read_created_text(diff), text)


def diff(old: str, new: str) -> str:
    """The diff of an ``update_file`` that makes ``new`` of ``old``; '' if they are the same.

    Each hunk has as much context as it takes to be found where it belongs.

    Raises:
        PatchInvalid: ``new`` has line endings that cannot be written in a diff.
    """
    before = split(old)
    hunks: list[Hunk] = []
    cursor = 0
    for group in _groups(edits(before, split(new))):
        end = max(group[-1][1], min(group[-1][1] + _CONTEXT_LINES, len(before) - (before[-1] == "")))
        start = _start(before, cursor, group[0][0], end)
        hunks.append(hunk(before[start:end], [(a - start, b - start, lines) for a, b, lines in group]))
        cursor = end
    diff = write(hunks)
    if "\n" not in old:
        diff = diff.replace("\n", newline_of(new))
    return _verify(diff, apply(old, diff), new)


def hunk(expected: Sequence[str], changed: Iterable[Edit]) -> Hunk:
    """A hunk out of the lines that must be there and the edits of them."""
    changes = [Change(start, end - start, tuple(lines)) for start, end, lines in changed]
    return Hunk(tuple(expected), tuple(changes))


def edits(before: Sequence[str], after: Sequence[str]) -> Iterator[Edit]:
    """How lines become others. Of very long texts all between the same beginning and the same end is one edit."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    if max(len(old), len(new)) > _COMPARED_LINES_MAX:
        yield head, head + len(old), new
        return
    for kind, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes():
        if kind != "equal":
            yield head + a, head + b, new[c:d]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many lines are the same at the beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _groups(found: Iterable[Edit]) -> list[list[Edit]]:
    """Edits whose context would meet, together."""
    groups: list[list[Edit]] = []
    for edit in found:
        if not groups or edit[0] - groups[-1][-1][1] > 2 * _CONTEXT_LINES:
            groups.append([])
        groups[-1].append(edit)
    return groups


def _start(before: Sequence[str], cursor: int, first: int, end: int) -> int:
    """Where a hunk must begin, so that the first place from ``cursor`` on that fits is the right one."""
    for start in (first - _CONTEXT_LINES, first - _CONTEXT_LINES_MORE):
        if start <= cursor:
            break
        wanted = before[start:end]
        if not any(before[at] == wanted[0] and before[at : at + len(wanted)] == wanted for at in range(cursor, start)):
            return start
    return cursor


def _verify(diff: str, applied: str, wanted: str) -> str:
    if applied != wanted:
        raise PatchInvalid("The text's line endings are mixed, or differ from the old text's: a diff cannot say so.")
    return diff
