"""Files that a request shows its model: by id, in place, or at a URL. What the model reads is their text.

The file stays in the item, which is kept as it came; its text stands in its place in the prompt alone. Of a request's
own files one that cannot be read is an error; of those in its history it leaves a note, since a conversation shall not
end with a file that is gone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, cast
from urllib.parse import unquote

from antiphon.engine.files import Files
from antiphon.engine.room import take_room
from antiphon.files.blobs import BlobMissing, BlobStore
from antiphon.files.document import Document, FileRefused
from antiphon.files.parsing import ParseLimits, parse_file
from antiphon.net.ssrf import NOT_PUBLIC, TOO_LARGE, Outbound
from antiphon.store import StoreUnavailable
from antiphon.store.availability import to_unavailable
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, NotFound
from antiphon.wire.items import content_member, content_parts
from antiphon.wire.kinds import is_output

TEXT_CHARS_MAX: Final = 10_485_760
"""Of all files of one context together; the bound of one text in a request."""
IMAGES_CHARS_MAX: Final = 64 << 20
"""The same for images, as data URLs."""
CACHE_CHARS_MAX: Final = 16 << 20
READING_MAX: Final = 2
"""How many files are read side by side; each may take the memory that ``ParseLimits`` allows."""
FETCH_S: Final = 30.0
_BASE64_CHARS, _BASE64_BYTES = 4, 3
_PLAIN: Final = ("data:text/", "data:application/json")
_IMAGES: Final = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))
_SOURCES: Final = ("file_id", "file_data", "file_url")


class _Cache:
    """Texts by what they were read from; those used least go first."""

    def __init__(self, chars_max: int) -> None:
        self._chars_max = chars_max
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._chars = 0

    def get(self, key: str) -> str | None:
        if key in self._texts:
            self._texts.move_to_end(key)
        return self._texts.get(key)

    def put(self, key: str, text: str) -> None:
        self._chars += len(text) - len(self._texts.pop(key, ""))
        self._texts[key] = text
        while self._chars > self._chars_max:
            self._chars -= len(self._texts.popitem(last=False)[1])


class _Room:
    """How many characters there is room for in a context."""

    def __init__(self) -> None:
        self._left = {"input_file": TEXT_CHARS_MAX, "input_image": IMAGES_CHARS_MAX}

    def take(self, kind: str, chars: int) -> None:
        """Take some of it.

        Raises:
            InvalidRequest: there is not so much reader.
        """
        self._left[kind] -= chars
        if self._left[kind] < 0:
            self._left[kind] += chars
            raise InvalidRequest("The files of this context are too large together.", code="string_above_max_length")


class _Reader(NamedTuple):
    """For whom files are read.

    Attributes:
        is_history: whether the items were accepted before.
    """

    project: str
    is_history: bool
    room: _Room


class FileInputs:
    """Puts the text of files in their place.

    Args:
        bytes_max: of one file.
        urls: see ``Config.file_urls``.
        scratch: where what is read lies for a moment; the system's own folder for that when None.
    """

    def __init__(
        self, files: Files, blobs: BlobStore, *, bytes_max: int, urls: str, scratch: Path | None = None
    ) -> None:
        self._scratch = scratch
        self._files = files
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._urls = urls
        self._limits = ParseLimits(text_chars=TEXT_CHARS_MAX)
        self._cache = _Cache(CACHE_CHARS_MAX)
        self._reading = asyncio.Semaphore(READING_MAX)

    async def shown(
        self, project: str, history: Sequence[Json], items: Sequence[Json]
    ) -> tuple[Sequence[Json], Sequence[Json]]:
        """The history and the items of a request as the model reads them.

        Raises:
            ApiError: a file of ``items`` is not there, or cannot be read.
        """
        if not any(map(_has_file, items)) and not any(map(_has_file, history)):
            return history, items
        room = _Room()
        # The request's own first: for those of the history there is what is left.
        own = [await self._item(item, f"input[{i}]", _Reader(project, False, room)) for i, item in enumerate(items)]
        return [await self._item(item, "", _Reader(project, True, room)) for item in history], own

    async def _item(self, item: Json, path: str, reader: _Reader) -> Json:
        if not _has_file(item):
            return item
        if (screen := _screen(item)) is not None:
            return item | {"output": await self._part(screen, f"{path}.output", reader)}
        member, parts = content_member(item), enumerate(content_parts(item))
        return item | {member: [await self._part(part, f"{path}.{member}[{i}]", reader) for i, part in parts]}

    async def _part(self, part: Json, path: str, reader: _Reader) -> Json:
        if not _is_file(part):
            return part
        try:
            if part["type"] != "input_file":
                url = await self._image(part, reader.project)
                reader.room.take("input_image", len(url))
                return part | {"image_url": url}
            name, text = await self._named_text(part, reader)
            reader.room.take("input_file", len(text))
            take_room(len(text))
        except ApiError as error:
            if not reader.is_history:
                raise _at(error, path) from error
            name, text = _name(part), f"[This file can no longer be shown. {error.message}]"
        return {"type": "input_text", "text": f"{name}:\n{text}"}

    async def _named_text(self, part: Json, reader: _Reader) -> tuple[str, str]:
        """What the file is called, and what it says. A name that the request gives goes before the stored file's."""
        given = [name for name in _SOURCES if part.get(name)]
        if len(given) != 1:
            text = "Give a file in one of 'file_id', 'file_data' and 'file_url'."
            code = "mutually_exclusive_parameters" if given else "missing_required_parameter"
            raise InvalidRequest(text, code=code)
        match given[0]:
            case "file_id":
                filename, text = await self._read_stored(part["file_id"], reader.project)
                return part.get("filename") or filename, text
            case "file_data":
                return _name(part), await self._inline(part["file_data"], _name(part))
            case _:
                return _name(part), await self._fetch(part["file_url"], _name(part), reader)

    async def _read_stored(self, id: str, project: str) -> tuple[str, str]:
        file = await self._files.retrieve(project, id)
        self._bound(file.bytes)
        if (text := self._cache.get(id)) is None:
            try:
                async with self._blobs.local(id) as path:
                    text = await self._read(path, file.filename)
            except BlobMissing as error:
                raise NotFound(f"The content of file '{id}' no longer exists.") from error
            except StoreUnavailable as error:
                raise to_unavailable("Files cannot be read now", error) from error
            self._cache.put(id, text)
        return file.filename, text

    async def _image(self, part: Json, project: str) -> str:
        """A stored image as a data URL."""
        id = part.get("file_id")
        if not id:
            text = "Give an image in one of 'image_url' and 'file_id'."
            raise InvalidRequest(text, code="missing_required_parameter")
        file = await self._files.retrieve(project, id)
        self._bound(file.bytes)
        take_room(file.bytes * _BASE64_CHARS // _BASE64_BYTES)
        data = b"".join([piece async for piece in self._files.read(id)])
        kind = next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)
        if kind is None:
            raise InvalidRequest(f"File '{id}' is not an image of a supported type.", code="invalid_image")
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    async def _inline(self, given: str, name: str) -> str:
        data, is_plain = await asyncio.to_thread(_decode, given)
        if is_plain:
            try:
                return data.decode()
            except UnicodeDecodeError:
                pass  # A text in an older encoding, which the parser tells.
        self._bound(len(data))
        return await self._read_bytes(data, name)

    async def _fetch(self, url: str, name: str, reader: _Reader) -> str:
        # What a caller names now is read now: it may have changed since it was read for an earlier request.
        if reader.is_history and (text := self._cache.get(url)) is not None:
            return text
        if self._urls == "off":
            raise InvalidRequest("This server reads no files from URLs.", code="unsupported_value")
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            take_room(size)
            taken += size

        try:
            async with Outbound(private=self._urls == "private", timeout_s=FETCH_S, connections_max=1) as outbound:
                data = await outbound.get(url, self._bytes_max, take)
            if isinstance(data, str):
                raise self._fetch_error(data)
            text = await self._read_bytes(data, name)
        finally:
            take_room(-taken)
        self._cache.put(url, text)
        return text

    def _fetch_error(self, why: str) -> InvalidRequest:
        reasons = {NOT_PUBLIC: "its address is not public", TOO_LARGE: f"it is larger than {self._bytes_max} bytes"}
        return InvalidRequest(f"The file could not be downloaded: {reasons.get(why, why)}.", code="invalid_value")

    def _bound(self, size: int) -> None:
        if size > self._bytes_max:
            text = f"A file for a model may have at most {self._bytes_max} bytes; this one has {size}."
            raise InvalidRequest(text, code="file_too_large")

    async def _read_bytes(self, data: bytes, name: str) -> str:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        key = digest + PurePosixPath(name).suffix
        if (text := self._cache.get(key)) is None:
            with tempfile.TemporaryDirectory(prefix="antiphon-", dir=self._scratch) as folder:
                path = Path(folder) / "file"
                await asyncio.to_thread(path.write_bytes, data)
                text = await self._read(path, name)
            self._cache.put(key, text)
        return text

    async def _read(self, path: Path, name: str) -> str:
        async with self._reading:
            try:
                return _number_pages(await parse_file(path, name, self._limits))
            except FileRefused as refusal:
                raise InvalidRequest(f"The file could not be read: {refusal}", code=refusal.code) from refusal


