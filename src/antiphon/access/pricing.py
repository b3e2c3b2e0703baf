"""What a response costs, by the operator's price table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from antiphon.models import Usage

ANY = "*"
"""The name that stands for every model without a price of its own."""

_Amount = Annotated[float, Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a million tokens, in a currency that only the operator knows. Cached input costs what input does, unless it is
    said.
    """

    input: _Amount = 0.0
    output: _Amount = 0.0
    cached_input: _Amount | None = None

    def cost_micros(self, used: Usage) -> int:
        """The cost of the usage, in millionths of the currency."""
        cached = self.input if self.cached_input is None else self.cached_input
        return round((used.input - used.cached) * self.input + used.cached * cached + used.output * self.output)


def read_prices(value: Any) -> dict[str, Price]:
    """The table from its JSON or TOML form.

    Raises:
        ValueError: it is not a price table; the text says why.
    """
    whole = msgspec.json.decode(value) if isinstance(value, str) else value
    return msgspec.convert(whole, dict[str, Price])


def price_of(prices: Mapping[str, Price], *names: str) -> Price | None:
    """The price of a model that goes by these names."""
    return next((prices[name] for name in (*names, ANY) if name in prices), None)
