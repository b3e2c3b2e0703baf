"""How an answer that breaks off is brought to its end, whatever its schema and wherever it breaks off."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from llguidance import LLMatcher, LLTokenizer

from antiphon.models.chat.closing import find_end, tokens_for_end
from antiphon.models.chat.json_grammar import Part, Pattern, sequence, whole
from antiphon.models.chat.shortest import Endless
from antiphon.wire import Json

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}


def thing(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def items(of: Json, **more: Any) -> Json:
    return {"type": "array", "items": of, **more}


PERSON = thing(name=TEXT, children=items({"$ref": "#/$defs/person"}))
NODE = thing(value=NUMBER, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})
OPTIONAL = {**thing(name=TEXT, nick=TEXT, age={"type": "integer"}), "required": ["name"]}
SHAPES = {"anyOf": [thing(kind={"const": "dot"}, at=NUMBER), thing(kind={"enum": ["line"]}, from_=NUMBER, to=NUMBER)]}

CASES: list[tuple[Json, Any]] = [
    (thing(author=TEXT, year={"type": ["integer", "null"]}), {"author": 'J. "S" \\ Ü😀\n', "year": 1599}),
    (thing(ok={"type": "boolean"}, none={"type": "null"}, n=NUMBER), {"ok": False, "none": None, "n": -12.75}),
    (thing(n=NUMBER, m=NUMBER), {"n": 0, "m": 1e20}),
    (
        thing(tags=items(TEXT, minItems=2), at=thing(lat=NUMBER, lon=NUMBER)),
        {"tags": ["a", "b"], "at": {"lat": 1, "lon": 2}},
    ),
    (thing(rows=items(items({"type": "integer"}, minItems=2, maxItems=2))), {"rows": [[1, 10], [2, 20]]}),
    (
        {**thing(root={"$ref": "#/$defs/person"}), "$defs": {"person": PERSON}},
        {"root": {"name": "A", "children": [{"name": "B", "children": [{"name": "C", "children": []}]}]}},
    ),
    (
        {**thing(list={"$ref": "#/$defs/node"}), "$defs": {"node": NODE}},
        {"list": {"value": 1, "next": {"value": 2, "next": {"value": 3, "next": None}}}},
    ),
    ({"type": "object", "additionalProperties": TEXT}, {"en": "good morning", "a b": "x"}),
    (OPTIONAL, {"name": "Ida", "nick": "I", "age": 3}),
    (
        thing(shape=SHAPES, side={"type": "string", "enum": ["left", 'li"ne']}),
        {"shape": {"kind": "line", "from_": 1, "to": 2}, "side": 'li"ne'},
    ),
    (thing(shapes=items(SHAPES)), {"shapes": [{"kind": "dot", "at": 1}, {"kind": "line", "from_": 1, "to": 2}]}),
    (thing(code={"type": "string", "minLength": 6, "maxLength": 8}), {"code": "abcdefg"}),
    ({"type": "object"}, {"a": [1, {"b": None}], "c": "d"}),
    (items({"allOf": [{"$ref": "#/$defs/person"}]}) | {"$defs": {"person": PERSON}}, [{"name": "A", "children": []}]),
    ({"oneOf": [{"type": "integer"}, TEXT]}, "a text"),
]


def cuts(value: Any) -> Iterator[str]:
    """A value as a model may write it, broken off at each place."""
    for indent, ascii in ((None, True), (None, False), (2, False)):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii)
        yield from (text[:at] for at in range(len(text) + 1))


def go_on(parts: list[Part]) -> str:
    """What a model writes that ends nothing by itself: of what it may, rather letters and digits."""
    matcher = LLMatcher(LLTokenizer("byte"), sequence(parts))
    assert not matcher.get_error()
    written = bytearray()
    while not matcher.is_stopped():
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte // 8] >> byte % 8 & 1]
        if not allowed:
            break
        byte = max(allowed, key=lambda byte: (chr(byte) in "x7", chr(byte).isalnum(), -byte))
        written.append(byte)
        assert matcher.consume_token(byte)
    assert matcher.is_accepting()
    return written.decode()


@pytest.mark.parametrize(("schema", "value"), CASES)
def test_an_answer_that_breaks_off_anywhere_comes_to_an_end(schema: Json, value: Any) -> None:
    validator = jsonschema_rs.validator_for(schema)
    tokens = tokens_for_end(schema)
    for written in cuts(value):
        parts, _ = find_end(schema, written, 0)
        ended = written + (go_on(parts) if parts else "")
        assert validator.is_valid(json.loads(ended, strict=False)), ended
        assert len(ended) - len(written) < 12 * tokens


@pytest.mark.parametrize(
    ("schema", "written", "parts"),
    [
        (thing(a=TEXT, b=TEXT), '{"a": "x', [Pattern, '"', ', "b": ', dict, "}"]),
        (thing(a=TEXT), '{"a": "x"', ["}"]),
        (thing(a=TEXT), '{"a": "x"}', []),
        (thing(a=TEXT), "", [dict]),
        (thing(a={"type": "boolean"}), '{"a": tr', ["ue", "}"]),
        (thing(a={"enum": ["left", "light"]}), '{"a": "li', ['ght"', "}"]),
        (OPTIONAL, '{"name": "I", ', ['"nick": ', dict, "}"]),
        (OPTIONAL, '{"name": "I"', ["}"]),
        (thing(a=items(TEXT)), '{"a": [', ["]", "}"]),
        (thing(a=items(TEXT)), '{"a": ["x",', [dict, "]", "}"]),
    ],
)
def test_only_what_is_missing_is_added(schema: Json, written: str, parts: list[Any]) -> None:
    found, _ = find_end(schema, written, 100)
    assert [part if isinstance(part, str) else type(part) for part in found] == parts


def test_a_number_goes_on_as_the_model_says() -> None:
    ((digits, *_), _) = find_end(thing(amount=NUMBER), '{"amount": 14', 50)
    assert isinstance(digits, Pattern)
    matcher = LLMatcher(LLTokenizer("byte"), sequence([digits]))
    assert matcher.try_consume_tokens(list(b"9.50")) == 4


def test_while_there_are_more_tokens_than_the_shortest_end_takes_texts_are_long() -> None:
    def room(tokens: int) -> tuple[int, int]:
        (tail, _, _, b, _), given = find_end(thing(a=TEXT, b=TEXT), '{"a": "x', tokens)
        assert isinstance(tail, Pattern) and isinstance(b, dict)
        return b["maxLength"], given

    chars, given = room(200)
    assert 4 * given < chars and 150 < given < 190
    few, all_of_them = room(27)
    assert few < 20 and all_of_them == 27


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/n", "$defs": {"n": thing(next={"$ref": "#/$defs/n"})}},
        {"$ref": "#"},
        {"$ref": "https://example.com/x"},
        {"$ref": "#/$defs/none"},
        {"allOf": [thing(a=TEXT), thing(b=TEXT)]},
        {"type": "object", "minProperties": 1},
        thing(a={"not": TEXT}),
        thing(a=False),
    ],
)
def test_where_no_end_is_known_that_is_said(schema: Json) -> None:
    with pytest.raises(Endless):
        tokens_for_end(schema)


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        (thing(a={"type": "string", "pattern": "^[a-z]{3}$"}), '{"a": "x'),
        (thing(a={"type": "string", "format": "email"}), '{"a": "x'),
        (items({"type": "array"}), "[" * 5000),
        (thing(a=TEXT), '{"b": "x'),
        (thing(a=TEXT), '["x'),
        (thing(a=TEXT), "what is no JSON"),
        (thing(a=TEXT), '{"a" "x"}'),
        (thing(a=TEXT), "{x"),
        (thing(a=NUMBER), '{"a": 1.x'),
        (thing(a=TEXT), '{"a": "\\x", '),
    ],
)
def test_what_is_not_understood_is_left(schema: Json, written: str) -> None:
    with pytest.raises(Endless):
        find_end(schema, written, 100)


def test_the_grammar_of_a_schema_leaves_room_for_line_breaks_and_what_it_cannot_hold_to() -> None:
    schema = {**thing(a=TEXT), "propertyNames": {"maxLength": 3}, "not": {"required": ["b"]}}
    matcher = LLMatcher(LLTokenizer("byte"), whole(schema))
    text = '{\n  "a": "x"\n}'
    assert matcher.try_consume_tokens(list(text.encode())) == len(text)


def test_many_branches_that_do_not_fit_are_no_depth() -> None:
    branch = {"anyOf": [thing(a=thing(b={"const": n})) for n in range(100)]}
    assert find_end(items(branch), '[{"a": {"b": 99}}', 100)[0] == ["]"]
