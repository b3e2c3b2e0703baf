"""The arguments of a call as a model writes them: where their JSON text ends, and whether they fit the function."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from antiphon.models import Function
from antiphon.wire.schema import violation

_OUTSIDE: Final = re.compile(r'["{}\[\]]')
_INSIDE: Final = re.compile(r'["\\]')


class JsonExtent:
    """Finds where one JSON object or array ends while its text grows.

    ``scan`` is given the whole text each time and looks only at what is new. It counts brackets outside
    strings and checks nothing else: the caller decodes what it found.
    """

    __slots__ = ("_depth", "_quoted", "pos")

    def __init__(self, start: int) -> None:
        self.pos = start
        """First character not looked at yet; one past the value once it is complete."""
        self._depth = 0
        self._quoted = False

    def scan(self, text: str) -> bool:
        """Whether the value that begins at ``start`` is complete in ``text``."""
        while True:
            found = (_INSIDE if self._quoted else _OUTSIDE).search(text, self.pos)
            if found is None:
                self.pos = len(text)
                return False
            if not self._take(text, found.start()):
                return False
            if self._depth == 0:
                return True

    def _take(self, text: str, at: int) -> bool:
        """Steps over the character that matters at ``at``; False when the one after it is needed first."""
        match text[at]:
            case "\\":
                if at + 1 == len(text):
                    self.pos = at
                    return False
                at += 1
            case '"':
                self._quoted = not self._quoted
            case "{" | "[":
                self._depth += 1
            case _:
                self._depth -= 1
        self.pos = at + 1
        return True


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
