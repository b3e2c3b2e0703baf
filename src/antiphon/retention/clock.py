"""Whether the machine's clock can be believed: what is deleted by its age does not come back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger("antiphon.retention")

_DAY_S = 86_400

JUMP_S = _DAY_S
"""A clock that goes this much faster or slower than time is wrong, or was."""

JUMP_HELD_S = _DAY_S
"""How long nothing is deleted by its age behind such a jump, unless the clock comes back."""


class ClockWatch:
    """Looks whether a clock goes as time does.

    Args:
        clock: Unix seconds.
        ticks: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float], ticks: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticks = ticks
        self._offset = clock() - ticks()
        self._jumped_at: float | None = None

    def is_trusted(self) -> bool:
        """Whether the clock has gone as time has; after a jump, once it has stood long enough to be noticed."""
        offset, now = self._clock() - self._ticks(), self._ticks()
        if abs(offset - self._offset) <= JUMP_S:
            self._offset, self._jumped_at = offset, None
            return True
        if self._jumped_at is None:
            self._jumped_at = now
            days = (offset - self._offset) / _DAY_S
            log.warning("the clock jumped by %.1f days: deletion by age is paused for a day", days)
        if now - self._jumped_at < JUMP_HELD_S:
            return False
        self._offset, self._jumped_at = offset, None
        return True
