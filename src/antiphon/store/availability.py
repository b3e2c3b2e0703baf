"""What a caller of the API reads when the store cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from antiphon.store.errors import StoreUnavailable
from antiphon.wire.errors import Unavailable

T = TypeVar("T")


async def ask_store(answer: Awaitable[T]) -> T:
    """The store's answer.

    Raises:
        Unavailable: it cannot be read or written; the message says why.
    """
    try:
        return await answer
    except StoreUnavailable as error:
        raise to_unavailable("The store of responses cannot be used now", error) from error


def to_unavailable(what: str, error: StoreUnavailable) -> Unavailable:
    """``what`` happened, and why, as far as a caller may know."""
    return Unavailable(f"{what}: {error.reason}." if error.reason else f"{what}.", internal=str(error))
