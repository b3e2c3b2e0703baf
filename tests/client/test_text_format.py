"""Answers of a given shape: what is asked for, what is read, and why nothing was read."""

import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NotRequired, Optional, TypedDict, TypeVar

import openai
import pydantic
import pytest
from typing_extensions import TypedDict as BackportedTypedDict

from antiphon import AsyncOpenAI as Antiphon
from antiphon.client.sdk.strict_schema import make_strict
from antiphon.client.sdk.text_format import WrongShape, make_text_format
from antiphon.models import Call, Finish, Refusal
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving
from antiphon.wire.strict import refusal

CUT = Finish("length")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Point(pydantic.BaseModel):
    x: int
    y: int = pydantic.Field(0, ge=0, description="Up.")
    colour: Colour = Colour.RED
    label: str | None = None


class Circle(pydantic.BaseModel):
    kind: Literal["circle"]
    centre: Point


class Square(pydantic.BaseModel):
    kind: Literal["square"]
    corners: list[Point]


class Drawing(pydantic.BaseModel):
    shapes: list[Annotated[Circle | Square, pydantic.Field(discriminator="kind")]]
    main: Circle | Square


class Tree(pydantic.BaseModel):
    name: str
    children: list["Tree"] = []


@dataclass
class Person:
    """Somebody."""

    name: str
    age: int
    friends: Optional[list["Person"]] = None  # noqa: UP045 - an old spelling must do too


class Address(TypedDict):
    street: str


class Home(TypedDict):
    address: Address
    others: NotRequired[list[Address]]


class Node(BackportedTypedDict):
    value: int
    next: Optional["Node"]


T = TypeVar("T")


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


