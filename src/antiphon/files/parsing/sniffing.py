"""Which kind of file it is, told by its content; the name is only asked how to read a text."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal, TypeAlias

from antiphon.files.document import FileRefused
from antiphon.files.parsing.archive import Archive

Kind: TypeAlias = Literal["pdf", "docx", "pptx", "xlsx", "epub", "html", "text"]

HEAD_BYTES = 8192
_MEMBERS: dict[str, Kind] = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
_HTML = re.compile(
    rb"\s*+(<\?xml[^>]*+>\s*+)?+(<!--((?!-->).)*+-->\s*+)*+<(!doctype\s++html|html|head|body)\b", re.I | re.S
)
"""Nothing is taken back, so that nothing is tried in many ways."""
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_NAMED = {
    b"\xd0\xcf\x11\xe0": "an older or encrypted Office file; save it as .docx, .pptx or .xlsx without a password",
    b"{\\rtf": "an RTF file; save it as .docx",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\x1f\x8b": "a gzip archive; upload what is in it",
    b"7z\xbc\xaf": "a 7z archive; upload what is in it",
    b"SQLite format 3": "a database",
}
HTML_NAMES = (".html", ".htm", ".xhtml")


def sniff(data: bytes, filename: str) -> Kind:
    """The kind of a file.

    Raises:
        FileRefused: ``unsupported_file``: none that is read here; ``invalid_file``: a damaged archive.
    """
    head = data[:HEAD_BYTES]
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return _inside(Archive(data))
    for magic, name in _NAMED.items():
        if head.startswith(magic) and (len(magic) > 2 or b"\0" in head):
            raise FileRefused("unsupported_file", f"This is {name}.")
    if not head.startswith(_BOMS) and b"\0" in head:
        raise FileRefused("unsupported_file", "This is neither text nor a document of a supported type.")
    is_named = PurePath(filename).suffix.lower() in HTML_NAMES
    return "html" if _HTML.match(head) or (is_named and b"<" in head) else "text"


def _inside(archive: Archive) -> Kind:
    for member, kind in _MEMBERS.items():
        if member in archive.names:
            return kind
    if "mimetype" in archive.names and archive.read("mimetype").strip() == b"application/epub+zip":
        return "epub"
    raise FileRefused("unsupported_file", "This is a zip archive; upload the files in it one by one.")
