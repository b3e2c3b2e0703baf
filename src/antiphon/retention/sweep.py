"""What is over goes: responses past their time, and where there is no room, what has been there for longest. In small
steps, so that nobody's commit waits for it.

Conversations have no time, as in the official API; but a bound that they do not count for is none. Where there is no
room they go with the responses, by age: a response since it was made, a conversation since it was last used. One that
is being written to stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from antiphon.retention.clock import ClockWatch
from antiphon.store import Conversation, ConversationLocked, Selection, Store, StoreUnavailable

log = logging.getLogger("antiphon.retention.sweep")

INTERVAL_S = 10.0
STEP_RESPONSES = 32
"""How many go in one transaction: those that wait behind it shall not notice."""
KEEP_FREE_BYTES = 16 * 1024 * 1024
"""Free space that a database keeps, since it will be needed again."""

SAME_AGE_S = 60
"""What is this close in age is as old: one kind after the other then goes in few steps."""

DELIVERIES_KEPT_S = 7 * 86_400
"""How long it can be seen what became of a webhook."""

IDLE_CONVERSATIONS = 256
"""How many conversations are looked for at once: all of them are gone through to find those."""

_DAY_S = 86_400


class Swept(NamedTuple):
    """How many went."""

    responses: int
    conversations: int


class Sweeper:
    """Keeps one store within its bounds.

    Args:
        retention_days: how long a response is kept; 0 for ever.
        bytes_max: how many bytes a store's content may take; 0 without end. Between two looks it may take more.
        clock: Unix seconds.
        ticks: seconds that never jump.
    """

    def __init__(
        self,
        store: Store,
        *,
        retention_days: float,
        bytes_max: int,
        clock: Callable[[], float],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._retention_s = retention_days * _DAY_S
        self._bytes_max = bytes_max
        self._clock = clock
        self._watch = ClockWatch(clock, ticks)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("retention sweep failed: %s", error)
            await asyncio.sleep(INTERVAL_S)

    async def sweep(self) -> Swept:
        """Sweep once; says what went.

        Raises:
            StoreUnavailable: the store cannot be written; what went before is gone.
        """
        past = 0
        if self._watch.is_trusted():
            past = await self._purge_expired()
            await self._forget_deliveries()
            await self._forget_charges()
        room = await self._purge_for_room()
        swept = Swept(past + room.responses, room.conversations)
        if any(swept):
            log.info("retention sweep", extra={"fields": swept._asdict()})
        while await self._store.retention.shrink(KEEP_FREE_BYTES):
            pass
        return swept

    async def _purge_expired(self) -> int:
        now = self._clock()
        swept = await self._purge_all(Selection(expired=int(now), ended=True))
        if self._retention_s:
            swept += await self._purge_all(Selection(before=int(now - self._retention_s), ended=True))
        return swept

    async def _forget_deliveries(self) -> None:
        while await self._store.deliveries.forget(int(self._clock()) - DELIVERIES_KEPT_S, STEP_RESPONSES):
            pass

    async def _forget_charges(self) -> None:
        """What a response used is known as long as it would be kept itself."""
        before = int(self._clock() - self._retention_s)
        while self._retention_s and await self._store.usage.forget_charges(before, STEP_RESPONSES):
            pass

    async def _purge_all(self, selection: Selection) -> int:
        swept = 0
        while step := await self._store.retention.purge(selection, STEP_RESPONSES):
            swept += step
        return swept

    async def _purge_for_room(self) -> Swept:
        responses = conversations = 0
        idle = _Idle(self._store)
        while self._bytes_max and (await self._store.read_stats()).used_bytes > self._bytes_max:
            next = await idle.next()
            # Responses that are as old go first: those of a conversation are never younger than its last use.
            older = Selection(before=next and next.used_at + SAME_AGE_S, ended=True)
            step = await self._store.retention.purge(older, STEP_RESPONSES)
            responses += step
            if not step:
                if next is None:
                    break
                conversations += await idle.remove()
        return Swept(responses, conversations)


class _Idle:
    """The conversations that have not been used for longest, one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found: deque[Conversation] = deque()
        self._spared: set[str] = set()

    async def next(self) -> Conversation | None:
        """The next one; None when there is none that could go."""
        if not self._found:
            found = await self._store.retention.find_idle(IDLE_CONVERSATIONS + len(self._spared))
            self._found.extend(each for each in found if each.id not in self._spared)
        return self._found[0] if self._found else None

    async def remove(self) -> bool:
        """Delete it, unless somebody writes to it, or has done so meanwhile: then it is not found again."""
        conversation = self._found.popleft()
        project, id = conversation.project, conversation.id
        try:
            lock = await self._store.conversations.lock(project, id)
        except ConversationLocked:
            self._spared.add(id)
            return False
        try:
            now = await self._store.conversations.get(project, id)
            if now is not None and now.used_at == conversation.used_at:
                return await self._store.conversations.delete(project, id)
            self._spared.add(id)
            return False
        finally:
            await lock.release()
