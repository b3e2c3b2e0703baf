"""A token bucket: so much at once, so much per minute. Pure: the clock is passed in, in seconds, and never goes back.

One number is its whole state: when it will be full again. What is in it follows from that, so nothing has to be
refilled, and a bucket that nobody touches costs nothing.
"""

from __future__ import annotations

_MINUTE_S = 60.0
_DUST_S = 1e-6
"""Waits shorter than this are rounding errors."""


class Bucket:
    """Holds ``per_minute`` at most, and fills at that rate. It may owe: what is taken need not be there."""

    __slots__ = ("_full_at", "_one_s", "per_minute")

    def __init__(self, per_minute: int) -> None:
        assert per_minute > 0
        self.per_minute = per_minute
        self._one_s = _MINUTE_S / per_minute
        self._full_at = float("-inf")

    def take(self, amount: int, now: float) -> None:
        """Take it, or owe it; a negative amount is given back. It never holds more than it can."""
        self._full_at = max(self._full_at, now) + amount * self._one_s

    def wait_s(self, amount: int, now: float) -> float:
        """How long until ``amount`` is there; 0 when it is. More than fits in is waited for as a full bucket is."""
        fits = min(amount, self.per_minute)
        wait = self.full_s(now) + fits * self._one_s - _MINUTE_S
        return wait if wait > _DUST_S else 0.0

    def full_s(self, now: float) -> float:
        """How long until it is full."""
        return max(0.0, self._full_at - now)

    def left(self, now: float) -> int:
        """How much can be taken now without owing."""
        return max(0, int((_MINUTE_S - self.full_s(now) + _DUST_S) / self._one_s))


def duration(seconds: float) -> str:
    """A time as the API's headers write it: ``12ms``, ``1s``, ``1.5s``, ``6m0s``; rounded up to whole milliseconds."""
    ms = -int(-seconds * 1000 // 1)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{text}s" if minutes else f"{text}s"
