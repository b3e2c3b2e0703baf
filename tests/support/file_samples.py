"""Real files of each kind, made by the libraries that people make them with."""

import io
import zipfile
from typing import Any


def docx() -> bytes:
    from docx import Document

    document: Any = Document()
    document.add_heading("Care of lemons", 0)
    document.add_heading("Watering", 1)
    document.add_paragraph("Lemon trees want water twice a week.")
    table = document.add_table(rows=2, cols=2)
    for row, cells in enumerate((("Month", "Litres"), ("June", "12"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    document.add_heading("Pruning", 1)
    document.add_paragraph("Prune in March.")
    return _saved(document)


def pptx() -> bytes:
    from pptx import Presentation

    deck: Any = Presentation()
    for title, body in (("Why lemons", "They keep sailors healthy."), ("Costs", "A tree costs 40 crowns.")):
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    deck.slides[1].notes_slide.notes_text_frame.text = "Mention the frost."
    return _saved(deck)


def xlsx() -> bytes:
    from openpyxl import Workbook

    book: Any = Workbook()
    book.active.title = "Harvest"
    book.active.append(["Tree", "Kilograms"])
    book.active.append(["Meyer", 31.5])
    book.create_sheet("Losses").append(["Frost", True])
    return _saved(book)


def pdf(pages: tuple[str, ...] = ("Lemons need full sun.", "Harvest begins in November."), password: str = "") -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas: Any = Canvas(out, encrypt=password or None)
    for number, text in enumerate(pages, 1):
        canvas.bookmarkPage(f"p{number}")
        canvas.addOutlineEntry(f"Chapter {number}", f"p{number}", level=0)
        canvas.drawString(72, 720, text)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def epub() -> bytes:
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    package = """<package><manifest>
      <item id="b" href="two.xhtml" media-type="application/xhtml+xml"/>
      <item id="a" href="one.xhtml" media-type="application/xhtml+xml"/>
      </manifest><spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    chapter = '<?xml version="1.0"?><!DOCTYPE html><html><body><h1>{}</h1><p>{}</p></body></html>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OEBPS/book.opf": package,
            "OEBPS/one.xhtml": chapter.format("The seed", "It was a small seed."),
            "OEBPS/two.xhtml": chapter.format("The tree", "It bore lemons &amp; leaves."),
        }
    )


HTML = b"""<!doctype html><html><head><title>Lemons</title><style>p { color: red }</style></head><body>
<h1>Lemons</h1><p>Yellow &amp; sour.</p><script>alert("no")</script><h2>Uses</h2><ul><li>Juice</li><li>Zest</li></ul>
<table><tr><th>Vitamin</th><th>mg</th></tr><tr><td>C</td><td>53</td></tr></table><pre>a  = 1
b  = 2</pre></body></html>"""


def zipped(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()
