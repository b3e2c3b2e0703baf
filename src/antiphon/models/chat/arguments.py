"""The arguments of a call as a model writes them: where their JSON text ends, and whether they fit the function."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from antiphon.models import Function
from antiphon.wire.schema import violation

_OUTSIDE: Final = re.compile(r'["{}\[\]]')
_INSIDE: Final = re.compile(r'["\\]')


class JsonScanner:
    """Finds where one JSON object or array ends in a text that comes in pieces.

    It counts brackets outside strings and checks nothing else: the caller decodes what it found.
    """

    __slots__ = ("_depth", "_escaped", "_quoted")

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, piece: str, start: int = 0) -> int:
        """The place one past the value's last character in ``piece``; -1 where it goes on behind it."""
        at = start
        if self._escaped and at < len(piece):
            self._escaped = False
            at += 1
        while (found := (_INSIDE if self._quoted else _OUTSIDE).search(piece, at)) is not None:
            at = found.end()
            match found[0]:
                case "\\":
                    self._escaped = at == len(piece)
                    at += 1
                case '"':
                    self._quoted = not self._quoted
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1


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
