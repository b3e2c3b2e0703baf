"""A call whose only text is held to a grammar: the whole answer is that text, and is read back as the call.

Servers hold an answer to a grammar token by token, each in its own words. Within JSON they could not: there every quote
and line break of the text is written in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from antiphon.models import Call, Delta, Function, Grammar
from antiphon.models.chat.json_grammar import LLGUIDANCE
from antiphon.wire import Json

Dialect: TypeAlias = Literal["llamacpp", "vllm", "guided"]
"""``guided``: the fields that vLLM had before ``structured_outputs``, and that others took over."""

_SLASH: Final = re.compile(r"(\\.)|/", re.DOTALL)


def constraint(grammar: Grammar, dialect: Dialect) -> Json:
    """The fields that hold an answer to the grammar. llama.cpp takes Lark where it is built with llguidance."""
    match dialect, grammar.syntax:
        case "llamacpp", "lark":
            return {"grammar": LLGUIDANCE + grammar.definition}
        case "llamacpp", "regex":
            return {"grammar": f"{LLGUIDANCE}start: /{_in_lark(grammar.definition)}/"}
        case "vllm", "lark":
            return {"structured_outputs": {"grammar": grammar.definition}}
        case "vllm", "regex":
            return {"structured_outputs": {"regex": grammar.definition}}
        case "guided", "lark":
            return {"guided_grammar": grammar.definition}
        case "guided", "regex":
            return {"guided_regex": grammar.definition}


def _in_lark(pattern: str) -> str:
    """Between slashes, in one line."""
    escaped = _SLASH.sub(lambda found: found[1] or r"\/", pattern)
    return escaped.replace("\n", r"\n").replace("\r", r"\r")


def description(function: Function) -> str:
    """What the model is told of it."""
    about = f" {function.description}" if function.description else ""
    return (
        f"Call {function.name} now.{about}\nAnswer only with the text of its `input`: not a word or a quote around it."
    )


class WrittenCall:
    """Reads the answer as a call of ``function``, whose ``input`` it is."""

    def __init__(self, function: Function, keys: Iterator[int]) -> None:
        self._name = function.name
        self._key = next(keys)
        self._begun = False

    idle = False

    def feed(self, text: str) -> list[Delta]:
        """The piece of the call that ``text`` is."""
        return [*self._open(), Call(self._key, arguments=msgspec.json.encode(text).decode()[1:-1])]

    def _open(self) -> list[Delta]:
        if self._begun:
            return []
        self._begun = True
        return [Call(self._key, self._name, '{"input":"')]

    def end(self, cut: bool) -> list[Delta]:
        """The end of the call; ``cut`` when the answer was stopped by its length."""
        return [*self._open(), *([] if cut else [Call(self._key, arguments='"}')])]

    def release(self) -> list[Delta]:
        """The server calls by itself after all: what was written is no answer."""
        return []

    def note_server_reasoning(self) -> None:
        """Reasoning beside the answer changes nothing here."""
