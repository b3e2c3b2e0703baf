"""Zip archives that were not written for us to be harmed, or are refused before they are unpacked; and their XML."""

from __future__ import annotations

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from antiphon.files.document import FileRefused

ENTRIES_MAX = 10_000
UNPACKED_BYTES_MAX = 200 * 1024 * 1024
RATIO_MAX = 200
RATIO_FREE_BYTES = 1024 * 1024
"""Members up to this size may be packed as tightly as they like: a blank page is."""
DEPTH_MAX = 256


class Archive:
    """A zip archive within bounds: number of entries, bytes unpacked, and how tightly they are packed.

    Raises:
        FileRefused: ``invalid_file``: damaged, encrypted, or over a bound.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, LookupError, NotImplementedError, ValueError, struct.error) as error:
            raise FileRefused("invalid_file", f"The file is damaged: {error}.") from error
        entries = self._zip.infolist()
        if len(entries) > ENTRIES_MAX:
            raise FileRefused("invalid_file", f"The archive holds more than {ENTRIES_MAX} entries.")
        if sum(entry.file_size for entry in entries) > UNPACKED_BYTES_MAX:
            raise FileRefused("invalid_file", f"The archive unpacks to more than {UNPACKED_BYTES_MAX} bytes.")
        for entry in entries:
            if entry.file_size > max(RATIO_FREE_BYTES, RATIO_MAX * entry.compress_size):
                raise FileRefused("invalid_file", "The archive is packed more tightly than a document can be.")
        self.names = frozenset(entry.filename for entry in entries)
        self._left = UNPACKED_BYTES_MAX

    def read(self, name: str) -> bytes:
        """A member, whole; its size is not believed.

        Raises:
            FileRefused: it is missing, damaged, encrypted, or the archive unpacks to more than is allowed.
        """
        try:
            with self._zip.open(name) as member:
                data = member.read(self._left + 1)
        except KeyError as error:
            raise FileRefused("invalid_file", f"The file is damaged: {name} is missing.") from error
        except RuntimeError as error:
            raise FileRefused("invalid_file", "The file is encrypted; save it without a password.") from error
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, LookupError, NotImplementedError, OSError,
                ValueError, struct.error) as error:  # fmt: skip
            raise FileRefused("invalid_file", f"The file is damaged: {name} cannot be unpacked.") from error
        self._left -= len(data)
        if self._left < 0:
            raise FileRefused("invalid_file", f"The archive unpacks to more than {UNPACKED_BYTES_MAX} bytes.")
        return data

    def relations(self, part: str) -> dict[str, str]:
        """The members that an Office part refers to, by id."""
        folder, name = posixpath.split(part)
        path = f"{folder}/_rels/{name}.rels"
        found: dict[str, str] = {}
        if path not in self.names:
            return found

        def start(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Relationship" and attributes.get("TargetMode") != "External":
                target = attributes.get("Target", "")
                whole = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
                found[attributes.get("Id", "")] = posixpath.normpath(whole)

        read_xml(self.read(path), start)
        return found


Start = Callable[[str, dict[str, str]], None]


def read_xml(
    data: bytes,
    start: Start,
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Read XML from the first tag to the last; names come without their namespace.

    Raises:
        FileRefused: it is not well-formed, nested too deeply, or has a document type, in which entities could grow.
    """
    depth = 0
    parser: Any = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise FileRefused("invalid_file", "The file holds XML with a document type, which is not read.")

    def open_element(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise FileRefused("invalid_file", "The file holds XML that is nested too deeply.")
        start(tag.rpartition(":")[2], attributes)

    def close_element(tag: str) -> None:
        nonlocal depth
        depth -= 1
        if end is not None:
            end(tag.rpartition(":")[2])

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = open_element, close_element
    if text is not None:
        parser.CharacterDataHandler = text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FileRefused("invalid_file", f"The file is damaged: {error}.") from error
