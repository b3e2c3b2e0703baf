"""Webhooks as a store keeps them: what is still to be delivered, and a record of every attempt.

A delivery is written in the transaction that ends its response (``RunStore.finish``), one for each endpoint, so that
none is forgotten whenever the process ends. It outlives its response: it holds ids and times, nothing of what was said.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from antiphon.wire import Id

DeliveryStatus: TypeAlias = Literal["waiting", "delivered", "given_up"]

NO_ENDPOINT = "no endpoint"
"""Why a delivery was given up: its endpoint is not configured any more."""
TOO_OLD = "too old"
"""Why a delivery was given up: its time was over."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one endpoint.

    Attributes:
        id: ``wh_…``, the same in every attempt.
        endpoint: the URL that it goes to.
        event_id: ``evt_…``, the same for all endpoints.
        type: such as ``response.completed``.
        created_at: when the response ended, in Unix seconds.
        due_at: when the next attempt is, in Unix seconds; None once there is none.
        settled_at: when it was delivered or given up, in Unix seconds.
        attempts: how many there were.
        outcome: of the last attempt, or why the delivery was given up without one; empty at first.
    """

    id: Id
    endpoint: str
    event_id: Id
    type: str
    response_id: Id
    created_at: int
    due_at: int | None
    status: DeliveryStatus = "waiting"
    attempts: int = 0
    outcome: str = ""
    settled_at: int | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a delivery.

    Attributes:
        number: from 1.
        at: when it began, in Unix seconds.
        outcome: the status that came back, as text, or the kind of the error.
    """

    number: int
    at: int
    outcome: str


class DeliveryStore(Protocol):
    """Where deliveries outlive the process. Promises of durability and failure are those of ``ResponseStore``.

    Deliveries are made by one process: the one that owns the store.
    """

    async def waiting(self, endpoint: str, limit: int) -> list[Delivery]:
        """The first ``limit`` deliveries that wait for that endpoint; those that are due first come first."""
        ...

    async def attempted(self, id: Id, attempt: Attempt, status: DeliveryStatus, due_at: int | None) -> None:
        """Record an attempt and what becomes of the delivery; ``due_at`` is None unless it waits. Nothing when it does
        not wait, or this attempt was recorded already.
        """
        ...

    async def give_up(self, endpoints: Sequence[str], *, before: int, at: int, limit: int) -> int:
        """Give up ``limit`` deliveries at most that wait for none of the endpoints, or whose response ended before that
        time; says how many. ``at`` is now, in Unix seconds.
        """
        ...

    async def forget(self, before: int, limit: int) -> int:
        """Remove up to ``limit`` deliveries that were settled before that time, with their attempts; says how many."""
        ...

    async def recent(self, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
        """The ``limit`` newest deliveries, each with its attempts in order; the newest come first."""
        ...

    async def count(self) -> int:
        """How many wait."""
        ...


class MemoryDeliveries:
    """Deliveries that last as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[Id, Delivery] = {}
        self._attempts: dict[Id, list[Attempt]] = {}

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Keep new ones."""
        self._kept |= {delivery.id: delivery for delivery in deliveries}

    async def waiting(self, endpoint: str, limit: int) -> list[Delivery]:
        """See ``DeliveryStore.waiting``."""
        found = [each for each in self._kept.values() if each.due_at is not None and each.endpoint == endpoint]
        return heapq.nsmallest(limit, found, key=lambda each: each.due_at or 0)

    async def attempted(self, id: Id, attempt: Attempt, status: DeliveryStatus, due_at: int | None) -> None:
        """See ``DeliveryStore.attempted``."""
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

    async def recent(self, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
        """See ``DeliveryStore.recent``."""
        newest = heapq.nlargest(limit, self._kept.values(), key=lambda each: (each.created_at, each.id))
        return [(each, tuple(self._attempts.get(each.id, ()))) for each in newest]

    async def count(self) -> int:
        """See ``DeliveryStore.count``."""
        return sum(each.due_at is not None for each in self._kept.values())
