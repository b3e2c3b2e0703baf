"""Office files: DOCX, PPTX and XLSX, read from their XML; and EPUB books, which are HTML in an archive."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from antiphon.files.document import Document, DocumentBuilder, FileRefused
from antiphon.files.parsing.archive import Archive, read_xml
from antiphon.files.parsing.html import parse_html

_HEADING = re.compile(r"heading (\d)")
CELLS_MAX = 2_000_000
_DIGITS_MAX = 9


def parse_docx(archive: Archive) -> Document:
    """Paragraphs, headings by their style, and tables row by row."""
    reader = _Paragraphs(_heading_styles(archive))
    for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
        if part in archive.names:
            read_xml(archive.read(part), reader.start, reader.end, reader.data)
    return reader.builder.build()


class _Paragraphs:
    """A DOCX file's text on its way into the document.

    Args:
        levels: of the styles that are headings.
    """

    _BLANKS: Final = {"tab": "\t", "br": "\n", "cr": "\n"}

    def __init__(self, levels: Mapping[str, int]) -> None:
        self.builder = DocumentBuilder()
        self._levels = levels
        self._level: int | None = None
        self._text: list[str] = []
        self._row: list[str] = []
        self._nested: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._nested.append(tag)
        if tag == "pStyle":
            self._level = self._levels.get(attributes.get("w:val", ""))
        elif tag in self._BLANKS:
            self._text.append(self._BLANKS[tag])

    def end(self, tag: str) -> None:
        self._nested.pop()
        if tag == "p":
            self._end_paragraph()
        elif tag == "tc":
            self._row.append(" ".join(self._take().split()))
        elif tag == "tr":
            self.builder.block(" | ".join(self._row))
            self._row.clear()

    def data(self, piece: str) -> None:
        if self._nested and self._nested[-1] == "t":
            self._text.append(piece)

    def _end_paragraph(self) -> None:
        if "tc" in self._nested:
            self._text.append(" ")
        elif self._level is not None:
            self.builder.heading(self._take(), self._level)
        else:
            self.builder.block(self._take())
        self._level = None

    def _take(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text


def _heading_styles(archive: Archive) -> dict[str, int]:
    """The level of each style that is one of a heading: by its name, which no translation changes."""
    found = {"Title": 0} | {f"Heading{level}": level for level in range(1, 10)}
    if "word/styles.xml" not in archive.names:
        return found
    current = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal current
        if tag == "style":
            current = attributes.get("w:styleId", "")
        elif tag == "name":
            name = attributes.get("w:val", "").lower()
            if (match := _HEADING.fullmatch(name)) is not None:
                found[current] = int(match[1])
            elif name == "title":
                found[current] = 0

    read_xml(archive.read("word/styles.xml"), start)
    return found


def parse_pptx(archive: Archive) -> Document:
    """Slides in their order, a page each; their titles are headings, and what the speaker noted comes last."""
    deck = "ppt/presentation.xml"
    relations = archive.relations(deck)
    slides: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "sldId" and (path := relations.get(attributes.get("r:id", ""))) is not None:
            slides.append(path)

    read_xml(archive.read(deck), start)
    builder = DocumentBuilder()
    for number, path in enumerate(slides, 1):
        builder.page(number)
        _slide(archive, path, builder)
        for target in archive.relations(path).values():
            if "notesSlide" in target and target in archive.names:
                _slide(archive, target, builder, notes=True)
    return builder.build()


def _slide(archive: Archive, path: str, builder: DocumentBuilder, *, notes: bool = False) -> None:
    reader = _Shapes(builder, notes=notes)
    read_xml(archive.read(path), reader.start, reader.end, reader.data)


class _Shapes:
    """A slide's text on its way into the document."""

    def __init__(self, builder: DocumentBuilder, *, notes: bool) -> None:
        self._builder = builder
        self._titles = () if notes else ("title", "ctrTitle")
        self._text: list[str] = []
        self._shape = ""
        self._inside = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._inside = tag
        if tag == "sp":
            self._shape = ""
        elif tag == "ph":
            self._shape = attributes.get("type", "body")
        elif tag == "br":
            self._text.append("\n")

    def end(self, tag: str) -> None:
        self._inside = ""
        if tag != "p" or not self._text:
            return
        whole = "".join(self._text)
        self._text.clear()
        if self._shape in self._titles:
            self._builder.heading(whole, 1)
        elif self._shape not in ("sldNum", "dt", "ftr"):
            self._builder.block(whole)

    def data(self, piece: str) -> None:
        if self._inside == "t":
            self._text.append(piece)


