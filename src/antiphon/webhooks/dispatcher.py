"""Delivers webhooks: at least once, each endpoint by itself, every attempt recorded.

What is to be delivered is in the store, and stays there until it has been delivered or given up; a process that ends
in between leaves it to the next one. An endpoint may get the same event twice, with the same ``webhook-id``: when the
process ended before it had written down that it was delivered.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from antiphon.net.ssrf import Outbound
from antiphon.store import StoreUnavailable
from antiphon.store.deliveries import Attempt, Delivery, DeliveryStatus, DeliveryStore
from antiphon.telemetry.meter import Meter
from antiphon.webhooks import outbox as webhooks
from antiphon.webhooks.outbox import Endpoint, Outbox
from antiphon.wire import Id

log = logging.getLogger("antiphon.webhooks.dispatcher")

ATTEMPT_S = 15.0
"""How long an attempt may take."""
FIRST_PAUSE_S, PAUSE_GROWTH, PAUSE_MAX_S = 5.0, 3.0, 6 * 3600.0
"""How long after a failed attempt the next one comes: three times as long each time, up to six hours."""
JITTER = 0.25
"""By what share a pause is longer or shorter, so that not all come at once to an endpoint that is back."""
ATTEMPTS_MAX = 20
"""With these pauses, the last attempt is about three days after the first."""
AGE_MAX_S = 7 * 86_400
"""What is older than that is given up, however often it has been tried: an endpoint may be too slow for all that
waits for it.
"""
IN_FLIGHT_MAX = 4
"""Attempts at the same time for one endpoint."""
LOOK_S = 1.0
"""How long at most until the store is asked again: a hint may be lost."""
STOP_S = 2.0
"""How long attempts that are under way may take when the process ends."""
CLEANUP_S = 600.0
STEP_DELIVERIES = 500
"""How many are given up in one transaction."""
GONE = 410

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int | str]]
"""Sends a body with headers to a URL; the status that came back, or the kind of the error."""


def pause_s(attempts: int, chance: float) -> float:
    """How long to wait after so many failed attempts, in seconds; ``chance`` from 0 to 1."""
    pause = min(FIRST_PAUSE_S * PAUSE_GROWTH ** (attempts - 1), PAUSE_MAX_S)
    return pause * (1 + JITTER * (2 * chance - 1))


class WebhookDispatcher:
    """Delivers what is in one store. Belongs to one event loop.

    Args:
        clock: Unix seconds; ``chance`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        store: DeliveryStore,
        outbox: Outbox,
        meter: Meter,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._meter = meter
        self._clock = clock
        self._chance = chance

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Deliver as long as this lasts; what is not delivered at the end waits for the next time."""
        async with AsyncExitStack() as stack:
            lanes = [await self._lane(endpoint, stack) for endpoint in self._outbox.endpoints]
            tasks = [
                asyncio.create_task(self._give_up_regularly()),
                *(asyncio.create_task(lane.work()) for lane in lanes),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(*(lane.end() for lane in lanes))

    async def _lane(self, endpoint: Endpoint, stack: AsyncExitStack) -> Lane:
        outbound = Outbound(private=endpoint.private, timeout_s=ATTEMPT_S, connections_max=IN_FLIGHT_MAX)
        post = (await stack.enter_async_context(outbound)).post
        wakeup = self._outbox.wakeup(endpoint)
        return Lane(self._store, endpoint, wakeup, post, self._meter, clock=self._clock, chance=self._chance)

    async def _give_up_regularly(self) -> None:
        """Give up what nobody will ever deliver."""
        while True:
            try:
                await self.give_up()
            except StoreUnavailable as error:
                log.warning("webhook cleanup failed: %s", error)
            await asyncio.sleep(CLEANUP_S)

    async def give_up(self) -> None:
        """Give up what waits for an endpoint that is not configured any more, and what is too old.

        Raises:
            StoreUnavailable: the store cannot be written.
        """
        urls = [endpoint.url for endpoint in self._outbox.endpoints]
        now = int(self._clock())
        lost = 0
        while step := await self._store.give_up(urls, before=now - AGE_MAX_S, at=now, limit=STEP_DELIVERIES):
            lost += step
        if lost:
            self._meter.webhooks_given_up.add(lost)
            log.warning("%d webhooks were given up: their endpoint was removed, or they are too old", lost)


class Lane:
    """Delivers to one endpoint, so that another one that does not answer holds up nothing here.

    Args:
        hint: set when there may be something to deliver.
    """

    def __init__(
        self,
        store: DeliveryStore,
        endpoint: Endpoint,
        wakeup: asyncio.Event,
        post: Post,
        meter: Meter,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._store = store
        self._endpoint = endpoint
        self._hint = wakeup
        self._post = post
        self._meter = meter
        self._clock = clock
        self._chance = chance
        self._busy: dict[Id, asyncio.Task[None]] = {}

    async def work(self) -> None:
        """Deliver until cancelled; whatever happens, this goes on."""
        while True:
            self._hint.clear()
            try:
                wait_s = await self._begin_due()
            except StoreUnavailable as error:
                log.warning("webhook delivery failed: %s", error)
                wait_s = LOOK_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hint.wait()

    async def _begin_due(self) -> float:
        """Begin what is due and there is room for; says how long there is nothing more to do, in seconds."""
        room = IN_FLIGHT_MAX - len(self._busy)
        # Those that are under way are among the first.
        found = await self._store.read_waiting(self._endpoint.url, 2 * IN_FLIGHT_MAX) if room else []
        now = self._clock()
        for delivery in [each for each in found if each.id not in self._busy][:room]:
            until = (delivery.due_at or 0) - now
            if until > 0:
                return min(until, LOOK_S)
            self._begin(delivery)
        return LOOK_S

    def _begin(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._attempt(delivery))
        self._busy[delivery.id] = task
        task.add_done_callback(lambda _: self._forget(delivery.id))

    def _forget(self, id: Id) -> None:
        del self._busy[id]
        self._hint.set()

    async def end(self) -> None:
        """Wait a moment for what is under way, then leave it to the next time."""
        tasks = list(self._busy.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(self, delivery: Delivery) -> None:
        now = int(self._clock())
        body = webhooks.body(delivery)
        headers = webhooks.headers(delivery.id, body, self._endpoint.keys, now)
        try:
            outcome = await self._post(self._endpoint.url, headers, body)
        except Exception:
            log.exception("webhook attempt failed delivery_id=%s", delivery.id)
            outcome = "fault"
        attempt = Attempt(number=delivery.attempts + 1, at=now, outcome=str(outcome))
        status = _status(outcome, attempt.number)
        await self._record(delivery, attempt, status)
        self._meter.webhook_attempts.add(1, "delivered" if status == "delivered" else "failed")
        if status == "given_up":
            self._meter.webhooks_given_up.add(1)
            log.warning(
                "webhook given up delivery_id=%s run_id=%s outcome=%s",
                delivery.id,
                delivery.response_id,
                attempt.outcome,
            )

    async def _record(self, delivery: Delivery, attempt: Attempt, status: DeliveryStatus) -> None:
        """Write it down, however long the store refuses: before that, the endpoint would be told again and again."""
        due_at = None
        if status == "waiting":
            due_at = math.ceil(self._clock() + pause_s(attempt.number, self._chance()))
        while True:
            try:
                return await self._store.record_attempt(delivery.id, attempt, status, due_at)
            except StoreUnavailable as error:
                log.warning("webhook attempt not recorded delivery_id=%s: %s", delivery.id, error)
                await asyncio.sleep(LOOK_S)


def _status(outcome: int | str, attempts: int) -> DeliveryStatus:
    """What becomes of a delivery. 410 says that nobody is there any more and never will be."""
    if isinstance(outcome, int) and 200 <= outcome < 300:
        return "delivered"
    return "given_up" if outcome == GONE or attempts >= ATTEMPTS_MAX else "waiting"
