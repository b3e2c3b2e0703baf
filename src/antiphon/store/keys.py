"""What the rest of the system asks of the place where keys and their usage are kept.

A key has 256 random bits, so its plain SHA-256 is as good as a slow, salted hash: nobody can try 2**256 keys, and no
table made in advance holds one. Slow hashes are for passwords, which people choose; here they would cost every request
the time that they are meant to cost a guesser.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

SECRET_PREFIX = "sk-antiphon-"
_SECRET_BYTES = 32
_ID_BYTES = 16


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may use; None is no limit.

    Attributes:
        rpm: responses begun per minute.
        tpm: tokens per minute, input and output.
        budget_tokens_per_day: tokens per UTC day.
    """

    rpm: int | None = None
    tpm: int | None = None
    budget_tokens_per_day: int | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: everything but the secret.

    Attributes:
        id: ``key_…``, 128 random bits; names the key to people, opens nothing.
        digest: SHA-256 of the secret, 64 hexadecimal digits.
        hint: the secret's last four characters, by which people recognise it.
        project: whose all is that is stored with this key; empty for the default project.
        created_at, revoked_at: Unix seconds.
    """

    id: str
    digest: str
    hint: str
    name: str
    project: str
    created_at: int
    revoked_at: int | None = None
    allowance: Allowance = Allowance()


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one key used on one day.

    Attributes:
        key_id: empty for requests without a key.
        day: UTC, ``YYYY-MM-DD``.
        requests: responses begun, the failed and the aborted ones included.
        estimated: those of them whose model did not say how many tokens they took; they were counted by their length.
        cost_micros: what they cost, in millionths of the operator's currency; 0 where there are no prices.
        input_tokens: includes ``cached_tokens``; ``output_tokens`` includes ``reasoning_tokens``.
    """

    key_id: str
    day: str
    requests: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_micros: int = 0

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Spent) -> Spent:
        """Both together; they are of one key and day."""
        assert (self.key_id, self.day) == (other.key_id, other.day)
        return Spent(
            key_id=self.key_id,
            day=self.day,
            requests=self.requests + other.requests,
            estimated=self.estimated + other.estimated,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            cost_micros=self.cost_micros + other.cost_micros,
        )


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one response used and cost.

    Attributes:
        project: whose response it was.
        model: the name that the request asked for.
        settled_at: Unix seconds; when it had ended.
        spent: of the key that paid, on that day, with one request.
    """

    response_id: str
    project: str
    model: str
    settled_at: int
    spent: Spent


class ChargeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which charges are meant: those of one project, from one UTC day to another, both included.

    Attributes:
        key_id, response_id: of that key, of that response alone.
        after: those behind the charge of that response.
    """

    project: str
    first_day: str
    last_day: str
    key_id: str | None = None
    response_id: str | None = None
    after: str | None = None


COUNTS = (
    "requests",
    "estimated",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_micros",
)
"""The fields of ``Spent`` that add up."""


class KeyStore(Protocol):
    """Where keys are found. Several processes may read and write them: whoever holds keys in memory looks again."""

    async def read_keys(self) -> Sequence[Key]:
        """All keys, oldest first, the revoked ones included."""
        ...


class UsageStore(Protocol):
    """Where usage is kept. Additions of several processes add up; their limits do not: see ``access.keyring``."""

    async def add_usage(self, spent: Sequence[Spent], charges: Sequence[Charge] = ()) -> None:
        """Add to what the keys used on their days, and keep what single responses used; all of it or nothing. A
        response has one charge: a second one adds to it.
        """
        ...

    async def read_usage(self, first_day: str, last_day: str) -> Sequence[Spent]:
        """What was used from one day to another, both included; the newest day first, then by key."""
        ...

    async def read_charges(self, query: ChargeQuery, limit: int) -> Sequence[Charge]:
        """At most ``limit`` charges, those that were settled last first; none behind one that is not there."""
        ...

    async def sum_charges(self, query: ChargeQuery) -> Sequence[tuple[str, Spent]]:
        """Their models, with what each key used of it on each day; the newest day first, then by key and model."""
        ...

    async def forget_charges(self, before: int, limit: int) -> int:
        """Forget up to ``limit`` charges that were settled before that time, in Unix seconds; says how many."""
        ...


def sort_usage(spent: Iterable[Spent]) -> list[Spent]:
    """The newest day first, then by key."""
    return sorted(sorted(spent, key=lambda entry: entry.key_id), key=lambda entry: entry.day, reverse=True)


def digest_of(secret: str) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def mint_key(name: str, project: str, allowance: Allowance, now: int) -> tuple[Key, str]:
    """A new key and its secret, which nothing keeps. ``now`` in Unix seconds."""
    secret = SECRET_PREFIX + secrets.token_hex(_SECRET_BYTES)
    key = Key(
        id=f"key_{secrets.token_hex(_ID_BYTES)}",
        digest=digest_of(secret),
        hint=secret[-4:],
        name=name,
        project=project,
        created_at=now,
        allowance=allowance,
    )
    return key, secret
