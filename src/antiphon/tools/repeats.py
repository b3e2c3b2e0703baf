"""Calls that were just made: a weak model makes them again instead of reading what came of them. Pure.

A repeat is meant where the latest result is no end (a state that will change, or a failure that may pass), and where
the user asked for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from antiphon.models.outcome import Outcome, outcome_of
from antiphon.tools import CallInvalid, ToolCall
from antiphon.wire import Json
from antiphon.wire.items import content_texts, is_system, last_user_text

Made: TypeAlias = "tuple[str, bytes]"
"""A function, and its arguments without regard to how they are written."""

_ASKED_FOR: Final = re.compile(
    r"\b(?:again|once more|twice|thrice|times|repeat\w*|until|every|each|keep|poll\w*|wait\w*|monitor\w*|retry"
    r"|nochmal\w*|noch einmal|mal|bis|wiederhol\w*|otra vez|de nuevo|veces|hasta|repit\w*|encore|fois|jusqu\w*|répét\w*"
    r"|ancora|volte|fino|finché|ripet\w*)\b",
    re.IGNORECASE,
)
"""Words by which somebody asks for the same call more than once."""


_CHANGE: Final = "Read its result: call it with what that says, or say in words why it cannot be done."
_MAY_PASS: Final = re.compile(
    r"time[d -]*out|temporar|\btransient|\b(?:busy|later|again|retry\w*|unavailable|overloaded|locked|connection"
    r"|network|rate.limit\w*|too many|429|5\d\d)\b",
    re.IGNORECASE,
)
"""What the result of a call says that may succeed if nothing but time passes."""


def calls_just_made(items: Sequence[Json]) -> Mapping[Made, Outcome]:
    """The calls whose outputs end the context, as far as making them again would be of no use, and what came of
    them.
    """
    # What a system says in between is no end.
    items = [item for item in items if not is_system(item)]
    at = len(items)
    outputs: dict[str, Json] = {}
    while at and items[at - 1].get("type") == "function_call_output":
        at -= 1
        outputs.setdefault(items[at].get("call_id") or "", items[at])
    if not outputs or _ASKED_FOR.search(last_user_text(items[:at])):
        return {}
    made: dict[Made, Outcome] = {}
    for item in reversed(items[:at]):
        if item.get("type") != "function_call" or not outputs:
            if not outputs or item.get("type", "message") == "message":
                break
            continue
        output = outputs.pop(item.get("call_id") or "", None)
        if output is None:
            continue
        result = "\n".join(content_texts(output.get("output")))
        outcome = outcome_of(result)
        if outcome == "done" or (outcome == "failed" and not _MAY_PASS.search(result)):
            made[_made(item.get("name") or "", item.get("arguments"))] = outcome
    return made


def find_repeat(call: ToolCall, just_made: Mapping[Made, Outcome]) -> CallInvalid | None:
    """What is wrong with the call if it is one of those."""
    outcome = just_made.get(_made(call.name, call.arguments)) if just_made else None
    if outcome is None:
        return None
    if outcome == "failed":
        return CallInvalid(f"Error: {call.name} was just called like that, and failed. {_CHANGE}", remedy="change")
    return CallInvalid(f"The function '{call.name}' was just called like that.", remedy="result")


def _made(name: str, arguments: Any) -> Made:
    try:
        value: Any = msgspec.json.decode(arguments or "{}") if isinstance(arguments, str) else arguments
        return name, msgspec.json.encode(value, order="deterministic")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return name, str(arguments).encode(errors="replace")
