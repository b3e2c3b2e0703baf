"""Text that is no Unicode: broken UTF-8, and the halves of surrogate pairs that JSON escapes may leave. Pure.

A half is joined with its partner where that comes in the next piece of the same text, and is U+FFFD where it does not.
"""

from __future__ import annotations

import re
from typing import Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


def clean(text: str) -> str:
    """The text with pairs of halves joined, and U+FFFD in place of every half that stands alone."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class SurrogateJoiner:
    """One text that comes in pieces, of which one may end between the halves of a pair."""

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = ""

    def __bool__(self) -> bool:
        """Whether a half waits for its partner."""
        return bool(self._high)

    def feed(self, piece: str) -> str:
        """As much of the text as is certain."""
        whole, self._high = self._high + piece, ""
        if whole and "\ud800" <= whole[-1] <= "\udbff":
            whole, self._high = whole[:-1], whole[-1]
        return clean(whole)

    def end(self) -> str:
        """What is left of the text: a half that stayed alone."""
        alone, self._high = self._high, ""
        return _REPLACEMENT if alone else ""
