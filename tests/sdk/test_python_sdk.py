"""The official Python SDK as oracle, over a real socket: its strict accumulator, its types, its pages, its errors."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem

from antiphon.config import Config
from antiphon.models import Call, ContextTooLong, Delta, Finish, Reasoning, Refusal, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Store
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.wire.errors import RateLimited, Unavailable, UpstreamError

DONE = Finish("stop", Usage(input=3, cached=1, output=4, reasoning=2))
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@asynccontextmanager
async def client_of(
    model: ScriptedModel, *, store: Store | None = None, config: Config | None = None
) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, store=store, config=config) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def valid(response: Response) -> Response:
    """The response, after the SDK's own types have judged its raw JSON strictly."""
    pydantic.TypeAdapter(Response).validate_json(response.model_dump_json(), strict=False)
    return response


async def test_create() -> None:
    async with client_of(ScriptedModel(["Hel", "lo", DONE])) as client:
        response = valid(await client.responses.create(model="m", input="hi"))
    assert response.output_text == "Hello"
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (3, 4, 7)
    assert response.usage.input_tokens_details.cached_tokens == 1
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    assert (response._request_id or "").startswith("req_")


async def test_stream_by_the_strict_accumulator() -> None:
    model = ScriptedModel(
        [
            Reasoning("hm"),
            [Text("Let me"), Text(" see.")],
            Call(0, "get_weather", '{"city":', "call_1"),
            Call(0, "", '"P"}'),
            DONE,
        ]
    )
    async with (
        client_of(model) as client,
        client.responses.stream(model="m", input="hi", tools=[WEATHER]) as stream,
    ):
        types = [event.type async for event in stream]
        final = valid(await stream.get_final_response())
    assert types[:2] == ["response.created", "response.in_progress"]
    assert types[-1] == "response.completed"
    reasoning, message, call = final.output
    assert isinstance(reasoning, ResponseReasoningItem)
    assert isinstance(message, ResponseOutputMessage)
    assert isinstance(call, ResponseFunctionToolCall)
    assert reasoning.content is not None
    assert reasoning.content[0].text == "hm"
    assert final.output_text == "Let me see."
    assert (call.call_id, call.name, call.arguments) == ("call_1", "get_weather", '{"city":"P"}')


async def test_streamed_and_whole_are_the_same() -> None:
    async with client_of(ScriptedModel(["Hello", DONE], again=True)) as client:
        whole = await client.responses.create(model="m", input="hi")
        events = [event async for event in await client.responses.create(model="m", input="hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    streamed = events[-1].response  # type: ignore[union-attr]
    volatile = {"id", "created_at", "completed_at", "output"}
    assert streamed.model_dump(exclude=volatile) == whole.model_dump(exclude=volatile)
    assert streamed.output_text == whole.output_text


async def test_parse() -> None:
    class Answer(pydantic.BaseModel):
        n: int

    async with client_of(ScriptedModel('{"n": 4}')) as client:
        parsed = await client.responses.parse(model="m", input="2+2?", text_format=Answer)
    assert parsed.output_parsed == Answer(n=4)


async def test_output_that_breaks_its_schema_is_never_completed() -> None:
    class Answer(pydantic.BaseModel):
        n: int

    async with client_of(ScriptedModel('{"n": "four"}', "not json")) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.parse(model="m", input="2+2?", text_format=Answer)
        assert caught.value.code == "invalid_output"
        events = []
        with pytest.raises(openai.APIError):
            async with client.responses.stream(model="m", input="2+2?", text_format=Answer) as stream:
                events = [event.type async for event in stream]
        assert "response.completed" not in events


@pytest.mark.parametrize("script", [[DONE], [Reasoning("hm"), DONE], ["5", DONE]])
async def test_an_answer_that_is_no_object_is_not_completed(script: list[Delta]) -> None:
    async with client_of(ScriptedModel(script)) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="m", input="json please", text={"format": {"type": "json_object"}})
    assert caught.value.code == "invalid_output"


async def test_a_required_call_that_does_not_come() -> None:
    async with client_of(ScriptedModel("I would rather not.")) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="m", input="x", tools=[WEATHER], tool_choice="required")
    assert caught.value.code == "invalid_tool_call"


