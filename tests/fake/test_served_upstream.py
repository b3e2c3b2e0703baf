"""The whole server in front of a scripted chat-completions server: what goes wrong there becomes a clear error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from scripted_upstream import Answer, Upstream, delta, failure, finish, frames, plain, sse, text, usage

from antiphon.cli.check_stream import check_stream
from antiphon.config import Config
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.chat.upstream import WrongOptions, upstream_models
from antiphon.testing.serving import serving

NO_EYES = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
LISTED = Answer(steps=(b'{"object":"list","data":[{"id":"qwen"}]}',), content_type="application/json")


@asynccontextmanager
async def client_of(
    upstream: Upstream | str, config: Config | None = None, **options: Any
) -> AsyncIterator[AsyncOpenAI]:
    address = upstream if isinstance(upstream, str) else upstream.url
    roster = upstream_models(
        address, key="sk-hush", only="", aliases={"gpt-4": "qwen"}, connections_max=10, options=options
    )
    async with (
        serving(roster=roster, config=config) as url,
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


@pytest.mark.parametrize("stream", [False, True])
async def test_a_name_that_nobody_has_is_not_found_in_the_dialect_of_chat(stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED)
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="nobody", messages=messages, stream=stream)
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")


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
            upstream.play(LISTED, sse(text("Hi"), finish()), LISTED)
            raw = await client.responses.with_raw_response.create(model="gpt-5.5", input="x")
            assert (raw.headers["x-antiphon-model"], raw.parse().model) == ("qwen", "gpt-5.5")
            assert [model.id async for model in client.models.list()] == ["qwen", "a"]
        await roster.close()


DOT = "data:image/png;base64,iVBORw0KGgo="
SEEN: Any = [
    {"type": "input_text", "text": "Compare."},
    {"type": "input_image", "image_url": DOT, "detail": "low"},
    {"type": "input_image", "image_url": "https://pictures.example/a.png", "detail": "high"},
    {"type": "input_image", "image_url": DOT},
]


async def test_images_are_passed_on_with_their_detail() -> None:
    shot = [{"type": "input_text", "text": "two"}, *SEEN[1:3]]
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": shot}
    async with Upstream() as upstream, client_of(upstream, supports_images=True) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        items: Any = [{"role": "user", "content": SEEN}, call, output]
        await client.responses.create(model="qwen", input=items)
    asked, _, told, shown = upstream.asked[-1].json["messages"]
    low, high = {"url": DOT, "detail": "low"}, {"url": "https://pictures.example/a.png", "detail": "high"}
    urls = [part["image_url"] for part in asked["content"][1:]]
    assert [urls[0], urls[1], urls[2]["url"]] == [low, high, DOT]
    assert (told["role"], told["content"]) == ("tool", "two")
    assert [part["image_url"] for part in shown["content"]] == [low, high]


@pytest.mark.parametrize("answer", [failure(400, NO_EYES), failure(500, NO_EYES), sse({"error": {"message": NO_EYES}})])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_takes_no_images_is_the_documented_error(answer: Answer, stream: bool) -> None:
    async with Upstream() as upstream, client_of(upstream, supports_images=True) as client:
        upstream.play(LISTED, answer)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="qwen", input=[{"role": "user", "content": SEEN}], stream=stream)
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "input")
    assert "does not accept images" in caught.value.message


async def test_an_upstream_that_takes_no_images_is_told_of_them_where_that_is_wanted() -> None:
    config = Config(unsupported_images="note")
    async with Upstream() as upstream, client_of(upstream, config, supports_images=True) as client:
        upstream.play(LISTED, failure(400, NO_EYES), sse(text("Hi"), finish()))
        made = await client.responses.create(model="qwen", input=[{"role": "user", "content": SEEN}])
    assert made.output_text == "Hi"
    (message,) = upstream.asked[-1].json["messages"]
    assert isinstance(message["content"], str) and "image" in message["content"]


async def test_what_is_told_of_images_is_counted() -> None:
    config, away = Config(unsupported_images="note"), failure(404, "Not Found")
    async with Upstream() as upstream, client_of(upstream, config, supports_images=True) as client:
        upstream.fixed |= {"/apply-template": away, "/tokenize": away}
        upstream.play(LISTED, failure(400, NO_EYES), sse(text("Hi"), finish(), usage(7, 1)))
        counted = await client.responses.input_tokens.count(model="qwen", input=[{"role": "user", "content": SEEN}])
    assert counted.input_tokens == 7


async def test_other_refusals_of_an_image_keep_their_words() -> None:
    async with Upstream() as upstream, client_of(upstream, supports_images=True) as client:
        upstream.play(LISTED, failure(400, "Image URL is not allowed"))
        with pytest.raises(openai.BadRequestError, match="Image URL is not allowed"):
            await client.responses.create(model="qwen", input=[{"role": "user", "content": SEEN}])


KNOBS: Any = {
    "top_k": 20,
    "min_p": 0.1,
    "seed": 7,
    "stop": ["\n\n"],
    "repeat_penalty": 1.1,
    "chat_template_kwargs": {"enable_thinking": False},
}


def ask(client: AsyncOpenAI, dialect: str, extra: Any) -> Any:
    """A request with ``extra_body``, in a dialect, as the SDK's raw answer."""
    if dialect == "responses":
        return client.responses.with_raw_response.create(model="qwen", input="x", extra_body=extra)
    messages: Any = [{"role": "user", "content": "x"}]
    create = client.chat.completions.with_raw_response.create
    return create(model="qwen", messages=messages, extra_body=extra)


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_what_the_upstream_knows_is_passed_on_and_the_rest_is_named(dialect: str) -> None:
    accepts = [name for name in KNOBS if name != "min_p"]
    async with Upstream() as upstream, client_of(upstream, accepts=accepts) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        answer = await ask(client, dialect, KNOBS | {"caf\u00e9": 1})
    sent = upstream.asked[-1].json
    assert {name: sent.get(name) for name in KNOBS} == KNOBS | {"min_p": None}
    assert answer.headers["x-antiphon-ignored"] == "min_p, caf?"


