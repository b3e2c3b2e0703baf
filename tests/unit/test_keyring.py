"""The keyring without a server: who is let in, what is refused, and that all usage is counted once."""

from collections.abc import Sequence

import msgspec
import pytest
from memory_keys import MemoryKeys

from antiphon.access import keyring
from antiphon.access.keyring import Keyring, synchronizing
from antiphon.models import Usage
from antiphon.store import StoreUnavailable
from antiphon.store.keys import Allowance, Charge, Spent, mint_key
from antiphon.testing import FakeClock
from antiphon.wire.errors import InsufficientQuota, RateLimited, Unauthorized

DAY_S = 86_400


class FaultyKeys(MemoryKeys):
    """Refuses as often as it is told to, before it has done anything."""

    faults = 0

    async def add_usage(self, spent: Sequence[Spent], charges: Sequence[Charge] = ()) -> None:
        if self.faults:
            self.faults -= 1
            raise StoreUnavailable("disk full")
        await super().add_usage(spent, charges)


class Ring:
    """A keyring with clocks that stand still, and one key of the allowance given."""

    def __init__(self, allowance: Allowance | None = None, *, store: MemoryKeys | None = None, required: bool = False):
        self.store = store or FaultyKeys()
        self.clock, self.now = FakeClock(), FakeClock(0)
        self.key, self.secret = mint_key("one", "p", allowance or Allowance(), 1)
        self.store.kept.append(self.key)
        self.ring = Keyring(self.store, self.store, clock=self.clock, now=self.now, required=required)

    async def total(self) -> int:
        return sum(spent.tokens for spent, _ in await self.ring.usage("p", "0000", "9999"))

    def use(self, tokens: int, reserved: int = 0) -> None:
        admission = self.ring.admit(self.key.id, lambda: reserved)
        self.ring.settle(admission, Usage(input=tokens), False)


async def test_without_any_key_nobody_is_asked() -> None:
    ring = await Keyring(MemoryKeys(), MemoryKeys()).open()
    assert not ring.requires_key
    assert ring.caller(None).project == ring.caller("anything").project == ""


async def test_a_key_opens_until_it_is_revoked_and_the_doors_stay_shut() -> None:
    made = Ring()
    ring = await made.ring.open()
    caller = ring.caller(made.secret)
    assert (caller.project, caller.key_id) == ("p", made.key.id)
    for wrong in (None, "", made.secret[:-1], made.secret + "0", made.key.digest, made.key.id):
        with pytest.raises(Unauthorized):
            ring.caller(wrong)
    made.store.kept = [msgspec.structs.replace(made.key, revoked_at=2)]
    await ring.reload()
    assert ring.requires_key and not ring.has_open_key
    with pytest.raises(Unauthorized):
        ring.caller(made.secret)


async def test_where_others_can_reach_a_key_is_asked_for_even_without_one() -> None:
    ring = await Keyring(MemoryKeys(), MemoryKeys(), required=True).open()
    with pytest.raises(Unauthorized):
        ring.caller(None)


async def test_a_wrong_key_is_not_quoted() -> None:
    made = Ring()
    ring = await made.ring.open()
    for wrong in ("sk-other-0123456789abcdef0123456789", "hunter2"):
        with pytest.raises(Unauthorized) as caught:
            ring.caller(wrong)
        assert wrong not in caught.value.message
        assert wrong[:-4] not in caught.value.message


async def test_requests_per_minute() -> None:
    made = Ring(Allowance(rpm=2))
    ring = await made.ring.open()
    made.use(1), made.use(1)
    headers = ring.headers(made.key.id)
    assert headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }
    with pytest.raises(RateLimited) as caught:
        made.use(1)
    assert caught.value.headers["retry-after"] == "30"
    made.now.now += 30
    made.use(1)
    with pytest.raises(RateLimited):
        made.use(1)


