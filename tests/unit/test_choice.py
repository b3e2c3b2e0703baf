"""How a weak model's choice between calling and speaking is made: without chance, and by the odds of a call."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from antiphon.models import (
    PROBED,
    Call,
    Delta,
    Finish,
    Function,
    Prompt,
    Reasoning,
    Text,
    TextFormat,
    ToolChoice,
    Usage,
)
from antiphon.models.chat.choice import is_choice, sample_choice
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.fenced import CALL_BEGUN
from antiphon.wire import Json

CONFIG = ChatConfig(
    base_url="", model="m", tool_help="repair", tool_format="fenced", call_odds=0.15, sampling={"temperature": 1.0}
)
PROMPT = Prompt(items=(), functions=(Function("f"),), presence_penalty=0.5)
CALL, DONE = Call(0, "f", "{}"), Finish()


def said(text: str, **odds: float) -> Text:
    likeliest = [{"token": token, "logprob": math.log(odd)} for token, odd in odds.items()]
    return Text(text, ({"token": text, "top_logprobs": likeliest},))


def likely(text: str) -> Text:
    return Text(text, ({"token": text, "top_logprobs": [{"token": "```", "logprob": math.log(0.3)}]},))


NAMED = [said("f", f=0.9, answer=0.05), Finish("length")]
"""What a begun call would be of: a function that there is."""


class Upstream:
    """Plays answers, and remembers what it was asked."""

    def __init__(self, *answers: Sequence[Delta]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Prompt, str]] = []
        self.closed = 0

    @asynccontextmanager
    async def open(self, prompt: Prompt, begun: str) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        self.asked.append((prompt, begun))
        try:
            yield self._play(begun, self._answers.pop(0))
        finally:
            self.closed += 1

    async def _play(self, begun: str, answer: Sequence[Delta]) -> AsyncGenerator[Sequence[Delta]]:
        for delta in answer:
            # What was begun is read with the rest.
            yield [msgspec.structs.replace(delta, text=begun + delta.text) if isinstance(delta, Text) else delta]
            begun = ""


def sample(upstream: Upstream, prompt: Prompt = PROMPT, config: ChatConfig = CONFIG) -> list[Delta]:
    async def all_of() -> list[Delta]:
        async with sample_choice(upstream.open, prompt, config) as batches:
            return [delta async for batch in batches for delta in batch]

    deltas = asyncio.run(all_of())
    assert upstream.closed == len(upstream.asked)
    return deltas


COLD = Prompt(items=(), functions=PROMPT.functions, temperature=0)
BARE = msgspec.structs.replace(CONFIG, call_odds=None)


def test_one_token_tells_that_a_call_is_begun_and_it_is_sampled_greedily() -> None:
    upstream = Upstream([Text("```"), Finish("length")], NAMED, [CALL, DONE])
    assert sample(upstream) == [CALL, Finish(helps=("chosen_greedily",))]
    look, named, asked = upstream.asked
    assert (look[0].temperature, look[0].max_output_tokens, look[0].top_logprobs) == (0.0, 1, 10)
    assert named == (look[0], CALL_BEGUN)
    assert (asked[0].temperature, asked[0].presence_penalty, asked[0].top_logprobs, asked[1]) == (0.0, 0.0, None, "")


def test_words_are_sampled_as_they_were_asked_for() -> None:
    upstream = Upstream([said("Hi", Hi=0.9), Finish("length")], [Text("Hey"), DONE])
    assert sample(upstream) == [Text("Hey"), DONE]
    assert upstream.asked[1] == (PROMPT, "")


def test_where_a_call_was_likely_one_is_begun() -> None:
    for prompt in (PROMPT, COLD):
        upstream = Upstream([likely("To"), Finish("length")], NAMED, [CALL, DONE])
        assert sample(upstream, prompt) == [CALL, Finish(helps=("chosen_greedily",))]
        assert upstream.asked[2][1] == CALL_BEGUN


@pytest.mark.parametrize("opening", [Text("```"), likely("To")])
@pytest.mark.parametrize("name", ["answer", "sort", " "])
def test_what_would_be_a_call_of_no_function_is_answered_without_any(opening: Text, name: str) -> None:
    named = [Text("x", ({"top_logprobs": [{"token": name, "logprob": -0.1}]},)), Finish("length")]
    upstream = Upstream([opening, Finish("length")], named, [Text("Hey"), DONE])
    assert sample(upstream) == [Text("Hey"), Finish(helps=("needless",))]
    assert upstream.asked[2] == (msgspec.structs.replace(PROMPT, functions=()), "")


HI: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}
ASKING = msgspec.structs.replace(PROMPT, items=(HI,))


@pytest.mark.parametrize(("a", "calls"), [(0.9, True), (0.2, False)])
def test_where_the_name_leaves_a_doubt_it_is_asked_what_is_needed(a: float, calls: bool) -> None:
    doubted = [said("f", f=0.8, answer=0.2), Finish("length")]
    letter = [said("A", A=a, B=1 - a), Finish("length")]
    upstream = Upstream([Text("```"), Finish("length")], doubted, letter, [CALL if calls else Text("Hey"), DONE])
    told = sample(upstream, ASKING)
    assert told == ([CALL, Finish(helps=("chosen_greedily",))] if calls else [Text("Hey"), Finish(helps=("needless",))])
    asked, begun = upstream.asked[2]
    assert (asked.max_output_tokens, asked.temperature, asked.functions, begun) == (1, 0.0, (), "")
    assert "A user wrote" in str(asked.items)


SEARCHING = msgspec.structs.replace(PROMPT, functions=(Function("look", searches=True), Function("f")))


def test_a_search_is_held_to_its_schema_where_the_model_thought_of_another_name() -> None:
    named = [said("refund", refund=0.5, look=0.3, answer=0.2), Finish("length")]
    upstream = Upstream([Text("```"), Finish("length")], named, [CALL, DONE])
    assert sample(upstream, SEARCHING) == [CALL, Finish(helps=("searched",))]
    asked, begun = upstream.asked[2]
    assert (asked.tool_choice, asked.temperature, begun) == (ToolChoice("required", ("look",)), 0.0, "")
    for limit, tokens in ((None, 256), (4000, 256), (50, 50)):
        upstream = Upstream([Text("```"), Finish("length")], named, [CALL, DONE])
        sample(upstream, msgspec.structs.replace(SEARCHING, max_output_tokens=limit))
        assert upstream.asked[2][0].max_output_tokens == tokens
    known = [said("look", look=0.6, f=0.3), Finish("length")]
    assert sample(Upstream([Text("```"), Finish("length")], known, [CALL, DONE]), SEARCHING)[-1].helps == ("searched",)


def test_another_function_that_the_model_thought_of_is_called_beside_a_search() -> None:
    upstream = Upstream([Text("```"), Finish("length")], [said("f", f=0.6, look=0.3), DONE], [CALL, DONE])
    assert sample(upstream, SEARCHING) == [CALL, Finish(helps=("chosen_greedily",))]
    assert upstream.asked[2][0].tool_choice == ToolChoice()


def test_greetings_are_not_searched_for() -> None:
    named = [said("answer", answer=0.9, look=0.05), Finish("length")]
    upstream = Upstream([Text("```"), Finish("length")], named, [Text("Hey"), DONE])
    assert sample(upstream, SEARCHING) == [Text("Hey"), Finish(helps=("needless",))]


def test_where_a_call_is_preferred_one_is_begun_however_unlikely() -> None:
    preferring = msgspec.structs.replace(PROMPT, prefers_call=True)
    upstream = Upstream([said("Who", Who=0.9), Finish("length")], NAMED, [CALL, DONE])
    assert sample(upstream, preferring) == [CALL, Finish(helps=("chosen_greedily",))]
    assert upstream.asked[2][1] == CALL_BEGUN


@pytest.mark.parametrize("odds", [0.985, 0.2])
def test_where_the_name_leaves_none_nothing_more_is_asked(odds: float) -> None:
    sure = [said("f", f=odds, answer=0.99 - odds), Finish("length")]
    upstream = Upstream([Text("```"), Finish("length")], sure, [CALL, DONE])
    sample(upstream, ASKING)
    assert len(upstream.asked) == 3


def test_what_the_looks_use_is_on_the_account_and_not_in_the_answer() -> None:
    used = [Usage(input=10 + n, output=1) for n in range(4)]
    looks = [[Text("```")], [said("f", f=0.8, answer=0.2)], [said("A", A=0.9, B=0.1)], [CALL]]
    upstream = Upstream(*([*look, Finish(usage=usage)] for look, usage in zip(looks, used, strict=True)))
    probed: list[Usage] = []
    token = PROBED.set(probed)
    try:
        assert sample(upstream, ASKING)[-1] == Finish(usage=used[3], helps=("chosen_greedily",))
    finally:
        PROBED.reset(token)
    assert probed == used[:3]


def test_a_question_that_is_not_answered_leaves_the_name() -> None:
    doubted = [said("f", f=0.8, answer=0.2), Finish("length")]
    for silence in ([Finish("length")], [Text("A"), Finish("length")]):
        assert CALL in sample(Upstream([Text("```"), Finish("length")], doubted, silence, [CALL, DONE]), ASKING)


def test_a_call_of_the_function_for_words_is_answered_in_words() -> None:
    spoken = [Call(0, "answer_in_words", "{}"), DONE]
    chosen = msgspec.structs.replace(PROMPT, tool_choice=ToolChoice("auto", ("f",)))
    for prompt, name in ((PROMPT, NAMED), (chosen, NAMED), (chosen, [Finish("length")])):
        upstream = Upstream([Text("```"), Finish("length")], name, spoken, [Text("Hey"), DONE])
        assert sample(upstream, prompt) == [Text("Hey"), Finish(helps=("needless",))]
        assert upstream.asked[3][0].functions == ()
    declared = msgspec.structs.replace(PROMPT, functions=(Function("answer_in_words"),))
    upstream = Upstream([Text("```"), Finish("length")], [Finish("length")], spoken)
    assert sample(upstream, declared)[0] == spoken[0]


def test_where_a_server_tells_no_odds_of_names_a_call_is_believed() -> None:
    for named in ([Text("x"), Finish("length")], [Finish("length")]):
        assert CALL in sample(Upstream([Text("```"), Finish("length")], named, [CALL, DONE]))


def test_what_was_begun_and_is_no_call_is_no_answer() -> None:
    for prompt in (PROMPT, COLD):
        upstream = Upstream([likely("To"), Finish("length")], NAMED, [Text("```json"), DONE], [Text("Hey"), DONE])
        assert sample(upstream, prompt) == [Text("Hey"), DONE]
        assert upstream.asked[3] == (prompt, "")


def test_code_that_opens_like_a_call_is_sampled_as_it_was_asked_for() -> None:
    upstream = Upstream([Text("```"), Finish("length")], NAMED, [Text("```python"), DONE], [Text("```py"), DONE])
    assert sample(upstream) == [Text("```py"), DONE]
    upstream = Upstream([Text("```"), Finish("length")], NAMED, [Text("```python"), DONE])
    assert sample(upstream, COLD) == [Text("```python"), DONE]


def test_where_no_odds_are_looked_at_a_few_tokens_tell() -> None:
    for opening in ([Call(0, "f"), Finish("length")], [Text('{"na'), Finish("length")], [Finish("length")]):
        upstream = Upstream(opening, [Text(" "), CALL, DONE])
        assert sample(upstream, config=BARE) == [Text(" "), CALL, Finish(helps=("chosen_greedily",))]
        assert (upstream.asked[0][0].max_output_tokens, upstream.asked[0][0].top_logprobs) == (4, None)
    upstream = Upstream([likely("Hi"), Finish("length")], [Text("Hey"), DONE])
    assert sample(upstream, config=BARE) == [Text("Hey"), DONE]


def test_who_reasons_chooses_by_that() -> None:
    upstream = Upstream([Reasoning("Hm"), Finish("length")], [Reasoning("So"), CALL, DONE])
    assert sample(upstream) == [Reasoning("So"), CALL, DONE]
    assert upstream.asked[1] == (PROMPT, "")


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"functions": ()}, {}),
        ({"max_output_tokens": 1}, {}),
        ({"tool_choice": ToolChoice("none")}, {}),
        ({"tool_choice": ToolChoice("required")}, {}),
        ({"format": TextFormat("json_object")}, {}),
        ({"top_logprobs": 0}, {}),
        ({"prefix": "To"}, {}),
        ({}, {"tool_help": "read"}),
        ({"temperature": 0.0}, {"call_odds": None}),
    ],
)
def test_where_there_is_no_choice_nothing_is_asked_twice(fields: dict[str, Any], config: dict[str, Any]) -> None:
    assert is_choice(PROMPT, CONFIG)
    known = {"base_url": "", "model": "m", "tool_help": "repair", "tool_format": "fenced", "call_odds": 0.15, **config}
    assert not is_choice(Prompt(**{"items": (), "functions": PROMPT.functions, **fields}), ChatConfig(**known))
