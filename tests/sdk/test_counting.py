"""``input_tokens``: what a create request of the same body reports."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from antiphon.models import Delta, Finish, Prompt, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving
from antiphon.wire import Json

FUNCTION: Any = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
SCHEMA: Any = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": False}}


def tokens_of(prompt: Prompt) -> int:
    """Whatever of a prompt a model reads counts, but not the ids, which are new each time."""
    items = [{name: value for name, value in item.items() if name != "id"} for item in prompt.items]
    return len(str([items, prompt.instructions, prompt.functions, prompt.format, prompt.effort]))


class Honest(ScriptedModel):
    """Reports for every prompt what it would count."""

    def __init__(self) -> None:
        super().__init__(tokens=tokens_of)

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Says an object, so that every format is kept."""
        self.add([Text("{}"), Finish("stop", Usage(input=tokens_of(prompt), output=1))])
        return super().sample(prompt)


@asynccontextmanager
async def client_of(model: ScriptedModel, **more: Any) -> AsyncGenerator[AsyncOpenAI]:
    async with serving(model, **more) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


ASKED: list[Json] = [
    {"input": "hi"},
    {"input": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
    {"input": "hi", "instructions": "Be brief.", "reasoning": {"effort": "low"}},
    {"input": "hi", "tools": [FUNCTION], "tool_choice": "auto", "parallel_tool_calls": False},
    {"input": "hi", "text": SCHEMA},
    {
        "input": [
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "a cat"},
        ],
        "truncation": "auto",
    },
]


@pytest.mark.parametrize("place", ["alone", "chain", "conversation"])
@pytest.mark.parametrize("asked", ASKED)
async def test_the_count_is_what_a_request_reports(asked: Json, place: str) -> None:
    async with client_of(Honest()) as client:
        where: Json = {}
        if place == "chain":
            where = {"previous_response_id": (await client.responses.create(model="m", input="before")).id}
        elif place == "conversation":
            items: Any = [{"role": "user", "content": "before"}]
            where = {"conversation": (await client.conversations.create(items=items)).id}
        counted = await client.responses.input_tokens.count(model="m", **asked, **where)
        response = await client.responses.create(model="m", **asked, **where)
    assert response.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", response.usage.input_tokens)


async def test_counting_asks_no_model_and_keeps_nothing() -> None:
    model = Honest()
    async with client_of(model) as client:
        conversation = await client.conversations.create()
        answer = await client.responses.input_tokens.with_raw_response.count(
            input="hi", conversation=conversation.id, extra_body={"personality": "friendly"}
        )
        assert not (await client.conversations.items.list(conversation.id)).data
    assert model.prompts == []
    assert answer.headers["x-antiphon-model"] == "scripted" and "x-antiphon-estimated" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "input"),
        ({"input": "hi", "previous_response_id": "resp_none"}, "previous_response_id"),
        ({"input": "hi", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "hi", "personality": "p" * 65}, "personality"),
    ],
)
async def test_what_create_refuses_is_refused(asked: Json, param: str | None) -> None:
    async with client_of(Honest()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_tokens.count(**asked)
    assert caught.value.param == param


async def test_an_estimate_is_marked() -> None:
    class Guessing(ScriptedModel):
        @property
        def estimates_tokens(self) -> bool:
            return True

    async with client_of(Guessing()) as client:
        answer = await client.responses.input_tokens.with_raw_response.count(model="m", input="hi")
    assert answer.headers["x-antiphon-estimated"] == "input_tokens"


async def test_what_is_ignored_is_named_here_too() -> None:
    tools: Any = [{"type": "web_search"}, FUNCTION, {"type": "holodeck"}]
    async with (
        serving(Honest()) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        count = client.responses.input_tokens.with_raw_response.count
        answer = await count(model="m", input="Hi", tools=tools, extra_body={"top_q": 1})
    assert answer.headers["x-antiphon-ignored"] == "top_q, tools[0]:web_search, tools[2]:holodeck"
