"""Streams that are gone on with: what the server is asked for, and that the reader sees the same as without a break."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pydantic
import pytest
from openai import DefaultAsyncHttpxClient, omit
from openai.lib.streaming.responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from antiphon import AsyncOpenAI, OpenAI
from antiphon.engine.synthesis import take_snapshot
from antiphon.log import decode_event, encode
from antiphon.models import Call, Finish, Reasoning, Refusal, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving
from antiphon.wire.errors import UpstreamError

DONE = Finish("stop", Usage(input=3, output=4))
WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
TALK = [
    Reasoning("h"),
    Reasoning("m"),
    "Let ",
    "me ",
    "see.",
    Call(0, "get_weather", '{"a":', "call_1"),
    Call(0, "", "1}"),
    DONE,
]


class Asked(list[str]):
    """The streams that a client asked for, by their queries."""

    async def note(self, request: Any) -> None:
        if "stream" in request.url.params:
            self.append(request.url.params.get("starting_after", "everything"))


@asynccontextmanager
async def client_of(*scripts: Any) -> AsyncIterator[tuple[AsyncOpenAI, Asked]]:
    asked = Asked()
    http = DefaultAsyncHttpxClient(event_hooks={"request": [asked.note]})
    async with (
        serving(ScriptedModel(*scripts)) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http) as client,
    ):
        yield client, asked


def shown(event: Any) -> Any:
    """An event as its reader has it; what the server says of itself (numbers of its own) is in it."""
    return event.type, event.to_dict(warnings=False), getattr(event, "snapshot", None)


@pytest.mark.parametrize("background", [True, False])
async def test_behind_any_event_the_reader_sees_the_same_as_without_a_break(background: bool) -> None:
    async with client_of(TALK) as (client, asked):
        response = await client.responses.create(model="m", input="hi", tools=[WEATHER], background=background)
        async with client.responses.stream(response_id=response.id) as stream:
            whole = [event async for event in stream]
            final = await stream.get_final_response()
        assert final.tool_calls is not None
        asked.clear()
        for break_at in range(len(whole) - 1):
            async with client.responses.stream(response_id=response.id, starting_after=break_at) as stream:
                rest = [event async for event in stream]
                again = await stream.get_final_response()
            assert [shown(event) for event in rest] == [shown(event) for event in whole[break_at + 1 :]]
            assert again == final
    assert asked == [str(number) for number in range(len(whole) - 1)]


async def test_while_it_is_still_being_said() -> None:
    said, more = asyncio.Event(), asyncio.Event()
    async with client_of(["One ", "two ", said, "three ", more, "four", DONE]) as (client, asked):
        first: list[Any] = []
        async with client.responses.stream(model="m", input="hi", background=True) as stream:
            async for event in stream:
                first.append(event)
                if event.type == "response.output_text.delta" and event.snapshot == "One two ":
                    break
        left_at = first[-1].sequence_number
        said.set()
        id = first[0].response.id
        while "three" not in (await client.responses.retrieve(id)).output_text:  # noqa: ASYNC110 - only polling tells
            await asyncio.sleep(0.01)
        asked.clear()
        async with client.responses.stream(response_id=id, starting_after=left_at - 1) as stream:
            rest = [await anext(stream), await anext(stream)]
            more.set()
            rest += [event async for event in stream]
            final = await stream.get_final_response()
    assert asked == [str(left_at - 1)]
    deltas = [(event.delta, event.snapshot) for event in rest if event.type == "response.output_text.delta"]
    assert deltas == [("two ", "One two "), ("three ", "One two three "), ("four", "One two three four")]
    assert final.output_text == "One two three four"


async def test_how_far_a_response_goes_is_said_while_it_goes_on() -> None:
    gate = asyncio.Event()
    async with client_of(["One ", gate, "two", DONE]) as (client, _):
        async with client.responses.stream(model="m", input="hi", background=True) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
        raw = await client.responses.with_raw_response.retrieve(await _id(client))
        assert raw.headers["x-antiphon-sequence-number"] == str(event.sequence_number)
        gate.set()


async def _id(client: AsyncOpenAI) -> str:
    page = await client.get("/responses", cast_to=object)
    return page["data"][0]["id"]  # type: ignore[index]


async def test_a_shape_is_read_behind_a_break() -> None:
    class Answer(pydantic.BaseModel):
        n: int

    async with client_of(['{"n"', ": 4}", DONE]) as (client, _):
        response = await client.responses.parse(model="m", input="hi", text_format=Answer, background=False)
        async with client.responses.stream(response_id=response.id, starting_after=3, text_format=Answer) as stream:
            final = await stream.get_final_response()
    assert final.output_parsed == Answer(n=4)


async def test_a_refusal_and_an_answer_that_was_cut_behind_a_break() -> None:
    async with client_of([Refusal("No."), DONE], ["Once", Finish("length")]) as (client, _):
        for status in ("completed", "incomplete"):
            response = await client.responses.create(model="m", input="hi", background=True, stream=False)
            async with client.responses.stream(response_id=response.id, starting_after=0) as stream:
                final = await stream.get_final_response()
            assert final.status == status


async def test_a_failure_behind_a_break_comes_where_it_came() -> None:
    async with client_of(["One ", UpstreamError("gone")]) as (client, _):
        response = await client.responses.create(model="m", input="hi", background=True)
        while (await client.responses.retrieve(response.id)).status != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        seen: list[str] = []
        async with client.responses.stream(response_id=response.id, starting_after=1) as stream:
            with pytest.raises(openai.APIError, match=r"model|gone|upstream"):
                async for event in stream:
                    seen.append(event.type)
    assert "response.output_text.delta" in seen


async def test_a_number_that_was_not_reached_is_refused() -> None:
    async with client_of(["One", DONE]) as (client, _):
        response = await client.responses.create(model="m", input="hi")
        with pytest.raises(openai.BadRequestError, match="starting_after"):
            async with client.responses.stream(response_id=response.id, starting_after=99):
                pass


async def test_with_a_server_that_knows_no_snapshots_everything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.client.sdk.resumption.SNAPSHOT_HEADER", "x-unknown")
    gate = asyncio.Event()
    async with client_of(["One ", "two ", gate, "three", DONE]) as (client, asked):
        async with client.responses.stream(model="m", input="hi", background=True) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta" and event.delta == "two ":
                    break
        asked.clear()
        async with client.responses.stream(
            response_id=await _id(client), starting_after=event.sequence_number
        ) as stream:
            gate.set()
            rest = [event async for event in stream]
    assert asked == [str(event.sequence_number), "everything"]
    assert [event.snapshot for event in rest if event.type == "response.output_text.delta"] == ["One two three"]


@pytest.mark.parametrize(
    "arguments",
    [{"response_id": "r", "starting_after": 1, "input": "x", "model": "m"}, {"starting_after": 1}, {}],
)
def test_what_the_official_helper_refuses_is_refused(arguments: Any) -> None:
    with (
        OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none") as client,
        pytest.raises(ValueError, match="provided"),
    ):
        client.responses.stream(**arguments)


async def test_the_synchronous_client_goes_on_too() -> None:
    def within(url: str) -> list[Any]:
        with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            response = client.responses.create(model="m", input="hi")
            with client.responses.stream(response_id=response.id) as stream:
                whole = [shown(event) for event in stream]
            with client.responses.stream(response_id=response.id, starting_after=4, tools=omit) as stream:
                rest = [shown(event) for event in stream]
                assert stream.get_final_response().output_text == "Hello"
            assert rest == whole[5:]
            return rest

    async with serving(ScriptedModel(["Hello", DONE])) as url:
        assert await asyncio.to_thread(within, url)


def message(id: str, text: str, status: str) -> dict[str, Any]:
    content = [part(text)] if text else []
    return {"type": "message", "id": id, "role": "assistant", "status": status, "content": content}


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def taken_up_again() -> list[dict[str, Any]]:
    """A log in which an item was closed, left out of the output, and begun anew, as after a crash."""
    body = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": []}
    body |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": body}]
    for place, (id, said, status) in enumerate((("msg_1", "Onc", "incomplete"), ("msg_2", "Once more.", "completed"))):
        where = {"item_id": id, "output_index": place, "content_index": 0}
        done = {"output_index": place, "item": message(id, said, status)}
        events += [
            {"type": "response.output_item.added", "output_index": place, "item": message(id, "", "in_progress")},
            {"type": "response.content_part.added", "part": part(""), **where},
            {"type": "response.output_text.delta", "delta": said[:2], "logprobs": [], **where},
            {"type": "response.output_text.delta", "delta": said[2:], "logprobs": [], **where},
            {"type": "response.output_text.done", "text": said, "logprobs": [], **where},
            {"type": "response.content_part.done", "part": part(said), **where},
            {"type": "response.output_item.done", **done},
        ]
    ended = {**body, "status": "completed", "output": [message("msg_2", "Once more.", "completed")]}
    events.append({"type": "response.completed", "response": ended})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


@pytest.mark.parametrize("break_at", range(len(taken_up_again()) - 1))
def test_an_item_that_was_left_out_is_there_for_those_who_saw_it(break_at: int) -> None:
    log = pydantic.TypeAdapter[list[Any]](list[ResponseStreamEvent]).validate_python(taken_up_again())
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    whole = [shown(fired) for event in log for fired in state.handle_event(event)]
    later = log[break_at + 1 :]
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    seen = [decode_event(encode(event)) for event in taken_up_again()[: break_at + 1]]
    snapshot = pydantic.TypeAdapter(list[ResponseStreamEvent]).validate_python(
        [json.loads(line) for line in take_snapshot(seen)]
    )
    rest = [fired for event in [*snapshot, *later] for fired in state.handle_event(event)]
    assert [shown(event) for event in rest if event.sequence_number > break_at] == whole[break_at + 1 :]
