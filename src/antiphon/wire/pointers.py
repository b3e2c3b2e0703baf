"""JSON pointers, as references in schemas have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from antiphon.wire import Json


def steps_of(pointer: str) -> tuple[str, ...]:
    """The names and numbers on the way that a pointer such as ``/$defs/person`` describes.

    Source: RFC 6901, in its form for the fragment of a URI.
    """
    if "%" in pointer:
        from urllib.parse import unquote  # rarely needed

        pointer = unquote(pointer)
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def look_up(root: Any, steps: Sequence[str]) -> Any:
    """What stands there in a decoded JSON value; None where there is nothing."""
    node = root
    for step in steps:
        if isinstance(node, dict):
            node = cast(Json, node).get(step)
        elif isinstance(node, list) and step.isdecimal() and len(step) < 7:
            node = next(iter(cast("list[Any]", node)[int(step) : int(step) + 1]), None)
        else:
            return None
    return node
