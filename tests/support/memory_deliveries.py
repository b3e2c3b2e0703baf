"""Deliveries in dictionaries, for tests that make them without a response."""

import heapq
from collections.abc import Sequence

import msgspec

from antiphon.store.deliveries import NO_ENDPOINT, TOO_OLD, Attempt, Delivery, DeliveryStatus
from antiphon.wire import Id


class MemoryDeliveries:
    """A ``DeliveryStore``; ``add`` stands for the ends of responses."""

    def __init__(self) -> None:
        self._kept: dict[Id, Delivery] = {}
        self._attempts: dict[Id, list[Attempt]] = {}

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Keep new ones."""
        self._kept |= {delivery.id: delivery for delivery in deliveries}

    async def read_waiting(self, endpoint: str, limit: int) -> list[Delivery]:
        """See ``DeliveryStore.read_waiting``."""
        found = [each for each in self._kept.values() if each.due_at is not None and each.endpoint == endpoint]
        return heapq.nsmallest(limit, found, key=lambda each: each.due_at or 0)

    async def record_attempt(self, id: Id, attempt: Attempt, status: DeliveryStatus, due_at: int | None) -> None:
        """See ``DeliveryStore.record_attempt``."""
        kept = self._kept.get(id)
        if kept is None or kept.due_at is None or kept.attempts != attempt.number - 1:
            return
        self._attempts.setdefault(id, []).append(attempt)
        settled_at = attempt.at if due_at is None else None
        self._kept[id] = msgspec.structs.replace(
            kept, status=status, due_at=due_at, attempts=attempt.number, outcome=attempt.outcome, settled_at=settled_at
        )

    async def give_up(self, endpoints: Sequence[str], *, before: int, at: int, limit: int) -> int:
        """See ``DeliveryStore.give_up``."""
        lost = [
            each
            for each in self._kept.values()
            if each.due_at is not None and (each.created_at < before or each.endpoint not in endpoints)
        ][:limit]
        for each in lost:
            why = TOO_OLD if each.created_at < before else NO_ENDPOINT
            self._kept[each.id] = msgspec.structs.replace(
                each, status="given_up", due_at=None, outcome=why, settled_at=at
            )
        return len(lost)

    async def forget(self, before: int, limit: int) -> int:
        """See ``DeliveryStore.forget``."""
        old = [each.id for each in self._kept.values() if each.settled_at is not None and each.settled_at < before]
        for id in old[:limit]:
            del self._kept[id]
            self._attempts.pop(id, None)
        return len(old[:limit])

    async def read_recent(self, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
        """See ``DeliveryStore.read_recent``."""
        newest = heapq.nlargest(limit, self._kept.values(), key=lambda each: (each.created_at, each.id))
        return [(each, tuple(self._attempts.get(each.id, ()))) for each in newest]

    async def count_waiting(self) -> int:
        """See ``DeliveryStore.count_waiting``."""
        return sum(each.due_at is not None for each in self._kept.values())
