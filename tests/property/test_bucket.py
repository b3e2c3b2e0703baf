"""Any sequence of takes: no minute gives more than was agreed, and what is promised is there."""

from hypothesis import assume, given
from hypothesis import strategies as st

from antiphon.access.bucket import Bucket, duration

rates = st.integers(1, 1_000_000)
pauses = st.floats(0, 200, allow_nan=False)
steps = st.lists(st.tuples(pauses, st.integers(0, 2_000_000)), max_size=40)


@given(rate=rates, steps=steps)
def test_no_span_of_time_gives_more_than_the_bucket_and_its_refill(rate: int, steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = Bucket(rate), 0.0, list[tuple[float, int]]()
    for pause, amount in steps:
        now += pause
        if amount <= rate and not bucket.wait_s(amount, now):
            bucket.take(amount, now)
            taken.append((now, amount))
    for i, (since, _) in enumerate(taken):
        for j in range(i, len(taken)):
            given = sum(amount for _, amount in taken[i : j + 1])
            assert given <= rate + (taken[j][0] - since) * rate / 60 + 1e-3 * rate


@given(rate=rates, steps=steps, amount=st.integers(0, 2_000_000))
def test_what_was_waited_for_is_there(rate: int, steps: list[tuple[float, int]], amount: int) -> None:
    bucket, now = Bucket(rate), 0.0
    for pause, taken in steps:
        now += pause
        bucket.take(taken, now)  # it may owe
    wait = bucket.wait_s(amount, now)
    assert bucket.wait_s(amount, now + wait) == 0
    if wait > 0.01:
        assert bucket.wait_s(amount, now + wait - 0.01) > 0


@given(rate=rates, steps=steps)
def test_it_fills_and_never_beyond(rate: int, steps: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(rate), 0.0
    for pause, amount in steps:
        now += pause
        bucket.take(amount if amount % 2 else -amount, now)
        assert 0 <= bucket.left(now) <= rate
    now += bucket.full_s(now)
    assert bucket.left(now) == rate
    assert bucket.left(now + 1000) == rate


@given(rate=rates, amount=st.integers(0, 1_000_000))
def test_what_is_left_can_be_taken_and_one_more_cannot(rate: int, amount: int) -> None:
    assume(amount <= rate)
    bucket = Bucket(rate)
    bucket.take(amount, 5.0)
    left = bucket.left(5.0)
    assert left == rate - amount
    assert bucket.wait_s(left, 5.0) == 0
    assert left == rate or bucket.wait_s(left + 1, 5.0) > 0


def test_durations_are_written_as_the_api_writes_them() -> None:
    written = {
        0: "0ms",
        0.012: "12ms",
        0.0121: "13ms",
        1: "1s",
        1.5: "1.5s",
        60: "1m0s",
        360: "6m0s",
        90.25: "1m30.25s",
    }
    assert {seconds: duration(seconds) for seconds in written} == written
