"""Where a response's events go. The turn loop does not know which log it writes to.

``append`` takes an event in order and returns at once; ``flush`` lets its readers see what was appended, and waits when
they are slow. Which promise stands behind ``flush`` is the log's own: a log that can be resumed commits first.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from antiphon.wire import Json

encode = msgspec.json.Encoder().encode
"""An event's bytes, the same for every reader and at every replay."""


class Log(Protocol):
    """The sink of one response's events."""

    def append(self, event: Json) -> None:
        """Take the next event. Never waits, never fails."""
        ...

    async def flush(self) -> None:
        """Show what was appended; waits while readers are behind."""
        ...


class Unread:
    """The log of a response that nobody streams: it keeps nothing, for the fold holds the answer."""

    def append(self, event: Json) -> None:
        """Nothing to do."""

    async def flush(self) -> None:
        """Nothing to do."""
