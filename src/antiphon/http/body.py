"""Request bodies: bounded one by one, all together, and in how many JSON values they hold.

A body counts against the shared budget from its first byte until its request has been answered: what was decoded from
it lives as long.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from antiphon.wire.counting import VALUE_BYTES, VALUES_MAX, count_values
from antiphon.wire.errors import BodyTooLarge, InvalidRequest, Unavailable

OTHERS_PART: Final = 4
"""The part of the budget that one project leaves to others: one in so many."""
_decode = msgspec.json.Decoder().decode


class BodyBudget:
    """The bytes that all bodies may take together. No project takes all of them."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._one_max = bytes_max - bytes_max // OTHERS_PART
        self._taken = 0
        self._taken_by: dict[str, int] = {}

    def fits(self, size: int) -> bool:
        """Whether one project can ever have so many."""
        return size <= self._one_max

    def take(self, size: int, project: str) -> None:
        """Reserve bytes.

        Raises:
            Unavailable: the budget is used up; it is worth trying again soon.
        """
        taken_by_one = self._taken_by.get(project, 0) + size
        if self._taken + size > self._bytes_max or taken_by_one > self._one_max:
            raise Unavailable(
                "The server is at its limit of request bodies. Please retry in a moment.",
                code="too_many_bodies",
                headers={"Retry-After": "2"},
            )
        self._taken += size
        self._taken_by[project] = taken_by_one

    def give_back(self, size: int, project: str) -> None:
        """Release reserved bytes."""
        self._taken -= size
        left = self._taken_by.get(project, 0) - size
        if left:
            self._taken_by[project] = left
        else:
            self._taken_by.pop(project, None)


class BodyShare:
    """What one request takes of the budget.

    Args:
        bytes_max: what one body may have.

    Attributes:
        project: whose request it is; to be set before anything is taken.
    """

    def __init__(self, budget: BodyBudget, bytes_max: int, project: str = "") -> None:
        self.project = project
        self._budget = budget
        self._bytes_max = bytes_max
        self._taken = 0
        self._taken_values = 0
        self._taken_more = 0
        self._is_over = False

    @property
    def size(self) -> int:
        """What is taken, in bytes."""
        return self._taken + self._taken_values * VALUE_BYTES + self._taken_more

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
        self._budget.take(size, self.project)
        self._taken += size

    def take_values(self, count: int) -> None:
        """Reserve bytes for what the body's values take once they are decoded.

        Raises:
            Unavailable: the budget that all bodies share is used up.
        """
        self._budget.take(count * VALUE_BYTES, self.project)
        self._taken_values += count

    def take_more(self, size: int) -> None:
        """Reserve bytes for what the request names and is fetched for it; release them where they are negative.

        Raises:
            BodyTooLarge: one request never has so much.
            Unavailable: the budget that all bodies share is used up.
        """
        if self._is_over:
            return
        if not self._budget.fits(self.size + size):
            raise BodyTooLarge("What this request names takes more memory than one request may have.")
        if size >= 0:
            self._budget.take(size, self.project)
        else:
            self._budget.give_back(-size, self.project)
        self._taken_more += size

    def give_back(self) -> None:
        """Release all of it: the request is over."""
        self._budget.give_back(self.size, self.project)
        self._taken = self._taken_values = self._taken_more = 0
        self._is_over = True

    def another(self) -> BodyShare:
        """A share for another body, of the same budget."""
        return BodyShare(self._budget, self._bytes_max, self.project)


def too_large(bytes_max: int) -> BodyTooLarge:
    """The refusal of a body longer than that."""
    return BodyTooLarge(f"The request body is larger than {bytes_max} bytes.")


def decode_json(body: bytes | str, share: BodyShare | None = None) -> Any:
    """The body's value.

    Args:
        share: reserves bytes for what it holds.

    Raises:
        InvalidRequest: it is no JSON, or holds more values than ``VALUES_MAX``.
        Unavailable: the budget that all bodies share is used up.
    """
    try:
        text = body.encode() if isinstance(body, str) else body
        count = count_values(text)
        if count > VALUES_MAX:
            raise InvalidRequest(f"The request body holds more than {VALUES_MAX} values.", code="too_many_values")
        if share is not None:
            share.take_values(count)
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"We could not parse the JSON body of your request: {error}.") from error
