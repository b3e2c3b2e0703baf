"""PDF: the text of each page, and the outline as headings. PDFium reads it."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from antiphon.files.document import Document, DocumentBuilder, FileRefused

PAGES_MAX = 20_000
_HYPHENATED = re.compile(r"(\w)[\u00ad\ufffe\u0002]\s*\n?(\w)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]")


def parse_pdf(data: bytes) -> Document:
    """The text of all pages.

    Raises:
        FileRefused: ``invalid_file``: damaged, encrypted, too many pages, or scanned, without text.
    """
    pdfium = _pdfium()
    try:
        pdf: Any = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise FileRefused("invalid_file", "The PDF is encrypted; save it without a password.") from error
        raise FileRefused("invalid_file", "The PDF is damaged.") from error
    if len(pdf) > PAGES_MAX:
        raise FileRefused("invalid_file", f"The PDF has more than {PAGES_MAX} pages.")
    outline = _outline(pdf)
    builder = DocumentBuilder()
    for number in range(1, len(pdf) + 1):
        builder.page(number)
        for level, title in outline.get(number, ()):
            builder.section(title, level)
        builder.block(_page_text(pdf, number - 1))
    document = builder.build()
    if not document.text.strip():
        raise FileRefused("invalid_file", "The PDF holds no text. Pages that were scanned need text recognition first.")
    return document


def _page_text(pdf: Any, index: int) -> str:
    pdfium = _pdfium()
    try:
        page = pdf[index]
        text: str = page.get_textpage().get_text_bounded()
    except pdfium.PdfiumError:
        # One broken page leaves the others readable.
        return ""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", _HYPHENATED.sub(r"\1\2", text))


def _outline(pdf: Any) -> dict[int, list[tuple[int, str]]]:
    """The headings that begin on each page, as level and title."""
    pdfium = _pdfium()
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        for entry in pdf.get_toc(max_depth=6):
            index = entry.get_dest().get_index() if entry.get_dest() is not None else None
            title = " ".join(str(entry.get_title()).split())
            if index is not None and title:
                found.setdefault(index + 1, []).append((int(entry.level) + 1, title))
    except (pdfium.PdfiumError, AttributeError, ValueError):
        return found
    return found


def _pdfium() -> Any:
    """The library, which brings native code in: only for files that need it. It has no types."""
    return import_module("pypdfium2")
