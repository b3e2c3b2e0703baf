"""Values that nobody said, told from those that a model may know or work out."""

from typing import Any

import pytest

from antiphon.tools.invented import Transcript, drop_invented, find_invented, is_unspoken
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
        ("Text Maria that I am late.", {"number": "1234567890", "text": "I am late."}),
        ("Mail Bob that I am late.", {"to": "bob@example.com", "body": "I am late."}),
        ("Invite Bob and Ann.", {"people": [{"name": "Bob", "email": "bob@example.com"}]}),
        ("Which function knows about my parcel?", {"order_id": 123}),
        ("Who is Peter Pan?", {"userId": 100}),
    ],
)
def test_an_address_or_a_number_that_nobody_said_is_found(asked: str, arguments: dict[str, Any]) -> None:
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
        ("Weather in the capital of Spain?", {"city": "Madrid"}),
        ("How many grams is a kilo?", {"value": 1000, "unit": "g"}),
        ("Go.", {}),
    ],
)
def test_what_was_said_or_can_be_known_is_none(asked: str, arguments: dict[str, Any]) -> None:
    assert find_invented(arguments, {}, said(asked)) is None


def test_results_and_instructions_say_things_too() -> None:
    mail = {"to": "bob@z.com"}
    assert find_invented(mail, {}, said("Mail Bob.")) is not None
    assert find_invented(mail, {}, said("Mail Bob.", output='{"email": "bob@z.com"}')) is None
    assert find_invented(mail, {}, Transcript([], "Bob is bob@z.com.")) is None


def test_what_is_mailed_or_phoned_to_is_no_number_and_no_name() -> None:
    asked = said("Mail user 7, or phone Maria.")
    assert find_invented({"to": "7"}, {}, asked, "send_email Send an e-mail.") == "to"
    assert find_invented({"to": "Maria"}, {}, asked, "send_email") is None
    assert find_invented({"to": "7"}, {}, asked, "move Move a piece.") is None
    assert find_invented({"to": "7"}, {}, asked, "sendEmail") == "to"
    assert find_invented({"number": "Maria"}, taking("number", number=TEXT), asked, "send_sms") == "number"


def test_a_number_is_a_phones_where_the_function_calls_somebody() -> None:
    asked, schema = said("Which number is XIV, and which is douze?"), taking("number", number=TEXT)
    for value in ("XIV", "douze"):
        assert find_invented({"number": value}, schema, asked, "to_digits Reads a number.") is None
    for does in ("call_contact", "sendSms", "dial", "send_text"):
        assert find_invented({"number": "XIV"}, schema, asked, does) == "number"


@pytest.mark.parametrize(
    ("member", "is_asked"),
    [
        *((name, True) for name in ("email", "e_mail", "emailAddress", "email_address", "Email", "emails")),
        *((name, True) for name in ("phone", "phoneNumber", "mobile_number", "telephone", "phone_no")),
        *((name, False) for name in ("email_subject", "phone_type", "phone_number_type", "emailed", "micro")),
    ],
)
def test_what_asks_for_an_address_or_a_number_is_told_by_its_name_however_that_is_written(
    member: str, is_asked: bool
) -> None:
    invented = find_invented({member: "Maria"}, taking(member, **{member: TEXT}), said("Tell Maria."))
    assert invented == (member if is_asked else None)


@pytest.mark.parametrize(
    "asked", ["اتصل بالرقم ٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९ पर फ़ोन करो", "０１２３４５６７８９に電話して", "Call 0123456789."]
)
def test_a_number_is_the_same_in_the_digits_of_any_script(asked: str) -> None:
    for value in ("0123456789", "٠١٢٣٤٥٦٧٨٩"):
        assert find_invented({"phone": value}, {}, said(asked)) is None
    assert find_invented({"phone": "0123456788"}, {}, said(asked)) == "phone"
    assert find_invented({"order_id": 123456789}, {}, said(asked)) is None


