"""Whether a function is needed: what is asked, and how its odds are read."""

import math

import msgspec
import pytest

from antiphon.models import Function, Prompt, Text
from antiphon.models.chat.need import (
    is_name,
    is_needed,
    is_needed_after_all,
    log_odds_of_name,
    log_odds_of_need,
    log_odds_of_opening,
    odds_of_call,
    question,
)
from antiphon.wire import Json


def said(**odds: float) -> Text:
    likeliest = [{"token": token, "logprob": math.log(odd)} for token, odd in odds.items()]
    return Text("x", ({"top_logprobs": likeliest},))


def say(role: str, text: str) -> Json:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def logit(odds: float) -> float:
    return math.log(odds / (1 - odds))


WEATHER = Function("get_weather", "The weather of a city. In degrees.")
PROMPT = Prompt(items=(say("user", "Hi."),), instructions="Be kind.", functions=(WEATHER, Function("set_light")))


def test_odds_of_a_call_are_of_all_that_may_open_one() -> None:
    assert odds_of_call(said(**{"```": 0.1, '{"': 0.2, " [": 0.05, "The": 0.5})) == pytest.approx(0.35)
    assert odds_of_call(Text("The")) == 0
    assert log_odds_of_opening(said(**{"```": 0.1, " [": 0.2, "The": 0.7})) == pytest.approx(logit(0.3))
    assert log_odds_of_opening(Text("```")) == 0
    assert odds_of_call(said(take=0.4, t=0.2, takes=0.1), ["set", "take_note"]) == pytest.approx(0.4)


def test_a_name_is_told_by_pieces_of_it_and_by_more_than_it() -> None:
    names = ["get_time", "f"]
    assert log_odds_of_name(said(**{" get": 0.3, "get_t": 0.2, 'f"': 0.1, "set": 0.4}), names) == pytest.approx(
        logit(0.6)
    )
    assert log_odds_of_name(said(**{"answer": 0.9, " ": 0.1}), names) < -5
    # One that only begins like a name is none of it, however short that is.
    assert log_odds_of_name(said(**{"answer": 0.6, 'and"': 0.2, 'a":': 0.2}), ["a"]) == pytest.approx(logit(0.2))
    assert 5 < log_odds_of_name(said(f=1.0), names) < math.inf


def test_where_nothing_was_called_the_name_tells_or_leaves_a_doubt() -> None:
    told = [is_needed(PROMPT, opening, name) for opening in (-5, 5) for name in (-2, 1, 5)]
    assert told == [False, None, True] * 2
    assert [is_needed_after_all(1, 2, answer) for answer in (-2, 0, 1)] == [False, True, True]
    # An opening that is unlikely speaks against a call; one that is likely says nothing, for code opens like one.
    assert [is_needed_after_all(opening, 2, -1) for opening in (-1, 0, 5)] == [False, True, True]


def test_where_a_call_is_preferred_the_name_alone_tells() -> None:
    preferring = msgspec.structs.replace(PROMPT, prefers_call=True)
    assert [is_needed(preferring, -7, name) for name in (1, 2)] == [False, True]


def test_a_search_is_needed_for_whatever_might_be_found() -> None:
    searching = msgspec.structs.replace(PROMPT, functions=(WEATHER, Function("look", searches=True)))
    assert [is_needed(searching, -5, name) for name in (-2.5, -1, 1)] == [False, True, True]
    output = {"type": "function_call_output", "call_id": "c", "output": "[1] Two weeks."}
    found = msgspec.structs.replace(searching, items=(*PROMPT.items, output))
    assert [is_needed(found, opening, 3) for opening in (-0.5, 0.5)] == [False, True]


def test_a_name_is_one_of_a_function_or_none() -> None:
    def named(token: str) -> Text:
        return Text('```json\n{"name": "' + token, ({"token": token, "top_logprobs": []},))

    assert is_name(named(" get"), ["get_weather"]) and is_name(named('f"'), ["f"])
    assert not is_name(named("answer"), ["get_weather"]) and not is_name(named(" "), ["f"])
    assert not is_name(named('set"'), ["set_light"]) and is_name(named('set_light"'), ["set_light"])
    assert not is_name(Text("f"), ["f"])


def test_behind_a_result_the_opening_tells_too() -> None:
    def after(output: str, *items: Json) -> list[bool | None]:
        context = (*PROMPT.items, {"type": "function_call_output", "call_id": "c", "output": output}, *items)
        prompt = msgspec.structs.replace(PROMPT, items=context)
        return [is_needed(prompt, opening, 2.0) for opening in (-1.0, 0.5)]

    assert after("7 degrees") == [False, True]
    assert after("7 degrees", say("system", "Hush.")) == [False, True]
    # What failed is to be corrected, and what is not over may be asked about.
    assert after("Error: no such city") == after("pending") == [True, True]
    assert after("7 degrees", say("user", "And Rome?")) == [None, None]


def test_the_question_shows_what_was_said_and_what_there_is() -> None:
    asked = question(PROMPT)
    assert asked is not None
    assert (asked.instructions, asked.functions) == ("Be kind.", ())
    assert asked.items[0]["content"][0]["text"].split("\n") == [
        "A user wrote:",
        '"""Hi."""',
        "What is needed to answer?",
        "A. The weather of a city",
        "B. set light",
        "C. Nothing of this: talk, general knowledge, or writing",
        "Answer with one letter.",
    ]


def test_a_last_word_is_shown_with_what_it_answers() -> None:
    items = (say("user", "Light, please."), say("assistant", "Where?"), say("system", "Hush."), say("user", "Here."))
    asked = question(msgspec.structs.replace(PROMPT, items=items))
    assert asked is not None
    assert asked.items[0] == items[2]
    assert "user: Light, please.\nassistant: Where?\nuser: Here.\n" in asked.items[-1]["content"][0]["text"]


@pytest.mark.parametrize(
    "fields",
    [
        {"items": ()},
        {"items": (say("user", ""),)},
        {"items": (say("user", "Hi."), say("assistant", "Hello."))},
        {"items": (say("user", "Hi."), say("user", " "))},
        {"items": (say("user", "Hi."), {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]})},
        {"items": ({"role": "user", "content": [*say("user", "Hi.")["content"], {"type": "input_image"}]},)},
        {"functions": tuple(Function(f"f{n}") for n in range(16))},
    ],
)
def test_what_cannot_be_put_in_a_few_words_is_not_asked(fields: Json) -> None:
    assert question(msgspec.structs.replace(PROMPT, **fields)) is None


def test_long_texts_are_cut() -> None:
    long = msgspec.structs.replace(PROMPT, items=(say("user", "x" * 10_000),), functions=(Function("f", "y" * 10_000),))
    asked = question(long)
    assert asked is not None
    assert len(asked.items[0]["content"][0]["text"]) < 1_500


def test_the_answer_is_the_odds_of_any_function_beside_those_of_none() -> None:
    assert log_odds_of_need(said(A=0.2, B=0.1, C=0.6, The=0.1), 2) == pytest.approx(logit(1 / 3))
    assert log_odds_of_need(said(**{" C": 1.0}), 2) < -5
    # No letter of these was likely at all: that says nothing.
    for nothing in (said(D=0.9), said(The=1.0), Text("A")):
        assert log_odds_of_need(nothing, 2) == 0
