"""Files of each kind give their text, pages and headings; hostile ones give an error and harm nobody."""

import io
import os
import random
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import file_samples as samples
import pytest

from antiphon.files.document import Document, FileRefused
from antiphon.files.parsing import ParseLimits, child, parse_file
from antiphon.files.parsing.child import parse


def heading_of(document: Document, text: str) -> str:
    return document.mark(document.text.index(text)).heading


def page_of(document: Document, text: str) -> int | None:
    return document.mark(document.text.index(text)).page


def test_text_keeps_its_characters_and_markdown_its_headings() -> None:
    text = "# Guide\n\nIntro.\n\n## Install\n\n```sh\n# no heading\npip install\n```\n\n## Use\n\nRun it.\n"
    document = parse(text.encode(), "guide.md")
    assert document.text == text.rstrip()
    assert heading_of(document, "Intro.") == "Guide"
    assert heading_of(document, "pip install") == "Guide > Install"
    assert heading_of(document, "Run it.") == "Guide > Use"


def test_underlined_titles_are_headings_and_comments_in_code_are_not() -> None:
    document = parse(b"Title\n=====\n\nWords.\n\nPart\n----\n\nMore.\n", "notes.rst")
    assert heading_of(document, "More.") == "Title > Part"
    assert parse(b"# comment\nprint(1)\n", "main.py").marks == ()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_old_encodings_are_recognised(encoding: str) -> None:
    text = "Räksmörgås är gott på fredagar, sade hon och åt en till. Det är sant även på lördagar."
    assert parse(text.encode(encoding), "a.txt").text == text


def test_html_is_read_in_blocks_without_scripts() -> None:
    document = parse(samples.HTML, "page.html")
    assert "Yellow & sour." in document.text and "alert" not in document.text and "color" not in document.text
    assert "C | 53" in document.text and "a  = 1\nb  = 2" in document.text
    assert heading_of(document, "Juice") == "Lemons > Uses"


def test_docx_gives_headings_and_tables() -> None:
    document = parse(samples.docx(), "x")
    assert heading_of(document, "twice a week") == "Care of lemons > Watering"
    assert "June | 12" in document.text
    assert heading_of(document, "Prune in March") == "Care of lemons > Pruning"


def test_pptx_gives_slides_as_pages_and_notes() -> None:
    document = parse(samples.pptx(), "x")
    assert page_of(document, "sailors") == 1 and page_of(document, "40 crowns") == 2
    assert heading_of(document, "40 crowns") == "Costs"
    assert page_of(document, "Mention the frost") == 2


def test_xlsx_gives_rows_under_their_sheet() -> None:
    document = parse(samples.xlsx(), "x")
    assert "Meyer | 31.5" in document.text
    assert heading_of(document, "Meyer") == "Harvest" and heading_of(document, "Frost | TRUE") == "Losses"


def test_pdf_gives_pages_and_its_outline() -> None:
    document = parse(samples.pdf(), "x")
    assert page_of(document, "full sun") == 1 and page_of(document, "November") == 2
    assert heading_of(document, "November") == "Chapter 2"


def test_epub_is_read_in_order() -> None:
    document = parse(samples.epub(), "x")
    assert document.text.index("small seed") < document.text.index("lemons & leaves")
    assert page_of(document, "lemons & leaves") == 2


BOMB = samples.zipped({"[Content_Types].xml": "x", "word/document.xml": b"\0" * (64 << 20)})
LAUGHS = """<?xml version="1.0"?><!DOCTYPE w [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><w>&b;</w>"""


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "unsupported_file", "image"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 100, "unsupported_file", "Office"),
        (samples.zipped({"a.txt": "hello"}), "unsupported_file", "zip"),
        (b"ab\0cd" * 50, "unsupported_file", "neither text"),
        (b"   \n", "invalid_file", "no text"),
        (b"%PDF-1.7 garbage", "invalid_file", "damaged"),
        (samples.pdf(("",)), "invalid_file", "no text"),
        (samples.pdf(password="secret"), "invalid_file", "encrypted"),
        (samples.docx()[:2000], "invalid_file", "damaged"),
        (BOMB, "invalid_file", "tightly"),
        (samples.zipped({"word/document.xml": LAUGHS}), "invalid_file", "document type"),
        (samples.zipped({"word/document.xml": "<w>" * 5000}), "invalid_file", "nested"),
        (samples.zipped({f"{n}": "" for n in range(10_001)}), "invalid_file", "entries"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, code: str, word: str) -> None:
    with pytest.raises(FileRefused, match=word) as refusal:
        parse(data, "x")
    assert refusal.value.code == code


