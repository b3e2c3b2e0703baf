"""``truncation: auto``: the oldest items of a context make room for the rest.

What the system says stays, and the last message of the user, and what came last of all. A call goes with its outputs,
and a thought with what it led to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from antiphon.models import Prompt
from antiphon.models.tokens import estimate_prompt
from antiphon.wire import Json
from antiphon.wire.pairing import pair_calls

SHARE_UNKNOWN: Final = 0.25
"""What goes where nobody says how much is too much."""
ANSWER_SHARE: Final = 0.25
"""Of the window, what is left free for an answer at most."""

_SYSTEM: Final = ("system", "developer")


def excess_share(tokens: int | None, window: int | None, answer_tokens: int | None) -> float:
    """How much of a context has to go (0–1).

    Args:
        tokens: of the context; ``window``: of the model; None where that is not known.
        answer_tokens: bound on the answer, if there is one.
    """
    if not tokens or not window:
        return SHARE_UNKNOWN
    room = int(window * ANSWER_SHARE)
    left = window - (room if answer_tokens is None else min(room, answer_tokens))
    return max(0.0, 1 - left / tokens)


def drop_oldest(prompt: Prompt, share: float) -> Prompt | None:
    """The prompt without its oldest items, as many as that share (0–1) of it takes; None when nothing more can go."""
    items = prompt.items
    units = _group_items(items)
    due = share * sum(_weight(item) for item in items)
    last = max((i for i, item in enumerate(items) if item.get("role") == "user"), default=-1)
    gone: set[int] = set()
    for unit in units[:-1]:
        if gone and due <= 0:
            break
        if any(i == last or items[i].get("role") in _SYSTEM for i in unit):
            continue
        gone.update(unit)
        due -= sum(_weight(items[i]) for i in unit)
    if not gone:
        return None
    return msgspec.structs.replace(prompt, items=tuple(item for i, item in enumerate(items) if i not in gone))


def _group_items(items: Sequence[Json]) -> list[list[int]]:
    """The places of items that stay or go together, in the order of their first ones."""
    calls = pair_calls(items)
    units: dict[int, list[int]] = {}
    thought: list[int] = []
    for i, item in enumerate(items):
        if item["type"] == "reasoning":
            thought.append(i)
            continue
        units.setdefault(calls.get(i, i), []).extend([*thought, i])
        thought = []
    if thought:
        units[thought[0]] = thought
    return list(units.values())


def _weight(item: Json) -> int:
    return estimate_prompt(Prompt(items=(item,)))
