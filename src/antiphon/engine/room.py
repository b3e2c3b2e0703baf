"""The memory that a request takes beside its body, as what it names is fetched: files, images, what stands at URLs.

Whoever lets requests in says what counts it; without that nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

Take: TypeAlias = Callable[[int], None]
"""Counts bytes, or gives them back where they are negative; raises ``Unavailable`` where there is no room for them."""

_take: ContextVar[Take | None] = ContextVar("take", default=None)


def take_from(take: Take) -> None:
    """What this task does from now on is counted so."""
    _take.set(take)


def take_room(size: int) -> None:
    """Count bytes that this task holds, until its request is over.

    Raises:
        antiphon.wire.errors.Unavailable: there is no room for them.
    """
    take = _take.get()
    if take is not None:
        take(size)
