"""Webhooks as a store keeps them: what is still to be delivered, and a record of every attempt.

A delivery is written in the transaction that ends its response (``RunStore.finish``), one for each endpoint, so that
none is forgotten whenever the process ends. It outlives its response: it holds ids and times, nothing of what was said.
"""

from __future__ import annotations

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
    """Where deliveries outlive the process.

    Needs a single process: ``read_waiting`` takes nothing out, so that two dispatchers would both deliver. A store of
    several nodes has to lease what it gives out; ``record_attempt`` tells two attempts of one number apart already.
    """

    async def read_waiting(self, endpoint: str, limit: int) -> list[Delivery]:
        """The first ``limit`` deliveries that wait for that endpoint; those that are due first come first."""
        ...

    async def record_attempt(self, id: Id, attempt: Attempt, status: DeliveryStatus, due_at: int | None) -> None:
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

    async def read_recent(self, limit: int) -> list[tuple[Delivery, Sequence[Attempt]]]:
        """The ``limit`` newest deliveries, each with its attempts in order; the newest come first."""
        ...

    async def count_waiting(self) -> int:
        """How many wait."""
        ...
