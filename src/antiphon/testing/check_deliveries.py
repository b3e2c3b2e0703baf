"""What every store must do for webhooks; a part of ``check_store``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from antiphon.store import DuplicateItem, Fenced, Store
from antiphon.store.deliveries import NO_ENDPOINT, TOO_OLD, Attempt, Delivery
from antiphon.store.runs import Batch
from antiphon.testing.check_runs import a_run, build_ended, start_run
from antiphon.testing.records import NOW, PROJECT, a_conversation, an_item
from antiphon.wire import Id

HERE = "https://here.example/hook"
THERE = "https://there.example/hook?a=naïve"


def a_delivery(id: Id, endpoint: str = HERE, *, response: Id = "r1", at: int = NOW) -> Delivery:
    """An event of a response that ended at that time, due at once."""
    return Delivery(
        id=id,
        endpoint=endpoint,
        event_id=f"evt_{response}",
        type="response.completed",
        response_id=response,
        created_at=at,
        due_at=at,
    )


async def end(store: Store, id: Id, deliveries: Sequence[Delivery]) -> None:
    """Run a response to its end."""
    new = a_run(id)
    run = await start_run(store, new)
    await store.runs.finish(id, run.epoch, Batch(2, []), build_ended(new, output=[f"{id}_out"]), None, deliveries)


async def _waiting(store: Store, endpoint: str = HERE) -> list[Id]:
    return [delivery.id for delivery in await store.deliveries.read_waiting(endpoint, 99)]


async def keeps_deliveries_with_the_end(store: Store) -> None:
    """One for each endpoint, as they were given; they outlive their response."""
    given = [a_delivery("wh_1"), a_delivery("wh_2", THERE)]
    await end(store, "r1", given)
    for delivery in given:
        assert await store.deliveries.read_waiting(delivery.endpoint, 9) == [delivery], (
            "a delivery is not as it was given"
        )
    assert await store.deliveries.count_waiting() == 2
    await store.runs.seal("r1")
    await store.responses.delete(PROJECT, "r1")
    assert await store.deliveries.count_waiting() == 2, "a delivery went with its response"


async def keeps_no_delivery_without_the_end(store: Store) -> None:
    """Where the end is refused, nobody is told of it."""
    await store.conversations.create(a_conversation("c1"), [an_item("twice")])
    new = a_run("r1", conversation="c1")
    run = await start_run(store, new)
    for epoch, output in ((run.epoch - 1, "o1"), (run.epoch, "twice")):
        try:
            await store.runs.finish(
                "r1", epoch, Batch(2, []), build_ended(new, output=[output]), None, [a_delivery("wh_1")]
            )
        except (Fenced, DuplicateItem):
            continue
        raise AssertionError("an end was accepted that should not have been")
    assert await store.deliveries.count_waiting() == 0, "a webhook was queued for an end that did not happen"


async def lists_what_is_due_first(store: Store) -> None:
    """As many as are asked for, of one endpoint."""
    await end(store, "r1", [a_delivery("wh_1", at=NOW + 2), a_delivery("wh_2", THERE)])
    await end(store, "r2", [a_delivery("wh_3", at=NOW + 1), a_delivery("wh_4", at=NOW + 3)])
    assert await _waiting(store) == ["wh_3", "wh_1", "wh_4"]
    assert [each.id for each in await store.deliveries.read_waiting(HERE, 2)] == ["wh_3", "wh_1"]
    assert await store.deliveries.read_waiting("https://nowhere.example/", 9) == []


async def records_every_attempt(store: Store) -> None:
    """Once each, until the delivery is settled; then it waits no more."""
    await end(store, "r1", [a_delivery("wh_1"), a_delivery("wh_2", THERE)])
    first, second = Attempt(number=1, at=NOW, outcome="500"), Attempt(number=2, at=NOW + 9, outcome="204")
    for _ in range(2):
        await store.deliveries.record_attempt("wh_1", first, "waiting", NOW + 9)
    (waits,) = await store.deliveries.read_waiting(HERE, 9)
    assert (waits.attempts, waits.due_at, waits.outcome, waits.status) == (1, NOW + 9, "500", "waiting"), waits
    await store.deliveries.record_attempt("wh_1", second, "delivered", None)
    late = Attempt(number=3, at=NOW + 10, outcome="500")
    for id in ("wh_1", "wh_0"):
        await store.deliveries.record_attempt(id, late, "waiting", NOW + 20)
    assert await _waiting(store) == [], "what was delivered still waits"
    assert await store.deliveries.count_waiting() == 1
    newest, other = await store.deliveries.read_recent(9)
    assert newest[0].id == "wh_2" and not newest[1], newest
    delivery, attempts = other
    assert list(attempts) == [first, second], attempts
    assert (delivery.status, delivery.outcome, delivery.settled_at) == ("delivered", "204", NOW + 9), delivery


async def gives_up_what_has_no_endpoint_or_is_too_old(store: Store) -> None:
    """With the reason; in steps; nothing that is settled."""
    await end(store, "r1", [a_delivery("wh_1", at=NOW), a_delivery("wh_2", THERE, at=NOW)])
    await end(store, "r2", [a_delivery("wh_3", at=NOW + 5), a_delivery("wh_4", at=NOW + 5)])
    done = Attempt(number=1, at=NOW, outcome="200")
    await store.deliveries.record_attempt("wh_4", done, "delivered", None)
    assert await store.deliveries.give_up([HERE, THERE], before=NOW, at=NOW + 9, limit=9) == 0
    assert await store.deliveries.give_up([HERE], before=NOW, at=NOW + 9, limit=9) == 1
    assert await store.deliveries.give_up([], before=NOW + 1, at=NOW + 9, limit=1) == 1
    assert await store.deliveries.give_up([HERE], before=NOW + 1, at=NOW + 9, limit=9) <= 1
    ends = {delivery.id: (delivery.status, delivery.outcome) for delivery, _ in await store.deliveries.read_recent(9)}
    assert ends["wh_2"] == ("given_up", NO_ENDPOINT) and ends["wh_4"] == ("delivered", "200"), ends
    assert ends["wh_1"] == ("given_up", TOO_OLD), ends


async def forgets_old_deliveries(store: Store) -> None:
    """Those that were settled before a time, in steps; never what waits."""
    await end(store, "r1", [a_delivery(f"wh_{n}") for n in range(4)])
    for n in range(3):
        await store.deliveries.record_attempt(
            f"wh_{n}", Attempt(number=1, at=NOW + n, outcome="200"), "delivered", None
        )
    assert await store.deliveries.forget(NOW, 9) == 0
    assert await store.deliveries.forget(NOW + 2, 1) == 1
    assert await store.deliveries.forget(NOW + 2, 9) == 1
    assert {delivery.id for delivery, _ in await store.deliveries.read_recent(9)} == {"wh_2", "wh_3"}
    assert [delivery.id for delivery, _ in await store.deliveries.read_recent(1)] == ["wh_3"]


DELIVERY_CHECKS: tuple[Callable[[Store], Awaitable[None]], ...] = (
    keeps_deliveries_with_the_end,
    keeps_no_delivery_without_the_end,
    lists_what_is_due_first,
    records_every_attempt,
    gives_up_what_has_no_endpoint_or_is_too_old,
    forgets_old_deliveries,
)
"""Every promise of ``DeliveryStore``, one function each."""
