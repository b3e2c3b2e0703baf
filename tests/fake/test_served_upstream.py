"""The whole server in front of a scripted chat-completions server: what goes wrong there becomes a clear error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from antiphon.cli.check_stream import check_stream
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.chat.upstream import WrongOptions, upstream_models
from antiphon.testing.serving import serving
from antiphon.testing.upstream import Answer, Upstream, delta, failure, finish, frames, plain, sse, text

LISTED = Answer(steps=(b'{"object":"list","data":[{"id":"qwen"}]}',), content_type="application/json")


@asynccontextmanager
async def client_of(upstream: Upstream | str) -> AsyncIterator[AsyncOpenAI]:
    address = upstream if isinstance(upstream, str) else upstream.url
    roster = upstream_models(address, key="sk-hush", only="", aliases={"gpt-4": "qwen"}, connections_max=10, options={})
    async with (
        serving(roster=roster) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client
    await roster.close()


async def test_names_and_aliases() -> None:
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()), sse(text("Hi"), finish()))
        assert (await client.responses.create(model="qwen", input="x")).output_text == "Hi"
        raw = await client.responses.with_raw_response.create(model="gpt-4", input="x")
        assert (raw.headers["x-antiphon-model"], raw.parse().model) == ("qwen", "gpt-4")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="nobody", input="x")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-hush"
    assert [asked.json["model"] for asked in upstream.asked[1:3]] == ["qwen", "qwen"]


async def test_a_fallback_answers_to_names_that_nobody_has() -> None:
    async with Upstream() as upstream:
        roster = upstream_models(
            upstream.url, key="", only="", aliases={"a": "qwen"}, connections_max=10, options={}, fallback="a"
        )
        async with serving(roster=roster) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            upstream.play(Answer(status=0))
            with pytest.raises(openai.InternalServerError):
                await client.responses.create(model="gpt-5.5", input="x")
            await asyncio.sleep(1.1)  # the list is asked for once a second at most
            upstream.play(LISTED, sse(text("Hi"), finish()))
            raw = await client.responses.with_raw_response.create(model="gpt-5.5", input="x")
            assert (raw.headers["x-antiphon-model"], raw.parse().model) == ("qwen", "gpt-5.5")
            assert [model.id async for model in client.models.list()] == ["qwen", "a"]
        await roster.close()


@pytest.mark.parametrize(
    ("listed", "only", "window"),
    [
        ({"max_model_len": 4096}, "", 4096),
        ({"context_length": 8000}, "", 8000),
        ({"context_window": 9000}, "qwen", 9000),
        ({"max_model_len": "big"}, "", None),
        ({}, "", None),
    ],
)
async def test_the_catalogue_tells_the_window_that_the_upstream_tells(
    listed: dict[str, object], only: str, window: int | None
) -> None:
    async with Upstream() as upstream:
        roster = upstream_models(upstream.url, key="", only=only, aliases={}, connections_max=10, options={})
        async with serving(roster=roster) as url, aiohttp.ClientSession() as session:
            upstream.play(plain({"data": [{"id": "qwen", **listed}]}))
            async with session.get(f"{url}/models?client_version=0.171.0") as answer:
                catalogue = await answer.json()
            async with session.get(f"{url}/models") as answer:
                assert "models" not in await answer.json()
        await roster.close()
    (entry,) = catalogue["models"]
    assert (entry["slug"], entry["context_window"], catalogue["data"][0]["id"]) == ("qwen", window, "qwen")
    assert entry["truncation_policy"] == {"mode": "tokens", "limit": min(10_000, (window or 80_000) // 8)}


async def test_effort_is_passed_on() -> None:
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        await client.responses.create(model="qwen", input="x", extra_body={"reasoning_effort": "low"})
    assert upstream.asked[1].json["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(status=0), 503, "unavailable"),
        (failure(401, "bad key sk-hush"), 502, "upstream_refused_key"),
        (failure(429, "slow"), 429, "rate_limit_exceeded"),
        (failure(503, "loading"), 503, "unavailable"),
        (sse(text("Hel"), done=False), 502, "upstream_ended"),
        (Answer(steps=(frames(text("Hel"), done=False), "cut")), 502, "upstream_ended"),
    ],
)
async def test_what_goes_wrong(answer: Answer, status: int, code: str) -> None:
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED, answer, answer)
        with pytest.raises(openai.APIStatusError) as caught:
            await client.responses.create(model="qwen", input="x")
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert "sk-hush" not in str(caught.value)


async def test_an_upstream_that_ends_in_mid_stream() -> None:
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED, Answer(steps=(frames(text("Hel"), done=False), "cut")))
        async with client.responses.with_streaming_response.create(model="qwen", input="x", stream=True) as answer:
            recorded = await answer.read()
    report = check_stream(recorded)
    assert report.findings == []
    assert report.response is not None
    assert report.response.status == "failed"
    assert b"event: error" in recorded
    assert report.response.output[0]["content"][0]["text"] == "Hel"


async def test_nobody_there() -> None:
    async with Upstream() as upstream:
        gone = upstream.url
    async with client_of(gone) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="qwen", input="x")
        with pytest.raises(openai.InternalServerError):
            await client.get("/../readyz", cast_to=object)
    assert caught.value.status_code == 503


async def test_options_that_are_none() -> None:
    for options in ({"thinsk": "tags"}, {"reasoning_format": "maybe"}):
        with pytest.raises(WrongOptions, match="upstream_options"):
            upstream_models("http://x/v1", key="", only="", aliases={}, connections_max=1, options=options)


async def test_a_model_that_missed_a_grammar_is_told_and_then_held_to_it() -> None:
    spec: Any = {
        "type": "custom",
        "name": "go",
        "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "left" | "right"'},
    }
    call = {"index": 0, "id": "c", "function": {"name": "go", "arguments": '{"input": "up"}'}}
    async with Upstream() as upstream:
        model = ChatModel(ChatConfig(base_url=upstream.url, model="qwen", grammars="vllm"))
        async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            upstream.play(sse(delta(tool_calls=[call]), finish("tool_calls")), sse(text("le"), text("ft"), finish()))
            response = await client.responses.create(model="qwen", input="Go.", tools=[spec])
        await model.close()
    (item,) = response.output
    assert item.type == "custom_tool_call"
    assert item.input == "left"
    again = upstream.asked[1].json
    assert again["structured_outputs"] == {"grammar": 'start: "left" | "right"'}
    assert "does not match the grammar" in again["messages"][-1]["content"]
