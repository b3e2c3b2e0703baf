"""The context of the embedded model: how much its requests have, how it is kept, and who may use how much of it.

Each of the model's slots works on one request. Where there is memory for it, each has a whole window of its own. Where
there is not, they share a pool that holds one, and a request is let in once there is room for the most that it may
come to: llama.cpp ends every request that it is working on when the pool overflows, so it never may.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

import msgspec

from antiphon.wire.errors import Unavailable

Cache: TypeAlias = Literal["f16", "q8_0"]
"""What a number of the attention cache is kept as. ``q8_0`` takes 17 bytes where ``f16`` takes 32."""

SMALLEST_WINDOW_TOKENS: Final = 8192
"""A model whose window would have to be smaller gives way to a smaller model."""
_COMFORT: Final = 0.5
"""The share of the free memory that is taken for more than what is needed."""
_ROOM_SHARE: Final = 8
"""An answer without a bound has at least this part of the window, or the request has the whole window."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The contexts of one model.

    Attributes:
        window_tokens: the most that one request may use.
        tokens: what all requests may use at the same time.
        slots: requests worked on at the same time.
        cache: how it is kept.
    """

    window_tokens: int
    tokens: int
    slots: int
    cache: Cache = "f16"

    @property
    def is_shared(self) -> bool:
        """Whether its slots are in each other's way."""
        return self.tokens < self.slots * self.window_tokens

    def memory_bytes(self, f16_bytes_per_token: int) -> int:
        """Memory that it takes, all of it from the start."""
        whole = self.tokens * f16_bytes_per_token
        return whole if self.cache == "f16" else whole * 17 // 32

    def claim(self, prompt_tokens: int, output_tokens_max: int | None) -> Claim:
        """The most that a request may come to. One that sets no bound has its slot's share of the pool, and where its
        prompt leaves little of that, a whole window.
        """
        if prompt_tokens >= self.window_tokens:
            return Claim(0, output_tokens_max)  # it is refused before it takes any
        if output_tokens_max is not None:
            return Claim(min(self.window_tokens, prompt_tokens + output_tokens_max), output_tokens_max)
        share = self.tokens // self.slots
        if prompt_tokens + self.window_tokens // _ROOM_SHARE <= share:
            return Claim(share, share - prompt_tokens)
        return Claim(self.window_tokens, None)

    def __str__(self) -> str:
        has = "shared among" if self.is_shared else "for each of"
        kept = "" if self.cache == "f16" else f", kept as {self.cache}"
        return f"{self.window_tokens:,} tokens of context {has} {self.slots} requests at once{kept}"


class Claim(msgspec.Struct, frozen=True):
    """What a request takes of a pool, and the bound on its answer that keeps it to that; None is the window's end."""

    tokens: int
    output_tokens_max: int | None


def least_pool(window_tokens: int, slots: int) -> Pool:
    """The smallest that a model of this window is served with."""
    window = min(window_tokens, SMALLEST_WINDOW_TOKENS)
    return Pool(window_tokens=window, tokens=window, slots=slots, cache="q8_0")


def fit_pool(window_tokens: int, slots: int, f16_bytes_per_token: int, free_bytes: int) -> Pool | None:
    """The best pool for ``free_bytes`` of memory, or None where not even the smallest fits.

    A window for each slot if that takes no more than half of it, rather in full precision; else one that is shared;
    else a smaller one.
    """
    for pool, share in _pools(window_tokens, slots):
        if pool.memory_bytes(f16_bytes_per_token) <= share * free_bytes:
            return pool
    return None


def _pools(window_tokens: int, slots: int) -> Iterator[tuple[Pool, float]]:
    """The pools there may be, best first, each with the share of the memory that it may take."""
    whole = Pool(window_tokens=window_tokens, tokens=slots * window_tokens, slots=slots)
    yield whole, _COMFORT
    yield msgspec.structs.replace(whole, cache="q8_0"), _COMFORT
    least = least_pool(window_tokens, slots)
    window = window_tokens
    while window > least.window_tokens:
        yield msgspec.structs.replace(least, window_tokens=window, tokens=window), 1.0
        window //= 2
    yield least, 1.0


class Gate:
    """Lets requests to a shared pool in the order in which they came, each once its claim fits beside the others'."""

    def __init__(self, pool: Pool) -> None:
        self._tokens, self._slots = pool.tokens, pool.slots
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, tokens: int, wait_s: float) -> AsyncGenerator[None]:
        """Holds ``tokens`` of the pool; waits until there are so many.

        Raises:
            Unavailable: there are not within ``wait_s``.
        """
        await self._enter(tokens, wait_s)
        try:
            yield
        finally:
            self._leave(tokens)

    async def _enter(self, tokens: int, wait_s: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        self._admit()
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            self._give_up(tokens, turn)
            if isinstance(error, TimeoutError):
                text = "Other requests take up the model's context; try again later."
                raise Unavailable(text, headers={"Retry-After": "30"}) from None
            raise

    def _give_up(self, tokens: int, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self._leave(tokens)
            return
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)
        self._admit()

    def _leave(self, tokens: int) -> None:
        self._tokens += tokens
        self._slots += 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._slots and self._waiting[0][0] <= self._tokens:
            tokens, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._tokens -= tokens
                self._slots -= 1
                turn.set_result(None)
