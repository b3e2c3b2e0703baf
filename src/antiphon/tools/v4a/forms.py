"""Edits in forms that models write more easily than V4A, turned into V4A without a look at the file.

A whole file is a ``create_file`` (``creation``), a text and what replaces it is a hunk (``replacement``). Search and
replace blocks, a unified diff, and a V4A diff with small errors become a valid diff (``update``). A patch that names
its files, in the envelope ``*** Begin Patch`` or as a unified diff, becomes one operation a file (``operations``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from antiphon.tools.v4a.applying import split
from antiphon.tools.v4a.grammar import PatchInvalid, lines_of, write
from antiphon.tools.v4a.naming import Operation, is_envelope, is_unified, parse_unified, sections
from antiphon.tools.v4a.repair import check, content_lines, repair, strip_fence
from antiphon.tools.v4a.writing import create, edits, hunk

_SEARCH: Final = re.compile(r"^<{5,9}( |$)")
_DIVIDER: Final = re.compile(r"^={5,9}\s*$")
_REPLACE: Final = re.compile(r"^>{5,9}( |$)")


def creation(content: str) -> str:
    """The diff of a ``create_file`` out of a file's content. What is such a diff already stays as it is.

    Raises:
        PatchInvalid: its line endings cannot be written in a diff.
    """
    lines = lines_of(content)
    return content if lines and all(line.startswith("+") for line in lines) else create(content)


def replacement(search: str, replacement: str) -> str:
    """The diff of an ``update_file`` that replaces whole lines by others; both texts may end in a newline.

    Raises:
        PatchInvalid: nothing is searched for, or nothing changes.
    """
    if not search.strip():
        raise PatchInvalid("The text to search for is empty: give the lines that are to be replaced.")
    before, after = _whole_lines(search), _whole_lines(replacement)
    if before == after:
        raise PatchInvalid("The text to search for and its replacement are the same.")
    return write([hunk(before, edits(before, after))])


def update(text: str) -> str:
    """The diff of an ``update_file`` out of what a model wrote as one: see this module.

    Raises:
        PatchInvalid: it cannot be read, is about several files, or changes nothing.
    """
    lines = content_lines(strip_fence(text))
    if any(_SEARCH.match(line) for line in lines):
        return "\n".join(_replacements(lines))
    if is_envelope(lines) or is_unified(lines):
        return _only_update(_operations(lines))
    return check(repair(lines))


def operations(text: str) -> list[Operation]:
    """The operations of a patch that names its files.

    Raises:
        PatchInvalid: it cannot be read, names no file, or moves one.
    """
    found = _operations(content_lines(strip_fence(text)))
    if not all(operation.path for operation in found):
        raise PatchInvalid("The patch names no file: expected a line such as '*** Update File: path'.")
    return found


def _operations(lines: Sequence[str]) -> list[Operation]:
    return list(parse_unified(lines) if is_unified(lines) and not is_envelope(lines) else sections(lines))


def _only_update(found: Sequence[Operation]) -> str:
    if len(found) > 1:
        raise PatchInvalid(f"The diff is about {len(found)} files: expected one.")
    if found[0].diff is None or found[0].type != "update_file":
        raise PatchInvalid(f"The diff is a {found[0].type}: expected an update_file.")
    return found[0].diff


def _whole_lines(text: str) -> list[str]:
    """The lines of a stretch of a file; a newline at its end is not one more, and no text is no line."""
    lines = split(text)
    return lines[:-1] if lines[-1] == "" else lines


def _replacements(lines: Sequence[str]) -> Iterator[str]:
    """One hunk for each search and replace block. What stands between the blocks is passed over."""
    at = 0
    while at < len(lines):
        if _SEARCH.match(lines[at]):
            end = _end(lines, at)
            yield _replace(lines[at + 1 : end], at + 1)
            at = end
        at += 1


def _end(lines: Sequence[str], start: int) -> int:
    for at in range(start, len(lines)):
        if _REPLACE.match(lines[at]):
            return at
    raise PatchInvalid(f"The search and replace block at line {start + 1} lacks its end, '>>>>>>> REPLACE'.")


def _replace(block: Sequence[str], number: int) -> str:
    dividers = [at for at, line in enumerate(block) if _DIVIDER.match(line)]
    if len(dividers) != 1:
        raise PatchInvalid(f"The search and replace block at line {number} needs exactly one line '======='.")
    search, new = block[: dividers[0]], block[dividers[0] + 1 :]
    return replacement("".join(f"{line}\n" for line in search), "".join(f"{line}\n" for line in new))