@pytest.mark.parametrize(
    ("asked", "value"), [("Łódź", "Lodz"), ("Đà Nẵng", "Da Nang"), ("Ærø", "Aero"), ("Iğdır", "Igdir"), ("Åre", "Are")]
)
def test_a_name_is_the_same_without_what_other_keyboards_lack(asked: str, value: str) -> None:
    assert not is_unspoken({"city": value}, taking(city=TEXT), said(f"And in {asked}?"))
    assert drop_invented({"city": value}, taking(city=TEXT), said(f"And in {asked}?")) == {"city": value}


UNIT: Json = {"$ref": "#/$defs/Unit"}


@pytest.mark.parametrize("unit", [UNIT, {"const": "celsius"}, {"anyOf": [UNIT, {"type": "null"}]}, {"allOf": [UNIT]}])
def test_values_are_named_by_the_schema_wherever_it_does_so(unit: Json) -> None:
    schema = taking(unit={**unit, "title": "Unit"}) | {"$defs": {"Unit": {"type": "string", "enum": ["celsius"]}}}
    assert not is_unspoken({"unit": "celsius"}, schema, said("Hi!"))
    assert drop_invented({"unit": "celsius"}, schema, said("Hi!")) == {"unit": "celsius"}
    assert is_unspoken({"unit": "celsius"}, taking(unit={"type": "string"}), said("Hi!"))


def test_a_member_of_what_is_referred_to_is_looked_at() -> None:
    person = taking(work={**TEXT, "description": "An e-mail address."})
    schema = taking(who={"$ref": "#/$defs/Person"}) | {"$defs": {"Person": person}}
    assert find_invented({"who": {"work": "Maria"}}, schema, said("Mail Maria.")) == "work"
    endless: Json = {"$ref": "#/$defs/A"}
    for definitions in ({"A": endless}, {"A": 1}, {}):
        assert find_invented({"who": "Maria"}, taking(who=endless) | {"$defs": definitions}, said("Hi")) is None


@pytest.mark.parametrize("kind", [{"anyOf": [TEXT, {"type": "null"}], "default": None}, {"type": ["string", "null"]}])
def test_an_optional_text_that_may_be_null_is_dropped_too(kind: Json) -> None:
    assert drop_invented({"customer": "Smith"}, taking(customer=kind), said("It is down!")) == {}


def test_a_call_is_about_what_was_spoken_of_if_any_of_its_values_is() -> None:
    assert is_unspoken({"city": "Madrid"}, {}, said("Where is my parcel?"))
    assert not is_unspoken({"city": "Madrid", "item": "parcel"}, {}, said("Where is my parcel?"))
    assert not is_unspoken({}, {}, said("Where is my parcel?"))


@pytest.mark.parametrize(
    "item", [{"role": "user", "content": [{}]}, {"type": "x", "output": [{"type": "input_image"}]}]
)
def test_what_a_picture_shows_may_be_anything(item: Json) -> None:
    assert find_invented({"to": "bob@z.com", "subject": "Lunch"}, {}, Transcript([item])) is None


def test_values_that_the_schema_names_are_none() -> None:
    schema = taking("number", number={"type": "string", "enum": ["1234567"]})
    assert find_invented({"number": "1234567"}, schema, said("Call the office.")) is None
    assert find_invented({"number": "1234567"}, taking("number", number=TEXT), said("Call the office.")) == "number"
    assert find_invented({"day": 2027}, taking(day={"const": 2027}), said("Later?")) is None


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


def test_optional_numbers_that_name_something_are_dropped_too() -> None:
    schema = taking("title", title=TEXT, order_id={"type": "integer"}, count={"type": "integer"})
    arguments = {"title": "Down", "order_id": 4711, "count": 4711}
    assert drop_invented(arguments, schema, said("It is down!")) == {"title": "Down", "count": 4711}
    assert drop_invented(arguments, schema, said("Order 4711 is down!")) == arguments


def test_other_values_are_not_dropped() -> None:
    schema = taking(count={"type": "integer"}, kind={"type": "string", "enum": ["blue"]})
    assert drop_invented({"count": 7, "kind": "blue"}, schema, said("Hi")) == {"count": 7, "kind": "blue"}
