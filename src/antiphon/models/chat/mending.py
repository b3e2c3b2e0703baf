"""JSON of calls as small models write it, made JSON again where it is certain what was meant. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^"{}\[\]]+', re.DOTALL)
_PAIRS: Final = {"{": "}", "[": "]"}
_COMMA_AT_END: Final = re.compile(r",\s*\Z")
DEPTH_MAX: Final = 256


def decode(text: str) -> tuple[Any, bool] | None:
    """The value of a JSON text, and whether it had to be mended; None where it cannot be."""
    try:
        return msgspec.json.decode(text), False
    except (msgspec.DecodeError, RecursionError):
        pass
    mended = mend(text)
    if mended is None:
        return None
    try:
        return msgspec.json.decode(mended), True
    except (msgspec.DecodeError, RecursionError):
        return None


def mend(text: str) -> str | None:
    """The text with single braces for doubled ones, with the closing ones that are missing, without those that close
    nothing, and without commas in front of them. None where it ends within a string, or its brackets cross.
    """
    out: list[str] = []
    open_: list[str] = []  # what closes each bracket; empty for one that was left out
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() != end:
            return None
        end, piece = token.end(), token[0]
        if piece in _PAIRS:
            doubled = piece == "{" and _last(out) == "{"
            open_.append("" if doubled else _PAIRS[piece])
            out += () if doubled else (piece,)
        elif piece in ("}", "]"):
            if not _close(piece, open_, out):
                return None
        else:
            out.append(piece)
        if len(open_) > DEPTH_MAX:
            return None
    if end != len(text):
        return None
    _strip_comma(out)
    return "".join((*out, *reversed(open_)))


def _close(piece: str, open_: list[str], out: list[str]) -> bool:
    """Whether a closing bracket makes sense. One that closes nothing is left out, and closes what lacks its own."""
    if piece not in open_:
        # It closes nothing; or what was doubled, and is left out with it.
        return not open_ or not open_.pop()
    while open_:
        closer = open_.pop()
        _strip_comma(out)
        out.append(closer)
        if closer == piece:
            break
    return True


def _strip_comma(out: list[str]) -> None:
    while out and not out[-1].strip():
        out.pop()
    if out and out[-1][0] != '"':
        out[-1] = _COMMA_AT_END.sub("", out[-1])


def _last(out: list[str]) -> str:
    return next((piece for piece in reversed(out) if piece.strip()), "")
