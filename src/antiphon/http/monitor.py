"""What looks after all open requests and streams of a server."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

FLUSH_AFTER_S = 0.5
"""How long a frame may wait to be sent with later ones."""


class Watched(Protocol):
    """A request whose client may leave."""

    def watch(self) -> None:
        """Look whether it has left."""
        ...


class Stream(Protocol):
    """A log whose reader is shown in time what there is."""

    async def check(self, now: float) -> None:
        """Flush frames that have waited too long. ``now`` is the event loop's time, in seconds."""
        ...


class ConnectionMonitor:
    """Looks after all open requests and streams, four times a second: a slow first token does not hold back early
    frames, and a client that disconnected is noticed. A request shorter than that costs next to nothing.
    """

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self.exchanges: set[Watched] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self.now = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_AFTER_S / 2)
            for exchange in self.exchanges:
                exchange.watch()
            for stream in list(self.streams):
                # A slow reader would hold up the others: each stream is written by a task of its own.
                task = asyncio.ensure_future(stream.check(self.now()))
                self._checks.add(task)
                task.add_done_callback(self._forget)

    def _forget(self, check: asyncio.Task[None]) -> None:
        self._checks.discard(check)
        with suppress(asyncio.CancelledError):
            check.exception()
