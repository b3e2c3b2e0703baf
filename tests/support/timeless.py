"""An event loop on which time passes only while everybody waits: hours go by in no time, and always in the same way.

It is for what waits for nothing but its own loop: no sockets, no threads.
"""

from __future__ import annotations

import asyncio
import selectors


class NothingHappens(Exception):
    """Everybody waits, and for nothing that will ever come."""


class TimelessLoop(asyncio.SelectorEventLoop):
    """``asyncio.Runner(loop_factory=TimelessLoop)``.

    Attributes:
        passed_s: seconds since the loop was made.
    """

    def __init__(self) -> None:
        self.passed_s = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        """See ``passed_s``."""
        return self.passed_s


class _Skipping(selectors.SelectSelector):
    """Does not wait: it lets the time pass."""

    def __init__(self, loop: TimelessLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, now or never.

        Raises:
            NothingHappens: no timer is set.
        """
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise NothingHappens
            self._loop.passed_s += max(timeout, 0.0)
        return ready
