"""What is mended of a model's calls, and how it is asked again for the rest."""

from typing import Any

import pytest

from antiphon.models import Function, Prompt, ToolChoice
from antiphon.tools import CallInvalid, ToolCall
from antiphon.tools.corrections import CORRECTIONS_MAX, Corrections, repair_call
from antiphon.tools.invented import Transcript
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer"},
    },
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Function("weather", None, SCHEMA)
PROMPT = Prompt(items=(), functions=(WEATHER, Function("other")))


def call(arguments: str, name: str = "weather") -> ToolCall:
    return ToolCall(name, arguments, "c1")


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ('{"city": "Rome"}', '{"city": "Rome"}'),
        ('{"city": "Rome", "unit": null, "days": ""}', '{"city":"Rome"}'),
        ('{"city": "Rome", "country": "Italy"}', '{"city":"Rome"}'),
        ('{"city": "Rome", "unit": "", "country": null}', '{"city":"Rome"}'),
    ],
)
def test_what_says_nothing_is_dropped_where_that_makes_it_fit(written: str, made: str) -> None:
    assert repair_call(call(written), WEATHER).arguments == made


NOTED: Json = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "customer": {"type": "string"},
        "state": {"type": "string", "enum": ["unknown", "open"]},
    },
    "required": ["title"],
}


@pytest.mark.parametrize(
    ("written", "asked", "made"),
    [
        ('{"title": "Down", "customer": "Unknown"}', "It is down!", '{"title":"Down"}'),
        ('{"title": "Down", "customer": "<not specified>"}', "It is down!", '{"title":"Down"}'),
        ('{"title": "Down", "customer": "None"}', "It is down!", '{"title":"Down"}'),
        ('{"title": "Down", "more": ["unknown"]}', "It is down!", '{"title": "Down", "more": ["unknown"]}'),
        ('{"title": "Down", "customer": "88"}', "It is down!", '{"title": "Down", "customer": "88"}'),
        ('{"title": "unknown", "state": "unknown"}', "It is down!", '{"title": "unknown", "state": "unknown"}'),
        ('{"title": "Down", "customer": "none"}', "It is down!", '{"title": "Down", "customer": "none"}'),
        ('{"title": "a", "customer": "unknown"}', "Note it as unknown.", '{"title": "a", "customer": "unknown"}'),
    ],
)
def test_an_optional_text_that_says_that_there_is_none_is_dropped(written: str, asked: str, made: str) -> None:
    assert repair_call(call(written), Function("weather", None, NOTED), asked).arguments == made


UNSAID = '{"title": "Down", "customer": "123456"'
HEARD = Transcript([{"role": "user", "content": "It is down!"}])


@pytest.mark.parametrize("more", ["}", ', "state": null}', ', "colour": "red"}'])
def test_what_nobody_said_is_dropped_whatever_else_is_mended(more: str) -> None:
    function = Function("weather", None, {**NOTED, "additionalProperties": False})
    assert repair_call(call(UNSAID + more), function, transcript=HEARD).arguments == '{"title":"Down"}'


def test_what_nobody_said_stays_where_the_rest_would_not_fit() -> None:
    either = {**NOTED, "anyOf": [{"required": ["customer"]}, {"required": ["state"]}]}
    for written in (UNSAID + "}", '{"title": "Down", "customer": "unknown"}'):
        assert repair_call(call(written), Function("weather", None, either), transcript=HEARD).arguments == written


@pytest.mark.parametrize("written", ["", "  ", "null"])
def test_blank_arguments_are_none(written: str) -> None:
    assert repair_call(call(written), Function("weather")).arguments == "{}"


@pytest.mark.parametrize("written", ['{"city": ""}', '{"city": "Rome", "unit": "k"}', "Rome", '["Rome"]', '{"city": '])
def test_what_cannot_be_mended_is_asked_for_again(written: str) -> None:
    with pytest.raises(CallInvalid) as caught:
        repair_call(call(written), WEATHER)
    assert caught.value.remedy == "force"


def learned(remedy: Any) -> tuple[Corrections, Prompt]:
    corrections = Corrections()
    corrections.learn([call("{}"), call("x", "other")], [(call("{}"), CallInvalid("no", remedy))])
    return corrections, corrections.apply(PROMPT)


def test_the_remedies() -> None:
    told, prompt = learned("tell")
    assert next(item["output"] for item in told.items if "output" in item) == "no"
    assert prompt == PROMPT
    held, prompt = learned("force")
    assert (held.items, prompt.tool_choice) == ((), ToolChoice("required", ("weather",)))
    both, prompt = learned("insist")
    assert (both.items, prompt.tool_choice) == (told.items, ToolChoice("required", ("weather",)))
    silenced, prompt = learned("answer")
    assert (silenced.items, prompt.functions) == ((), ())


def test_what_is_to_be_found_out_is_asked_for_without_the_function_and_then_without_any() -> None:
    corrections = Corrections()
    for left, fault, asked in (((Function("other"),), "who?", "Call another"), ((), "what?", "Ask the user")):
        assert corrections.learn([], [(call("{}"), CallInvalid(fault, "find"))]) == []
        assert corrections.apply(PROMPT).functions == left
        (item,) = corrections.items
        note = item["content"][0]["text"]
        assert "who?" in note and asked in note
        assert corrections.finding


def test_what_was_told_before_stays_beside_what_is_to_be_found_out() -> None:
    corrections, invalid = Corrections(), [(call("{}"), CallInvalid("no"))]
    corrections.learn([], invalid)
    corrections.learn([], [(call("{}"), CallInvalid("who?", "find"))])
    assert [item["type"] for item in corrections.items] == ["function_call", "function_call_output", "message"]


def test_a_call_that_is_to_be_changed_is_told_of_and_the_second_time_it_is_answered_without_tools() -> None:
    corrections = Corrections()
    for left in (PROMPT.functions, ()):
        assert corrections.learn([], [(call("{}"), CallInvalid("no", "change"))]) == ["repeat_answered"]
        assert corrections.apply(PROMPT).functions == left
        assert corrections.items[-1]["output"] == "no"


def test_an_undeclared_function_is_answered_without_tools() -> None:
    with pytest.raises(CallInvalid, match="no function 'fly'") as caught:
        repair_call(call("{}", "fly"), None)
    assert caught.value.remedy == "answer"


def test_optional_texts_that_nobody_said_are_dropped() -> None:
    said = Transcript([{"type": "message", "role": "user", "content": "It is down!"}])
    arguments = '{"title":"Down","customer":"ann@x.org"}'
    assert repair_call(call(arguments), Function("weather", None, NOTED), "", said).arguments == '{"title":"Down"}'
    assert repair_call(call(arguments), Function("weather", None, NOTED)).arguments == arguments


def test_each_help_is_counted_once() -> None:
    corrections, invalid = Corrections(), [(call("{}"), CallInvalid("no", "force"))]
    assert corrections.learn([], invalid) == ["held_to_schema"]
    assert corrections.learn([], [(call("{}"), CallInvalid("no", "tell"))]) == []


def test_it_is_enough_at_some_point() -> None:
    corrections = Corrections()
    assert not corrections
    for _ in range(CORRECTIONS_MAX):
        corrections.learn([call("{}")], [(call("{}"), CallInvalid("no"))])
    assert corrections
    with pytest.raises(UpstreamError, match="no"):
        corrections.learn([call("{}")], [(call("{}"), CallInvalid("no"))])
