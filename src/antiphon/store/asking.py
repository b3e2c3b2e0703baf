"""What a caller of the API reads when the store cannot answer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from antiphon.store import StoreUnavailable
from antiphon.wire.errors import Unavailable

T = TypeVar("T")


async def asked(answer: Awaitable[T]) -> T:
    """The store's answer.

    Raises:
        Unavailable: it cannot be reached.
    """
    try:
        return await answer
    except StoreUnavailable as error:
        raise Unavailable("The store of responses cannot be reached.", internal=str(error)) from error
