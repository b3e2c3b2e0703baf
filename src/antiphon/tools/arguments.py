"""The arguments of a call, read into the shape that a tool needs, or the reason why they cannot be."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from antiphon.tools import CallInvalid, ToolCall

T = TypeVar("T")


def read_arguments(call: ToolCall, shape: type[T]) -> T:
    """The arguments as ``shape``; members that it does not have are passed over, as models like to add some.

    Raises:
        CallInvalid: they are not JSON, or do not fit.
    """
    try:
        return msgspec.json.decode(call.arguments or "{}", type=shape, strict=False)
    except msgspec.ValidationError as error:
        raise CallInvalid(f"Error: invalid arguments for {call.name}: {_plain(error)}.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallInvalid(f"Error: the arguments of {call.name} must be a JSON object ({error}).") from error


def _plain(error: Exception) -> str:
    """msgspec's words, with the path as models know it: ``a.b`` for ``$.a.b``."""
    return re.sub(r"`\$\.?([^`]*)`", r"`\1`", str(error)).replace(" - at ``", "")
