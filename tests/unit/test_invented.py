"""Values that nobody said, told from those that a model may know or work out."""

from typing import Any

import pytest

from antiphon.tools.invented import Transcript, drop_invented, find_invented
from antiphon.wire import Json

TEXT: Json = {"type": "string"}


def said(*texts: str, output: str = "") -> Transcript:
    items: list[Json] = [{"type": "message", "role": "user", "content": text} for text in texts]
    return Transcript([*items, {"type": "function_call_output", "call_id": "c", "output": output}])


def taking(*required: str, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ("What is the capital of Spain?", {"city": "Madrid"}),
        ("Who wrote Hamlet?", {"topic": "literature"}),
        ("Text Maria that I am late.", {"number": "1234567890", "text": "I am late."}),
        ("Mail Bob that I am late.", {"to": "bob@example.com", "body": "I am late."}),
        ("Invite Bob and Ann.", {"people": [{"name": "Bob", "email": "bob@example.com"}]}),
        ("Which is larger, 7 or 12?", {"artist": "The Beatles", "shuffle": True}),
        ("Which function knows about my parcel?", {"order_id": 123}),
        ("Who is Peter Pan?", {"userId": 100}),
        ("What is the dog's name in French?", {"value": 100, "unit": "km"}),
    ],
)
def test_a_call_about_what_nobody_spoke_of_find_invented(asked: str, arguments: dict[str, Any]) -> None:
    assert find_invented(arguments, {}, said(asked)) is not None


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ("Weather in paris?", {"city": "Paris, France"}),
        ("Wie wird das Wetter in Zürich?", {"city": "Zurich"}),
        ("What time is it in Tokyo?", {"timezone": "Asia/Tokyo"}),
        ("Is Apple up?", {"ticker": "AAPL"}),
        ("What does the yen cost?", {"source": "JPY", "target": "USD"}),
        ("Wake me at half past six.", {"time": "06:30"}),
        ("What is seven percent of 1250?", {"expression": "0.07 * 1250"}),
        ("Two bottles of milk.", {"count": 2}),
        ("Two hours.", {"minutes": 120}),
        ("User twelve, order 5521, item 12345678", {"user_id": 12, "order_id": 5521, "item_id": 12345678}),
        ("东京的天气怎么样？", {"city": "Tokyo"}),
        ("Wie viel Milch ist noch da?", {"query": "SELECT amount FROM stock WHERE name = 'milk'"}),
        ("Call +49 (30) 555-0133.", {"number": "030 5550133"}),
        ("Mail ann at x.org.", {"to": "ann@x.org"}),
        ("Where is 1Z999AA10123456784?", {"number": "1Z999AA10123456784"}),
        ("Lights off!", {"on": False}),
        ("Next Monday, please.", {"date": "2026-05-04"}),
        ("Go.", {}),
    ],
)
def test_what_was_said_or_can_be_known_is_not(asked: str, arguments: dict[str, Any]) -> None:
    assert find_invented(arguments, {}, said(asked)) is None


def test_results_and_instructions_say_things_too() -> None:
    mail = {"to": "bob@z.com"}
    assert find_invented(mail, {}, said("Mail Bob.")) is not None
    assert find_invented(mail, {}, said("Mail Bob.", output='{"email": "bob@z.com"}')) is None
    assert find_invented(mail, {}, Transcript([], "Bob is bob@z.com.")) is None


@pytest.mark.parametrize(
    "item", [{"role": "user", "content": [{}]}, {"type": "x", "output": [{"type": "input_image"}]}]
)
def test_what_a_picture_shows_may_be_anything(item: Json) -> None:
    assert find_invented({"to": "bob@z.com", "subject": "Lunch"}, {}, Transcript([item])) is None


def test_values_that_the_schema_names_say_nothing() -> None:
    schema = taking("city", city=TEXT, day={"type": "string", "enum": ["today"]})
    assert find_invented({"city": "Rome", "day": "today"}, schema, said("The capital of Italy today?")) is not None
    assert find_invented({"day": "tomorrow"}, taking(day={"const": "tomorrow"}), said("Later?")) is None


@pytest.mark.parametrize(
    ("asked", "value", "stays"),
    [
        ("Cancel order 5521.", "user requested cancellation", False),
        ("A train from Bern to Milan.", "2023-04-15", False),
        ("Some Miles Davis, please.", "Kind of Blue", False),
        ("Mail Bob.", "bob@example.com", False),
        ("It is 2026-05-03. A train tomorrow.", "2026-05-04", True),
        ("Cancel it, it came too late.", "came too late", True),
        ("Wish Bob luck.", "Dear Bob, I hope that your examination goes as well as it can.", True),
        ("In Euro.", "EUR", True),
    ],
)
def test_an_optional_text_that_nobody_said_is_dropped(asked: str, value: str, stays: bool) -> None:
    schema = taking("order", order={"type": "integer"}, more=TEXT)
    arguments = {"order": 1, "more": value}
    assert ("more" in drop_invented(arguments, schema, said(asked))) is stays
    assert drop_invented(arguments, {**schema, "required": ["order", "more"]}, said(asked)) == arguments


def test_only_texts_are_dropped() -> None:
    schema = taking(count={"type": "integer"}, kind={"type": "string", "enum": ["blue"]})
    assert drop_invented({"count": 7, "kind": "blue"}, schema, said("Hi")) == {"count": 7, "kind": "blue"}