async def test_tokens_per_minute_are_foreseen_then_settled() -> None:
    made = Ring(Allowance(tpm=100))
    ring = await made.ring.open()
    first = ring.admit(made.key.id, lambda: 60)
    with pytest.raises(RateLimited, match="Limit 100, Used 60, Requested 50"):
        ring.admit(made.key.id, lambda: 50)
    ring.settle(first, Usage(input=10, output=10), False)
    assert ring.headers(made.key.id)["x-ratelimit-remaining-tokens"] == "80"
    made.use(150, reserved=80)
    with pytest.raises(RateLimited) as caught:
        ring.admit(made.key.id, lambda: 1)
    assert caught.value.headers["retry-after"] == "43", "what is owed is waited for too"


async def test_a_request_larger_than_the_limit_waits_for_a_full_bucket_and_goes() -> None:
    made = Ring(Allowance(tpm=100))
    await made.ring.open()
    made.use(500, reserved=1000)
    with pytest.raises(RateLimited):
        made.use(1, reserved=1)


async def test_one_limit_refused_takes_nothing_from_the_other() -> None:
    made = Ring(Allowance(rpm=5, tpm=100))
    ring = await made.ring.open()
    made.use(100)
    with pytest.raises(RateLimited):
        made.use(1, reserved=1)
    assert ring.headers(made.key.id)["x-ratelimit-remaining-requests"] == "4"


async def test_a_budget_lasts_a_day_and_outlives_the_process() -> None:
    made = Ring(Allowance(budget_tokens_per_day=100))
    ring = await made.ring.open()
    made.use(99), made.use(50)
    with pytest.raises(InsufficientQuota) as caught:
        made.use(1)
    assert caught.value.headers["x-should-retry"] == "false"
    await ring.write_usage()
    after = await Keyring(made.store, made.store, clock=made.clock).open()
    with pytest.raises(InsufficientQuota):
        after.admit(made.key.id, lambda: 0)
    made.clock.now += DAY_S
    after.admit(made.key.id, lambda: 0)
    made.use(1)


async def test_usage_is_counted_once_whatever_the_store_does() -> None:
    store = FaultyKeys()
    made = Ring(store=store)
    ring = await made.ring.open()
    made.use(5)
    assert await made.total() == 5
    store.faults = 2
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await ring.write_usage()
        made.use(5)
        assert await made.total() in (10, 15)
    await ring.write_usage()
    await ring.write_usage()
    assert await made.total() == 15
    (spent,) = await store.read_usage("0000", "9999")
    assert (spent.requests, spent.tokens) == (3, 15)


async def test_the_end_writes_everything_down() -> None:
    made = Ring()
    async with synchronizing(await made.ring.open()):
        made.use(7)
    (spent,) = await made.store.read_usage("0000", "9999")
    assert spent.tokens == 7


async def test_days_are_kept_apart() -> None:
    made = Ring()
    ring = await made.ring.open()
    made.use(1)
    made.clock.now += DAY_S
    made.use(2)
    await ring.write_usage()
    listed = await made.store.read_usage("0000", "9999")
    assert [spent.tokens for spent in listed] == [2, 1]
    assert [spent.day for spent in await made.store.read_usage(listed[0].day, listed[0].day)] == [ring.day()]


async def test_another_project_sees_none_of_it() -> None:
    made = Ring()
    ring = await made.ring.open()
    made.use(1)
    assert await ring.usage("q", "0000", "9999") == []


async def test_charges_wait_for_the_store_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "CHARGES_WAITING_MAX", 2)
    store = FaultyKeys()
    store.faults = 1
    made = Ring(store=store)
    ring = await made.ring.open()
    for number in range(3):
        ring.settle(ring.admit(made.key.id, lambda: 0), Usage(input=1), False, 5, response_id=f"r{number}", model="m")
    with pytest.raises(StoreUnavailable):
        await ring.write_usage()
    await ring.write_usage()
    assert [(each.response_id, each.project, each.spent.cost_micros) for each in store.charges] == [
        ("r0", "p", 5),
        ("r1", "p", 5),
    ]
    assert await made.total() == 3
