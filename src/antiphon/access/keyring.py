"""Who the caller is, what they may use, and what they have used.

A keyring holds the keys in memory, so that no request waits for the store, and reloads them every second; it counts
usage in memory too, and writes it to the store as often. So a key made or revoked elsewhere takes effect after a
second, and a crash loses the usage of the last one; nothing is ever counted twice.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import msgspec

from antiphon.access.bucket import Bucket, duration
from antiphon.models import Usage
from antiphon.store import StoreUnavailable
from antiphon.store.keys import Charge, ChargeQuery, Key, KeyStore, Spent, UsageStore, digest_of, sort_usage
from antiphon.wire.errors import InsufficientQuota, RateLimited, Unauthorized

log = logging.getLogger("antiphon.keys")

_DAY_S = 86_400
SYNC_S = 1.0
"""How often the store is asked for changed keys, and told of usage."""

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
    " (i.e. Authorization: Bearer YOUR_KEY)."
)
CHARGES_WAITING_MAX = 100_000
"""What single responses used, while the store cannot be written; of more than that only the sums are kept."""
_SHOWN_FROM_CHARS = 24
"""A wrong key shorter than this is not quoted at all: it may be somebody's password."""


class Caller(msgspec.Struct, frozen=True):
    """Whom a request acts for. ``project`` owns what it stores; ``key_id`` pays. Both empty: no key was needed."""

    project: str = ""
    key_id: str = ""


class Admission(msgspec.Struct, frozen=True):
    """Permission for a response to begin. ``reserved``: the tokens reserved for it."""

    key_id: str = ""
    reserved: int = 0


class _Meter:
    """The buckets of one key."""

    def __init__(self, key: Key) -> None:
        self.key = key
        limits = key.allowance
        self.requests = Bucket(limits.rpm) if limits.rpm else None
        self.tokens = Bucket(limits.tpm) if limits.tpm else None


