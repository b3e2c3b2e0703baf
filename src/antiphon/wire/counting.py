"""How many values JSON holds, told without decoding it: small ones take far more memory than they take of a body."""

from __future__ import annotations

from typing import Final

VALUES_MAX: Final = 1_000_000
"""Values in one body."""
VALUE_BYTES: Final = 64
"""What a value takes of memory at least, however little of it there is on the wire."""
_SEPARATORS: Final = b",[{"
"""Each value but the first of a container stands behind one of them, and the first behind the container's."""
_EXACT_FROM: Final = 10_000
"""Fewer are taken for values though some of them may stand in texts."""
_BLOCK_BYTES: Final = 1 << 20
_LETTERS: Final = bytes(set(range(256)) - {*_SEPARATORS, *b'"'})


def count_values(text: bytes) -> int:
    """How many values JSON holds, about, or that they are more than ``VALUES_MAX``: it is not read to its end then."""
    count = 0
    for start in range(0, len(text), _BLOCK_BYTES):
        count += sum(text.count(mark, start, start + _BLOCK_BYTES) for mark in _SEPARATORS)
        if count > _EXACT_FROM:
            return _count_outside_strings(text)
    return count


def _count_outside_strings(text: bytes) -> int:
    import numpy as np  # most bodies do without

    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, inside = 0, False
    for start in range(0, len(text), _BLOCK_BYTES):
        marks = np.frombuffer(text[start : start + _BLOCK_BYTES].translate(None, _LETTERS), np.uint8)
        quotes = marks == ord('"')
        within = np.logical_xor.accumulate(quotes) ^ inside
        count += int(np.count_nonzero(~(within | quotes)))
        if count > VALUES_MAX:
            break
        inside = bool(within[-1]) if len(within) else inside
    return count
