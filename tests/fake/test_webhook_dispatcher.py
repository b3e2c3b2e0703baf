"""Deliveries over real sockets: tried again until they are there, each endpoint by itself, nothing private."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
from memory_deliveries import MemoryDeliveries
from receiver import Receiver

from antiphon.net.ssrf import (
    BROKEN,
    NO_TLS,
    NOT_PUBLIC,
    REFUSED,
    TIMED_OUT,
    UNRESOLVED,
    Outbound,
)
from antiphon.store import StoreUnavailable
from antiphon.store.deliveries import Attempt, Delivery, DeliveryStatus
from antiphon.telemetry.meter import Meter
from antiphon.testing import CountingIds, FakeClock
from antiphon.testing.records import NOW, a_record
from antiphon.webhooks import dispatcher as dispatcher
from antiphon.webhooks.dispatcher import ATTEMPTS_MAX, Lane, WebhookDispatcher
from antiphon.webhooks.outbox import Endpoint, Outbox

KEY = b"0123456789abcdef"


class Deliveries(MemoryDeliveries):
    """Tells when an attempt has been recorded; refuses to, as often as told."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded = asyncio.Condition()
        self.refusals = 0

    async def record_attempt(self, id: str, attempt: Attempt, status: DeliveryStatus, due_at: int | None) -> None:
        async with self.recorded:
            if self.refusals:
                self.refusals -= 1
                self.recorded.notify_all()
                raise StoreUnavailable("The disk is full.")
            await super().record_attempt(id, attempt, status, due_at)
            self.recorded.notify_all()

    async def outcomes(self, many: int) -> list[list[str]]:
        """The outcomes of all attempts, the oldest delivery first, once there are so many."""
        async with self.recorded:
            while True:
                told = [[attempt.outcome for attempt in attempts] for _, attempts in await self.read_recent(99)][::-1]
                if sum(map(len, told)) >= many:
                    return told
                await self.recorded.wait()


class TurnContext:
    """A courier at work, and what it works with."""

    def __init__(self, endpoints: Sequence[Endpoint], deliveries: Deliveries) -> None:
        self.clock = FakeClock()
        self.deliveries = deliveries
        self.meter = Meter()
        self.outbox = Outbox(endpoints, CountingIds(), self.clock)
        self.dispatcher = WebhookDispatcher(deliveries, self.outbox, self.meter, clock=self.clock, chance=lambda: 0.5)

    def end(self, id: str) -> list[Delivery]:
        """A response ends."""
        told = self.outbox.deliveries(a_record(id))
        self.deliveries.add(told)
        self.outbox.wake(told)
        return told

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        for endpoint in self.outbox.endpoints:
            self.outbox.wakeup(endpoint).set()


@asynccontextmanager
async def at_work(*endpoints: Endpoint, deliveries: Deliveries | None = None) -> AsyncIterator[TurnContext]:
    turn = TurnContext(endpoints, deliveries or Deliveries())
    async with turn.dispatcher.working():
        yield turn


def to(url: str, private: bool = True) -> Endpoint:
    return Endpoint(url, (KEY,), private=private)


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


async def test_it_is_tried_again_until_it_is_there_under_the_same_id() -> None:
    async with (
        Receiver(500, 302, 404, headers={"location": "/elsewhere"}) as receiver,
        at_work(to(receiver.url)) as turn,
    ):
        (delivery,) = turn.end("resp_1")
        for number, pause in enumerate((5, 15, 45), 1):
            await turn.deliveries.outcomes(number)
            (waits,) = await turn.deliveries.read_waiting(receiver.url, 9)
            assert (waits.due_at, waits.attempts) == (int(turn.clock.now) + pause, number)
            turn.later(pause)
        assert await turn.deliveries.outcomes(4) == [["500", "302", "404", "200"]]
        requests = await receiver.got(4)
        assert turn.meter.webhook_attempts.get("failed") == 3
    assert {(each.path, each.headers["webhook-id"], each.body) for each in requests} == {
        ("/hook", delivery.id, requests[0].body)
    }
    times = [int(each.headers["webhook-timestamp"]) - NOW for each in requests]
    assert times == [0, 5, 20, 65], "a signature is as old as its attempt"
    assert len({each.headers["webhook-signature"] for each in requests}) == 4
    ((settled, _),) = await turn.deliveries.read_recent(9)
    assert (settled.status, settled.settled_at, await turn.deliveries.count_waiting()) == ("delivered", NOW + 65, 0)


async def test_nobody_listens_and_then_somebody_does() -> None:
    port = free_port()
    async with at_work(to(f"http://127.0.0.1:{port}/hook")) as turn:
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [[REFUSED]]
        async with Receiver(port=port):
            turn.later(5)
            assert await turn.deliveries.outcomes(2) == [[REFUSED, "200"]]


