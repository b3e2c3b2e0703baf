"""Python functions as tools: their schema, and what they are called with."""

import datetime
import enum
import functools
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, TypedDict

import pydantic
import pytest

from antiphon.client.runs.function_tool import ArgumentsRefused, FunctionTool
from antiphon.wire.strict import refusal


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(pydantic.BaseModel):
    city: str
    country: str | None = None


@dataclass
class Span:
    start: datetime.date
    days: int


class Options(TypedDict):
    hourly: bool


def google(place: Place, unit: Unit, days: int = 3, note: Optional[str] = None) -> str:  # noqa: UP045
    """Forecast the weather.

    Looks into the future.

    Args:
        place: Where.
        unit: The unit,
            of degrees.
        days (int): How many days.

    Returns:
        Words.
    """
    return f"{place.city} {unit.name} {days} {note}"


def numpy_style(city: str, days: int) -> None:
    """Forecast the weather.

    Parameters
    ----------
    city : str
        Where.
    days : int
        How many days.
    """


def rest_style(city: str, days: int) -> None:
    """Forecast the weather.

    :param city: Where.
    :param days: How many days.
    """


def test_a_schema_comes_from_the_signature_and_the_docstring() -> None:
    tool = FunctionTool(google).tool
    assert (tool["type"], tool["name"], tool["strict"]) == ("function", "google", True)
    assert tool["description"] == "Forecast the weather.\n\nLooks into the future."
    properties = tool["parameters"]["properties"]
    assert list(properties) == ["place", "unit", "days", "note"]
    assert tool["parameters"]["required"] == ["place", "unit", "days", "note"]
    assert properties["place"]["description"] == "Where."
    assert properties["unit"]["description"] == "The unit,\nof degrees."
    assert properties["unit"]["enum"] == ["celsius", "fahrenheit"]
    assert properties["days"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "How many days. Null for the default, 3.",
    }
    assert refusal(tool["parameters"]) is None


@pytest.mark.parametrize("function", [numpy_style, rest_style])
def test_docstrings_in_other_styles(function: Any) -> None:
    tool = FunctionTool(function).tool
    assert tool["description"] == "Forecast the weather."
    described = {name: shown["description"] for name, shown in tool["parameters"]["properties"].items()}
    assert described == {"city": "Where.", "days": "How many days."}


def test_arguments_become_what_the_hints_say() -> None:
    seen: dict[str, Any] = {}

    def record(
        place: Place, span: Span, options: Options, unit: Unit, kind: Literal["a", "b"], at: datetime.time
    ) -> None:
        seen.update(place=place, span=span, options=options, unit=unit, kind=kind, at=at)

    arguments = {
        "place": {"city": "Paris", "country": None},
        "span": {"start": "2026-01-02", "days": 3},
        "options": {"hourly": True},
        "unit": "celsius",
        "kind": "b",
        "at": "10:30:00",
    }
    FunctionTool(record)(json.dumps(arguments))
    assert seen == {
        "place": Place(city="Paris"),
        "span": Span(datetime.date(2026, 1, 2), 3),
        "options": {"hourly": True},
        "unit": Unit.C,
        "kind": "b",
        "at": datetime.time(10, 30),
    }


def test_null_means_the_default_only_where_the_hint_has_no_none() -> None:
    assert (
        FunctionTool(google)('{"place": {"city": "P"}, "unit": "celsius", "days": null, "note": null}') == "P C 3 None"
    )
    assert FunctionTool(google)('{"place": {"city": "P"}, "unit": "celsius"}') == "P C 3 None"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('{"unit": "celsius"}', "place: Field required"),
        (
            '{"place": {"city": 1}, "unit": "kelvin"}',
            "place.city: Input should be a valid string; unit: Input should be",
        ),
        ('{"place": {"city": "P"}, "unit": "celsius", "x": 1}', "x: Extra inputs are not permitted"),
        ("[1]", "expected a JSON object"),
        ('{"place": ', "not JSON"),
        ("", "place: Field required"),
    ],
)
def test_what_does_not_fit_is_told_in_words_for_the_model(said: str, fault: str) -> None:
    with pytest.raises(ArgumentsRefused) as caught:
        FunctionTool(google)(said)
    assert str(caught.value).startswith("Invalid arguments for google: ")
    assert fault in str(caught.value)


