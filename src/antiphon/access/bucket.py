"""A token bucket. Pure: a monotonic clock is passed in, in seconds.

Its whole state is one number: when it will be full again. The content follows from that, so nothing has to be
refilled, and an unused bucket costs nothing.
"""

from __future__ import annotations

_MINUTE_S = 60.0
_DUST_S = 1e-6
"""Waits shorter than this are rounding errors."""


class Bucket:
    """Holds at most ``per_minute``, and fills at that rate. It may go into debt."""

    __slots__ = ("_full_at", "_one_s", "per_minute")

    def __init__(self, per_minute: int) -> None:
        assert per_minute > 0
        self.per_minute = per_minute
        self._one_s = _MINUTE_S / per_minute
        self._full_at = float("-inf")

    def take(self, amount: int, now: float) -> None:
        """Take ``amount``, going into debt if need be; a negative amount is given back, up to the bucket's size."""
        self._full_at = max(self._full_at, now) + amount * self._one_s

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until ``amount`` is there; 0 when it is. For more than fits in: until the bucket is full."""
        fits = min(amount, self.per_minute)
        wait = self.full_s(now) + fits * self._one_s - _MINUTE_S
        return wait if wait > _DUST_S else 0.0

    def full_s(self, now: float) -> float:
        """Seconds until it is full."""
        return max(0.0, self._full_at - now)

    def left(self, now: float) -> int:
        """How much can be taken now without debt."""
        return max(0, int((_MINUTE_S - self.full_s(now) + _DUST_S) / self._one_s))


def duration(seconds: float) -> str:
    """A time as the API's headers write it: ``12ms``, ``1s``, ``1.5s``, ``6m0s``; rounded up to whole milliseconds."""
    ms = -int(-seconds * 1000 // 1)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{text}s" if minutes else f"{text}s"