async def test_a_prompt_is_shortened_only_while_nothing_was_said() -> None:
    chat = [{"role": "user", "content": str(n)} for n in range(9)]
    model = ScriptedModel([ContextTooLong()], "short enough", ["Once upon", ContextTooLong()])
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input=chat, truncation="auto")  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input=chat, truncation="auto")  # type: ignore[arg-type]
    assert response.output_text == "short enough"
    assert [len(prompt.items) for prompt in model.prompts] == [9, 6, 9]
    assert caught.value.code == "context_length_exceeded"


async def test_refusal_and_cut() -> None:
    model = ScriptedModel([Refusal("No."), DONE], ["Once upon", Finish("length", Usage(1, 0, 2, 0))])
    async with client_of(model) as client:
        refused = valid(await client.responses.create(model="m", input="x"))
        cut = valid(await client.responses.create(model="m", input="x", max_output_tokens=16))
    assert refused.output[0].content[0].type == "refusal"  # type: ignore[union-attr]
    assert (cut.status, cut.output[0].status) == ("incomplete", "incomplete")  # type: ignore[union-attr]
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


async def test_logprobs_only_when_included() -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    model = ScriptedModel([Text("Hi", (entry,)), DONE], again=True)
    async with client_of(model) as client:
        response = await client.responses.create(
            model="m", input="x", include=["message.output_text.logprobs"], top_logprobs=2
        )
        await client.responses.create(model="m", input="x")
    assert response.output[0].content[0].logprobs[0].token == "Hi"  # type: ignore[union-attr,index]
    assert [prompt.top_logprobs for prompt in model.prompts] == [2, None]


async def test_chain_delete_and_input_items() -> None:
    model = ScriptedModel("one", "two", "three")
    async with client_of(model) as client:
        first = await client.responses.create(model="m", input="a", instructions="Be brief.")
        second = await client.responses.create(model="m", input="b", previous_response_id=first.id)
        await client.responses.delete(first.id)
        third = await client.responses.create(model="m", input="c", previous_response_id=second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="c", previous_response_id=first.id)
        assert caught.value.code == "previous_response_not_found"
        listed = [item async for item in client.responses.input_items.list(third.id)]
        assert (await client.responses.retrieve(third.id)) == third
    said = [part["text"] for item in model.prompts[2].items for part in item["content"]]
    assert said == ["a", "one", "b", "two", "c"]
    assert [prompt.instructions for prompt in model.prompts] == ["Be brief.", None, None]
    assert [item.content[0].text for item in listed] == ["c"]  # type: ignore[union-attr]


async def test_function_call_round_trip() -> None:
    model = ScriptedModel([Call(0, "get_weather", '{"city":"Paris"}', "call_1"), DONE], "Sunny.")
    async with client_of(model) as client:
        asked = await client.responses.create(model="m", input="Weather?", tools=[WEATHER])
        call = asked.output[0]
        assert isinstance(call, ResponseFunctionToolCall)
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call call_1"):
            await client.responses.create(model="m", input="And?", previous_response_id=asked.id)
        told = await client.responses.create(
            model="m",
            previous_response_id=asked.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
        )
    assert told.output_text == "Sunny."
    assert [item["type"] for item in model.prompts[1].items] == ["message", "function_call", "function_call_output"]


async def test_input_items_in_pages() -> None:
    items = [{"role": "user", "content": str(n)} for n in range(25)]
    async with client_of(ScriptedModel("ok")) as client:
        response = await client.responses.create(model="m", input=items)  # type: ignore[arg-type]
        newest = [i.content[0].text async for i in client.responses.input_items.list(response.id, limit=10)]  # type: ignore[union-attr]
        oldest = [i.content[0].text async for i in client.responses.input_items.list(response.id, order="asc")]  # type: ignore[union-attr]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_items.list(response.id, limit=101)
    assert oldest == [str(n) for n in range(25)]
    assert newest == oldest[::-1]
    assert caught.value.param == "limit"


