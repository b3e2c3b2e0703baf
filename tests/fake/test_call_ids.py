"""Ids of calls that are the upstream's own: numbered anew in every answer, or very long. Its outputs find their calls,
and it is told its own ids again, whichever way a conversation goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from scripted_upstream import Upstream, delta, finish, plain, sse, text

from antiphon.models.chat.upstream import upstream_models
from antiphon.testing.serving import serving

TOOL: Any = {"type": "function", "name": "ping", "parameters": {"type": "object", "properties": {}}, "strict": False}
ASK: Any = {"type": "message", "role": "user", "content": "go"}
ROUNDS = 3
Turn = Callable[[list[Any]], Awaitable[Any]]
"""Sends new items, and gives the output that came."""


class Served:
    """A server, and the upstream behind it."""

    def __init__(self, upstream: Upstream, client: AsyncOpenAI, url: str) -> None:
        self.upstream, self.client, self.url = upstream, client, url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with Upstream() as upstream:
        upstream.fixed["/v1/models"] = plain({"data": [{"id": "m"}]})
        roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=10, options={})
        async with (
            serving(roster=roster) as url,
            AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            yield Served(upstream, client, url)
        await roster.close()


async def chain(served: Served) -> Turn:
    previous: list[str] = []

    async def turn(items: list[Any]) -> Any:
        more: Any = {"previous_response_id": previous[-1]} if previous else {}
        made = await served.client.responses.create(model="m", input=items, tools=[TOOL], **more)
        previous.append(made.id)
        return made.to_dict()["output"]

    return turn


async def conversation(served: Served) -> Turn:
    id = (await served.client.conversations.create()).id

    async def turn(items: list[Any]) -> Any:
        made = await served.client.responses.create(model="m", input=items, tools=[TOOL], conversation=id)
        return made.to_dict()["output"]

    return turn


async def stateless(served: Served) -> Turn:
    context: list[Any] = []

    async def turn(items: list[Any]) -> Any:
        context.extend(items)
        stream = await served.client.responses.create(
            model="m", input=list(context), tools=[TOOL], store=False, stream=True
        )
        events = [event async for event in stream]
        output: Any = events[-1].to_dict()["response"]["output"]  # type: ignore[index]
        context.extend(output)
        return output

    return turn


async def background(served: Served) -> Turn:
    previous: list[str] = []

    async def turn(items: list[Any]) -> Any:
        more: Any = {"previous_response_id": previous[-1]} if previous else {}
        made = await served.client.responses.create(model="m", input=items, tools=[TOOL], background=True, **more)
        async for _ in await served.client.responses.retrieve(made.id, stream=True):
            pass
        previous.append(made.id)
        return (await served.client.responses.retrieve(made.id)).to_dict()["output"]

    return turn


async def websocket(served: Served) -> Turn:
    """One turn a message, on what the connection remembers."""
    session = aiohttp.ClientSession()
    socket = await session.ws_connect(f"{served.url}/responses")
    previous: list[str] = []

    async def turn(items: list[Any]) -> Any:
        more: Any = {"previous_response_id": previous[-1]} if previous else {}
        ask = {"type": "response.create", "model": "m", "input": items, "tools": [TOOL], "store": False}
        await socket.send_json(ask | more)
        while (frame := await socket.receive_json(timeout=20))["type"] != "response.completed":
            assert frame["type"] != "error", frame
        previous.append(frame["response"]["id"])
        if len(previous) > ROUNDS:
            await session.close()
        return frame["response"]["output"]

    return turn


async def chat(served: Served) -> Turn:
    """The other dialect, whose clients keep the messages."""
    messages: list[Any] = []
    tool: Any = {"type": "function", "function": {"name": "ping"}}

    async def turn(items: list[Any]) -> Any:
        for item in items:
            if item["type"] == "message":
                messages.append({"role": "user", "content": item["content"]})
            else:
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        made = await served.client.chat.completions.create(model="m", messages=list(messages), tools=[tool])
        message = made.choices[0].message
        messages.append(message.to_dict())
        return [{"type": "function_call", "call_id": call.id} for call in message.tool_calls or ()]

    return turn


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("id", ["ping:0", "call_" + "s" * 200, "call_" + "s" * 30_000])
@pytest.mark.parametrize("mode", [chain, conversation, stateless, background, websocket, chat])
async def test_ids_of_the_upstreams_own(served: Served, mode: Callable[[Served], Awaitable[Turn]], id: str) -> None:
    upstream, turn = served.upstream, await mode(served)
    items: list[Any] = [ASK]
    for n in range(ROUNDS):
        call = {"index": 0, "id": id, "function": {"name": "ping", "arguments": f'{{"n": {n}}}'}}
        upstream.play(sse(delta(tool_calls=[call]), finish("tool_calls")))
        (made,) = [item for item in await turn(items) if item["type"] == "function_call"]
        items = [{"type": "function_call_output", "call_id": made["call_id"], "output": f"pong {n}"}]
    upstream.play(sse(text("done"), finish()))
    await turn(items)
    messages = upstream.asked[-1].json["messages"][1:]
    told = [(message["role"], message.get("tool_call_id"), message.get("content")) for message in messages]
    assert told == [pair for n in range(ROUNDS) for pair in (("assistant", None, None), ("tool", id, f"pong {n}"))]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        (id, f'{{"n": {n}}}') for n in range(ROUNDS)
    ]


SIGNED: Any = {"google": {"thought_signature": "EjQKMgEMOdbH+/" * 300 + "=="}}
ENCRYPTED: Any = {"type": "reasoning.encrypted", "data": "S" * 500, "id": "a", "format": "google-gemini-v1", "index": 0}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("id", ["a", "", "a__with__e30="])
@pytest.mark.parametrize("mode", [chain, conversation, stateless, background, websocket, chat])
async def test_what_comes_with_a_call_goes_back_with_it(
    served: Served, mode: Callable[[Served], Awaitable[Turn]], id: str
) -> None:
    """Gemini and what stands in front of it refuse a call without the signature of the thought that led to it."""
    upstream, turn = served.upstream, await mode(served)
    items: list[Any] = [ASK]
    for _ in range(ROUNDS):
        signed = {"id": id, "function": {"name": "ping", "arguments": "{}"}, "extra_content": SIGNED}
        other = {"id": id and "b", "function": {"name": "ping", "arguments": '{"n": 1}'}}
        upstream.play(sse(delta(tool_calls=[signed, other], reasoning_details=[ENCRYPTED]), finish("tool_calls")))
        made = [item for item in await turn(items) if item["type"] == "function_call"]
        items = [{"type": "function_call_output", "call_id": call["call_id"], "output": "pong"} for call in made]
    upstream.play(sse(text("done"), finish()))
    await turn(items)
    messages = upstream.asked[-1].json["messages"]
    said = [message for message in messages if message["role"] == "assistant"]
    assert [message.get("reasoning_details") for message in said] == [[ENCRYPTED]] * ROUNDS
    calls = [call for message in said for call in message["tool_calls"]]
    assert [call.get("extra_content") for call in calls] == [SIGNED, None] * ROUNDS
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == [
        one["id"] for one in calls
    ]
    if id:
        assert [call["id"] for call in calls] == [id, "b"] * ROUNDS
