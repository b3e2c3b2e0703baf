"""Request bodies: bounded one by one, all together, and in how many JSON values they hold.

A body counts against the shared budget from its first byte until its request has been answered: what was decoded from
it lives as long.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from antiphon.wire.errors import BodyTooLarge, InvalidRequest, Unavailable

VALUES_MAX: Final = 1_000_000
"""Values in one body. Each takes some sixty bytes of memory or more, however few it has on the wire."""
_SEPARATORS: Final = (b",", b"[", b"{")
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_decode = msgspec.json.Decoder().decode


class BodyBudget:
    """The bytes that all bodies may take together."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, size: int) -> None:
        """Reserve bytes.

        Raises:
            Unavailable: the budget is used up; it is worth trying again soon.
        """
        if size > self._left:
            raise Unavailable(
                "The server is reading as much as it can. Please retry in a moment.",
                code="too_many_bodies",
                headers={"Retry-After": "2"},
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        """Release reserved bytes."""
        self._left += size


class BodyShare:
    """What one request takes of the budget.

    Args:
        bytes_max: what one body may have.
    """

    def __init__(self, budget: BodyBudget, bytes_max: int) -> None:
        self._budget = budget
        self._bytes_max = bytes_max
        self._taken = 0

    def expect(self, length: str | None) -> None:
        """Refuse a body that says itself that it is too long, before it comes.

        Raises:
            BodyTooLarge: it does.
        """
        if length is not None and length.isascii() and length.isdigit() and int(length[:20]) > self._bytes_max:
            raise too_large(self._bytes_max)

    def take(self, size: int) -> None:
        """Reserve bytes for more of the body.

        Raises:
            BodyTooLarge: it is longer than it may be.
            Unavailable: the budget that all bodies share is used up.
        """
        if self._taken + size > self._bytes_max:
            raise too_large(self._bytes_max)
        self._budget.take(size)
        self._taken += size

    def give_back(self) -> None:
        """Release all of it."""
        self._budget.give_back(self._taken)
        self._taken = 0


def too_large(bytes_max: int) -> BodyTooLarge:
    """The refusal of a body longer than that."""
    return BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")


def decode_json(body: bytes) -> Any:
    """The body's value.

    Raises:
        InvalidRequest: it is no JSON, or holds more values than ``VALUES_MAX``.
    """
    if len(body) > VALUES_MAX and _separators(body) > VALUES_MAX and _separators(_STRINGS.sub(b"", body)) > VALUES_MAX:
        raise InvalidRequest(f"The request body holds more than {VALUES_MAX} values.", code="too_many_values")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"We could not parse the JSON body of your request: {error}.") from error


def _separators(text: bytes) -> int:
    """Each value but the first of a container stands behind one of them, and the first behind the container's."""
    return sum(map(text.count, _SEPARATORS))
