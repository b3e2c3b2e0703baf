"""How an answer that is held to a schema is brought to its end by a second sample."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from antiphon.models import Delta, Finish, Prompt, Text, TextFormat, Usage
from antiphon.models.chat.closing import tokens_for_end
from antiphon.models.chat.to_end import sample_to_end
from antiphon.wire import Json
from antiphon.wire.errors import Unavailable

SCHEMA: Json = {
    "type": "object",
    "properties": {"author": {"type": "string"}, "year": {"type": "integer", "maximum": 3000}},
    "required": ["author", "year"],
    "additionalProperties": False,
}
PROMPT = Prompt(
    items=(), format=TextFormat("json_schema", "a", SCHEMA), max_output_tokens=200, temperature=0.5, extra={"seed": 7}
)
KEPT = tokens_for_end(SCHEMA)
CUT = [Text('{"author": "J'), Text(".S.J"), Finish("length", Usage(10, 2, 200 - KEPT, 0), ("schema_bounded",))]
ON = [Text(".S.J" * 8), Finish("length", Usage(160, 159, 31, 0))]
END = [Text('.", "year": '), Text("1601}"), Finish("stop", Usage(160, 159, 9, 0))]


class Upstream:
    """Plays answers, and remembers what it was asked and how many are open."""

    def __init__(self, *answers: Sequence[Delta] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[Prompt] = []
        self.open_now = 0

    @asynccontextmanager
    async def open(self, prompt: Prompt, begun: str) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        assert not begun
        assert not self.open_now, "the model is asked while it still answers"
        self.asked.append(prompt)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.open_now += 1
        try:
            yield self._play(answer)
        finally:
            self.open_now -= 1

    async def _play(self, answer: Sequence[Delta]) -> AsyncGenerator[Sequence[Delta]]:
        yield answer[:1]
        yield answer[1:]


def sample(upstream: Upstream, prompt: Prompt = PROMPT, schema: Json = SCHEMA) -> list[Delta]:
    async def all_of() -> list[Delta]:
        async with sample_to_end(upstream.open, prompt, schema) as batches:
            return [delta async for batch in batches for delta in batch]

    deltas = asyncio.run(all_of())
    assert not upstream.open_now
    return deltas


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


def test_an_answer_that_ends_by_itself_is_asked_for_once() -> None:
    whole = [Text('{"author": "X", "year": 1}'), Finish("stop", Usage(10, 0, 12, 0))]
    upstream = Upstream(whole)
    assert sample(upstream) == whole
    assert [prompt.max_output_tokens for prompt in upstream.asked] == [200 - KEPT]


def test_an_answer_that_breaks_off_is_gone_on_with_as_long_as_there_are_tokens() -> None:
    upstream = Upstream(CUT, ON, END)
    deltas = sample(upstream)
    author = "J" + ".S.J" * 9 + "."
    assert text_of(deltas) == f'{{"author": "{author}", "year": 1601}}'
    assert [delta for delta in deltas if isinstance(delta, Finish)] == [
        Finish("stop", Usage(10, 2, 200 - KEPT + 31 + 9, 0), ("schema_bounded",))
    ]
    first, second, third = upstream.asked
    assert second.prefix == '{"author": "J.S.J'
    assert third.prefix == second.prefix + ".S.J" * 8
    assert third.max_output_tokens == KEPT - 31 > 9
    assert (third.temperature, third.extra["seed"]) == (0.5, 7)
    assert "grammar" not in first.extra
    for prompt, most in ((second, 400), (third, 20)):
        matcher = LLMatcher(LLTokenizer("byte"), prompt.extra["grammar"])
        assert matcher.try_consume_tokens(list(b"x" * 500)) < most, "its text has a bound"
        matcher = LLMatcher(LLTokenizer("byte"), prompt.extra["grammar"])
        assert matcher.try_consume_tokens(list(text_of(END).encode())) == len(text_of(END))


def test_an_answer_is_not_gone_on_with_for_ever() -> None:
    on = [Text("x"), Finish("length", Usage(1, 0, 1, 0))]
    upstream = Upstream(CUT, on, on, on, on, on)
    deltas = sample(upstream)
    assert len(upstream.asked) == 4
    assert isinstance(deltas[-1], Finish) and deltas[-1].reason == "length"


def test_who_leaves_within_the_end_leaves_nothing_open() -> None:
    upstream = Upstream(CUT, END)

    async def leave() -> None:
        async with sample_to_end(upstream.open, PROMPT, SCHEMA) as batches:
            async for batch in batches:
                if '.", "year": ' in text_of(batch):
                    break
        assert len(upstream.asked) == 2
        assert not upstream.open_now

    asyncio.run(leave())


def test_an_end_that_does_not_fit_is_none() -> None:
    for end in ([Text('", "year": 4000}'), Finish()], [Text('", "year": 16'), Finish("length", Usage(0, 0, 54, 0))]):
        deltas = sample(Upstream(CUT, end))
        assert isinstance(deltas[-1], Finish) and deltas[-1].reason == "length"


def test_an_answer_that_is_whole_with_its_last_token_has_ended() -> None:
    whole: Sequence[Delta] = [Text('{"author": "X", "year": 1}'), Finish("length", Usage(1, 0, 9, 0))]
    assert sample(Upstream(whole))[-1] == Finish("stop", Usage(1, 0, 9, 0))
    last = sample(Upstream(CUT, [Text('", "year": 1}'), Finish("length", Usage(0, 0, 9, 0))]))[-1]
    assert isinstance(last, Finish) and last.reason == "stop"


def test_without_an_end_the_answer_is_what_it_was() -> None:
    assert sample(Upstream(CUT, Unavailable("gone"))) == CUT
    strange: Sequence[Delta] = [Text("what is no JSON"), Finish("length", Usage(9, 0, 99, 0))]
    assert sample(Upstream(strange)) == strange
    uncounted: Sequence[Delta] = [*CUT[:2], Finish("length")]
    assert sample(Upstream(uncounted)) == uncounted


def test_where_no_end_can_be_known_all_tokens_are_the_answers() -> None:
    beyond: Json = {"allOf": [SCHEMA, {"not": {"type": "string"}}]}
    upstream = Upstream(CUT)
    assert sample(upstream, schema=beyond) == CUT
    assert upstream.asked == [PROMPT]


def test_no_more_than_half_of_the_tokens_are_kept_back() -> None:
    def asked(tokens: int) -> list[Any]:
        upstream = Upstream([Text("{"), Finish("length", Usage(5, 0, tokens - tokens // 2, 0))], END)
        sample(upstream, Prompt(items=(), format=PROMPT.format, max_output_tokens=tokens))
        return [prompt.max_output_tokens for prompt in upstream.asked]

    assert asked(31) == [16, 15]
    assert asked(1) == [1]
