"""``wire.schema`` and ``wire.schema_size``: whatever is sent as a schema, compiling and checking is bounded."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from antiphon.tools import SpecInvalid
from antiphon.tools.function import FunctionTool
from antiphon.wire import Json
from antiphon.wire import schema as checking
from antiphon.wire.schema import COMPILED_CHARS_MAX, flaw, violation

LEAF: Json = {"type": "integer", "minimum": 5, "multipleOf": 7}


def fan(word: str = "anyOf", ways: int = 10, levels: int = 7, **beside: Any) -> Json:
    """An object whose member's references fan out ``ways`` ways over ``levels`` levels."""
    steps = {f"a{i}": {word: [{"$ref": f"#/$defs/a{i + 1}"}] * ways, **beside} for i in range(levels)}
    defs = {**steps, f"a{levels}": LEAF}
    member = {"properties": {"v": {"$ref": "#/$defs/a0"}}, "required": ["v"]}
    return {"type": "object", **member, "additionalProperties": False, "$defs": defs}


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


CHAIN: Json = {
    "type": "object",
    "properties": {"v": {"$ref": "#/$defs/a0"}},
    "$defs": {**{f"a{i}": {"$ref": f"#/$defs/a{i + 1}"} for i in range(5000)}, "a5000": LEAF},
}
UNEVALUATED: Json = {"type": "object", "properties": {"v": {"$ref": "#/$defs/a0"}}}
UNEVALUATED["$defs"] = {
    **{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}], "unevaluatedProperties": False} for i in range(40)},
    "a40": {"properties": {"x": LEAF}},
}
ANCHORS: Json = {
    "type": "object",
    "properties": {"v": {"$ref": "#a0"}},
    "$defs": {f"d{i}": {"$anchor": f"a{i}", "anyOf": [{"$ref": f"#a{i + 1}"}] * 10} for i in range(7)},
}
ROOMS: Json = {
    "type": "object",
    "$defs": {"r": {"$id": "http://x/r", "anyOf": [{"$ref": "#/$defs/q"}], "$defs": {"q": LEAF}}},
    "properties": {"v": {"$ref": "#/$defs/r"}},
}
CLIQUE: Json = {
    "type": "object",
    "properties": {"v": {"$ref": "#/$defs/c0"}},
    "$defs": {f"c{i}": {"anyOf": [{"$ref": f"#/$defs/c{j}"} for j in range(12)]} for i in range(12)},
}

EXCESSIVE = {
    "anyOf": (fan(), "('$defs', 'a3')"),
    "allOf": (fan("allOf"), "expand to more than"),
    "oneOf": (fan("oneOf"), "expand to more than"),
    "by items": (fan("prefixItems"), "expand to more than"),
    "two ways, many levels": (fan(ways=2, levels=60), "expand to more than"),
    "a long way": (CHAIN, "references lead on"),
    "unevaluated": (UNEVALUATED, "expand to more than"),
    "anchors": (ANCHORS, "expand to more than"),
    "everything to everything": (CLIQUE, "refers to itself"),
    "itself": ({"type": "object", "allOf": [{"$ref": "#"}]}, "refers to itself"),
    "rooms of their own": (ROOMS, "'$id' is known at the top"),
    "a long pattern": (  # of a member
{"type": "object", "properties": {"p": {"pattern": "a" * 5_000_000}}}, "('properties', 'p'), a pattern exceeds"),
    "a long name": ({"type": "object", "patternProperties": {"a" * 3000: {}}}, "a pattern exceeds"),
    "many patterns": ({"type": "object", "items": [{"pattern": "^a"}] * 300}, "200 patterns"),
    "long": ({"type": "object", "description": "x" * 2_000_000}, "characters"),
    "many": ({"type": "object", "properties": {f"p{i}": {} for i in range(25_000)}}, "more than 20000 subschemas"),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "why"), EXCESSIVE.values(), ids=EXCESSIVE)
def test_what_would_take_all_memory_is_refused_in_no_time_wherever_it_is_sent(schema: Json, why: str):
    began = time.process_time()
    assert why in (flaw(schema) or "")
    with pytest.raises(SpecInvalid, match="Invalid schema for function 'f'"):
        FunctionTool().functions({"type": "function", "name": "f", "parameters": schema})
    assert violation(schema, {"v": 1}) is None  # kept by everything, and nothing was tried
    assert time.process_time() - began < 2


KEPT: dict[str, tuple[Json, Any, Any]] = {
    "shared": (fan(ways=10, levels=3), {"v": 7}, {"v": 8}),
    "a tree": (
        {
            "type": "object",
            "properties": {"left": {"$ref": "#"}, "right": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "n": LEAF},
        },
        {"left": {"n": 7, "right": None}, "right": {"left": {"n": 14}}},
        {"left": {"n": 7}, "right": {"left": {"n": 15}}},
    ),
    "a pattern": (
        {"type": "object", "properties": {"p": {"type": "string", "pattern": r"^\w{1,64}$"}}},
        {"p": "a"},
        {"p": ""},
    ),
    "its own name": (
        {"$id": "http://x/", "type": "object", "properties": {"p": {"$ref": "#/$defs/n"}}, "$defs": {"n": LEAF}},
        {"p": 7},
        {"p": 6},
    ),
}


@pytest.mark.parametrize(("schema", "good", "bad"), KEPT.values(), ids=KEPT)
def test_schemas_as_people_write_them_are_checked_and_explained(schema: Json, good: Any, bad: Any):
    assert flaw(schema) is None
    assert violation(schema, good) is None
    assert violation(schema, bad)


def test_a_recursive_schema_that_fans_out_is_bounded_by_the_value():
    schema: Json = {"type": "object", "properties": {"v": {"$ref": "#/$defs/n"}}}
    schema["$defs"] = {"n": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/n"}}] * 10}}
    assert flaw(schema) is None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    assert violation(schema, {"v": nested(30)}) == "it is too large, for this schema, to be checked"
    assert violation(schema, {"v": nested(4)}) == "it does not keep to the schema"
    assert "anyOf" in (violation(schema, {"v": nested(1)}) or "")
    assert time.process_time() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_pattern_that_goes_back_for_ever_gives_up():
    schema: Json = {"type": "object", "properties": {"p": {"type": "string", "pattern": r"^(a+)+(?=b)\1$"}}}
    began = time.process_time()
    assert violation(schema, {"p": "a" * 60})
    assert time.process_time() - began < 1


def test_a_value_deeper_than_anything_is_a_violation():
    assert "deeper" in (violation({"type": "object"}, nested(900)) or "")


def test_compiled_schemas_are_kept_up_to_a_size():
    cache = checking._Cache(COMPILED_CHARS_MAX)
    for i in range(60):
        cache.find({"type": "object", "description": f"{i}" + "x" * 400_000})
    assert sum(map(len, cache._kept)) <= COMPILED_CHARS_MAX
    again: Json = {"type": "object", "description": "59" + "x" * 400_000}
    assert cache.find(again) is cache.find(again)
