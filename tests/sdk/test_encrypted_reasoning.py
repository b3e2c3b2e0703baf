"""Reasoning that a client carries itself: sealed on its way out, read on its way in, nobody else's business."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from antiphon.models import Finish, Prompt, Reasoning, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

DONE = Finish("stop", Usage(input=3, output=4, reasoning=2))
THINKS = [Reasoning("Paris, "), Reasoning("surely."), "Paris.", DONE]
ENCRYPTED: Any = ["reasoning.encrypted_content"]


@asynccontextmanager
async def client_of(model: ScriptedModel, **more: Any) -> AsyncGenerator[AsyncOpenAI]:
    async with serving(model, **more) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def thoughts(prompt: Prompt) -> list[str]:
    return [part["text"] for item in prompt.items if item["type"] == "reasoning" for part in item["content"]]


async def asked(client: AsyncOpenAI, **more: Any) -> list[dict[str, Any]]:
    response = await client.responses.create(model="m", input="Capital?", include=ENCRYPTED, store=False, **more)
    return [item.model_dump(exclude_none=True) for item in response.output]


async def test_a_stateless_client_brings_it_back() -> None:
    model = ScriptedModel(THINKS, "Of France.")
    async with client_of(model) as client:
        reasoning, answer = await asked(client)
        assert "Paris" not in reasoning["encrypted_content"]
        # As clients send it that keep the sealed text alone.
        carried: Any = {name: value for name, value in reasoning.items() if name not in ("content", "status")}
        again: Any = [carried, answer, {"role": "user", "content": "Of what?"}]
        await client.responses.create(model="m", input=again, store=False)
    assert thoughts(model.prompts[1]) == ["Paris, surely."]


async def test_it_comes_only_to_those_who_ask() -> None:
    model = ScriptedModel(THINKS, again=True)
    async with client_of(model) as client:
        plain = await client.responses.create(model="m", input="Capital?")
        assert plain.output[0].type == "reasoning" and plain.output[0].encrypted_content is None
        assert (await client.responses.retrieve(plain.id)).output[0].encrypted_content is None  # type: ignore[union-attr]
        later = await client.responses.retrieve(plain.id, include=ENCRYPTED)
        carried: Any = [item.model_dump(exclude_none=True, exclude={"content"}) for item in later.output[:1]]
        await client.responses.create(model="m", input=[*carried, {"role": "user", "content": "And?"}])
        assert thoughts(model.prompts[-1]) == ["Paris, surely."]
        kept = await client.responses.create(model="m", input="Capital?", include=ENCRYPTED)
        following = await client.responses.create(model="m", input="And?", previous_response_id=kept.id)
        assert following.status == "completed"


async def test_a_stream_shows_it_when_the_item_is_done() -> None:
    async with client_of(ScriptedModel(THINKS)) as client:
        stream = await client.responses.create(model="m", input="Capital?", include=ENCRYPTED, stream=True)
        events: list[Any] = [event async for event in stream]
    done = next(event.item for event in events if event.type == "response.output_item.done")
    assert done.encrypted_content and events[-1].response.output[0].encrypted_content == done.encrypted_content


@pytest.mark.parametrize("change", [lambda text: text[:-2] + ("AA" if text[-2:] != "AA" else "BB"), lambda text: "gA"])
async def test_what_was_changed_is_refused(change: Any) -> None:
    async with client_of(ScriptedModel(THINKS)) as client:
        reasoning, _ = await asked(client)
        forged: Any = [reasoning | {"encrypted_content": change(reasoning["encrypted_content"])}]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input=[*forged, {"role": "user", "content": "And?"}])
    assert (caught.value.code, caught.value.param) == ("invalid_encrypted_content", "input[0].encrypted_content")


async def test_a_reasoning_item_without_its_neighbour_is_tolerated() -> None:
    model = ScriptedModel(THINKS, "Yes.")
    async with client_of(model) as client:
        reasoning, _ = await asked(client)
        alone: Any = [{"role": "user", "content": "And?"}, reasoning]
        response = await client.responses.create(model="m", input=alone)
    assert response.output_text == "Yes."
