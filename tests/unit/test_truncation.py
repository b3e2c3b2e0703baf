"""Which items make room, and which never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.models import Prompt
from antiphon.truncation import drop_oldest, excess_share
from antiphon.wire import Json
from antiphon.wire.pairing import pair_calls


def said(role: str, text: str = "x" * 40) -> Json:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def call(id: str) -> Json:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def output(id: str) -> Json:
    return {"type": "function_call_output", "call_id": id, "output": "x" * 40}


THOUGHT: Json = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}


def after(share: float, *items: Json) -> list[Json] | None:
    shorter = drop_oldest(Prompt(items=items), share)
    return None if shorter is None else list(shorter.items)


def test_the_oldest_go_first_and_no_more_than_must() -> None:
    items = [said("user", f"{i}" * 40) for i in range(10)]
    assert after(0.25, *items) == items[3:]
    assert after(0.01, *items) == items[1:]


def test_a_call_goes_with_its_outputs() -> None:
    last = said("user")
    assert after(0.1, call("a"), call("b"), output("a"), output("b"), last) == [call("b"), output("b"), last]
    assert after(0.9, call("a"), call("b"), output("a"), output("b"), last) == [last]


def test_a_thought_goes_with_what_it_led_to() -> None:
    last = said("user")
    assert after(0.01, THOUGHT, call("a"), output("a"), last) == [last]


def test_what_the_system_says_stays() -> None:
    rules, late, last = said("system"), said("developer"), said("user")
    assert after(0.9, rules, said("user"), late, said("assistant"), last) == [rules, late, last]


def test_the_last_message_of_the_user_stays_while_its_turns_go() -> None:
    asked = said("user")
    turns = [call("a"), output("a"), call("b"), output("b")]
    assert after(0.4, asked, *turns) == [asked, call("b"), output("b")]


@pytest.mark.parametrize("items", [[], [said("user")], [said("system"), said("user")], [call("a"), output("a")]])
def test_nothing_more_can_go(items: list[Json]) -> None:
    assert after(0.5, *items) is None


@pytest.mark.parametrize(
    ("tokens", "window", "answer", "share"),
    [
        (None, 100, None, 0.25),
        (200, None, None, 0.25),
        (150, 100, None, 0.5),
        (100, 100, 10, 0.1),
        (100, 100, 5000, 0.25),
        (50, 100, None, 0.0),
    ],
)
def test_how_much_has_to_go(tokens: int | None, window: int | None, answer: int | None, share: float) -> None:
    assert excess_share(tokens, window, answer) == pytest.approx(share)


kinds = st.sampled_from(["user", "assistant", "system", "thought", "call"])


@given(st.lists(kinds, max_size=30), st.floats(0, 1))
def test_whatever_goes_the_rest_is_whole(given_kinds: list[str], share: float) -> None:
    items: list[Json] = []
    for i, kind in enumerate(given_kinds):
        match kind:
            case "thought":
                items.append(THOUGHT)
            case "call":
                items += [call(f"c{i}"), output(f"c{i}")]
            case _:
                items.append(said(kind))
    rest = after(share, *items)
    if rest is None:
        return
    assert len(rest) < len(items)
    assert len(pair_calls(rest)) * 2 == sum(item["type"].startswith("function_call") for item in rest)
    assert [item for item in rest if item.get("role") == "system"] == [i for i in items if i.get("role") == "system"]
    assert rest[-1:] == items[-1:]
    positions = iter(items)
    assert all(any(item is other for other in positions) for item in rest)
