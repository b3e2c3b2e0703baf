"""Contexts that are too long for an upstream, which says so as llama-server does: refused, or made shorter."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from scripted_upstream import Answer, Asked, Upstream, finish, plain, sse, text, usage

from antiphon.models.chat.upstream import upstream_models
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving
from antiphon.wire import Json

WINDOW = 400
RULES, LAST = "Keep to the rules.", "What now?"


def tokens_of(body: Json) -> int:
    return len(str(body["messages"])) // 4


class Bounded:
    """An upstream with a window, and what it was asked: the bodies it refused, and those it answered."""

    def __init__(self, upstream: Upstream, *, says_how_much: bool = True) -> None:
        self.refused: list[Json] = []
        self.answered: list[Json] = []
        self._says_how_much = says_how_much
        upstream.fixed["/v1/chat/completions"] = self.answer

    def answer(self, asked: Asked) -> Answer:
        body, tokens = asked.json, tokens_of(asked.json)
        if tokens <= WINDOW:
            self.answered.append(body)
            return sse(text("ok"), finish(), usage(tokens, 1))
        self.refused.append(body)
        error: Json = {"code": 400, "type": "exceed_context_size_error", "message": "exceeds the context size"}
        if self._says_how_much:
            error |= {"n_prompt_tokens": tokens, "n_ctx": WINDOW}
        return plain({"error": error}, 400)


@asynccontextmanager
async def bounded(*, window: int | None = None, **more: bool) -> AsyncIterator[tuple[Bounded, AsyncOpenAI]]:
    async with Upstream() as upstream:
        model = Bounded(upstream, **more)
        upstream.fixed["/v1/models"] = plain({"data": [{"id": "m"} | ({"max_model_len": window} if window else {})]})
        upstream.fixed["/tokenize"] = lambda asked: plain({"count": tokens_of(asked.json)})
        upstream.fixed["/apply-template"] = plain({}, 404)
        roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options={})
        try:
            async with (
                serving(roster=roster) as url,
                AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
            ):
                yield model, client
        finally:
            await roster.close()


def talk(*sizes: int) -> list[Any]:
    """Turns with a call each, of so many words."""
    items: list[Any] = [{"role": "developer", "content": RULES}]
    for turn, size in enumerate(sizes):
        items += [
            {"role": "user", "content": f"turn {turn} " + "word " * size},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": f"c{turn}", "name": "look", "arguments": "{}"},
            {"type": "function_call", "call_id": f"d{turn}", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": f"d{turn}", "output": "seen " * size},
            {"type": "function_call_output", "call_id": f"c{turn}", "output": "seen " * size},
            {"role": "assistant", "content": "said " * size},
        ]
    return [*items, {"role": "user", "content": LAST}]


def assert_whole(messages: list[Json]) -> None:
    """Calls stand directly before their outputs, and nothing that has to stay is gone."""
    assert messages[0] == {"role": "system", "content": RULES} and messages[-1]["content"] == LAST
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert not waiting
        waiting = [call["id"] for call in message.get("tool_calls", ())]
    assert not waiting


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("window", [None, WINDOW])
async def test_what_is_too_long_is_refused_before_any_time_of_the_model(window: int | None, stream: bool) -> None:
    async with bounded(window=window) as (model, client):
        conversation = await client.conversations.create(items=talk(20)[:-1])
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(
                model="m", input="x" * 4 * WINDOW, conversation=conversation.id, truncation="disabled", stream=stream
            )
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
        assert f"maximum context length is {WINDOW} tokens. However, your input resulted in " in caught.value.message
        # Where the window is known nobody is asked; else it is the model's server that says so, before it computes.
        assert (len(model.refused), model.answered) == (0 if window else 1, [])
        response = await client.responses.create(model="m", input="short", conversation=conversation.id)
    assert response.output_text == "ok"


@pytest.mark.parametrize("word", ["word ", "слово ", "\u9577"])
async def test_a_server_that_cuts_without_a_word_is_asked_for_nothing_too_long_in_any_script(word: str) -> None:
    model = ScriptedModel("cut", tokens=lambda prompt: WINDOW + 1, context_tokens=WINDOW)
    long = word * (5 * WINDOW // len(word.encode()) + 1)
    async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input=long)
    assert caught.value.code == "context_length_exceeded" and not model.samples


async def test_a_background_response_fails_with_it() -> None:
    async with bounded() as (model, client):
        response = await client.responses.create(model="m", input="x" * 4 * WINDOW, background=True)
        while response.status in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            response = await client.responses.retrieve(response.id)
    assert response.status == "failed" and response.error is not None
    assert "context window" in response.error.message and not model.answered


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(0, 60), min_size=4, max_size=12), says=st.booleans(), known=st.booleans())
async def test_the_oldest_make_room_and_what_belongs_together_stays_so(
    sizes: list[int], says: bool, known: bool
) -> None:
    async with bounded(window=WINDOW if known else None, says_how_much=says) as (model, client):
        response = await client.responses.create(model="m", input=talk(*sizes), truncation="auto", store=False)
    assert response.output_text == "ok"
    assert_whole(model.answered[-1]["messages"])
    assert len(model.refused) <= 8
    for body in model.refused:
        assert_whole(body["messages"])


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(20, 60), min_size=4, max_size=8))
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("bound", [{}, {"max_output_tokens": 20}])
async def test_what_is_shortened_is_counted_so(sizes: list[int], window: int | None, bound: Json) -> None:
    async with bounded(window=window) as (_, client):
        asked: Any = {"model": "m", "input": talk(*sizes), "truncation": "auto"}
        counted = await client.responses.input_tokens.count(**asked, extra_body=bound)
        response = await client.responses.create(**asked, **bound)
        whole = await client.responses.input_tokens.count(**asked | {"truncation": "disabled"})
    assert response.usage is not None and counted.input_tokens == response.usage.input_tokens < whole.input_tokens
