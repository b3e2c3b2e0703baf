"""JSON of calls as small models and careless servers write it, made JSON again where it is certain what was meant.
Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from antiphon.models.chat.unicode import clean

_TOKEN: Final = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|[{}\[\]]|(?P<bare>[^"'{}\[\]]+)""", re.DOTALL
)
_IN_TEXT: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4}))|\\(.)|([\x00-\x1f\"])", re.DOTALL
)
_WORD: Final = re.compile(
    r"(?<![\w.])(?:(True|False)|(None|undefined|[+-]?(?:NaN|Infinity))|([A-Za-z_]\w*)(?=\s*:))(?!\w)"
)
_ESCAPES: Final = '"\\/bfnrtu'
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


def mend_object(text: str) -> str | None:
    """The text of a JSON object, mended where it has to be; None where it is none and cannot be made one."""
    for candidate in (text, mend(text)):
        try:
            if candidate is not None and isinstance(msgspec.json.decode(candidate), dict):
                return candidate
        except (msgspec.DecodeError, RecursionError):
            pass
    return None


def mend(text: str) -> str | None:
    """The text with single braces for doubled ones, with the closing ones that are missing, without those that close
    nothing, and without commas in front of them; texts, names and words of Python and JavaScript as JSON writes them.
    None where it ends within a string, or its brackets cross.
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
            out.append(_text(piece) if token["text"] else _WORD.sub(_word, piece))
        if len(open_) > DEPTH_MAX:
            return None
    if end != len(text):
        return None
    _strip_comma(out)
    return "".join((*out, *reversed(open_)))


def _text(piece: str) -> str:
    """A text in quotes of any kind, as JSON."""
    return f'"{_IN_TEXT.sub(_character, piece[1:-1])}"'


def _character(found: re.Match[str]) -> str:
    byte, wide, escaped, raw = found.groups()
    if byte is not None:
        return f"\\u00{byte}"
    if wide is not None:
        return _encode(clean(chr(int(wide, 16))))
    if raw is not None:
        return _encode(raw)
    if escaped in _ESCAPES:
        return found[0]
    return escaped if escaped == "'" else "\\\\" + _encode(escaped)


def _encode(character: str) -> str:
    return msgspec.json.encode(character).decode()[1:-1]


def _word(found: re.Match[str]) -> str:
    truth, nothing, name = found.groups()
    return truth.lower() if truth else "null" if nothing else f'"{name}"'


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
