"""Answers that a server packs although it was asked not to: gzip and deflate, said in a header or not."""

from __future__ import annotations

import zlib
from typing import Any, Final

from antiphon.wire.errors import UpstreamError

_GZIP: Final = b"\x1f\x8b"
_PLAIN: Final = frozenset({"", "identity", "none", "gzip", "x-gzip", "deflate"})
_TEXT: Final = tuple(b"%c" % byte for byte in b"{[:<dei")
"""How an answer begins that is not packed at all; a deflated one may come without a header."""
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
        self._deflated = "deflate" in encoding.lower()
        self._started = False
        self._inflate: Any = None
        self._head = b""
        others = {part.strip() for part in encoding.lower().split(",")} - _PLAIN
        packed = others & {"br", "zstd", "compress", "x-compress"}
        if packed:
            name = min(packed)
            raise UpstreamError(f"The model's server packed its answer with {name}, although it was asked not to.")

    @property
    def idle(self) -> bool:
        """Whether nothing is packed, which its first bytes say."""
        return self._started and self._inflate is None

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        """At most ``bytes_max + 1`` unpacked bytes.

        Raises:
            UpstreamError: the body is broken.
        """
        if not self._started:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            self._started, self._head = True, b""
            self._inflate = self._begin(data)
        if self._inflate is None:
            return data
        out = b""
        try:
            while data and len(out) <= bytes_max:
                out += self._inflate.decompress(data, bytes_max + 1 - len(out))
                data = self._inflate.unused_data  # gzip may come as several members
                if data:
                    self._inflate = zlib.decompressobj(_ANY_HEADER)
        except zlib.error as error:
            raise UpstreamError("The model's server wrote what cannot be read.", internal=str(error)) from None
        return out

    def end(self) -> bytes:
        """What is left at the end of the body."""
        head, self._head = self._head, b""
        return head

    def _begin(self, data: bytes) -> Any:
        if data[:2] == _GZIP:
            return zlib.decompressobj(_ANY_HEADER)
        if not self._deflated:
            return None
        if data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0:
            return zlib.decompressobj(_ANY_HEADER)
        return None if data.lstrip()[:1] in _TEXT else zlib.decompressobj(-zlib.MAX_WBITS)
