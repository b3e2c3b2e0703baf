"""JSON schemas as grammars of llguidance, which llama.cpp's server has built in. Pure.

What llama.cpp makes of a schema by itself leaves out what it does not know, such as ``maxProperties``; llguidance knows
nearly all. A grammar is for the whole answer: nothing can be called beside it, and nothing be thought before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from antiphon.wire import Json

FENCE: Final = "```json\n"
"""What such an answer is begun with, for models write better JSON where they would have written it by themselves."""

LLGUIDANCE: Final = "%llguidance {}\n"
"""By this llama.cpp knows it from a grammar in its own words."""
_SPACED: Final[Json] = {"whitespace_pattern": r"( |\n {0,20})?"}
"""One space, or a line break and what indents the next line. Of more, small models make no end."""
_ON_ONE_LINE: Final[Json] = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
_LENIENT: Final[Json] = {"lenient": True, "coerce_one_of": True}
"""What cannot be enforced need not be refused: the answer is looked at in any case."""


class Pattern(msgspec.Struct, frozen=True):
    """A regular expression for a piece of an answer."""

    regex: str


Part: TypeAlias = str | Pattern | Json
"""A piece of an answer: a text as it is, what a regular expression says, or a value that fits a schema."""


def whole(schema: Json) -> str:
    """The grammar of an answer that fits the schema."""
    return f"{LLGUIDANCE}start: {_value(schema, _SPACED)}"


def sequence(parts: Sequence[Part]) -> str:
    """The grammar of an answer of these pieces."""
    return f"{LLGUIDANCE}start: {' '.join(map(_piece, parts))}"


def _piece(part: Part) -> str:
    match part:
        case str():
            return json.dumps(part, ensure_ascii=False)
        case Pattern(regex):
            return f"/{regex}/"
        case _:
            return _value(part, _ON_ONE_LINE)


def _value(schema: Json, spacing: Json) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': {**spacing, **_LENIENT}})}"
