"""Where things that were deleted stood in their lists: whoever deletes what a page shows, and then asks for the page
behind it, is shown the next page.

Kept in the memory of the one process that owns the database, and bounded: it is asked for moments later, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from antiphon.wire import Id

PLACES_MAX: Final = 16_384
"""How many are kept; the oldest goes first."""


class Places:
    """Written by the thread that deletes alone, read by all. A delete that is rolled back leaves a place that nobody
    asks for, since what is there is looked for first.

    Args:
        places_max: how many are kept.
    """

    def __init__(self, places_max: int = PLACES_MAX) -> None:
        self._max = places_max
        self._places: dict[tuple[str, str, Id], Sequence[Any]] = {}

    def keep(self, kind: str, whose: str, id: Id, place: Sequence[Any]) -> None:
        """``place``: the values that the list of ``kind`` and ``whose`` (a project, or what holds the list) is
        ordered by.
        """
        self._places.pop((kind, whose, id), None)
        self._places[kind, whose, id] = place
        if len(self._places) > self._max:
            del self._places[next(iter(self._places))]

    def find(self, kind: str, whose: str, id: Id | None) -> Sequence[Any] | None:
        """The place; None where nothing is known of such a thing."""
        return None if id is None else self._places.get((kind, whose, id))
