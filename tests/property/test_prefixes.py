"""What a chain has shown a model stands at the beginning of what it shows next, so that its server reads it once."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from antiphon.models import Function, Prompt
from antiphon.models.chat.body import body
from antiphon.models.chat.config import ChatConfig
from antiphon.wire import Json

TEXTS = st.text(min_size=1, max_size=12)


def message(role: str, text: str) -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def thought(text: str) -> Json:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def calls(count: int, number: int) -> list[Json]:
    return [
        {"type": "function_call", "call_id": f"c{number}-{i}", "name": "f", "arguments": "{}"} for i in range(count)
    ]


def outputs(count: int, number: int) -> list[Json]:
    return [{"type": "function_call_output", "call_id": f"c{number}-{i}", "output": "1"} for i in range(count)]


@st.composite
def chains(draw: st.DrawFn) -> list[list[Json]]:
    """Contexts of a chain's samples, each the one before with its answer and what follows."""
    items = [message("user", draw(TEXTS))]
    contexts = [list(items)]
    for number in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            items.append(thought(draw(TEXTS)))
        count = draw(st.integers(0, 2))
        if not count or draw(st.booleans()):
            items.append(message("assistant", draw(TEXTS)))
        items += [*calls(count, number), *outputs(count, number)]
        if not count or draw(st.booleans()):
            items.append(message(draw(st.sampled_from(["user", "developer"])), draw(TEXTS)))
        contexts.append(list(items))
    return contexts


@given(chains(), st.none() | TEXTS, st.booleans(), st.sampled_from(["system", "user"]))
def test_the_next_prompt_begins_with_the_last(
    contexts: list[list[Json]], rules: str | None, replays: bool, late: Any
) -> None:
    config = ChatConfig(base_url="http://x", model="m", replays_reasoning=replays, late_system_role=late)
    asked = [
        body(Prompt(items=tuple(items), instructions=rules, functions=(Function("f"),)), config) for items in contexts
    ]
    for before, after in pairwise(asked):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert {**after, "messages": ()} == {**before, "messages": ()}
