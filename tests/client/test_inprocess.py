"""The clients with the engine in this process, on scripted models."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client.host import HOSTS
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import Gate, scripted


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    before = set(threading.enumerate())
    yield
    assert HOSTS._hosts == []
    assert set(threading.enumerate()) <= before


def texts(stream: Any) -> Iterator[str]:
    return (event.delta for event in stream if event.type == "response.output_text.delta")


def test_an_answer_without_a_server_or_a_key(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello"))) as client:
        response = client.responses.create(model="m", input="Hi")
        assert response.output_text == "Hello"
        assert response._request_id is not None
        assert client.responses.retrieve(response.id) == response


async def test_an_answer_without_a_server_or_a_key_async(tmp_path: Path) -> None:
    async with AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello"))) as client:
        response = await client.responses.create(model="m", input="Hi")
        assert response.output_text == "Hello"
        assert await client.responses.retrieve(response.id) == response


def test_a_delta_is_seen_before_the_model_ends(tmp_path: Path) -> None:
    gate = Gate()
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel(["one", gate, "two"]))) as client:
        deltas = texts(client.responses.create(model="m", input="Hi", stream=True))
        assert next(deltas) == "one"
        gate.set()
        assert list(deltas) == ["two"]


async def test_a_delta_is_seen_before_the_model_ends_async(tmp_path: Path) -> None:
    gate = Gate()
    seen = []
    async with AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel(["one", gate, "two"]))) as client:
        async for event in await client.responses.create(model="m", input="Hi", stream=True):
            if event.type == "response.output_text.delta":
                seen.append(event.delta)
                gate.set()
    assert seen == ["one", "two"]


def test_one_asynchronous_client_in_one_event_loop_after_the_other(tmp_path: Path) -> None:
    client = AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello", again=True)))

    async def ask() -> str:
        return (await client.responses.create(model="m", input="Hi")).output_text

    assert [asyncio.run(ask()) for _ in range(3)] == ["Hello"] * 3
    asyncio.run(client.close())


def test_what_one_client_stores_another_sees(tmp_path: Path) -> None:
    engine = scripted(ScriptedModel("Hello"))
    with OpenAI(data=tmp_path, engine=engine) as one, OpenAI(data=tmp_path, engine=engine) as two:
        response = one.responses.create(model="m", input="Hi")
        one.close()
        assert two.responses.retrieve(response.id) == response
    with OpenAI(data=tmp_path, engine=engine) as three:
        assert three.responses.retrieve(response.id) == response


def test_errors_are_typed(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel())) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.responses.retrieve("resp_none")
        assert caught.value.request_id is not None
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input="Hi", temperature=9)
