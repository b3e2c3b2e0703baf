"""The clients with the engine in this process, on scripted models: what the official clients do over HTTP."""

import asyncio
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import trio

from antiphon import Antiphon, AsyncAntiphon, AsyncOpenAI, OpenAI
from antiphon.cli.check_stream import check_stream
from antiphon.config import Config, ConfigError
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import Gate, scripted
from antiphon.wire.errors import RateLimited

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def texts(stream: Any) -> Iterator[str]:
    return (event.delta for event in stream if event.type == "response.output_text.delta")


def one(data: Path, *scripts: Any, **options: Any) -> OpenAI:
    """A client whose model plays the scripts."""
    return OpenAI(data=data, engine=scripted(ScriptedModel(*scripts)), **options)


def one_async(data: Path, *scripts: Any, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(data=data, engine=scripted(ScriptedModel(*scripts)), **options)


def test_an_answer_without_a_server_or_a_key(tmp_path: Path) -> None:
    with one(tmp_path, "Hello") as client:
        response = client.responses.create(model="m", input="Hi")
        assert response.output_text == "Hello"
        assert response._request_id is not None
        assert client.responses.retrieve(response.id) == response


async def test_an_answer_without_a_server_or_a_key_async(tmp_path: Path) -> None:
    async with one_async(tmp_path, "Hello") as client:
        response = await client.responses.create(model="m", input="Hi")
        assert response.output_text == "Hello"
        assert response._request_id is not None
        assert await client.responses.retrieve(response.id) == response


def test_a_delta_is_seen_before_the_model_ends(tmp_path: Path) -> None:
    gate = Gate()
    with one(tmp_path, ["one", gate, "two"]) as client:
        deltas = texts(client.responses.create(model="m", input="Hi", stream=True))
        assert next(deltas) == "one"
        gate.set()
        assert list(deltas) == ["two"]


async def test_a_delta_is_seen_before_the_model_ends_async(tmp_path: Path) -> None:
    gate = Gate()
    seen = []
    async with one_async(tmp_path, ["one", gate, "two"]) as client:
        async for event in await client.responses.create(model="m", input="Hi", stream=True):
            if event.type == "response.output_text.delta":
                seen.append(event.delta)
                gate.set()
    assert seen == ["one", "two"]


def test_the_helper_that_streams(tmp_path: Path) -> None:
    with one(tmp_path, ["Hel", "lo"]) as client, client.responses.stream(model="m", input="Hi") as stream:
        assert "".join(texts(stream)) == "Hello"
        assert stream.get_final_response().output_text == "Hello"


async def test_the_helper_that_streams_async(tmp_path: Path) -> None:
    async with one_async(tmp_path, ["Hel", "lo"]) as client, client.responses.stream(model="m", input="Hi") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text == "Hello"


def test_raw_and_streaming_responses(tmp_path: Path) -> None:
    with one(tmp_path, "Hello", "Hello", ["Hel", "lo"]) as client:
        raw = client.responses.with_raw_response.create(model="m", input="Hi")
        assert (raw.status_code, raw.headers["content-type"]) == (200, "application/json")
        assert raw.headers["x-antiphon-model"] == "scripted"
        assert raw.parse().output_text == "Hello"
        with client.responses.with_streaming_response.create(model="m", input="Hi") as answer:
            assert answer.parse().output_text == "Hello"
        with client.responses.with_streaming_response.create(model="m", input="Hi", stream=True) as answer:
            assert check_stream(answer.read()).findings == []


async def test_raw_and_streaming_responses_async(tmp_path: Path) -> None:
    async with one_async(tmp_path, "Hello", ["Hel", "lo"]) as client:
        raw = await client.responses.with_raw_response.create(model="m", input="Hi")
        assert raw.headers["x-antiphon-model"] == "scripted"
        async with client.responses.with_streaming_response.create(model="m", input="Hi", stream=True) as answer:
            assert check_stream(await answer.read()).findings == []


def test_what_runs_in_the_background(tmp_path: Path) -> None:
    gate = Gate()
    with one(tmp_path, ["one", gate, "two"]) as client:
        response = client.responses.create(model="m", input="Hi", background=True)
        assert response.status == "queued"
        assert gate.reached.wait(20)
        assert client.responses.retrieve(response.id).status == "in_progress"
        gate.set()
        events = list(client.responses.retrieve(response.id, stream=True))
        assert events[-1].type == "response.completed"
        assert client.responses.retrieve(response.id).output_text == "onetwo"


def test_what_runs_in_the_background_is_taken_up_again(tmp_path: Path) -> None:
    gate = Gate()
    with one(tmp_path, ["one", gate], config={"drain_s": 0.1}) as client:
        id = client.responses.create(model="m", input="Hi", background=True).id
        assert gate.reached.wait(20)
    with one(tmp_path, ["two"], config={"drain_s": 0.1}) as client:
        assert list(client.responses.retrieve(id, stream=True))[-1].type == "response.completed"
        assert client.responses.retrieve(id).output_text in ("two", "onetwo")


def test_pages(tmp_path: Path) -> None:
    items = [{"role": "user", "content": str(n)} for n in range(5)]
    with one(tmp_path, "Hello") as client:
        id = client.responses.create(model="m", input=items).id  # type: ignore[arg-type]
        listed = client.responses.input_items.list(id, limit=2, order="asc")
        assert [item.content[0].text for item in listed] == ["0", "1", "2", "3", "4"]  # type: ignore[union-attr]


async def test_pages_async(tmp_path: Path) -> None:
    items = [{"role": "user", "content": str(n)} for n in range(5)]
    async with one_async(tmp_path, "Hello") as client:
        id = (await client.responses.create(model="m", input=items)).id  # type: ignore[arg-type]
        listed = client.responses.input_items.list(id, limit=2, order="asc")
        assert [item.content[0].text async for item in listed] == ["0", "1", "2", "3", "4"]  # type: ignore[union-attr]


def test_errors_are_typed(tmp_path: Path) -> None:
    with one(tmp_path) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.responses.retrieve("resp_none")
        assert caught.value.request_id is not None
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="m", input="Hi", temperature=9)
        assert refused.value.param == "temperature"


