"""A row of figures as a row of bars, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def bars(values: Sequence[float]) -> str:
    """A bar for each value, the largest one full."""
    top = max(values) or 1.0
    return "".join(BARS[min(len(BARS) - 1, int(len(BARS) * value / top))] for value in values)
