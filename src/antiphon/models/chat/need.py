"""Whether a function is needed for what was said last, by the odds of single tokens. Pure.

A small model opens calls too readily, but the name that a call begun for it would have tells more: ``answer_in_words``
is offered before its functions. Where that leaves a doubt, it is asked which of the descriptions fits, without being
told how to call. Each of the two is wrong about other things, so their log odds are added. Once
something was called and done, the opening tells more than such a question.

All figures are of requests and functions that were made for this, half of which needed none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Prompt, Text
from antiphon.models.outcome import Outcome, outcome_of
from antiphon.wire import Json
from antiphon.wire.items import content_texts, is_system

OPENERS: Final = ("`", "{", "[", "<tool")
"""How what opens a call begins."""
_NAME_LETTERS: Final = 3
"""What is shorter says too little of a name."""

_NONE: Final = -1.0
_SURE: Final = 4.0
"""Log odds of the name: up to which no function is needed, and from which on one is, whatever else there is."""
_ANSWER_WEIGHT: Final = 1.5
_OPENING_WEIGHT: Final = 0.5
"""How much the other log odds count beside the name's; of the opening only what speaks against a call."""
_ENOUGH: Final = 0.4
"""What the three must come to."""
_ENOUGH_AFTER: Final = 1.5
"""What opening and name must come to where something was done already."""
_ENOUGH_PREFERRED: Final = 1.8
"""What the name must come to where a call is preferred: then the model would rather speak, whatever could be called."""
_ENOUGH_TO_SEARCH: Final = -1.85
"""The same where one function searches: what it would find is not known, whatever the model may know."""
_UTMOST: Final = 7.0
"""Bound on log odds: one that is no token among the likeliest says no more."""

_MESSAGES: Final = 3
"""How many messages the question shows: the last one may be an answer to the one before it."""
_MESSAGE_CHARS: Final = 1000
_DESCRIPTION_CHARS: Final = 200
_LETTERS: Final = "ABCDEFGHIJKLMNOP"
_NOTHING: Final = "Nothing of this: talk, general knowledge, or writing"


def is_needed(prompt: Prompt, opening: float, name: float) -> bool | None:
    """Whether a function is needed, as far as the log odds of an opening and of a name tell; None where they leave a
    doubt.
    """
    if prompt.prefers_call:
        return name >= _ENOUGH_PREFERRED
    searches = any(function.searches for function in prompt.callable_functions)
    match _latest_outcome(prompt.items):
        case None if searches:
            return name >= _ENOUGH_TO_SEARCH
        case "done" if searches:
            return min(opening, name) >= 0
        case None:
            return None if _NONE < name < _SURE else name >= _SURE
        case "done":
            return opening + name >= _ENOUGH_AFTER
        case _:
            return name > 0


def is_needed_after_all(opening: float, name: float, answer: float) -> bool:
    """The same where the doubt was asked about.

    Args:
        answer: the log odds that a function was chosen, 0 where nothing was.
    """
    return name + _ANSWER_WEIGHT * answer + _OPENING_WEIGHT * min(opening, 0.0) >= _ENOUGH


def odds_of_call(first: Text, names: Sequence[str] = ()) -> float:
    """How likely it was that an answer begins with a call, or the bare name of a function, by its first token."""
    return _odds(first, lambda token: token.startswith(OPENERS) or _begins_name(token, names))


def _begins_name(token: str, names: Sequence[str]) -> bool:
    return len(token) >= _NAME_LETTERS and any(name.startswith(token) for name in names)


def log_odds_of_opening(first: Text) -> float:
    """How likely it was that an answer begins with a call; 0 where that is not known."""
    return 0.0 if not first.logprobs else _log_odds(_odds(first, lambda token: token.startswith(OPENERS)))


def log_odds_of_name(first: Text, names: Sequence[str]) -> float:
    """How likely a begun call would be of one of the functions, by the first token of the name."""
    return _log_odds(_odds(first, lambda token: _is_of_one(token, names)))


def is_name(first: Text, names: Sequence[str]) -> bool:
    """Whether the likeliest name is that of one of the functions. Its text has before it what was begun."""
    return bool(first.logprobs) and _is_of_one(str(first.logprobs[0].get("token", "")).strip(), names)


