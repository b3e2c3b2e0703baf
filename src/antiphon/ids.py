"""Fresh ids for what is stored and shown."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from antiphon.wire import Id

_RANDOM_BYTES = 18
_DIGITS = 2 * _RANDOM_BYTES
_POOL = 32


class RandomIds:
    """Fresh ids such as ``resp_…``: 48 hexadecimal digits, of which 12 tell the millisecond and 36 are random.

    Ids that are made together stand together in every index of a database, which is then written in few places. The
    random part, 144 bits, is what makes an id hard to guess; it is fetched for many ids at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pool: list[str] = []

    def __call__(self, prefix: str) -> Id:
        """The next id of that prefix."""
        if not self._pool:
            digits = secrets.token_hex(_RANDOM_BYTES * _POOL)
            self._pool = [digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS)]
        return f"{prefix}_{int(self._clock() * 1000):012x}{self._pool.pop()}"
