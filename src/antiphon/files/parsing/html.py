"""HTML: its text in blocks, with headings; nothing of scripts, styles and forms."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from html.parser import HTMLParser

from antiphon.files.document import Document, DocumentBuilder
from antiphon.files.parsing.text import decode

_SKIPPED = frozenset(("script", "style", "template", "noscript", "svg", "select", "iframe", "object"))
_BLOCKS = frozenset(
    ("p", "div", "section", "article", "li", "ul", "ol", "dl", "dt", "dd", "table", "tr", "blockquote", "pre", "br",
     "hr", "header", "footer", "main", "nav", "aside", "figure", "figcaption", "form", "title", "h1", "h2", "h3",
     "h4", "h5", "h6", "body", "html", "head", "caption", "details", "summary")
)  # fmt: skip
_CELLS = frozenset(("td", "th"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"[ \t\r\n\f]+")
_NO_PAGES = frozenset(("idna", "punycode", "raw_unicode_escape", "raw-unicode-escape", "unicode_escape",
                       "unicode-escape", "utf-7", "undefined"))  # fmt: skip
"""Encodings that Python knows and no page is in; some take very long, or make halves of characters."""
_CHARSET = re.compile(rb"<meta[^>]+charset=[\"']?([a-zA-Z0-9_-]+)", re.I)


def parse_html(data: bytes, builder: DocumentBuilder | None = None) -> Document:
    """The text of a page; with a ``builder``, behind what it has already."""
    reader = _Reader(builder or DocumentBuilder())
    reader.feed(_decode(data))
    reader.close()
    return reader.finish()


def _decode(data: bytes) -> str:
    named = _CHARSET.search(data[:4096])
    if named is not None:
        with suppress(LookupError, UnicodeError):
            encoding = codecs.lookup(named[1].decode("ascii")).name
            if encoding not in _NO_PAGES:
                return data.decode(encoding)
    return decode(data)


class _Reader(HTMLParser):
    """Gathers text until a block ends."""

    def __init__(self, builder: DocumentBuilder) -> None:
        super().__init__(convert_charrefs=True)
        self._builder = builder
        self._text: list[str] = []
        self._skipped: str | None = None
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipped is not None:
            return
        if tag in _SKIPPED:
            self._skipped = tag
        elif tag in _BLOCKS:
            if not (self._pre and tag == "br"):
                self._end_block()
            else:
                self._text.append("\n")
            self._pre += tag == "pre"
        elif tag in _CELLS and self._text:
            self._text.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if self._skipped is not None:
            self._skipped = None if tag == self._skipped else self._skipped
        elif tag in _HEADINGS:
            self._builder.heading(self._take(), _HEADINGS[tag])
        elif tag in _BLOCKS:
            self._end_block()
            if tag == "pre":
                self._pre = max(0, self._pre - 1)

    def handle_data(self, data: str) -> None:
        if self._skipped is None:
            self._text.append(data if self._pre else _SPACE.sub(" ", data))

    def _end_block(self) -> None:
        self._builder.block(self._take())

    def _take(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text if self._pre else text.strip(" |\n")

    def finish(self) -> Document:
        """The document, once all was fed."""
        self._end_block()
        return self._builder.build()
