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

    async def add_usage(self, spent: Sequence[Spent]) -> None:
        """Add to what the keys used on their days; all of it or nothing."""
        ...

    async def read_usage(self, first_day: str, last_day: str) -> Sequence[Spent]:
        """What was used from one day to another, both included; the newest day first, then by key."""
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
