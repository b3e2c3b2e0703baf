"""What ships for tests: deterministic ids and clocks, scripted models and upstreams, and the conformance kits."""

from __future__ import annotations

from collections import Counter


class CountingIds:
    """Ids that can be foretold: ``msg_1``, ``msg_2``, ``resp_1`` …"""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()

    def __call__(self, prefix: str) -> str:
        """The next id of that prefix."""
        self._made[prefix] += 1
        return f"{prefix}_{self._made[prefix]}"


class FakeClock:
    """A clock that stands still until it is moved. ``now`` is in Unix seconds."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now
