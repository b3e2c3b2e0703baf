"""Runs and shapes on the embedded model, in this process: what it says is its own, how it comes back is ours."""

import asyncio
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Optional

import pydantic
import pytest

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client import RunEvent, RunFinished, TextDelta
from antiphon.config import Config
from antiphon.models.embedded.llamacpp import EmbeddedServer

SMALL = "smollm2-135m-instruct"

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Person(pydantic.BaseModel):
    name: str
    mood: Mood
    friend: Optional["Person"] = None


def get_weather(city: Literal["Paris", "Rome"], days: int = 1) -> dict[str, Any]:
    """Get the weather of a city.

    Args:
        city: Which city.
        days: For how many days.
    """
    return {"city": city, "days": days, "weather": "sunny"}


@pytest.fixture
def config(small_server: EmbeddedServer, tmp_path: Path) -> Config:
    return Config(
        data=tmp_path, upstream=small_server.base_url, upstream_key=small_server.api_key, aliases={"m": SMALL}
    )


@pytest.fixture
def client(config: Config) -> Iterator[OpenAI]:
    with OpenAI(config=config) as made:
        yield made


@pytest.mark.parametrize("store", [True, False])
def test_a_run_calls_a_function_and_answers(client: OpenAI, store: bool) -> None:
    events: list[RunEvent] = []
    result = client.run(
        "What is the weather in Paris?",
        tools=[get_weather],
        model="m",
        tool_choice="required",
        max_output_tokens=64,
        parallel_tool_calls=False,
        store=store,
        turns_max=4,
        on_event=events.append,
    )
    record = result.calls[0]
    assert record.error is None
    assert record.arguments["city"] in ("Paris", "Rome")
    assert '"weather":"sunny"' in record.output["output"]
    assert result.response.status in ("completed", "incomplete")
    said = "".join(event.delta for event in events if isinstance(event, TextDelta) and event.turn == result.turns)
    assert said == result.output_text
    assert events[-1] == RunFinished(result)
    assert result.usage.total_tokens == sum(r.usage.total_tokens for r in result.responses if r.usage is not None)


@pytest.mark.parametrize("shape", [Person, Mood, list[int], Literal["yes", "no"]], ids=str)
def test_an_answer_has_its_shape_or_a_reason(client: OpenAI, shape: Any) -> None:
    asked: dict[str, Any] = {"model": "m", "input": "Describe Ada.", "text_format": shape, "max_output_tokens": 96}
    parsed = client.responses.parse(**asked)
    with client.responses.stream(**asked) as stream:
        final = stream.get_final_response()
    for response in (parsed, final):
        assert (response.output_parsed is None) == (response.status == "incomplete")
        assert (response.output_parsed is None) == (response.output_parsed_reason is not None)


def test_the_asynchronous_client_runs_too(config: Config) -> None:
    async def within() -> str:
        async with AsyncOpenAI(config=config) as client:
            result = await client.run("Say hello.", model="m", max_output_tokens=16)
            return result.output_text

    assert asyncio.run(within())
