"""Compressed request bodies: decompressed as they come, within the bound that holds for them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, Protocol

import zstandard

from antiphon.wire.errors import ApiError, BodyTooLarge, InvalidRequest

_brotli: Any = import_module("brotli")  # it has no types

_CODINGS_MAX: Final = 3
_GZIP_OR_ZLIB: Final = 47
_RAW_DEFLATE: Final = -15
_PIECE_BYTES: Final = 64 * 1024
"""How much is unpacked at a time, where a bound can be given."""
_SLICE_BYTES: Final = 256
"""How much of zstd is unpacked at a time: a block holds 128 KiB in 4 bytes."""
_BROKEN: Final = (zlib.error, zstandard.ZstdError, _brotli.error)


class UnsupportedEncoding(ApiError):
    """415: a body in an encoding that nobody here can read."""

    status, type, code = 415, "invalid_request_error", "unsupported_content_encoding"


def unpack(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The whole body as it was before it was encoded.

    Raises:
        UnsupportedEncoding, BodyTooLarge, InvalidRequest: see ``Unpacking``.
    """
    unpacking = Unpacking(encoding, bytes_max)
    whole = b"".join(unpacking.feed(body))
    unpacking.end()
    return whole


class Unpacking:
    """A body that comes in pieces, as it was before it was encoded.

    Args:
        encoding: as ``Content-Encoding`` has it; empty for none.
        bytes_max: how large it may be, also where it is only half unpacked.

    Raises:
        UnsupportedEncoding: an encoding that is not known here.
    """

    def __init__(self, encoding: str, bytes_max: int) -> None:
        named = [coding.strip().lower() for coding in encoding.split(",")]
        codings = [coding for coding in named if coding not in ("", "identity")]
        if len(codings) > _CODINGS_MAX or not set(codings) <= _UNPACKERS.keys():
            known = ", ".join(sorted(_UNPACKERS))
            text = f"Unsupported Content-Encoding: {encoding!r}. Supported encodings are {known}."
            raise UnsupportedEncoding(text, headers={"Accept-Encoding": known})
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._unpackers = [_UNPACKERS[coding]() for coding in reversed(codings)]
        self._sizes = [0] * len(codings)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes unpack to, in pieces.

        Raises:
            BodyTooLarge: it is larger than it may be.
            InvalidRequest: it is not what it says.
        """
        pieces: Iterable[bytes] = (data,)
        for place in range(len(self._unpackers)):
            pieces = self._unpack(pieces, place)
        try:
            yield from pieces
        except _BROKEN as error:
            raise self._broken() from error

    def end(self) -> None:
        """Nothing more comes.

        Raises:
            InvalidRequest: it is cut.
        """
        if not all(unpacker.is_complete for unpacker in self._unpackers):
            raise self._broken()

    def _unpack(self, pieces: Iterable[bytes], place: int) -> Iterator[bytes]:
        for piece in pieces:
            for unpacked in self._unpackers[place].feed(piece):
                self._sizes[place] += len(unpacked)
                if self._sizes[place] > self._bytes_max:
                    raise BodyTooLarge(f"The request body is larger than {self._bytes_max} bytes.")
                yield unpacked

    def _broken(self) -> InvalidRequest:
        text = f"We could not unpack the body of your request, which is said to be {self._encoding}."
        return InvalidRequest(text, code="invalid_content_encoding")


class _Unpacker(Protocol):
    @property
    def is_complete(self) -> bool:
        """Whether the body may end here."""
        ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Inflate:
    """gzip in one member or several, zlib, and raw deflate, which goes by the name of zlib too."""

    def __init__(self) -> None:
        self._member: Any = None
        self._started = False

    @property
    def is_complete(self) -> bool:
        return self._member is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                # Some pad with zeros.
                data = data.lstrip(b"\0") if self._started else data
                if not data:
                    return
                # By the first byte: no deflate without a head begins like zlib or gzip, unless it is written oddly.
                self._member = zlib.decompressobj(_GZIP_OR_ZLIB if data[0] & 0x0F in (0x08, 0x0F) else _RAW_DEFLATE)
                self._started = True
            while piece := self._member.decompress(data, _PIECE_BYTES):
                yield piece
                data = self._member.unconsumed_tail
            data = self._member.unused_data
            if self._member.eof:
                self._member = None


class _Unzstd:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = False

    @property
    def is_complete(self) -> bool:
        return self._frame.eof or not self._started

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE_BYTES):
            rest = data[start : start + _SLICE_BYTES]
            while rest:
                if self._frame.eof:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._started = True
                yield self._frame.decompress(rest)
                rest = self._frame.unused_data


class _Unbrotli:
    def __init__(self) -> None:
        self._stream: Any = _brotli.Decompressor()
        self._started = False

    @property
    def is_complete(self) -> bool:
        return self._stream.is_finished() or not self._started

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._started = True
        while piece := self._stream.process(data, output_buffer_limit=_PIECE_BYTES):
            yield piece
            data = b""
            if self._stream.is_finished():
                return


_UNPACKERS: Final[Mapping[str, Callable[[], _Unpacker]]] = {
    "gzip": _Inflate,
    "x-gzip": _Inflate,
    "deflate": _Inflate,
    "zstd": _Unzstd,
    "br": _Unbrotli,
}