async def test_an_endpoint_that_does_not_answer_holds_up_no_other() -> None:
    gate = asyncio.Event()
    held: list[int | asyncio.Event] = [gate] * 6
    async with Receiver(*held) as silent, Receiver() as other, at_work(to(silent.url), to(other.url)) as turn:
        for number in range(6):
            turn.end(f"resp_{number}")
        await other.got(6)
        assert len(await silent.got(dispatcher.IN_FLIGHT_MAX)) == dispatcher.IN_FLIGHT_MAX
        gate.set()
        await silent.got(6)
        await turn.deliveries.outcomes(12)
        assert silent.open_max == dispatcher.IN_FLIGHT_MAX
    assert len({each.headers["webhook-id"] for each in (*silent.received, *other.received)}) == 12


async def test_an_attempt_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "ATTEMPT_S", 0.05)
    async with Receiver(asyncio.Event()) as receiver, at_work(to(receiver.url)) as turn:
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [[TIMED_OUT]]


async def test_an_answer_without_end_is_not_read() -> None:
    async with Receiver(endless=True) as receiver, at_work(to(receiver.url)) as turn:
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [["200"]]


async def test_gone_is_gone() -> None:
    async with Receiver(410) as receiver, at_work(to(receiver.url)) as turn:
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [["410"]]
        ((delivery, _),) = await turn.deliveries.read_recent(9)
        assert (delivery.status, delivery.due_at) == ("given_up", None)
        turn.end("resp_2")
        assert await turn.deliveries.outcomes(2) == [["410"], ["200"]], "the endpoint itself stays"


async def test_attempts_come_to_an_end() -> None:
    deliveries, clock, tried = Deliveries(), FakeClock(), count(1)

    async def post(url: str, headers: object, body: bytes) -> int | str:
        next(tried)
        return 500

    endpoint, wakeup = to("https://example.com/"), asyncio.Event()
    turn = TurnContext([endpoint], deliveries)
    turn.end("resp_1")
    lane = Lane(deliveries, endpoint, wakeup, post, Meter(), clock=clock, chance=lambda: 1.0)
    work = asyncio.create_task(lane.work())
    for number in range(1, ATTEMPTS_MAX + 1):
        await deliveries.outcomes(number)
        clock.now += dispatcher.PAUSE_MAX_S * 2
        wakeup.set()
    ((delivery, attempts),) = await deliveries.read_recent(9)
    assert (delivery.status, delivery.outcome, len(attempts)) == ("given_up", "500", ATTEMPTS_MAX)
    work.cancel()
    assert next(tried) == ATTEMPTS_MAX + 1


async def test_what_is_interrupted_is_delivered_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "STOP_S", 0.01)
    deliveries = Deliveries()
    async with Receiver(asyncio.Event()) as receiver:
        async with at_work(to(receiver.url), deliveries=deliveries) as turn:
            turn.end("resp_1")
            await receiver.got(1)
        assert await deliveries.count_waiting() == 1
        async with at_work(to(receiver.url), deliveries=deliveries):
            assert await deliveries.outcomes(1) == [["200"]]
        first, second = await receiver.got(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_what_cannot_be_recorded_is_not_sent_again_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LOOK_S", 0.01)
    async with Receiver() as receiver, at_work(to(receiver.url)) as turn:
        turn.deliveries.refusals = 3
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [["200"]]
        assert turn.deliveries.refusals == 0 and len(receiver.received) == 1


async def test_what_waits_for_no_endpoint_is_given_up_with_a_record() -> None:
    deliveries = Deliveries()
    gone = TurnContext([to("https://gone.example/")], deliveries)
    gone.end("resp_1")
    async with Receiver() as receiver:
        turn = TurnContext([to(receiver.url)], deliveries)
        await turn.dispatcher.give_up()
        ((delivery, attempts),) = await deliveries.read_recent(9)
        assert (delivery.status, delivery.outcome, attempts) == ("given_up", "no endpoint", ())
        assert turn.meter.webhooks_given_up.get() == 1
        turn.end("resp_2")
        turn.later(dispatcher.AGE_MAX_S + 1)
        await turn.dispatcher.give_up()
        assert (await deliveries.read_recent(1))[0][0].outcome == "too old" and receiver.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "rebound.example"])
async def test_private_addresses_are_not_reached(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def rebound(name: str, *more: object, **named: object) -> object:
        return found("127.0.0.1" if name == "rebound.example" else name, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    async with Receiver() as receiver, at_work(to(f"http://{host}:{receiver.port}/hook", private=False)) as turn:
        turn.end("resp_1")
        assert await turn.deliveries.outcomes(1) == [[NOT_PUBLIC]]
        assert receiver.received == []


async def test_errors_are_told_by_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Outbound(private=True, timeout_s=5, connections_max=1) as outbound:
        assert await outbound.post(f"http://127.0.0.1:{port}/", {}, b"{}") == BROKEN
        assert await outbound.post(f"https://127.0.0.1:{port}/", {}, b"{}") in (NO_TLS, BROKEN, "not reachable")
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert await outbound.post("http://unknown.example/", {}, b"{}") == UNRESOLVED


def test_the_key_is_what_the_secret_holds() -> None:
    from antiphon.webhooks.outbox import endpoints

    secret = "whsec_" + base64.b64encode(KEY).decode()
    assert endpoints([{"url": "https://example.com/", "secret": secret}])[0].keys == (KEY,)