async def test_errors_are_typed_async(tmp_path: Path) -> None:
    async with one_async(tmp_path) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_none")


def test_a_failure_in_mid_stream_is_an_error_event(tmp_path: Path) -> None:
    with one(tmp_path, ["Hel", RuntimeError("a fault of the model's")]) as client:
        deltas = texts(client.responses.create(model="m", input="Hi", stream=True))
        assert next(deltas) == "Hel"
        with pytest.raises(openai.APIError) as caught:
            list(deltas)
    assert caught.value.code == "server_error"


def test_what_may_be_tried_again_is_tried_again(tmp_path: Path) -> None:
    busy = RateLimited("Too many.", headers={"retry-after-ms": "1"})
    with one(tmp_path, [busy], [busy], "Hello") as client:
        assert client.responses.create(model="m", input="Hi").output_text == "Hello"
    with one(tmp_path / "b", [busy], "Hello", max_retries=0) as client, pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", input="Hi")


def test_a_read_timeout_is_kept_and_stops_the_model(tmp_path: Path) -> None:
    model = ScriptedModel([Gate()], "Hello")
    with OpenAI(data=tmp_path, engine=scripted(model), max_retries=1) as client:
        assert client.responses.create(model="m", input="Hi", timeout=0.05).output_text == "Hello"
    assert model.samples[0].left_early


async def test_a_read_timeout_async(tmp_path: Path) -> None:
    async with one_async(tmp_path, [Gate()], max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.responses.create(model="m", input="Hi", timeout=0.05)


def test_a_timeout_between_deltas(tmp_path: Path) -> None:
    with one(tmp_path, ["one", Gate()], max_retries=0) as client:
        deltas = texts(client.responses.create(model="m", input="Hi", stream=True, timeout=0.3))
        assert next(deltas) == "one"
        with pytest.raises(openai.APITimeoutError):
            next(deltas)


def test_copies_share_the_engine(tmp_path: Path) -> None:
    seen = []

    def note(request: httpx2.Request) -> None:
        seen.append(request.headers.get("x-mine"))

    with one(tmp_path, "Hello", default_headers={"x-mine": "1"}) as client:
        client._client.event_hooks = {"request": [note]}
        response = client.responses.create(model="m", input="Hi")
        other = client.with_options(timeout=5, default_headers={"x-mine": "2"})
        assert isinstance(other, OpenAI)
        assert other.responses.retrieve(response.id) == response
        assert client.copy(api_key="sk-other").responses.retrieve(response.id) == response
    assert seen == ["1", "2", "1"]
    with pytest.raises(RuntimeError, match="closed"):
        other.responses.retrieve(response.id)


def test_a_copy_for_another_server_goes_there(tmp_path: Path) -> None:
    with one(tmp_path, max_retries=0) as client, pytest.raises(openai.APIConnectionError):
        client.with_options(base_url="http://127.0.0.1:1/v1").responses.retrieve("resp_x")


def test_it_pickles_as_the_official_one_does(tmp_path: Path) -> None:
    with one(tmp_path) as client, openai.OpenAI(api_key="none") as official:
        for either in (client, official):
            with pytest.raises((TypeError, AttributeError)):
                pickle.dumps(either)


def test_a_response_pickles(tmp_path: Path) -> None:
    with one(tmp_path, "Hello") as client:
        response = client.responses.create(model="m", input="Hi")
    assert pickle.loads(pickle.dumps(response)) == response


def test_one_asynchronous_client_in_one_event_loop_after_the_other(tmp_path: Path) -> None:
    client = one_async(tmp_path, *["Hello"] * 3)

    async def ask() -> str:
        return (await client.responses.create(model="m", input="Hi")).output_text

    assert [asyncio.run(ask()) for _ in range(3)] == ["Hello"] * 3
    asyncio.run(client.close())


def test_with_a_base_url_it_is_the_official_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(openai.OpenAIError, match="Missing credentials"):
        OpenAI(base_url="http://127.0.0.1:1/v1")
    with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0) as client:
        assert str(client.base_url) == "http://127.0.0.1:1/v1/"
        assert type(client._client) is type(openai.OpenAI(api_key="none")._client)
        with pytest.raises(openai.APIConnectionError):
            client.responses.retrieve("resp_x")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:2/v1")
    with OpenAI(api_key="none") as client, client.copy(max_retries=7) as other:
        assert str(other.base_url) == "http://127.0.0.1:2/v1/"
    with openai.DefaultHttpxClient() as http, OpenAI(api_key="none", http_client=http) as client:
        assert client._client is http


