"""What a compaction keeps, in which pieces it works, and what takes its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.compaction import PIECES_MAX, compact, digest, find_lost_facts, split, transcript
from antiphon.models import ContextTooLong, Finish, Prompt, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest


def said(role: str, text: str, id: str = "msg_1") -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "id": id, "role": role, "content": [{"type": kind, "text": text}]}


def test_a_transcript_names_who_spoke() -> None:
    items: list[Json] = [
        said("user", "Look."),
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "a cat"},
        said("assistant", "A cat."),
    ]
    assert transcript(items) == "\n\n".join(
        ["user: Look.", 'assistant called look({"at":1})', "look returned: a cat", "assistant: A cat."]
    )


@given(st.text(max_size=400), st.integers(1, 50))
def test_pieces_join_to_the_whole(text: str, size: int) -> None:
    pieces = list(split(text, size))
    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)


@pytest.mark.parametrize(
    ("text", "kept", "found"),
    [
        ("It is fine. The total is 481.50 euros. Bye.", "", ["The total is 481.50 euros."]),
        ("The total is 481.50 euros.", "About 481.50 euros", []),
        ("See /etc/hosts for it. It is so.", "", ["See /etc/hosts for it."]),
        ("It is so. It is so or not.", "", []),
        (
            "It will rain. It will rain. The cover will be teal, with gold letters.",
            "",
            ["The cover will be teal, with gold letters."],
        ),
        ("The cover will be teal.", "It will have a cover in teal.", []),
        ("We asked Miriam about it.", "", ["We asked Miriam about it."]),
        ("Use max_retries here.\nUse max_retries here.", "", ["Use max_retries here."]),
    ],
)
def test_facts_that_a_summary_lost(text: str, kept: str, found: list[str]) -> None:
    assert find_lost_facts(text, kept, 200) == found


def test_facts_are_bounded_and_the_densest_stay() -> None:
    text = "A long sentence in which there is one figure, which is 5. Ids: A-1, B-2, C-3, D-4."
    assert find_lost_facts(text, "", 30) == ["Ids: A-1, B-2, C-3, D-4."]


async def test_the_newest_messages_of_users_stay() -> None:
    items = tuple(said("user", f"{i} " + "word " * 200, f"msg_{i}") for i in range(20))
    model = ScriptedModel("short", again=True, context_tokens=4000)
    made, _ = await compact(model, Prompt(items=items))
    assert made.messages == list(items[-len(made.messages) :])
    assert 1 < len(made.messages) < 10
    assert set(made.covered) == {digest(item) for item in items} | {item["id"] for item in items}


async def test_what_the_system_says_stays_whatever_there_is_no_room_for() -> None:
    items = (said("developer", "rule " * 5000, "msg_0"), said("user", "hi"))
    made, _ = await compact(ScriptedModel("short", again=True, context_tokens=1000), Prompt(items=items))
    assert made.messages == list(items)


async def test_facts_of_messages_that_there_is_no_room_for_are_kept() -> None:
    items = (said("user", "The code is ZX-991. " + "word " * 2000), said("user", "Go on.", "msg_2"))
    made, _ = await compact(ScriptedModel("short", again=True, context_tokens=1000), Prompt(items=items))
    assert made.messages == [items[1]] and "The code is ZX-991." in made.summary and "Go on." not in made.summary


async def test_usage_is_of_all_pieces_and_unknown_where_one_does_not_say() -> None:
    items = (said("assistant", "some words on a line\n" * 400),)
    answer = ["short", Finish("stop", Usage(input=5, output=2))]
    model = ScriptedModel(answer, again=True, context_tokens=1000)
    _, used = await compact(model, Prompt(items=items))
    assert used == Usage(input=5 * len(model.samples), output=2 * len(model.samples)) and len(model.samples) > 2
    _, used = await compact(ScriptedModel(["short"], again=True), Prompt(items=items))
    assert used is None


async def test_a_piece_that_is_too_long_is_halved() -> None:
    items = (said("assistant", "some words on a line\n" * 40),)
    model = ScriptedModel([ContextTooLong()], "one", "two", again=True)
    made, _ = await compact(model, Prompt(items=items))
    assert "one\n\ntwo" in made.summary


async def test_it_gives_up_where_nothing_fits() -> None:
    items = (said("assistant", "some words on a line\n" * 400),)
    model = ScriptedModel([ContextTooLong()], again=True)
    with pytest.raises(InvalidRequest) as caught:
        await compact(model, Prompt(items=items))
    assert caught.value.code == "context_length_exceeded"
    assert len(model.samples) <= PIECES_MAX


async def test_a_summary_is_asked_for_without_tools_and_with_a_bound() -> None:
    model = ScriptedModel("short")
    prompt = Prompt(items=(said("user", "hi"),), instructions="You sell shoes.", max_output_tokens=9999)
    await compact(model, prompt)
    (asked,) = model.prompts
    assert asked.functions == () and asked.max_output_tokens is not None and asked.max_output_tokens < 2000
    assert asked.instructions is not None and asked.instructions.endswith("You sell shoes.")
