"""Frames of one read that differ in nothing but their text, joined into one before any of them is decoded.

A server writes the same bytes around every piece of an answer. Once they are known, a run of such frames is found by
one search and costs as much as a single frame. Only an answer that nobody streams is read like this: its pieces cannot
be told apart afterwards. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

LEARN_FRAMES_MIN: Final = 4
"""How many frames a read must have to be worth learning from."""

_HEAD: Final = re.compile(rb'data:[^\n]*?"(?:content|reasoning_content|reasoning|reasoning_text|refusal)": ?"')
_STRING: Final = re.compile(rb'(?:[^"\\\n]|\\[^\n])*')
"""The inside of a JSON string."""
_PROBE: Final = "?"

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
        if not self._has_run(data) and data.count(b"\n\n") >= LEARN_FRAMES_MIN:
            self._learn(data)
        return (self._has_run(data) and self._join_run(data)) or data

    def _has_run(self, data: bytes) -> bool:
        return bool(self._between) and self._between in data

    def _join_run(self, data: bytes) -> bytes | None:
        start = data.find(self._head)
        if start > 0 and data[start - 1] != ord("\n"):
            return None
        begin = start + len(self._head)
        *pieces, rest = data[begin:].split(self._between)
        text = b"".join(pieces)
        # Each piece must be the inside of one string: a frame that holds more than its text does not join.
        if b"\n" in text or ((b'"' in text or b"\\" in text) and not all(map(_STRING.fullmatch, pieces))):
            return None
        # The last frame begins alike and may end otherwise, so it stays by itself.
        return b"".join((data[:begin], text, self._between, rest))

    def _learn(self, data: bytes) -> None:
        """Take what stands around the text of a frame in the middle, else of the second."""
        self._between = b""
        frames = data.split(b"\n\n")
        for frame in (frames[len(frames) // 2], frames[1]):
            head = _HEAD.match(frame)
            string = _STRING.match(frame, head.end()) if head else None
            if head is None or string is None or not string[0]:
                continue
            tail = frame[string.end() :]
            # The text is where it seems to be: another one in its place is read, and nothing is said beside it.
            probe = head[0][5:] + _PROBE.encode() + tail
            if self._read_text(frame[5:]) is not None and self._read_text(probe) == _PROBE:
                self._head, self._between = head[0], tail + b"\n\n" + head[0]
                return
