"""Plain text, Markdown, code, CSV, JSON: the text as it is, with the headings that it has."""

from __future__ import annotations

import re
from pathlib import PurePath

from antiphon.files.document import Document, FileRefused, Mark

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32-le"), (b"\xff\xfe", "utf-16-le"),
         (b"\xfe\xff", "utf-16-be"))  # fmt: skip
GUESS_BYTES = 256 * 1024
"""How much of a text in an old encoding is looked at to find out which."""

_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_ATX = re.compile(r"^(#{1,6})[ \t]++(.+)$")
_UNDERLINE = re.compile(r"^(={3,}|-{3,}|~{3,}|\^{3,})[ \t]*$")
_PROSE = frozenset(("", ".md", ".markdown", ".txt", ".text", ".rst", ".adoc", ".mdx"))
_WITHOUT_ATX = frozenset((".txt", ".text", ".rst"))
_LEVELS = {"=": 1, "-": 2, "~": 3, "^": 4}


def parse_text(data: bytes, filename: str) -> Document:
    """The text of a file.

    Raises:
        FileRefused: ``invalid_file``: no encoding makes sense of it.
    """
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    suffix = PurePath(filename).suffix.lower()
    marks = _headings(text, atx=suffix not in _WITHOUT_ATX) if suffix in _PROSE else []
    return Document(text.rstrip(), tuple(marks))


def decode(data: bytes) -> str:
    """Bytes as text: by their byte order mark, as UTF-8, or in the encoding that they look like.

    Raises:
        FileRefused: ``invalid_file``: there is none.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _guess(data)


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes  # rarely needed, slow to import

    matches = list(from_bytes(data[:GUESS_BYTES]))
    if not matches:
        raise FileRefused("invalid_file", "The file is not text in any encoding that can be recognised.")
    best = matches[0]
    alike = {match.encoding for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)}
    # Of encodings that make as much sense, the most frequent one.
    return data.decode("cp1252" if "cp1252" in alike else best.encoding, "replace")


def _headings(text: str, *, atx: bool) -> list[Mark]:
    """Where sections begin: ``# Title``, or a title that is underlined."""
    marks: list[Mark] = []
    path: list[tuple[int, str]] = []
    start, before, fenced = 0, "", False
    before_start = 0
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        found = None if fenced else _heading(line, before, atx=atx)
        if found is not None:
            level, title, is_underline = found
            path = [*((depth, name) for depth, name in path if depth < level), (level, title[:200])]
            marks.append(Mark(before_start if is_underline else start, None, " > ".join(name for _, name in path)))
        before, before_start = line.strip(), start
        start += len(line) + 1
    return marks


def _heading(line: str, before: str, *, atx: bool) -> tuple[int, str, bool] | None:
    if atx and (match := _ATX.match(line)) is not None:
        return len(match[1]), match[2].rstrip(" \t#") or match[2][0], False
    is_title = 0 < len(before) <= 120 and not _UNDERLINE.match(before)
    if is_title and _UNDERLINE.match(line) and len(line.strip()) >= min(len(before), 3) and "|" not in before:
        return _LEVELS[line[0]], before, True
    return None
