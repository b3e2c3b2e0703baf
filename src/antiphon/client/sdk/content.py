"""Values of the official types that also read as the text they stand for: a message's content, and deltas.

A ``Content`` is the list of parts that the official SDK gives, and a ``AnswerDelta`` the string: they pass
``isinstance``, serialize, copy and pickle as those do. Beyond that, a content prints, formats and compares as its text,
and a delta has ``.content``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from openai.types.responses import ResponseOutputRefusal, ResponseOutputText

Part: TypeAlias = ResponseOutputText | ResponseOutputRefusal
"""One part of a message that a model wrote."""


class Content(list[Part]):
    """The parts of a message, as the official SDK lists them; ``str(content)`` is their text.

    ``content == "text"`` and ``"word" in content`` compare the text; with a list or a part they compare parts, as a
    list does.
    """

    __slots__ = ()

    @property
    def text(self) -> str:
        """The text of all parts, joined; of a part that refuses, the words of the refusal."""
        return "".join(map(_part_text, self))

    def __str__(self) -> str:
        return self.text

    def __format__(self, format_spec: str) -> str:
        return format(self.text, format_spec)

    def __eq__(self, other: object) -> bool:
        return self.text == other if isinstance(other, str) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __contains__(self, key: object) -> bool:
        return key in self.text if isinstance(key, str) else super().__contains__(key)

    __hash__ = None  # type: ignore[assignment]  # as a list's


def _part_text(part: Any) -> str:
    """What a part says; '' for a kind that says nothing, which a newer server may send."""
    return getattr(part, "text", None) or getattr(part, "refusal", None) or ""


class Delta(str):
    """A delta that is no answer text (arguments, reasoning, audio …): a string whose ``content`` is empty."""

    __slots__ = ()

    @property
    def content(self) -> str:
        """What a reader of the answer should see of it: nothing."""
        return ""


class AnswerDelta(Delta):
    """A delta of answer text: a string whose ``content`` is itself."""

    __slots__ = ()

    @property
    def content(self) -> str:
        """The text."""
        return str(self)


def join_text(parts: Iterable[Part]) -> str:
    """The text of parts that are no ``Content``."""
    return Content(parts).text
