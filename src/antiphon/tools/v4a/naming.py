"""Patches that name their files: the envelope ``*** Begin Patch``, and unified diffs with ``---`` and ``+++``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from antiphon.tools.v4a.grammar import Hunk, PatchInvalid, parse, quote, write
from antiphon.tools.v4a.repair import check, content_lines, has_ranges, repair
from antiphon.tools.v4a.writing import create

OperationType = Literal["create_file", "update_file", "delete_file"]

_SECTION: Final = re.compile(r"^\*\*\* (Add|Update|Delete) File:\s*(.*?)\s*$")
_ENVELOPE: Final = re.compile(r"^\*\*\* (Begin Patch|End Patch|Environment ID:.*)\s*$")
_MOVE: Final = "*** Move to:"
_NO_NEWLINE: Final = "\\ No newline at end of file"
_PREAMBLE: Final = re.compile(r"^(diff --git |index [0-9a-f]+\.\.|(new|deleted) file mode |(old|new) mode )")
_RENAME: Final = re.compile(r"^(rename|copy) (from|to) ")
_NOTHING: Final = "/dev/null"
_TYPES: Final[dict[str, OperationType]] = {"Add": "create_file", "Update": "update_file", "Delete": "delete_file"}


@dataclass(frozen=True)
class Operation:
    """What an ``apply_patch_call`` asks for: ``diff`` is valid V4A, and None where a file is deleted."""

    type: OperationType
    path: str
    diff: str | None = None


def is_envelope(lines: Sequence[str]) -> bool:
    """Whether lines name files as the envelope does."""
    return any(_SECTION.match(line) for line in lines)


def is_unified(lines: Sequence[str]) -> bool:
    """Whether lines are a unified diff; its hunks alone are one, too."""
    return has_ranges(lines) or bool(_heads(lines))


def sections(lines: Sequence[str]) -> Iterator[Operation]:
    """The operations of an envelope; its first and last line may be missing.

    Raises:
        PatchInvalid: it cannot be read, or moves a file.
    """
    heads = [at for at, line in enumerate(lines) if _SECTION.match(line)]
    for stray in lines[: heads[0] if heads else None]:
        if stray and not _ENVELOPE.match(stray):
            raise PatchInvalid(f"The patch starts with {quote(stray)}: expected '*** Begin Patch'.")
    if not heads:
        raise PatchInvalid("The patch names no file: expected a line such as '*** Update File: path'.")
    for at, end in pairwise([*heads, len(lines)]):
        head = _SECTION.match(lines[at])
        assert head is not None
        yield _section(_TYPES[head[1]], head[2], [line for line in lines[at + 1 : end] if not _ENVELOPE.match(line)])


def _section(kind: OperationType, path: str, body: Sequence[str]) -> Operation:
    if not path:
        raise PatchInvalid("A file of the patch has no path.")
    if body and body[0].startswith(_MOVE):
        raise PatchInvalid(_immovable(path))
    match kind:
        case "delete_file":
            return Operation(kind, path)
        case "create_file":
            return Operation(kind, path, create("".join(_read_added(path, body))))
        case "update_file":
            diff = check(repair(content_lines("\n".join(body))))
            return Operation(kind, path, write(_tie_to_end(hunk) for hunk in parse(diff)))


def _read_added(path: str, body: Sequence[str]) -> Iterator[str]:
    """The lines of a new file, each of which ends in a newline."""
    for line in body:
        if line.startswith("+"):
            yield f"{line[1:]}\n"
        elif line.strip():
            raise PatchInvalid(f"{path}: a line of a new file is {quote(line)}: each of them starts with '+'.")


def _tie_to_end(hunk: Hunk) -> Hunk:
    """In the envelope, lines that come without any context are for the end of the file."""
    return hunk if hunk.expected or hunk.anchors else replace(hunk, at_end=True)


def parse_unified(lines: Sequence[str]) -> Iterator[Operation]:
    """The operations of a unified diff. One without file names is an update of '', whose path the caller knows.

    Raises:
        PatchInvalid: it cannot be read, or moves a file.
    """
    for line in lines:
        if _RENAME.match(line):
            raise PatchInvalid(_immovable(line.split(" ", 2)[2]))
    heads = _heads(lines)
    if not heads:
        yield _update("", lines)
    for at, end in pairwise([*heads, len(lines)]):
        yield _file(_path(lines[at]), _path(lines[at + 1]), lines[at + 2 : end])


def _heads(lines: Sequence[str]) -> list[int]:
    """Where ``--- path`` stands, with ``+++ path`` below it, and no deleted line that looks like that."""
    return [
        at
        for at, (old, new) in enumerate(pairwise(lines))
        if old.startswith("--- ")
        and new.startswith("+++ ")
        and (
            at == 0 or lines[at + 2 : at + 3] == [] or lines[at + 2].startswith("@@") or _NOTHING in (old[4:], new[4:])
        )
    ]


def _path(head: str) -> str:
    """The path in a header, without a time, and without ``a/`` and ``b/``."""
    return re.sub(r"^[ab]/", "", head[4:].split("\t")[0].strip())


def _file(old: str, new: str, body: Sequence[str]) -> Operation:
    if new == _NOTHING:
        return Operation("delete_file", old)
    if old == _NOTHING:
        content = "\n".join(line[1:] for line in body if line.startswith("+"))
        return Operation("create_file", new, create(content if _NO_NEWLINE in body else f"{content}\n"))
    if old != new:
        raise PatchInvalid(_immovable(old))
    return _update(new, body)


def _update(path: str, body: Sequence[str]) -> Operation:
    lines = [line for line in body if not _PREAMBLE.match(line)]
    return Operation("update_file", path, check(repair(content_lines("\n".join(lines)))))


def _immovable(path: str) -> str:
    return f"{path} cannot be moved: create the new file and delete the old one."