def test_arguments_win_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:2/v1")
    with one(tmp_path, "Hello") as client:
        assert client.responses.create(model="m", input="Hi").output_text == "Hello"


@pytest.mark.parametrize("inside", [{"data": "x"}, {"embedded": "x"}, {"config": {}}, {"engine": scripted}])
@pytest.mark.parametrize("outside", [{"base_url": "http://x/v1"}, {"data_residency": "eu"}, {"http_client": True}])
def test_what_cannot_both_be_meant(inside: dict[str, Any], outside: dict[str, Any]) -> None:
    for kind in (OpenAI, AsyncOpenAI):
        with pytest.raises(TypeError, match=f"{next(iter(inside))}= .* {next(iter(outside))}="):
            kind(api_key="none", **inside, **outside)


def test_an_http_client_needs_a_server() -> None:
    with openai.DefaultHttpxClient() as http, pytest.raises(TypeError, match="http_client= needs base_url="):
        OpenAI(api_key="none", http_client=http)


def test_settings_come_from_where_the_server_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(**given: Any) -> Config:
        resolver = OpenAI(**given)._resolver
        assert resolver is not None
        return resolver.config

    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path / "env"))
    monkeypatch.setenv("ANTIPHON_RETENTION_DAYS", "7")
    file = tmp_path / "a.toml"
    file.write_text('retention_days = 3\nmodel = "qwen"')
    assert (settings().data, settings().retention_days) == (tmp_path / "env", 7)
    assert settings(data=tmp_path / "x").data == tmp_path / "x"
    assert settings(embedded="smollm2-135m-instruct").model == "smollm2-135m-instruct"
    assert settings(config={"strict": True}).strict
    assert (settings(config=file).model, settings(config=file).retention_days) == ("qwen", 7)
    assert settings(config=Config(threads=3), data=tmp_path).threads == 3
    assert settings(config=Config(threads=3)).retention_days == 30
    with pytest.raises(ConfigError, match="unknown setting 'strickt'"):
        settings(config={"strickt": True})


def test_the_other_names() -> None:
    assert Antiphon is OpenAI
    assert AsyncAntiphon is AsyncOpenAI
    assert issubclass(OpenAI, openai.OpenAI)
    assert issubclass(AsyncOpenAI, openai.AsyncOpenAI)


@pytest.mark.parametrize("kind", [(OpenAI, openai.OpenAI), (AsyncOpenAI, openai.AsyncOpenAI)])
def test_help_shows_what_the_official_client_takes(kind: tuple[type, type]) -> None:
    ours, official = (inspect.signature(each).parameters for each in kind)
    assert {name for name in official if not name.startswith("_")} <= set(ours)
    assert set(ours) - set(official) == {"data", "embedded", "config", "engine"}


def test_it_runs_under_trio_too(tmp_path: Path) -> None:
    async def ask() -> str:
        async with one_async(tmp_path, "Hello", ["Hel", "lo"]) as client:
            said = (await client.responses.create(model="m", input="Hi")).output_text
            async with client.responses.with_streaming_response.create(model="m", input="Hi", stream=True) as answer:
                assert check_stream(await answer.read()).findings == []
            return said

    assert trio.run(ask) == "Hello"
