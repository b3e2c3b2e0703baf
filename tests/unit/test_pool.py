"""How much context requests have, and who waits for whom."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.models.embedded.pool import Gate, Pool, fit_pool
from antiphon.wire.errors import Unavailable

SHARED = Pool(window_tokens=1000, tokens=1000, slots=2, cache="q8_0")
GIB = 2**30


@pytest.mark.parametrize(
    ("free_bytes", "tokens", "window", "cache"),
    [
        (100 * GIB, 65536, 32768, "f16"),
        (2 * 65536 * 32, 65536, 32768, "f16"),
        (2 * 65536 * 32 - 1, 65536, 32768, "q8_0"),
        (2 * 65536 * 17 - 1, 32768, 32768, "q8_0"),
        (32768 * 17, 32768, 32768, "q8_0"),
        (32768 * 17 - 1, 16384, 16384, "q8_0"),
        (8192 * 17, 8192, 8192, "q8_0"),
    ],
)
def test_the_memory_chooses_the_pool(free_bytes: int, tokens: int, window: int, cache: str) -> None:
    pool = fit_pool(32768, 2, 32, free_bytes)
    assert pool is not None
    assert (pool.tokens, pool.window_tokens, pool.cache) == (tokens, window, cache)
    assert pool.memory_bytes(32) <= free_bytes


def test_less_than_the_smallest_is_none() -> None:
    assert fit_pool(32768, 2, 32, 8192 * 17 - 1) is None


def test_what_it_says_of_itself() -> None:
    assert str(SHARED) == "1,000 tokens of context shared among 2 requests at once, kept as q8_0"
    assert (
        str(Pool(window_tokens=8192, tokens=16384, slots=2)) == "8,192 tokens of context for each of 2 requests at once"
    )


@pytest.mark.parametrize(
    ("prompt", "bound", "claimed", "output"),
    [
        (100, 50, 150, 50),
        (900, 500, 1000, 500),
        (100, None, 500, 400),
        (375, None, 500, 125),
        (376, None, 1000, None),
        (1000, None, 0, None),
    ],
    ids=["bounded", "bounded by the window", "its share", "just its share", "a whole window", "refused anyway"],
)
def test_what_a_request_may_come_to(prompt: int, bound: int | None, claimed: int, output: int | None) -> None:
    claim = SHARED.claim(prompt, bound)
    assert (claim.tokens, claim.output_tokens_max) == (claimed, output)


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans(), st.integers(0, 3)), max_size=20))
@settings(max_examples=50, deadline=None)
def test_no_claims_overflow_the_pool_and_all_have_their_turn(claims: list[tuple[int, bool, int]]) -> None:
    asyncio.run(_hold_all(claims))


async def _hold_all(claims: list[tuple[int, bool, int]]) -> None:
    gate, held, order = Gate(SHARED), list[int](), list[int]()

    async def hold(number: int, tokens: int, turns: int) -> None:
        async with gate.hold(tokens, 60):
            held.append(tokens)
            order.append(number)
            assert sum(held) <= SHARED.tokens
            assert len(held) <= SHARED.slots
            for _ in range(turns):
                await asyncio.sleep(0)
            held.remove(tokens)

    tasks = [asyncio.create_task(hold(number, tokens, turns)) for number, (tokens, _, turns) in enumerate(claims)]
    await asyncio.sleep(0)
    cancelled = [number for number, (_, cancel, _) in enumerate(claims) if cancel]
    for number in cancelled:
        tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == sorted(order)
    assert set(range(len(claims))) - set(order) <= set(cancelled)
    async with gate.hold(SHARED.tokens, 0.1):
        assert held == [] or cancelled


async def test_waiting_has_an_end_that_takes_nothing_away() -> None:
    gate = Gate(SHARED)
    async with gate.hold(600, 1):
        with pytest.raises(Unavailable) as caught:
            async with gate.hold(500, 0.001):
                pass
        async with gate.hold(400, 0.001):
            pass
    assert caught.value.headers["Retry-After"] == "30"
    async with gate.hold(1000, 0.001):
        pass
