"""``truncation: auto``: the oldest items of a context make room for the rest.

What the system says stays, and the last message of the user, and what came last of all. A call goes with its outputs,
and a thought with what it led to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from antiphon.models import ContextTooLong, Prompt
from antiphon.models.tokens import estimate_prompt
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.items import is_system
from antiphon.wire.pairing import pair_calls

SHORTENINGS_MAX: Final = 8
"""How often a prompt is shortened before the request is refused; each time by a quarter or as much as is known."""
SHARE_UNKNOWN: Final = 0.25
"""What goes where nobody says how much is too much."""
ANSWER_SHARE: Final = 0.25
"""Of the window, what is left free for an answer at most."""


T = TypeVar("T")


async def ask_shortened(prompt: Prompt, ask: Callable[[Prompt], Awaitable[T]], may_shorten: Callable[[], bool]) -> T:
    """What ``ask`` gives for the prompt; where that is too long, for what is left of it.

    Args:
        ask: raises ``ContextTooLong`` for a prompt that does not fit.
        may_shorten: whether the prompt may be shortened, asked each time that it does not fit.

    Raises:
        InvalidRequest: ``context_length_exceeded``.
    """
    tokens = window = None
    for _ in range(SHORTENINGS_MAX):
        try:
            return await ask(prompt)
        except ContextTooLong as error:
            tokens, window = error.prompt_tokens, error.context_tokens
            share = excess_share(tokens, window, prompt.max_output_tokens)
            shorter = drop_oldest(prompt, share) if may_shorten() else None
            if shorter is None:
                break
            prompt = shorter
    raise _too_long(tokens, window)


def _too_long(tokens: int | None, window: int | None) -> InvalidRequest:
    """The documented refusal, with the numbers that are known, as they are said in chat completions: clients look for
    them.
    """
    text = "Your input exceeds the context window of this model. Please adjust your input and try again."
    if window:
        text += f" This model's maximum context length is {window} tokens."
        if tokens:
            text += f" However, your input resulted in {tokens} tokens."
    return InvalidRequest(text, code="context_length_exceeded", param="input")


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
        if any(i == last or is_system(items[i]) for i in unit):
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
