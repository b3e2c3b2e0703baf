"""The context on the embedded model: what is counted is what is read, and what was read is read no second time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI

from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.embedded.llamacpp import EmbeddedServer
from antiphon.testing.serving import serving
from antiphon.wire import Json

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

LOOK: Json = {
    "type": "function",
    "name": "look",
    "description": "What is at a place.",
    "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]},
    "strict": False,
}
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
SAID = st.builds(
    lambda role, text: [{"role": role, "content": text}], st.sampled_from(["user", "assistant", "developer"]), TEXTS
)
CALLED = st.builds(
    lambda at, output: [
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": f'{{"at": {at}}}'},
        {"type": "function_call_output", "call_id": "c", "output": output},
    ],
    st.integers(0, 9),
    TEXTS,
)
INPUTS = st.lists(SAID | CALLED, max_size=4).map(lambda groups: [item for group in groups for item in group])
OBJECT: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMATS = st.sampled_from([None, {"format": {"type": "json_schema", "name": "n", "schema": OBJECT, "strict": False}}])
CHOICES = st.sampled_from(["auto", "none", "required", {"type": "function", "name": "look"}])


@asynccontextmanager
async def client_of(server: EmbeddedServer) -> AsyncIterator[AsyncOpenAI]:
    config = ChatConfig(
        base_url=server.base_url,
        api_key=server.api_key,
        model=server.settings.alias,
        context_tokens=server.context_tokens,
        supports_prefill="llamacpp",
        counter="llamacpp",
    )
    model = ChatModel(config)
    async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client
    await model.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=INPUTS, last=TEXTS, rules=st.none() | TEXTS, text=FORMATS, choice=st.none() | CHOICES)
async def test_the_count_is_what_the_model_reads(
    small_server: EmbeddedServer, items: list[Json], last: str, rules: str | None, text: Any, choice: Any
) -> None:
    asked: Any = {"model": "m", "input": [*items, {"role": "user", "content": last}], "instructions": rules}
    asked |= {"text": text} if text else {}
    asked |= {"tools": [LOOK], "tool_choice": choice} if choice else {}
    async with client_of(small_server) as client:
        counted = await client.responses.input_tokens.count(**asked)
        events = await client.responses.create(**asked, max_output_tokens=16, stream=True, store=False)
        ended = [event async for event in events][-1]
    assert ended.type in ("response.completed", "response.incomplete", "response.failed")
    if ended.type != "response.failed":
        assert ended.response.usage is not None
        assert counted.input_tokens == ended.response.usage.input_tokens


async def test_what_a_chain_has_read_is_read_no_second_time(small_server: EmbeddedServer) -> None:
    async with client_of(small_server) as client:
        previous: str | None = None
        before = 0
        for turn in range(5):
            asked: Any = [{"role": "user", "content": f"Turn {turn}: tell me something about gardens."}]
            response = await client.responses.create(
                model="m", input=asked, previous_response_id=previous, max_output_tokens=24, instructions="Be brief."
            )
            assert response.usage is not None
            if previous is not None:
                # The last token of a prompt is read again in any case.
                assert response.usage.input_tokens_details.cached_tokens >= 0.95 * before - 1
            previous, before = response.id, response.usage.input_tokens


async def test_a_long_conversation_is_compacted_and_goes_on(small_server: EmbeddedServer) -> None:
    talk: Any = []
    for place in range(12):
        talk.append({"role": "user", "content": f"Tell me about bed {place}."})
        talk.append({"role": "assistant", "content": f"Bed {place} holds roses. " + "They want water and sun. " * 12})
    async with client_of(small_server) as client:
        compacted = await client.responses.compact(model="m", input=talk)
        counted = await client.responses.input_tokens.count(model="m", input=talk)
        output: Any = [item.model_dump(exclude_none=True, warnings=False) for item in compacted.output]
        response = await client.responses.create(model="m", input=[*output, talk[0]], max_output_tokens=16)
    figures: Any = compacted.model_extra
    assert figures["original_token_count"] == counted.input_tokens > 900
    assert figures["token_count"] < 0.5 * counted.input_tokens
    assert response.usage is not None and response.usage.input_tokens > figures["token_count"]
