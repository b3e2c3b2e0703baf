"""Answers that a server packs although it was asked not to: gzip, deflate, zstd and br, said in a header or not; and
such as are written in UTF-16 or UTF-32.
"""

from __future__ import annotations

import codecs
import re
import zlib
from importlib import import_module
from typing import Any, Final, Protocol

import zstandard

from antiphon.wire.errors import UpstreamError

_brotli: Any = import_module("brotli")  # it has no types

_GZIP: Final = b"\x1f\x8b"
_MEMBERS: Final = (b"\x1f", b"x")
"""How another member of gzip or zlib begins."""
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_HEAD_BYTES: Final = 4
"""How many of the first bytes say how an answer is packed."""
_SLICE_BYTES: Final = 256
"""How much is unpacked at a time where a bound cannot be given: a block of zstd holds 128 KiB in 4 bytes."""
_TEXT: Final = re.compile(rb"\s*(?:[{\[][\s{\[\"}\]]|data|event|even|id ?:|retr|: |<[!a-zA-Z?])")
"""How an answer begins that is not packed at all; deflate and br have no head to tell them by."""
_WIDE: Final = (
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff", re.DOTALL), "utf-32"),
    (re.compile(rb"\xff\xfe|\xfe\xff", re.DOTALL), "utf-16"),
    (re.compile(rb"\0\0\0[^\0]", re.DOTALL), "utf-32-be"),
    (re.compile(rb"[^\0]\0\0\0", re.DOTALL), "utf-32-le"),
    (re.compile(rb"\0[^\0]\0[^\0]", re.DOTALL), "utf-16-be"),
    (re.compile(rb"[^\0]\0[^\0]\0", re.DOTALL), "utf-16-le"),
)
"""How a text begins in another encoding than UTF-8: by its mark, or since its first characters are ASCII."""
_FAILED: Final = (zlib.error, zstandard.ZstdError, _brotli.error)
_ANY_HEADER: Final = 47
"""zlib's word for "gzip or zlib, whichever it is"."""


class Unpacker:
    """Unpacks a body that comes in pieces. A body that is not packed passes, whatever its header says.

    Args:
        encoding: the answer's ``Content-Encoding``.

    Raises:
        UpstreamError: it is packed in another way.
    """

    def __init__(self, encoding: str) -> None:
        self._codings = {part.strip() for part in encoding.lower().split(",")}
        self._started = False
        self._unpack: _Unpack | None = None
        self._head = b""
        if unknown := self._codings & {"compress", "x-compress"}:
            name = min(unknown)
            raise UpstreamError(f"The model's server packed its answer with {name}, although it was asked not to.")

    @property
    def idle(self) -> bool:
        """Whether nothing is packed, which its first bytes say."""
        return self._started and self._unpack is None

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        """At most ``bytes_max + 1`` unpacked bytes, or little more.

        Raises:
            UpstreamError: the body is broken.
        """
        if not self._started:
            data = self._head + data
            if len(data) < _HEAD_BYTES:
                self._head = data
                return b""
            self._begin(data)
        return self._decode(data, bytes_max)

    def _decode(self, data: bytes, bytes_max: int) -> bytes:
        if self._unpack is None:
            return data
        try:
            return self._unpack.feed(data, bytes_max)
        except _FAILED as error:
            raise UpstreamError("The model's server wrote what cannot be read.", internal=str(error)) from None

    def end(self) -> bytes:
        """What is left at the end of the body, where it is shorter than its head."""
        head, self._head = self._head, b""
        if self._started:
            return b""
        self._begin(head)
        return self._decode(head, len(head))

    def _begin(self, data: bytes) -> None:
        self._started, self._head = True, b""
        if data[:2] == _GZIP:
            self._unpack = _Inflate(_ANY_HEADER)
        elif data[:4] == _ZSTD:
            self._unpack = _Zstd()
        elif "deflate" in self._codings and not _TEXT.match(data):
            has_head = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._unpack = _Inflate(_ANY_HEADER if has_head else -zlib.MAX_WBITS)
        elif "br" in self._codings and not _TEXT.match(data):
            self._unpack = _Brotli()
        elif wide := next((name for head, name in _WIDE if head.match(data)), ""):
            self._unpack = _Recode(wide)


class _Unpack(Protocol):
    def feed(self, data: bytes, bytes_max: int) -> bytes: ...


class _Inflate:
    """gzip in one member or several, zlib, or raw deflate."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        out = b""
        while data and len(out) <= bytes_max:
            if self._inflate.eof:
                if data[:1] not in _MEMBERS:
                    break  # what fills up the space behind it
                self._inflate = zlib.decompressobj(_ANY_HEADER)
            out += self._inflate.decompress(data, bytes_max + 1 - len(out))
            data = self._inflate.unused_data
        return out


class _Recode:
    """UTF-8 instead of another encoding of Unicode."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        return self._decoder.decode(data).encode()


class _Zstd:
    def __init__(self) -> None:
        self._inflate = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        out = bytearray()
        for at in range(0, len(data), _SLICE_BYTES):
            out += self._inflate.decompress(data[at : at + _SLICE_BYTES])
            if len(out) > bytes_max:
                break
        return bytes(out)


class _Brotli:
    def __init__(self) -> None:
        self._inflate = _brotli.Decompressor()

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        out = bytearray(self._inflate.process(data, output_buffer_limit=bytes_max + 1))
        while not self._inflate.can_accept_more_data() and len(out) <= bytes_max:
            more = self._inflate.process(b"", output_buffer_limit=bytes_max + 1 - len(out))
            if not more:
                break
            out += more
        return bytes(out)
