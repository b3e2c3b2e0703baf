"""What tokens cost."""

import pytest

from antiphon.access.pricing import Price, price_of, read_prices
from antiphon.models import Usage

USED = Usage(input=1000, cached=400, output=200, reasoning=50)


@pytest.mark.parametrize(
    ("price", "micros"),
    [
        (Price(), 0),
        (Price(input=2.0), 2000),
        (Price(input=2.0, cached_input=0.5), 1400),
        (Price(input=2.0, output=10.0, cached_input=0.0), 3200),
        (Price(input=0.0004), 0),
    ],
)
def test_what_tokens_cost(price: Price, micros: int) -> None:
    assert price.cost_micros(USED) == micros


def test_a_model_without_a_price_of_its_own() -> None:
    prices = read_prices('{"a": {"input": 1}, "*": {"input": 2}}')
    assert price_of(prices, "a", "b") == Price(input=1)
    assert price_of(prices, "c") == Price(input=2)
    assert price_of({"a": Price()}, "c") is None


@pytest.mark.parametrize("value", ["{", '{"a": 1}', '{"a": {"price": 1}}', {"a": {"input": -1}}])
def test_what_is_no_table_of_prices(value: object) -> None:
    with pytest.raises(ValueError):
        read_prices(value)
