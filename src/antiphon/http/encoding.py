"""Compressed request bodies: decompressed within the bound that holds for all bodies."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

import zstandard

from antiphon.wire.errors import ApiError, BodyTooLarge, InvalidRequest

_brotli: Any = import_module("brotli")  # it has no types

_CODINGS_MAX: Final = 3
_GZIP_OR_ZLIB: Final = 47
_RAW_DEFLATE: Final = -15
_SLICE_BYTES: Final = 256
"""How much of zstd is unpacked at a time: a block holds 128 KiB in 4 bytes."""


class UnsupportedEncoding(ApiError):
    """415: a body in an encoding that nobody here can read."""

    status, type, code = 415, "invalid_request_error", "unsupported_content_encoding"


def codings_of(encoding: str) -> list[str]:
    """The codings that a ``Content-Encoding`` names, first to last."""
    named = [coding.strip().lower() for coding in encoding.split(",")]
    return [coding for coding in named if coding not in ("", "identity")]


def unpack(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The body as it was before it was encoded; ``encoding`` as ``Content-Encoding`` has it.

    Raises:
        UnsupportedEncoding: an encoding that is not known here.
        BodyTooLarge: it is larger than ``bytes_max`` when unpacked.
        InvalidRequest: it is not what it says.
    """
    codings = codings_of(encoding)
    if len(codings) > _CODINGS_MAX or not set(codings) <= _UNPACK.keys():
        known = ", ".join(sorted(_UNPACK))
        raise UnsupportedEncoding(f"Unsupported Content-Encoding: {encoding!r}. Supported encodings are {known}.")
    for coding in reversed(codings):
        try:
            body = _UNPACK[coding](body, bytes_max)
        except (zlib.error, zstandard.ZstdError, _brotli.error, EOFError) as error:
            text = f"We could not unpack the body of your request, which is said to be {coding}."
            raise InvalidRequest(text, code="invalid_content_encoding") from error
    return body


def _refuse_too_large(data: bytes | bytearray, bytes_max: int) -> bytes:
    if len(data) > bytes_max:
        raise BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")
    return bytes(data)


def _inflate(body: bytes, bytes_max: int) -> bytes:
    """Both of what goes by the name of deflate: with zlib's head, as it should be, and without."""
    try:
        return _gunzip(body, bytes_max)
    except zlib.error:
        unpacker = zlib.decompressobj(_RAW_DEFLATE)
        whole = _refuse_too_large(unpacker.decompress(body, bytes_max + 1), bytes_max)
        if not unpacker.eof or unpacker.unused_data:
            raise EOFError from None
        return whole


def _gunzip(body: bytes, bytes_max: int) -> bytes:
    whole = bytearray()
    while body:
        unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        whole += unpacker.decompress(body, bytes_max + 1 - len(whole))
        _refuse_too_large(whole, bytes_max)
        if not unpacker.eof:
            raise EOFError
        # Some pad with zeros.
        body = unpacker.unused_data.lstrip(b"\0")
    return bytes(whole)


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    whole, unpacker = bytearray(), zstandard.ZstdDecompressor().decompressobj()
    for start in range(0, len(body), _SLICE_BYTES):
        data = body[start : start + _SLICE_BYTES]
        while data:
            if unpacker.eof:
                unpacker = zstandard.ZstdDecompressor().decompressobj()
            whole += unpacker.decompress(data)
            _refuse_too_large(whole, bytes_max)
            data = unpacker.unused_data
    if body and not unpacker.eof:
        raise EOFError
    return bytes(whole)


def _unbrotli(body: bytes, bytes_max: int) -> bytes:
    unpacker = _brotli.Decompressor()
    whole = bytearray(unpacker.process(body, output_buffer_limit=bytes_max + 1))
    while not unpacker.is_finished() and len(whole) <= bytes_max:
        more = unpacker.process(b"", output_buffer_limit=bytes_max + 1 - len(whole))
        if not more:
            raise EOFError
        whole += more
    return _refuse_too_large(whole, bytes_max)


_UNPACK: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "zstd": _unzstd,
    "br": _unbrotli,
}