@pytest.mark.parametrize(("dialect", "passed"), [("responses", set[str]()), ("chat", {"seed", "stop"})])
async def test_what_neither_a_setting_nor_its_dialect_says_the_upstream_knows_is_named_alone(
    dialect: str, passed: set[str]
) -> None:
    async with Upstream() as upstream, client_of(upstream) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        answer = await ask(client, dialect, KNOBS)
    assert KNOBS.keys() & upstream.asked[-1].json.keys() == passed
    assert set(answer.headers["x-antiphon-ignored"].split(", ")) == set(KNOBS) - passed


async def test_a_strict_server_takes_what_chat_completions_document() -> None:
    config = Config(strict=True)
    async with Upstream() as upstream, client_of(upstream, config, accepts=["stop", "top_k"]) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        await ask(client, "chat", {"stop": "x", "seed": 1})
        for dialect in ("chat", "responses"):
            with pytest.raises(openai.BadRequestError):
                await ask(client, dialect, {"top_k": 1})
    assert upstream.asked[-1].json["stop"] == "x"


async def test_the_operators_fields_win_and_null_takes_one_out() -> None:
    extra = {"top_k": 1, "stream_options": None, "chat_template_kwargs": {"a": 1}}
    async with Upstream() as upstream, client_of(upstream, accepts=list(KNOBS), extra=extra) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        await ask(client, "responses", KNOBS)
    sent = upstream.asked[-1].json
    assert (sent["top_k"], sent["chat_template_kwargs"]) == (1, {"enable_thinking": False, "a": 1})
    assert "stream_options" not in sent


async def test_what_is_passed_on_is_kept_for_the_background() -> None:
    async with Upstream() as upstream, client_of(upstream, accepts=["seed"]) as client:
        upstream.play(LISTED, sse(text("Hi"), finish()))
        response = await client.responses.create(model="qwen", input="x", background=True, extra_body={"seed": 7})
        async for _ in await client.responses.retrieve(response.id, stream=True):
            pass
    assert upstream.asked[-1].json["seed"] == 7


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
        upstream.play(LISTED, *[answer] * 4)  # as often as a closed connection is passed over
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
