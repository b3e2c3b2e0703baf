"""Forms with files, read while they come: no file is ever whole in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from antiphon.http.exchange import Exchange
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.files import FILENAME_CHARS_MAX, plain_name
from antiphon.wire.validation import missing

FIELDS_MAX, FIELD_BYTES_MAX, HEADER_BYTES_MAX = 64, 64 * 1024, 16 * 1024
OTHERS_BYTES_MAX = 1 << 20
"""All that comes beside the file: fields, headers of parts, and what stands before the first and behind the last."""

_Event: TypeAlias = tuple[Literal["header name", "header value", "begin", "data", "end", "close"], bytes]


class Form:
    """A form on its way: fields are gathered, and one file is handed on in pieces.

    Args:
        member: the file's field.

    Attributes:
        fields: by name, as far as they have come.
        filename: of the file, once it has begun; empty where it has none.
    """

    def __init__(self, exchange: Exchange, member: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self._member = member
        self._chunks = exchange.pieces()
        self._events: list[_Event] = []
        self._headers: dict[str, bytes] = {}
        self._name, self._part = b"", ""
        self._value = b""
        self._parts = self._others_bytes = 0
        self._closed = False
        self._parser = MultipartParser(_boundary(exchange), _callbacks(self._events))

    async def file(self) -> AsyncIterator[bytes]:
        """The file's bytes; fields that come before it and behind it are in ``fields`` at the end.

        Raises:
            InvalidRequest: the form cannot be read, ends too early, or there is no file in it.
        """
        found = False
        async for kind, data in self._read():
            if kind == "begin" and self._part == self._member:
                if found:
                    raise InvalidRequest(f"There is more than one '{self._member}'.", param=self._member)
                found = True
            elif kind == "data" and self._part == self._member:
                yield data
        if not found:
            raise missing((self._member,)).error()
        if not self._closed:
            raise InvalidRequest("The form ends too early: its last boundary did not come.")

    async def _read(self) -> AsyncIterator[_Event]:
        async for chunk in self._chunks:
            self._others_bytes += len(chunk)
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise InvalidRequest(f"We could not parse the form of your request: {error}.") from error
            events = list(self._events)
            self._events.clear()
            for event in events:
                self._take(event)
                yield event
            if self._others_bytes > OTHERS_BYTES_MAX:
                raise InvalidRequest(f"The form holds more than {OTHERS_BYTES_MAX} bytes beside its file.")

    def _take(self, event: _Event) -> None:
        kind, data = event
        match kind:
            case "header name":
                self._name += data
            case "header value":
                self._take_header(data)
            case "begin":
                self._begin()
            case "data" if self._part == self._member:
                self._others_bytes -= len(data)
            case "data":
                self._value += data
                if len(self._value) > FIELD_BYTES_MAX:
                    raise InvalidRequest(f"The field '{self._part}' is too long.", param=self._part)
            case "end":
                self._end()
            case "close":
                self._closed = True

    def _take_header(self, data: bytes) -> None:
        name = self._name.decode("latin-1").lower()
        self._headers[name] = self._headers.get(name, b"") + data
        self._name = b""
        if sum(map(len, self._headers.values())) > HEADER_BYTES_MAX:
            raise InvalidRequest("The headers of a part of the form are too long.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > FIELDS_MAX:
            raise InvalidRequest(f"The form has more than {FIELDS_MAX} fields.")
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._headers = {}
        self._value = b""
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part == self._member:
            name = options.get(b"filename", b"").decode("utf-8", "replace")
            self.filename = plain_name(name)[:FILENAME_CHARS_MAX]

    def _end(self) -> None:
        if self._part != self._member:
            self.fields[self._part] = self._value.decode("utf-8", "replace")
        self._part = ""


def _boundary(exchange: Exchange) -> bytes:
    kind, options = parse_options_header((exchange.header(b"content-type") or "").encode("latin-1"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 256:
        text = "This endpoint takes a form: send the file as multipart/form-data with a boundary."
        raise InvalidRequest(text, code="invalid_content_type")
    return boundary


def _callbacks(events: list[_Event]) -> Any:
    def report(kind: Any) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: events.append((kind, bytes(data[start:end])))

    return {
        "on_header_field": report("header name"),
        "on_header_value": report("header value"),
        "on_headers_finished": lambda: events.append(("begin", b"")),
        "on_part_data": report("data"),
        "on_part_end": lambda: events.append(("end", b"")),
        "on_end": lambda: events.append(("close", b"")),
    }
