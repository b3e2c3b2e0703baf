"""What the output of a call says of the call: whether it succeeded, failed, or is not over. Pure.

Outputs are texts of whoever ran the function, so this is a guess by what is usual: a word in front, or a member of a
JSON object.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

Outcome: TypeAlias = Literal["done", "failed", "unfinished"]

_FAILED: Final = re.compile(
    r"\W*(?:error|exception|failed|failure|fatal|traceback|invalid|denied|permission denied|unauthorized|forbidden"
    r"|not found|no such|cannot|could not|unable to|timed? ?out|unknown)\b",
    re.IGNORECASE,
)
_UNFINISHED: Final = re.compile(
    r"\b(?:pending|queued|running|in[_ -]?progress|processing|working|starting|started|building|waiting|scheduled"
    r"|not (?:yet|ready|done|finished|complete)|unfinished|incomplete|still|try again|retry|\d\d?(?:\.\d+)? ?%)",
    re.IGNORECASE,
)
_STATE_KEYS: Final = ("status", "state", "phase", "result", "message")
_LOOKED_AT: Final = 200
"""How many characters of a text may say so: in a longer one, such words are of what was asked for."""


def outcome_of(output: str) -> Outcome:
    """What a call's output says of it."""
    value = _decode(output)
    if isinstance(value, dict):
        return _outcome_of_object(cast("dict[str, Any]", value))
    return _outcome_of_words(value if isinstance(value, str) else output)


def _outcome_of_object(value: dict[str, Any]) -> Outcome:
    if value.get("error") or value.get("errors") or value.get("isError") is True:
        return "failed"
    if any(value.get(name) is False for name in ("ok", "success", "succeeded")):
        return "failed"
    if any(value.get(name) is False for name in ("done", "ready", "finished", "complete", "completed")):
        return "unfinished"
    for state in (value.get(name) for name in _STATE_KEYS):
        if isinstance(state, str) and (found := _outcome_of_words(state)) != "done":
            return found
    return "done"


def _outcome_of_words(text: str) -> Outcome:
    text = text.strip()
    if _FAILED.match(text):
        return "failed"
    return "unfinished" if len(text) <= _LOOKED_AT and _UNFINISHED.search(text) else "done"


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
