"""Calls that were just made, with success: a weak model makes them again instead of reading what came of them. Pure.

A repeat is meant where the latest result is no end (a failure, or a state that will change), and where the user asked
for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from antiphon.models.outcome import outcome_of
from antiphon.tools import ToolCall
from antiphon.wire import Json
from antiphon.wire.items import content_texts, last_user_text

Made: TypeAlias = "tuple[str, bytes]"
"""A function, and its arguments without regard to how they are written."""

_ASKED_FOR: Final = re.compile(
    r"\b(?:again|once more|twice|thrice|times|repeat\w*|until|every|each|keep|poll\w*|wait\w*|monitor\w*|retry"
    r"|nochmal\w*|noch einmal|mal|bis|wiederhol\w*|otra vez|de nuevo|veces|hasta|repit\w*|encore|fois|jusqu\w*|répét\w*"
    r"|ancora|volte|fino|finché|ripet\w*)\b",
    re.IGNORECASE,
)
"""Words by which somebody asks for the same call more than once."""


def calls_just_made(items: Sequence[Json]) -> frozenset[Made]:
    """The calls whose outputs end the context, as far as making them again would be of no use."""
    at = len(items)
    outputs: dict[str, Json] = {}
    while at and items[at - 1].get("type") == "function_call_output":
        at -= 1
        outputs.setdefault(items[at].get("call_id") or "", items[at])
    if not outputs or _ASKED_FOR.search(last_user_text(items[:at])):
        return frozenset()
    made: set[Made] = set()
    for item in reversed(items[:at]):
        if item.get("type") != "function_call" or not outputs:
            if not outputs or item.get("type", "message") == "message":
                break
            continue
        output = outputs.pop(item.get("call_id") or "", None)
        if output is not None and outcome_of("\n".join(content_texts(output.get("output")))) == "done":
            made.add(_made(item.get("name") or "", item.get("arguments")))
    return frozenset(made)


def is_repeat(call: ToolCall, just_made: frozenset[Made]) -> bool:
    """Whether the call is one of those."""
    return bool(just_made) and _made(call.name, call.arguments) in just_made


def _made(name: str, arguments: Any) -> Made:
    try:
        value: Any = msgspec.json.decode(arguments or "{}") if isinstance(arguments, str) else arguments
        return name, msgspec.json.encode(value, order="deterministic")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return name, str(arguments).encode(errors="replace")
