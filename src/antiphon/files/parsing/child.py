"""The process that reads one file: ``python -m antiphon.files.parsing.child PATH NAME``, its answer on standard output.

It limits itself before it looks at the file: what a hostile file makes of a parser ends with this process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from antiphon.files.document import Document, FileErrorCode, FileRefused
from antiphon.files.parsing.archive import Archive
from antiphon.files.parsing.html import parse_html
from antiphon.files.parsing.office import parse_docx, parse_epub, parse_pptx, parse_xlsx
from antiphon.files.parsing.pdf import parse_pdf
from antiphon.files.parsing.sniffing import sniff
from antiphon.files.parsing.text import parse_text

MARKS_MAX = 200_000
"""Headings and pages that are kept of a file; what comes behind stands under the last of them."""
_ARCHIVES = {"docx": parse_docx, "pptx": parse_pptx, "xlsx": parse_xlsx, "epub": parse_epub}


class ParseLimits(msgspec.Struct, frozen=True, array_like=True):
    """The bounds of reading one file.

    Attributes:
        memory_bytes: address space of the process.
        cpu_s: processor seconds; ``wall_s``: seconds by the clock.
        text_chars: characters of text that may come of it.
    """

    memory_bytes: int = 1 << 30
    cpu_s: int = 60
    wall_s: float = 120.0
    text_chars: int = 50_000_000


class Parsed(msgspec.Struct, frozen=True, array_like=True):
    """What the process answers: a document, or why there is none."""

    document: Document | None
    code: FileErrorCode = "server_error"
    error: str = ""


def parse(data: bytes, filename: str) -> Document:
    """The text of a file, by what it is.

    Raises:
        FileRefused: it cannot be had.
    """
    kind = sniff(data, filename)
    match kind:
        case "pdf":
            document = parse_pdf(data)
        case "html":
            document = parse_html(data)
        case "text":
            document = parse_text(data, filename)
        case _:
            document = _ARCHIVES[kind](Archive(data))
    if not document.text.strip():
        raise FileRefused("invalid_file", "The file holds no text.")
    # Halves of characters, which some encodings can say, cannot be kept.
    return Document(document.text.encode("utf-8", "replace").decode(), document.marks[:MARKS_MAX])


def answer(path: Path, filename: str, limits: ParseLimits) -> Parsed:
    """The same, as what is said of it."""
    try:
        document = parse(path.read_bytes(), filename)
    except FileRefused as refusal:
        return Parsed(None, refusal.code, str(refusal))
    except MemoryError:
        return Parsed(None, "invalid_file", f"Reading the file takes more than {limits.memory_bytes} bytes of memory.")
    except RecursionError:
        return Parsed(None, "invalid_file", "The file is nested too deeply.")
    if len(document.text) > limits.text_chars:
        return Parsed(None, "invalid_file", f"The file holds more than {limits.text_chars} characters of text.")
    return Parsed(document)


def limit(limits: ParseLimits) -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:  # not on Windows; there the clock alone bounds it
        return
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Read one file and answer."""
    path, filename, encoded = sys.argv[1:4]
    limits = msgspec.json.decode(encoded, type=ParseLimits)
    limit(limits)
    data = msgspec.msgpack.encode(answer(Path(path), filename, limits))
    with os.fdopen(1, "wb") as out:
        out.write(data)


if __name__ == "__main__":
    main()