class Keyring:
    """The keys of one server.

    Args:
        required: whether requests need a key even if no key exists; so it must be wherever others can connect.
        clock: Unix seconds; for the day.
        now: a monotonic clock in seconds; for the buckets.
    """

    def __init__(
        self,
        keys: KeyStore,
        usage: UsageStore,
        *,
        required: bool = False,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key_store = keys
        self._usage_store = usage
        self._required = required
        self._clock = clock
        self._now = now
        self._keys: dict[str, Key] = {}
        self._meters: dict[str, _Meter] = {}
        self._by_digest: dict[str, Key] = {}
        self._pending: dict[tuple[str, str], Spent] = {}
        self._charges: list[Charge] = []
        self._today = self.day()
        self._day_number: int = int(self._clock() // _DAY_S)
        self._spent_today: dict[str, int] = {}
        self._writing = asyncio.Lock()

    @property
    def requires_key(self) -> bool:
        """Whether requests need a key. Revoking the last key does not let its holders in without one."""
        return self._required or bool(self._keys)

    @property
    def has_open_key(self) -> bool:
        """Whether there is a key that is not revoked."""
        return bool(self._by_digest)

    def day(self, ago: int = 0) -> str:
        """The UTC day ``ago`` days before today, ``YYYY-MM-DD``."""
        return (datetime.fromtimestamp(self._clock(), UTC) - timedelta(days=ago)).strftime("%Y-%m-%d")

    def caller(self, secret: str | None) -> Caller:
        """The caller who holds the secret.

        Raises:
            Unauthorized: a key is needed, and this is none.
        """
        if not self.requires_key:
            return Caller()
        if not secret:
            raise _unauthorized_error(_NO_KEY)
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        # How long the look-up takes tells of digests at most, and no digest leads back to a key.
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise _unauthorized_error(f"Incorrect API key provided: {_mask(secret)}.")
        return Caller(key.project, key.id)

    def check(self, key_id: str) -> None:
        """Check again the key of a caller who was let in before, on a long-lived connection.

        Raises:
            Unauthorized: it has been revoked; or there was none, and one is needed now.
        """
        if self.requires_key and key_id not in self._meters:
            raise _unauthorized_error("The API key of this connection has been revoked." if key_id else _NO_KEY)

    def admit(self, key_id: str, tokens: Callable[[], int]) -> Admission:
        """Let a response begin, and reserve the tokens that it is estimated to need.

        Args:
            tokens: estimates the tokens of the response; only asked for keys with a token limit.

        Raises:
            RateLimited: over the key's requests or tokens per minute; nothing was taken.
            InsufficientQuota: the key's budget of the day is spent.
        """
        meter = self._meters.get(key_id)
        if meter is None:
            return Admission(key_id)
        self._refuse_spent_budget(meter.key)
        reserved = tokens() if meter.tokens else 0
        now = self._now()
        _refuse_empty(meter.requests, "requests", "RPM", 1, now, self.headers(key_id))
        _refuse_empty(meter.tokens, "tokens", "TPM", reserved, now, self.headers(key_id))
        if meter.requests:
            meter.requests.take(1, now)
        if meter.tokens:
            meter.tokens.take(reserved, now)
        return Admission(key_id, reserved)

    def settle(
        self,
        admission: Admission,
        used: Usage,
        estimated: bool,
        cost_micros: int = 0,
        *,
        response_id: str = "",
        model: str = "",
    ) -> None:
        """Count a response that has ended; called once for each that began, however it ended.

        Args:
            estimated: whether the model did not say what it used.
            cost_micros: what that costs, in millionths.
            response_id, model: whose charge is kept besides the sums of its key; without an id there is none.
        """
        spent = Spent(
            key_id=admission.key_id,
            day=self._start_new_day(),
            requests=1,
            estimated=int(estimated),
            input_tokens=used.input,
            cached_tokens=used.cached,
            output_tokens=used.output,
            reasoning_tokens=used.reasoning,
            cost_micros=cost_micros,
        )
        self._add((spent,), ())
        if response_id:
            charge = Charge(
                response_id=response_id,
                project=self._project_of(spent.key_id),
                model=model,
                settled_at=int(self._clock()),
                spent=spent,
            )
            self._add((), (charge,))
        self._spent_today[spent.key_id] = self._spent_today.get(spent.key_id, 0) + spent.tokens
        meter = self._meters.get(admission.key_id)
        if meter and meter.tokens:
            meter.tokens.take(spent.tokens - admission.reserved, self._now())

    def headers(self, key_id: str) -> dict[str, str]:
        """The ``x-ratelimit-*`` headers as of now, for the limits that the key has."""
        meter = self._meters.get(key_id)
        headers: dict[str, str] = {}
        if meter is None:
            return headers
        now = self._now()
        for name, bucket in (("requests", meter.requests), ("tokens", meter.tokens)):
            if bucket:
                headers[f"x-ratelimit-limit-{name}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{name}"] = str(bucket.left(now))
                headers[f"x-ratelimit-reset-{name}"] = duration(bucket.full_s(now))
        return headers

    async def usage(self, project: str, first_day: str, last_day: str) -> list[tuple[Spent, Key | None]]:
        """What the project's keys used, including what is not yet in the store; the newest day first.

        Raises:
            StoreUnavailable: it cannot be read.
        """
        async with self._writing:
            kept = await self._usage_store.read_usage(first_day, last_day)
            merged = {(spent.key_id, spent.day): spent for spent in kept}
            for place, spent in self._pending.items():
                if first_day <= spent.day <= last_day:
                    merged[place] = merged[place] + spent if place in merged else spent
        listed = [(spent, self._keys.get(spent.key_id)) for spent in sort_usage(merged.values())]
        return [(spent, key) for spent, key in listed if (key.project if key else "") == project]

    async def charges(self, query: ChargeQuery, limit: int) -> list[tuple[Charge, Key | None]]:
        """What single responses used and cost, the last one first, with the keys that paid.

        Raises:
            StoreUnavailable: they cannot be read, or written before.
        """
        await self.write_usage()
        listed = await self._usage_store.read_charges(query, limit)
        return [(charge, self._keys.get(charge.spent.key_id)) for charge in listed]

    async def usage_of_models(self, query: ChargeQuery) -> list[tuple[str, Spent, Key | None]]:
        """What was used of which model, per key and day, as far as the charges reach back.

        Raises:
            StoreUnavailable: it cannot be read, or written before.
        """
        await self.write_usage()
        listed = await self._usage_store.sum_charges(query)
        return [(model, spent, self._keys.get(spent.key_id)) for model, spent in listed]

    async def reload(self) -> None:
        """Load the keys from the store.

        Raises:
            StoreUnavailable: it cannot be read; the keys stay as they were.
        """
        self._keys = {key.id: key for key in await self._key_store.read_keys()}
        open_keys = [key for key in self._keys.values() if key.revoked_at is None]
        self._by_digest = {key.digest: key for key in open_keys}
        self._meters = {key.id: self._meters.get(key.id) or _Meter(key) for key in open_keys}

    async def write_usage(self) -> None:
        """Write the counted usage to the store.

        Raises:
            StoreUnavailable: it cannot be written; the usage is kept for the next time.
        """
        async with self._writing:
            spent, self._pending = list(self._pending.values()), {}
            charges, self._charges = self._charges, []
            if not spent:
                return
            try:
                await self._usage_store.add_usage(spent, charges)
            except StoreUnavailable:
                self._add(spent, charges)
                raise

    async def open(self) -> Keyring:
        """Load the keys, and what they used today before this process started.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        await self.reload()
        for spent in await self._usage_store.read_usage(self._today, self._today):
            self._spent_today[spent.key_id] = spent.tokens
        return self

    def _add(self, entries: Iterable[Spent], charges: Sequence[Charge]) -> None:
        for spent in entries:
            place = (spent.key_id, spent.day)
            self._pending[place] = self._pending[place] + spent if place in self._pending else spent
        self._charges += charges[: max(0, CHARGES_WAITING_MAX - len(self._charges))]

    def _project_of(self, key_id: str) -> str:
        key = self._keys.get(key_id)
        return key.project if key else ""

    def _start_new_day(self) -> str:
        """Today's date; at the start of a new day nothing is spent."""
        number = int(self._clock() // _DAY_S)
        if number != self._day_number:
            self._day_number, self._today = number, self.day()
            self._spent_today.clear()
        return self._today

    def _refuse_spent_budget(self, key: Key) -> None:
        budget = key.allowance.budget_tokens_per_day
        self._start_new_day()
        if budget is not None and self._spent_today.get(key.id, 0) >= budget:
            raise InsufficientQuota(
                f"You exceeded your current quota: the {budget} tokens of this key's day are spent."
                " The next day begins at midnight UTC.",
                # The official clients would try again at once.
                headers=self.headers(key.id) | {"x-should-retry": "false"},
            )


def _refuse_empty(
    bucket: Bucket | None, name: str, short: str, amount: int, now: float, headers: dict[str, str]
) -> None:
    wait = bucket.wait_s(amount, now) if bucket else 0.0
    if not bucket or not wait:
        return
    raise RateLimited(
        f"Rate limit reached for {name} per min ({short}): Limit {bucket.per_minute}, Used"
        f" {bucket.per_minute - bucket.left(now)}, Requested {amount}. Please try again in {duration(wait)}.",
        headers=headers | {"retry-after": str(-int(-wait // 1)), "retry-after-ms": str(-int(-wait * 1000 // 1))},
    )


def _unauthorized_error(message: str) -> Unauthorized:
    return Unauthorized(message, headers={"www-authenticate": "Bearer"})


def _mask(secret: str) -> str:
    return f"{'*' * 8}{secret[-4:]}" if len(secret) >= _SHOWN_FROM_CHARS else "*" * 8


@asynccontextmanager
async def synchronizing(keyring: Keyring) -> AsyncGenerator[Keyring]:
    """The keyring, synchronized with the store while inside; all usage is written at the end."""
    over = asyncio.Event()
    task = asyncio.create_task(_synchronize(keyring, over))
    try:
        yield keyring
    finally:
        # Not cancelled: a write that is cancelled may have been done, or not.
        over.set()
        await task


async def _synchronize(keyring: Keyring, over: asyncio.Event) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                await over.wait()
        await _attempt(keyring.reload)
        await _attempt(keyring.write_usage)
    await _attempt(keyring.write_usage)


async def _attempt(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except StoreUnavailable as error:
        log.error("keyring sync failed: %s", error)