def parse_xlsx(archive: Archive) -> Document:
    """Sheets in their order, row by row; a sheet's name is its heading."""
    book = "xl/workbook.xml"
    relations = archive.relations(book)
    sheets: list[tuple[str, str]] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "sheet" and (path := relations.get(attributes.get("r:id", ""))) is not None:
            sheets.append((attributes.get("name", ""), path))

    read_xml(archive.read(book), start)
    shared = _read_shared_strings(archive)
    builder = DocumentBuilder()
    for name, path in sheets:
        builder.heading(name or "Sheet", 1)
        if path in archive.names:
            _Sheet(builder, shared).read(archive.read(path))
    return builder.build()


def _read_shared_strings(archive: Archive) -> list[str]:
    found: list[str] = []
    text: list[str] = []
    nested: list[str] = []
    if "xl/sharedStrings.xml" not in archive.names:
        return found

    def end(tag: str) -> None:
        nested.pop()
        if tag == "si":
            found.append("".join(text))
            text.clear()

    def data(piece: str) -> None:
        if nested and nested[-1] == "t" and "rPh" not in nested:
            text.append(piece)

    read_xml(archive.read("xl/sharedStrings.xml"), lambda tag, _: nested.append(tag), end, data)
    return found


class _Sheet:
    """One sheet on its way into the document."""

    def __init__(self, builder: DocumentBuilder, shared: list[str]) -> None:
        self._builder = builder
        self._shared = shared
        self._row: list[str] = []
        self._value: list[str] = []
        self._kind = ""
        self._inside = ""
        self._cells = 0

    def read(self, data: bytes) -> None:
        """Take the sheet's XML."""
        read_xml(data, self._start, self._end, self._data)
        self._builder.raw("\n")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._inside = tag
        if tag == "c":
            self._kind = attributes.get("t", "n")
            self._cells += 1
            if self._cells > CELLS_MAX:
                raise FileRefused("invalid_file", f"A sheet holds more than {CELLS_MAX} cells.")

    def _end(self, tag: str) -> None:
        self._inside = ""
        if tag == "c":
            self._row.append(self._cell_text("".join(self._value)))
            self._value.clear()
        elif tag == "row":
            line = " | ".join(self._row).strip(" |")
            self._row.clear()
            if line:
                self._builder.raw(line + "\n")

    def _data(self, piece: str) -> None:
        if self._inside in ("v", "t"):
            self._value.append(piece)

    def _cell_text(self, value: str) -> str:
        if self._kind == "s" and value.isdecimal() and len(value) <= _DIGITS_MAX and int(value) < len(self._shared):
            value = self._shared[int(value)]
        elif self._kind == "b":
            value = "TRUE" if value == "1" else "FALSE"
        return " ".join(value.split())


def parse_epub(archive: Archive) -> Document:
    """A book's chapters in reading order; each chapter counts as a page."""
    package = _package(archive)
    folder = posixpath.dirname(package)
    manifest: dict[str, str] = {}
    order: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "item" and "html" in attributes.get("media-type", ""):
            path = posixpath.normpath(posixpath.join(folder, unquote(attributes.get("href", ""))))
            manifest[attributes.get("id", "")] = path
        elif tag == "itemref" and attributes.get("idref", "") in manifest:
            order.append(manifest[attributes["idref"]])

    read_xml(archive.read(package), start)
    builder = DocumentBuilder()
    for number, path in enumerate(order, 1):
        if path in archive.names:
            builder.page(number)
            parse_html(archive.read(path), builder)
    return builder.build()


def _package(archive: Archive) -> str:
    found: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "rootfile":
            found.append(attributes.get("full-path", ""))

    read_xml(archive.read("META-INF/container.xml"), start)
    if not found:
        raise FileRefused("invalid_file", "The book names no contents.")
    return found[0]
