"""Looking after what is stored: figures, usage, and deleting for ever."""

from __future__ import annotations

from antiphon.access.keyring import Keyring
from antiphon.background.queue import Background
from antiphon.retention.purge import purge_step
from antiphon.store import Purge, Purged, Store, StoreStats
from antiphon.store.availability import ask_store
from antiphon.store.keys import Charge, ChargeQuery, Key, Spent


class Maintenance:
    """What operators ask for, and what each project may know of itself."""

    def __init__(self, store: Store, keyring: Keyring, background: Background) -> None:
        self._store = store
        self._keyring = keyring
        self._background = background

    async def stats(self) -> StoreStats:
        """How large and how busy the store is."""
        return await ask_store(self._store.read_stats())

    async def purge(self, purge: Purge) -> Purged:
        """Delete some of what is meant, of all projects; see ``purge_step``."""
        step = await ask_store(purge_step(self._store, purge))
        if step.responses:
            await self._background.recheck()
        return step

    async def usage(self, project: str, first_day: str, last_day: str) -> list[tuple[Spent, Key | None]]:
        """What the project's keys used per UTC day, both days included; the newest first. None: without a key."""
        return await ask_store(self._keyring.usage(project, first_day, last_day))

    async def charges(self, query: ChargeQuery, limit: int) -> list[tuple[Charge, Key | None]]:
        """What single responses used and cost; see ``Keyring.charges``."""
        return await ask_store(self._keyring.charges(query, limit))

    async def usage_of_models(self, query: ChargeQuery) -> list[tuple[str, Spent, Key | None]]:
        """What was used of which model; see ``Keyring.usage_of_models``."""
        return await ask_store(self._keyring.usage_of_models(query))