async def test_nothing_is_kept_when_store_is_false(memory_store: SqliteStore) -> None:
    async with client_of(ScriptedModel("ok"), store=memory_store) as client:
        response = await client.responses.create(model="m", input="x", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response.id)
    assert await memory_store.responses.get("", response.id) is None


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (RateLimited("slow down", headers={"retry-after": "7"}), openai.RateLimitError, "rate_limit_exceeded"),
        (Unavailable("down"), openai.InternalServerError, "unavailable"),
        (UpstreamError("odd"), openai.InternalServerError, "upstream_error"),
        (ZeroDivisionError("secret"), openai.InternalServerError, "server_error"),
    ],
)
async def test_a_failure_before_the_first_delta(
    failure: Exception, kind: type[openai.APIStatusError], code: str, memory_store: SqliteStore
) -> None:
    async with client_of(ScriptedModel([failure], again=True), store=memory_store) as client:
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                await client.responses.create(model="m", input="x", stream=stream)
            assert caught.value.code == code
            assert "secret" not in str(caught.value)
            if isinstance(failure, RateLimited):
                assert caught.value.response.headers["retry-after"] == "7"


async def test_a_failure_in_the_middle() -> None:
    model = ScriptedModel(["Hel", UpstreamError("gone")], ["Hel", UpstreamError("gone")])
    async with client_of(model) as client:
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input="x")
        with pytest.raises(openai.APIError) as caught:
            async for _ in await client.responses.create(model="m", input="x", stream=True):
                pass
    assert caught.value.code == "upstream_error"


async def test_a_client_that_leaves_stops_the_model() -> None:
    forever = asyncio.Event()
    model = ScriptedModel(["Hel", forever], ["Hel", forever])
    async with client_of(model) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        await anext(aiter(stream))
        await stream.close()
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).responses.create(model="m", input="x")
        async with asyncio.timeout(5):
            while not all(sampled.left_early for sampled in model.samples):  # noqa: ASYNC110  (nothing to wait for)
                await asyncio.sleep(0.01)


async def test_a_slow_first_token_does_not_hold_back_the_start() -> None:
    gate = asyncio.Event()
    async with client_of(ScriptedModel([gate, "late", DONE])) as client:
        stream = aiter(await client.responses.create(model="m", input="x", stream=True))
        assert (await anext(stream)).type == "response.created"
        gate.set()
        assert [event async for event in stream][-1].type == "response.completed"


async def test_images_are_refused_by_a_model_that_does_not_see() -> None:
    image = "data:image/png;base64," + base64.b64encode(b"x").decode()
    content = [{"type": "input_image", "image_url": image, "detail": "auto"}]
    asked = [{"role": "user", "content": content}]
    async with client_of(ScriptedModel("a heart", supports_images=True)) as client:
        response = await client.responses.create(model="m", input=asked)  # type: ignore[arg-type]
        (item,) = [i async for i in client.responses.input_items.list(response.id)]
        (whole,) = [
            i async for i in client.responses.input_items.list(response.id, include=["message.input_image.image_url"])
        ]
    assert item.content[0].image_url is None  # type: ignore[union-attr]
    assert whole.content[0].image_url == image  # type: ignore[union-attr]
    async with client_of(ScriptedModel("?", supports_images=False)) as client:
        with pytest.raises(openai.BadRequestError, match="does not accept images"):
            await client.responses.create(model="m", input=asked)  # type: ignore[arg-type]


async def test_models() -> None:
    async with client_of(ScriptedModel(name="tiny")) as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("tiny")).owned_by == "antiphon"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


async def test_headers_tell_the_model_and_what_was_ignored() -> None:
    async with client_of(ScriptedModel("ok", name="tiny")) as client:
        raw = await client.responses.with_raw_response.create(model="gpt-4", input="x", extra_body={"sotre": 1})
    assert raw.headers["x-antiphon-model"] == "tiny"
    assert raw.headers["x-antiphon-ignored"] == "sotre"
    assert raw.parse().model == "gpt-4"
    async with client_of(ScriptedModel("ok"), config=Config(strict=True)) as client:
        with pytest.raises(openai.BadRequestError, match="Did you mean 'store'") as caught:
            await client.responses.create(model="gpt-4", input="x", extra_body={"sotre": 1})
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", "sotre")


async def test_the_synchronous_client() -> None:
    def talk(url: str) -> tuple[str, str]:
        with OpenAI(base_url=url, api_key="none") as client:
            with client.responses.stream(model="m", input="hi") as stream:
                stream.until_done()
                streamed = stream.get_final_response().output_text
            return streamed, client.responses.create(model="m", input="hi").output_text

    async with serving(ScriptedModel("Hello", again=True)) as url:
        assert await asyncio.to_thread(talk, url) == ("Hello", "Hello")
