"""What is over goes: responses past their time, and the oldest where there is no room. In small steps, so that
nobody's commit waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from antiphon.store import ResponseStore, Selection, StoreUnavailable

log = logging.getLogger("antiphon.sweeper")

INTERVAL_S = 10.0
STEP_RESPONSES = 32
"""How many go in one transaction: those that wait behind it shall not notice."""
KEEP_FREE_BYTES = 16 * 1024 * 1024
"""Free space that a database keeps, since it will be needed again."""

_DAY_S = 86_400


class Sweeper:
    """Keeps one store within its bounds.

    Args:
        retention_days: how long a response is kept; 0 for ever.
        bytes_max: how many bytes a store's content may take; 0 without end. Between two looks it may take more.
        clock: Unix seconds.
    """

    def __init__(
        self, store: ResponseStore, *, retention_days: float, bytes_max: int, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._retention_s = retention_days * _DAY_S
        self._bytes_max = bytes_max
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("nothing was swept: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> int:
        """Sweep once; says how many responses went.

        Raises:
            StoreUnavailable: the store cannot be written; what went before is gone.
        """
        swept = await self._past_their_time() + await self._for_want_of_room()
        if swept:
            log.info("swept", extra={"fields": {"responses": swept}})
        while await self._store.shrink(KEEP_FREE_BYTES):
            pass
        return swept

    async def _past_their_time(self) -> int:
        if not self._retention_s:
            return 0
        selection = Selection(before=int(self._clock() - self._retention_s))
        swept = 0
        while step := await self._store.purge(selection, STEP_RESPONSES):
            swept += step
        return swept

    async def _for_want_of_room(self) -> int:
        swept = 0
        while self._bytes_max and (await self._store.figures()).used_bytes > self._bytes_max:
            step = await self._store.purge(Selection(), STEP_RESPONSES)
            if not step:
                break
            swept += step
        return swept
