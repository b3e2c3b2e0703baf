"""What is seen of a chain while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["previous_response_id", "conversation"]
"""How a turn names what it continues."""
WAYS: tuple[Way, ...] = ("previous_response_id", "conversation")

QUESTION = "Tell me more about the third of them, and say what the others have in common with it. " * 3
"""What every turn says, 258 characters."""


@dataclass(frozen=True)
class Look:
    """A chain when it had so many turns.

    Attributes:
        turn_bytes: what each turn since the look before added to the store's content.
        turn_ms: median time of a turn since the look before, in milliseconds.
        load_ms: median time in which the store gave the whole context; None where only the server can tell.
        load_statements: statements that this took; None likewise.
        turn_statements: statements of a whole turn; None likewise.
    """

    turns: int
    turn_bytes: float
    turn_ms: float
    load_ms: float | None = None
    load_statements: int | None = None
    turn_statements: int | None = None


def lengths(turns: int, looks: int) -> Iterator[int]:
    """The lengths at which to look, the last of them ``turns``."""
    return (turns * (n + 1) // looks for n in range(looks))