def _is_of_one(token: str, names: Sequence[str]) -> bool:
    written = token.partition('"')[0]  # a token may hold the end of the name and what comes behind it
    return bool(written) and any(name == written or (written == token and name.startswith(token)) for name in names)


def question(prompt: Prompt) -> Prompt | None:
    """The question which function fits what was said last, under the instructions that there are; None where it cannot
    be put in a few words.
    """
    messages = _messages(prompt.items)
    functions = prompt.callable_functions
    latest = next((item for item in reversed(prompt.items) if _speaker(item) == "user"), None)
    if latest is None or not _is_words(latest) or messages[-1][0] != "user" or len(functions) >= len(_LETTERS):
        return None
    options = [_describe(function.name, function.description or "") for function in functions]
    lines = [f"{letter}. {option}" for letter, option in zip(_LETTERS, [*options, _NOTHING], strict=False)]
    text = "\n".join((*_quote(messages), *lines, "Answer with one letter."))
    item: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    instructions = [item for item in prompt.items if is_system(item)]
    return msgspec.structs.replace(prompt, items=(*instructions, item), functions=())


def log_odds_of_need(first: Text, functions: int) -> float:
    """How likely the answer to the question is one of so many functions, and not that none is needed."""
    letters = _LETTERS[: functions + 1]
    answered = _odds(first, lambda token: token in tuple(letters))
    return _log_odds(1 - _odds(first, lambda token: token == letters[-1]) / answered) if answered else 0.0


def _latest_outcome(items: Sequence[Json]) -> Outcome | None:
    """What the latest call said that was made since the user last spoke; None where there is none."""
    for item in reversed(items):
        if item.get("type") == "function_call_output":
            return outcome_of("\n".join(content_texts(item.get("output"))))
        if _speaker(item) == "user":
            return None
    return None


def _messages(items: Sequence[Json]) -> list[tuple[str, str]]:
    """Role and text of the last messages, oldest first."""
    found: list[tuple[str, str]] = []
    for item in reversed(items):
        role, text = _speaker(item), "\n".join(content_texts(item.get("content"))).strip()
        if role is not None and text:
            found.append((role, text[-_MESSAGE_CHARS:]))
        if len(found) == _MESSAGES:
            break
    return found[::-1]


def _is_words(item: Json) -> bool:
    """Whether a message is text, and nothing else."""
    content: Any = item.get("content")
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    is_plain = all(isinstance(part, dict) and "text" in part for part in parts)
    return is_plain and any(text.strip() for text in content_texts(content))


def _speaker(item: Json) -> str | None:
    role = item.get("role", "user") if item.get("type", "message") == "message" else None
    return role if role in ("user", "assistant") else None


def _quote(messages: Sequence[tuple[str, str]]) -> Sequence[str]:
    if len(messages) == 1:
        return ("A user wrote:", f'"""{messages[0][1]}"""', "What is needed to answer?")
    return (
        "A talk:",
        '"""',
        *(f"{role}: {text}" for role, text in messages),
        '"""',
        "What is needed to answer the last?",
    )


def _describe(name: str, description: str) -> str:
    """What a function does, in one sentence."""
    first = description.strip().split("\n", 1)[0].split(". ", 1)[0].rstrip(".")
    return first[:_DESCRIPTION_CHARS] or name.replace("_", " ")


def _odds(first: Text, counts: Callable[[str], bool]) -> float:
    """How likely a first token was that ``counts``, without blanks in front."""
    if not first.logprobs:
        return 0.0
    likeliest = cast("list[Json]", first.logprobs[0].get("top_logprobs") or [])
    return sum(_probability(one) for one in likeliest if counts(str(one.get("token", "")).strip()))


def _probability(entry: Json) -> float:
    value: Any = entry.get("logprob")
    return math.exp(float(value or 0.0))


def _log_odds(probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return -_UTMOST if probability <= 0 else _UTMOST
    return max(-_UTMOST, min(_UTMOST, math.log(probability / (1 - probability))))