POINT = '{"x": 1, "y": 2, "colour": "green", "label": null}'
CASES: list[tuple[Any, str, Any]] = [
    (Point, POINT, Point(x=1, y=2, colour=Colour.GREEN)),
    (
        Drawing,
        f'{{"shapes": [{{"kind": "square", "corners": [{POINT}]}}], "main": {{"kind": "circle", "centre": {POINT}}}}}',
        Drawing(
            shapes=[Square(kind="square", corners=[Point(x=1, y=2, colour=Colour.GREEN)])],
            main=Circle(kind="circle", centre=Point(x=1, y=2, colour=Colour.GREEN)),
        ),
    ),
    (
        Tree,
        '{"name": "a", "children": [{"name": "b", "children": []}]}',
        Tree(name="a", children=[Tree(name="b")]),
    ),
    (
        Person,
        '{"name": "Ada", "age": 36, "friends": [{"name": "Bob", "age": 1, "friends": null}]}',
        Person("Ada", 36, [Person("Bob", 1)]),
    ),
    (
        Home,
        '{"address": {"street": "s"}, "others": [{"street": "t"}]}',
        {"address": {"street": "s"}, "others": [{"street": "t"}]},
    ),
    (
        Node,
        '{"value": 1, "next": {"value": 2, "next": null}}',
        {"value": 1, "next": {"value": 2, "next": None}},
    ),
    (Page[Point], f'{{"items": [{POINT}]}}', Page[Point](items=[Point(x=1, y=2, colour=Colour.GREEN)])),
    (list[int], '{"value": [1, 2]}', [1, 2]),
    (list[int], '{"value": []}', []),
    (bool, '{"value": false}', False),
    (Literal["yes", "no"], '{"value": "no"}', "no"),
    (Colour, '{"value": "red"}', Colour.RED),
    (Circle | Square, f'{{"value": {{"kind": "circle", "centre": {POINT}}}}}', None),
    (Address | None, '{"value": null}', None),
    ({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, '{"n": 4}', {"n": 4}),
]


@asynccontextmanager
async def client_of(*scripts: Any) -> AsyncIterator[Antiphon]:
    async with (
        serving(ScriptedModel(*scripts)) as url,
        Antiphon(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize(("shape", "said", "value"), CASES, ids=lambda part: getattr(part, "__name__", "")[:20])
async def test_an_answer_is_asked_for_and_read_in_any_shape(shape: Any, said: str, value: Any) -> None:
    async with client_of(said, [said[:3], said[3:]]) as client:
        parsed = await client.responses.parse(model="m", input="x", text_format=shape)
        async with client.responses.stream(model="m", input="x", text_format=shape) as stream:
            done = [event.parsed async for event in stream if event.type == "response.output_text.done"]
            final = await stream.get_final_response()
    expected = value if value is not None else make_text_format(shape).read(said)
    assert parsed.output_parsed == final.output_parsed == expected
    assert done == [expected]
    assert parsed.output_parsed_reason is None
    assert parsed.text is not None
    assert parsed.text.format is not None
    assert parsed.text.format.type == "json_schema"


@pytest.mark.parametrize("shape", [case[0] for case in CASES], ids=lambda part: getattr(part, "__name__", "")[:20])
def test_schemas_are_strict_where_they_can_be(shape: Any) -> None:
    form = make_text_format(shape)
    assert form.format["strict"] is True
    assert refusal(form.format["schema"]) is None


def test_a_schema_that_cannot_be_strict_is_not() -> None:
    form = make_text_format(dict[str, int])
    assert form.format["strict"] is False
    assert form.format["schema"]["additionalProperties"] == {"type": "integer"}
    assert form.read('{"a": 1}') == {"a": 1}


def test_a_schema_is_not_changed_by_being_used() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    strict, is_strict = make_strict(schema)
    assert is_strict
    assert strict["properties"]["n"] == {"type": "integer"}
    assert strict["required"] == ["n"]
    assert schema == {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}


def test_a_format_as_the_api_writes_it_is_sent_as_it_is() -> None:
    given = {"type": "json_schema", "name": "n", "strict": False, "schema": {"type": "object"}}
    assert make_text_format(given).format == given


@pytest.mark.parametrize("shape", [AsyncIterator[int], object()])
def test_what_has_no_schema_is_reported(shape: Any) -> None:
    with pytest.raises(TypeError, match="text_format"):
        make_text_format(shape)


async def test_a_refusal_has_no_value_but_a_reason() -> None:
    async with client_of([Refusal("I can't.")], [Refusal("I can't.")]) as client:
        parsed = await client.responses.parse(model="m", input="x", text_format=Point)
        async with client.responses.stream(model="m", input="x", text_format=Point) as stream:
            final = await stream.get_final_response()
    for response in (parsed, final):
        assert response.output_parsed is None
        assert response.refusal == "I can't."
        assert response.output_parsed_reason == "refusal: I can't."


async def test_an_answer_that_was_cut_has_no_value_but_a_reason() -> None:
    async with client_of(['{"x": 1', CUT], ['{"x": 1', CUT]) as client:
        parsed = await client.responses.parse(model="m", input="x", text_format=Point)
        async with client.responses.stream(model="m", input="x", text_format=Point) as stream:
            types = [event.type async for event in stream]
            final = await stream.get_final_response()
    assert types[-1] == "response.incomplete"
    for response in (parsed, final):
        assert response.status == "incomplete"
        assert response.output_parsed is None
        assert response.output_text == '{"x": 1'
        assert response.output_parsed_reason == "incomplete: max_output_tokens"


async def test_an_answer_of_calls_alone_says_so() -> None:
    class Draw(pydantic.BaseModel):
        n: int

    tool: Any = openai.pydantic_function_tool(Draw, name="draw")
    async with client_of([Call(0, "draw", '{"n": 1}', "call_1")]) as client:
        parsed = await client.responses.parse(model="m", input="x", tools=[tool])
    assert parsed.output_parsed is None
    assert parsed.output_parsed_reason == "no answer"
    (call,) = parsed.output
    assert call.parsed_arguments == Draw(n=1)  # type: ignore[union-attr]


async def test_text_and_shape_may_not_contradict() -> None:
    async with client_of() as client:
        with pytest.raises(TypeError, match="Cannot mix and match"):
            await client.responses.parse(
                model="m", input="x", text_format=Point, text={"format": {"type": "json_object"}}
            )


async def test_parse_as_reads_otherwise_than_was_asked() -> None:
    async with client_of(POINT, POINT) as client:
        read = await client.responses.parse(model="m", input="x", text_format=Point, parse_as=dict[str, Any])
        unread = await client.responses.parse(model="m", input="x", text_format=Point, parse_as=None)
    assert read.output_parsed["colour"] == "green"
    assert unread.output_parsed is None
    assert unread.output_text == POINT


def test_a_value_that_breaks_its_schema_is_reported() -> None:
    with pytest.raises(pydantic.ValidationError):
        make_text_format(Point).read('{"x": "no"}')
    with pytest.raises(WrongShape):
        make_text_format({"type": "object", "required": ["n"]}).read("{}")
    with pytest.raises(WrongShape):
        make_text_format({"type": "object"}).read("no json")


async def test_comments_on_the_way_are_not_the_answer() -> None:
    from openai.types.responses import Response as Official

    from antiphon.client.sdk.parsing import ResponseParser

    def message(phase: str | None, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        return {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "phase": phase,
            "status": "completed",
            "content": [part],
        }

    output = [message("commentary", "I look it up."), message("final_answer", POINT)]
    response = Official.construct(id="r", status="completed", output=output)
    assert ResponseParser(make_text_format(Point)).response(response).output_parsed == Point(
        x=1, y=2, colour=Colour.GREEN
    )
