"""The arguments of a call as a model writes them: where their JSON text ends, and whether they fit the function."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from antiphon.models import Function
from antiphon.wire.schema import violation

_OUTSIDE: Final = re.compile(r"""["'{}\[\]]""")
_INSIDE: Final = re.compile(r"""["'\\]""")
_PLAIN_OUTSIDE: Final = re.compile(
    r"""(?P<quote>")|(?P<open>,\s*\Z)|,\s*[}\]]|[^\s\d{}\[\]:,.+\-eEtrufalsn](?P<escaped>)?"""
)
_PLAIN_INSIDE: Final = re.compile(r"""(?P<quote>")|(?P<escaped>\\["\\/bfnrtu])|(?P<open>\\\Z)|[\\\x00-\x1f]""")


class JsonScanner:
    """Finds where one JSON object or array ends in a text that comes in pieces.

    It counts brackets outside strings and checks nothing else: the caller decodes what it found.
    """

    __slots__ = ("_depth", "_escaped", "_quote", "_single")

    def __init__(self, *, single: bool = False) -> None:
        """``single``: whether strings may stand in single quotes too, as in Python."""
        self._depth = 0
        self._single = single
        self._quote = ""  # of the string that is open
        self._escaped = False

    def feed(self, piece: str, start: int = 0) -> int:
        """The place one past the value's last character in ``piece``; -1 where it goes on behind it."""
        at = start
        if self._escaped and at < len(piece):
            self._escaped = False
            at += 1
        while (found := (_INSIDE if self._quote else _OUTSIDE).search(piece, at)) is not None:
            at = found.end()
            match found[0]:
                case "\\":
                    self._escaped = at == len(piece)
                    at += 1
                case '"' | "'" as quote:
                    self._meet(quote)
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1

    def _meet(self, quote: str) -> None:
        if self._quote == quote:
            self._quote = ""
        elif not self._quote and (quote == '"' or self._single):
            self._quote = quote


class JsonPieces:
    """A JSON text that comes in pieces: what of it is JSON so far.

    Attributes:
        odd: whether something came that JSON does not have; nothing behind it is looked at.
    """

    __slots__ = ("_held", "_quoted", "odd")

    def __init__(self) -> None:
        self.odd = False
        self._quoted = False
        self._held = ""  # what the next piece decides

    def feed(self, piece: str) -> str:
        """What is certain, up to what is odd."""
        if self.odd:
            return ""
        text, self._held, at = self._held + piece, "", 0
        while (found := (_PLAIN_INSIDE if self._quoted else _PLAIN_OUTSIDE).search(text, at)) is not None:
            at = found.end()
            if found["quote"]:
                self._quoted = not self._quoted
            elif not found["escaped"]:
                self.odd = at < len(text) or not found["open"]
                self._held = text[found.start() :]
                return text[: found.start()]
        return text


class JsonExtent:
    """The same for a text that is given whole each time; only what is new is looked at."""

    __slots__ = ("_scanner", "pos")

    def __init__(self, start: int) -> None:
        self.pos = start
        """First character not looked at yet; one past the value once it is complete."""
        self._scanner = JsonScanner()

    def scan(self, text: str) -> bool:
        """Whether the value that begins at ``start`` is complete in ``text``."""
        end = self._scanner.feed(text, self.pos)
        self.pos = len(text) if end < 0 else end
        return end >= 0


def compact(value: Any) -> str:
    """A decoded JSON value as JSON text without spaces."""
    return msgspec.json.encode(value).decode()


def fits(function: Function, arguments: Any) -> bool:
    """Whether decoded arguments are an object that the function's schema allows.

    A schema that cannot be compiled, or that points outside itself, allows every object: the caller wrote it
    for a model, and a model did read it.
    """
    if not isinstance(arguments, dict):
        return False
    return function.parameters is None or violation(function.parameters, arguments) is None