def _has_file(item: Json) -> bool:
    screen = _screen(item)
    return any(map(_is_file, content_parts(item) if screen is None else [screen]))


def _screen(item: Json) -> Json | None:
    """The picture of a screen that a call's output is."""
    output = item.get("output")
    return cast(Json, output) if is_output(item) and isinstance(output, dict) else None


def _is_file(part: Json) -> bool:
    """Whether what the model is shown has to be fetched from somewhere."""
    kind = part.get("type")
    return kind == "input_file" or (kind in ("input_image", "computer_screenshot") and not part.get("image_url"))


def _at(error: ApiError, path: str) -> ApiError:
    error.param = path
    return error


def _name(part: Json) -> str:
    """What the file is called."""
    if part.get("filename"):
        return str(part["filename"])
    last = str(part.get("file_url") or "").partition("?")[0].partition("#")[0].rpartition("/")[2]
    return unquote(last) or part.get("file_id") or "file"


def _decode(given: str) -> tuple[bytes, bool]:
    """The bytes of ``file_data``, a data URL in base64 or base64 alone, and whether it says that they are text.

    Raises:
        InvalidRequest: it is neither.
    """
    head, _, data = given.rpartition(",") if given.startswith("data:") else ("data:;base64", "", given)
    try:
        if not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode(data, validate=True), head.startswith(_PLAIN)
    except (binascii.Error, ValueError) as error:
        text = "Invalid 'file_data': expected base64, or a data URL in base64."
        raise InvalidRequest(text, code="invalid_value") from error


def _number_pages(document: Document) -> str:
    """The text, with the number in front of each page where there are pages."""
    starts = [(mark.start, mark.page) for mark in document.marks if mark.page is not None]
    firsts = [(start, page) for i, (start, page) in enumerate(starts) if not i or starts[i - 1][1] != page]
    if len(firsts) < 2:
        return document.text
    ends = [start for start, _ in firsts[1:]] + [len(document.text)]
    pages = [
        f"[Page {page}]\n{document.text[start:end].strip()}" for (start, page), end in zip(firsts, ends, strict=True)
    ]
    return "\n\n".join((document.text[: firsts[0][0]].strip(), *pages)).strip()
