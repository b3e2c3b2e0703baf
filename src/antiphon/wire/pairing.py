"""Which output answers which call."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.wire import Json
from antiphon.wire.kinds import KINDS, call_id_of, is_call, is_output


def pair_calls(items: Sequence[Json]) -> dict[int, int]:
    """Where each output's call stands, by the output's own place: the latest call of its id that has no output yet.

    Ids alone do not tell: there are model servers that number their calls anew in every answer.
    """
    open_calls: dict[str | None, list[int]] = {}
    found: dict[int, int] = {}
    for i, item in enumerate(items):
        if item.get("type") not in KINDS:
            continue
        if is_call(item):
            open_calls.setdefault(call_id_of(item), []).append(i)
        elif is_output(item) and (waiting := open_calls.get(call_id_of(item))):
            found[i] = waiting.pop()
    return found
