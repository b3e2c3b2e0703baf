"""What ``antiphon purge`` does, a step at a time: by itself, or in the server that owns the folder."""

from __future__ import annotations

from antiphon.store import Purge, Purged, Store

STEP = 128
"""How many responses go in one transaction, or conversations one after the other. To find them, all that is kept may
have to be gone through.
"""


async def purge_step(store: Store, purge: Purge) -> Purged:
    """Delete some of what is meant; to be called until nothing went. Then the room has been given back, and nothing of
    it is left in the store's files, unless ``scrubbed`` says otherwise.

    Raises:
        antiphon.store.StoreUnavailable: what went before is gone.
    """
    if deleted := await store.retention.purge(purge.selection, STEP):
        return Purged(responses=deleted)
    if purge.conversations and (deleted := await _conversations(store, purge.selection.before)):
        return Purged(conversations=deleted)
    while await store.retention.shrink(0):
        pass
    return Purged(scrubbed=await store.retention.scrub())


async def _conversations(store: Store, before: int | None) -> int:
    """Also those that a response is being made in: it fails, for there is nothing to add to."""
    idle = [each for each in await store.retention.find_idle(STEP) if before is None or each.used_at < before]
    return sum([await store.conversations.delete(each.project, each.id) for each in idle])


async def purge_whole(store: Store, purge: Purge) -> Purged:
    """Take step after step until nothing is left of it."""
    whole = Purged()
    while (step := await purge_step(store, purge)).any:
        whole += step
    return whole + step
