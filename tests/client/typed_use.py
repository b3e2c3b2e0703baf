"""What type checkers make of the clients; `make check` reads this file, and nothing runs it."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from dataclasses import dataclass
from typing import Any, assert_type

from openai import Stream
from openai.types.responses import ResponseStreamEvent

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client import ParsedResponse, Response, RunResult, ToolCall
from antiphon.client.runners import ApplyPatch, Computer, LocalShell, Shell


@dataclass
class Point:
    x: int


def twice(n: int) -> int:
    return 2 * n


def use(client: OpenAI, stream: bool) -> None:
    message = {"role": "user", "content": "Hello!"}
    assert_type(client.responses.create(model="m", input=message, reasoning_effort="low"), Response)
    assert_type(client.responses.create(model="m", input="x", stream=True), Stream[ResponseStreamEvent])
    assert_type(client.responses.create(model="m", stream=stream), Response | Stream[ResponseStreamEvent])
    assert_type(client.responses.retrieve("resp_1"), Response)
    assert_type(client.responses.cancel("resp_1"), Response)
    assert_type(client.responses.retrieve("resp_1").tool_calls, list[ToolCall] | None)
    assert_type(client.responses.parse(model="m", input="x", text_format=Point).output_parsed, Point | None)
    assert_type(client.responses.parse(model="m", input="x", text_format=list[Point]).output_parsed, list[Point] | None)
    assert_type(client.responses.parse(model="m", input="x", text_format={"type": "object"}), ParsedResponse[Any])
    with client.responses.stream(model="m", input="x", text_format=Point) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                assert_type(event.snapshot, str)
        assert_type(events.get_final_response().output_parsed, Point | None)
    assert_type(client.run("x", model="m", tools=[twice, {"type": "web_search"}], text_format=Point), RunResult[Point])
    client.responses.create(model="m", input="x", no_such_parameter=1)  # pyright: ignore[reportCallIssue]


async def use_async(client: AsyncOpenAI) -> None:
    assert_type(await client.responses.create(model="m", input="x"), Response)
    assert_type((await client.responses.parse(model="m", text_format=Point)).output_parsed, Point | None)
    async with client.responses.stream(model="m", input="x", text_format=Point) as events:
        assert_type((await events.get_final_response()).output_parsed, Point | None)
    assert_type(await client.run("x", model="m", text_format=Point), RunResult[Point])


def use_runners(client: OpenAI) -> None:
    with Computer("http://127.0.0.1:8000/") as computer:
        client.run("Do it.", tools=[ApplyPatch("."), Shell("."), LocalShell("."), computer])