async def test_a_process_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(samples.pdf())
    document = await parse_file(path, "lemons.pdf")
    assert page_of(document, "November") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
async def test_a_process_that_needs_too_much_ends(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"word " * (40 << 20))
    with pytest.raises(FileRefused, match="memory") as refusal:
        await parse_file(path, "a.md", ParseLimits(memory_bytes=400 << 20))
    assert refusal.value.code == "invalid_file"
    path.write_bytes(b"a\n" * (10 << 20))
    with pytest.raises(FileRefused, match="1 seconds of computing"):
        await parse_file(path, "a.md", ParseLimits(cpu_s=1))
    with pytest.raises(FileRefused, match="characters"):
        await parse_file(path, "a.py", ParseLimits(text_chars=1000))


async def test_the_clock_bounds_it_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    began = time.monotonic()
    with pytest.raises(FileRefused, match="seconds"):
        await parse_file(path, "a", ParseLimits(wall_s=0.5))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("make", [samples.docx, samples.pptx, samples.xlsx, samples.pdf, samples.epub])
def test_damaged_files_are_refused_or_read_but_never_crash(make: Callable[[], bytes]) -> None:
    whole = make()
    chance = random.Random(7)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(FileRefused):
            parse(bytes(data[: chance.randint(len(data) // 2, len(data))]), "x")


def test_the_central_directory_is_not_believed() -> None:
    """A member that says that it is small, and is not."""
    data = bytearray(samples.zipped({"word/document.xml": b"<w>" + b" " * (250 << 20) + b"</w>"}))
    where = data.rindex(b"PK\x01\x02")
    data[where + 24 : where + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(FileRefused):
        parse(bytes(data), "x")
    assert zipfile.is_zipfile(__import__("io").BytesIO(bytes(data)))


@pytest.mark.parametrize("head", [b"<!---->" * 1100 + b"x", b"<!-- a -->" * 700 + b"<x", b"<?xml " + b" " * 8000])
def test_what_might_be_a_page_is_looked_at_once(head: bytes) -> None:
    began = time.process_time()
    parse(head, "a")
    assert time.process_time() - began < 1


def test_the_end_of_a_heading_is_looked_for_once() -> None:
    began = time.process_time()
    document = parse(b"# a" + b" #" * 100_000 + b"b\n\n## c ##\n\nd", "a.md")
    assert heading_of(document, "d").endswith("> c") and time.process_time() - began < 1


CHARSETS = [
    "undefined",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "utf-7",
    "hex",
    "rot13",
    "nonsense",
]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_page_cannot_name_an_encoding_that_no_page_has(charset: str) -> None:
    page = f'<html><meta charset="{charset}"><p>hello \\ud800 +2AA- a--b</p>'.encode()
    assert parse(page, "a.html").text == "hello \\ud800 +2AA- a--b"


def sheet(cell: str) -> bytes:
    members = {
        "xl/workbook.xml": '<w xmlns:r="r"><sheet name="s" r:id="1"/></w>',
        "xl/_rels/workbook.xml.rels": '<R><Relationship Id="1" Target="s.xml"/></R>',
        "xl/s.xml": f'<s><row><c t="s"><v>{cell}</v></c></row></s>',
    }
    return samples.zipped(members)


def test_a_cell_may_refer_to_nothing() -> None:
    for cell in ("9" * 5000, "²", "٣"):
        assert cell in parse(sheet(cell), "a").text


def test_a_damaged_member_is_said_to_be_damaged_however_it_is_packed() -> None:
    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", how) as made:
            made.writestr("word/document.xml", "<w><p><t>some text</t></p></w>" * 9)
        data = bytearray(whole.getvalue())
        data[60:90] = b"\xff" * 30
        with pytest.raises(FileRefused, match="damaged"):
            parse(bytes(data), "a")


def test_headings_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "MARKS_MAX", 10)
    assert len(parse(b"# a\n\nb\n\n" * 100, "a.md").marks) == 10


async def test_names_that_are_no_arguments_are_none(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"# Title\n\nWords.")
    for name in ("a\0.md", "x" * 300_000 + ".md", "a." + "y" * 300_000):
        assert (await parse_file(path, name)).text.startswith("# Title")
    assert heading_of(await parse_file(path, "x" * 300_000 + ".md"), "Words") == "Title"
