"""Whether an answer is what its prompt asked for: a call where one is required, else the ``text.format``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from antiphon.models import Prompt, TextFormat
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.schema import violation

_ANY_OBJECT: Final[Json] = {"type": "object"}


def is_bound(prompt: Prompt) -> bool:
    """Whether not every answer will do."""
    return prompt.format.type != "text" or prompt.tool_choice.mode == "required"


def check_answer(prompt: Prompt, items: Sequence[Json]) -> None:
    """See that an answer without a call is what was asked for.

    Args:
        items: the items of the sample.

    Raises:
        UpstreamError: ``invalid_tool_call``: a call was required and none came. ``invalid_output``: the answer is not
            JSON, or breaks the schema; a refusal is exempt.
    """
    if prompt.tool_choice.mode == "required":
        raise UpstreamError("The model did not call a function, although it had to.", code="invalid_tool_call")
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    if any(part["type"] == "refusal" for part in parts):
        return
    for text in [part["text"] for part in parts] or [""]:
        _check_text(prompt.format, text)


def fits_format(format: TextFormat, text: str) -> bool:
    """Whether a text keeps to ``text.format``."""
    try:
        _check_text(format, text)
    except UpstreamError:
        return False
    return True


def _check_text(format: TextFormat, text: str) -> None:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"it is not JSON ({error})") from error
    wrong = violation(format.schema or _ANY_OBJECT, value)
    if wrong is not None:
        raise _invalid(wrong)


def _invalid(why: str) -> UpstreamError:
    text = f"The model's answer does not keep to the format that was asked for: {why}."
    return UpstreamError(text, code="invalid_output")
