"""Frames of one read that differ in nothing but their text, joined into one before any of them is decoded.

A server writes the same bytes around every piece of an answer. Once they are known, a run of such frames is found by
one search and costs as much as a single frame. Only an answer that nobody streams is read like this: its pieces cannot
be told apart afterwards. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

LEARN_FRAMES_MIN: Final = 4
"""How many frames a read must have to be worth learning from."""

_HEAD: Final = re.compile(rb'data:[^\n]*?"(?:content|reasoning_content|reasoning|reasoning_text|refusal)": ?"')
_STRING: Final = re.compile(rb'(?:[^"\\\n]|\\[^\n])*')
"""The inside of a JSON string."""
_PROBE: Final = "?"
_END: Final = b"\n\n"
_MARK_BYTES: Final = 16
_LOOK_BYTES: Final = 16_384
"""How much of a read is looked at for frames that are worth it."""

ReadText = Callable[[bytes], str | None]
"""The text of a frame's JSON, where the frame holds one piece of text and nothing else; None where it does not."""


class FrameJoiner:
    """Joins the frames of one answer, read by read."""

    def __init__(self, read_text: ReadText) -> None:
        self._read_text = read_text
        self._head = b""
        self._between = b""

    def join(self, data: bytes) -> bytes:
        """The lines of a read, a run of alike frames in them as one frame; unchanged where there is none."""
        if not self._has_run(data):
            self._learn(data)
        return (self._has_run(data) and self._join_run(data)) or data

    def _has_run(self, data: bytes) -> bool:
        return bool(self._between) and self._between in data

    def _join_run(self, data: bytes) -> bytes | None:
        start = data.find(self._head)
        begin, end = start + len(self._head), data.rfind(self._between)
        if end < begin or (start > 0 and data[start - 1] != ord("\n")):
            return None
        pieces = self._split(data[begin:end])
        text = b"".join(pieces)
        # Each piece must be the inside of one string: a frame that holds more than its text does not join.
        if b"\n" in text or ((b'"' in text or b"\\" in text) and not all(map(_STRING.fullmatch, pieces))):
            return None
        # The last frame begins alike and may end otherwise, so it stays by itself.
        return b"".join((data[:begin], text, data[end:]))

    def _split(self, run: bytes) -> list[bytes]:
        """The texts of a run. It is cut at the last bytes of what stands between them: Python looks for few bytes many
        times as fast as for many.
        """
        mark, before = self._between[-_MARK_BYTES:], self._between[:-_MARK_BYTES]
        *pieces, last = run.split(mark)
        texts = [piece[: -len(before)] for piece in pieces if piece.endswith(before)]
        return [*texts, last] if len(texts) == len(pieces) else run.split(self._between)

    def _learn(self, data: bytes) -> None:
        """Take what stands around the text of a frame in the middle, else of the second."""
        self._between = b""
        for frame in _samples(data):
            head = _HEAD.match(frame)
            string = _STRING.match(frame, head.end()) if head else None
            if head is None or string is None or not string[0]:
                continue
            tail = frame[string.end() :]
            # The text is where it seems to be: another one in its place is read, and nothing is said beside it.
            probe = head[0][5:] + _PROBE.encode() + tail
            if self._read_text(frame[5:]) is not None and self._read_text(probe) == _PROBE:
                self._head, self._between = head[0], tail + _END + head[0]
                return


def _samples(data: bytes) -> Iterator[bytes]:
    """A frame in the middle of a read, and the second; none where it has too few to be worth learning from."""
    if data.count(_END, 0, _LOOK_BYTES) < LEARN_FRAMES_MIN:
        return
    for begin in (data.find(_END, len(data) // 2), data.find(_END)):
        end = data.find(_END, begin + len(_END))
        if 0 <= begin < end:
            yield data[begin + len(_END) : end]