def test_every_kind_of_parameter() -> None:
    def kinds(a: int, /, b: int, *rest: int, c: int = 5, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    tool = FunctionTool(kinds)
    assert tool('{"a": 1, "b": 2, "rest": [3, 4], "d": 6}') == (1, 2, (3, 4), 5, {"d": 6})
    assert tool.tool["strict"] is False
    assert tool.tool["parameters"]["required"] == ["a", "b"]


def test_parameters_may_be_called_as_pydantics_own_are() -> None:
    def odd(schema: int, model_config: int, json: int, copy: int = 4, _hidden: int = 5) -> list[int]:
        return [schema, model_config, json, copy, _hidden]

    assert FunctionTool(odd)('{"schema": 1, "model_config": 2, "json": 3, "_hidden": 6}') == [1, 2, 3, 4, 6]


def test_a_recursive_model_is_a_strict_parameter_too() -> None:
    class Tree(pydantic.BaseModel):
        name: str
        children: list["Tree"]

    def plant(tree: Annotated[Tree, "What to plant."]) -> str:
        return tree.children[0].name

    tool = FunctionTool(plant)
    assert tool.tool["strict"] is True
    assert tool('{"tree": {"name": "a", "children": [{"name": "b", "children": []}]}}') == "b"


def test_what_cannot_be_strict_is_not_and_keeps_its_defaults() -> None:
    def count(words: dict[str, int], least: int = 2) -> None: ...

    tool = FunctionTool(count)
    assert tool.tool["strict"] is False
    assert tool.tool["parameters"]["properties"]["least"] == {"default": 2, "type": "integer"}
    assert tool.tool["parameters"]["required"] == ["words"]
    with pytest.raises(TypeError, match="cannot be strict"):
        FunctionTool(count, strict=True)
    assert FunctionTool(google, strict=False).tool["strict"] is False


def test_a_default_that_json_cannot_say_holds_all_the_same() -> None:
    marker = object()

    def keep(n: int, marked: Any = marker) -> bool:
        return marked is marker

    assert FunctionTool(keep)('{"n": 1}') is True


def test_callables_of_every_sort() -> None:
    class Greeter:
        """Greets."""

        def __call__(self, name: str) -> str:
            return f"Hello {name}"

        def wave(self, name: str) -> str:
            """Waves."""
            return f"Bye {name}"

    assert FunctionTool(Greeter(), name="greet")('{"name": "Ada"}') == "Hello Ada"
    assert FunctionTool(Greeter().wave).tool["description"] == "Waves."
    assert FunctionTool(functools.partial(pow, 2), name="power", description="2 to the exp.") is not None
    assert FunctionTool(functools.partial(google, unit=Unit.F)).name == "google"

    async def later(n: int) -> int:
        return n

    assert FunctionTool(later).is_async
    assert not FunctionTool(google).is_async


def test_names_that_no_model_may_use_are_refused() -> None:
    with pytest.raises(ValueError, match="pass name="):
        FunctionTool(lambda: None)
    assert FunctionTool(lambda: None, name="nothing").tool["parameters"]["properties"] == {}


def test_a_parameter_without_a_schema_is_reported() -> None:
    def odd(callback: object) -> None: ...

    class Plain: ...

    def impossible(plain: Plain) -> None: ...

    with pytest.raises(TypeError, match="No schema can be made of the parameters of impossible"):
        FunctionTool(impossible)
    assert FunctionTool(odd).tool["strict"] is False
