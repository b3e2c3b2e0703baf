"""Background responses over a real socket, with the official SDK: polled, streamed, resumed, cancelled, handed on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from recorder import Recorder

from antiphon.cli.check_stream import check_stream
from antiphon.config import Config
from antiphon.models import Call, Delta, Finish, Reasoning, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Selection, Store
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.tools import HostedTool
from antiphon.wire.errors import UpstreamError

DONE = Finish("stop", Usage(input=3, output=4))


@asynccontextmanager
async def client_of(
    model: ScriptedModel,
    *,
    store: Store | None = None,
    config: Config | None = None,
    tools: Sequence[HostedTool] = (),
) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, store=store, config=config, tools=tools) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


async def seen(client: AsyncOpenAI, id: str, asked: Callable[[Response], bool]) -> Response:
    """The response once it is as asked; what happens in between can only be polled."""
    while not asked(response := await client.responses.retrieve(id)):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return response


async def polled(client: AsyncOpenAI, id: str) -> Response:
    return await seen(client, id, lambda response: response.status not in ("queued", "in_progress"))


async def bytes_of(client: AsyncOpenAI, id: str, **query: Any) -> bytes:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{client.base_url}responses/{id}", params={"stream": "true", **query}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def begun(client: AsyncOpenAI, **more: Any) -> tuple[Any, str]:
    """A stream of a background response whose first delta has come, and the response's id."""
    stream = await client.responses.create(model="m", input="hi", background=True, stream=True, **more)
    id = ""
    async for event in stream:
        if event.type == "response.created":
            id = event.response.id
        if event.type == "response.output_text.delta":
            break
    return stream, id


async def test_it_is_queued_and_then_done() -> None:
    gate = asyncio.Event()
    async with client_of(ScriptedModel(["Hel", gate, "lo", DONE])) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        assert (response.status, response.background, response.output, response.usage) == ("queued", True, [], None)
        half = await seen(client, response.id, lambda response: bool(response.output_text))
        assert (half.status, half.output_text) == ("in_progress", "Hel")
        gate.set()
        done = await polled(client, response.id)
    assert (done.status, done.output_text, done.id) == ("completed", "Hello", response.id)
    assert done.usage is not None and done.usage.total_tokens == 7


async def test_its_stream_begins_in_the_queue_and_passes_the_strict_accumulator() -> None:
    async with (
        client_of(ScriptedModel([Reasoning("Hm"), "Hel", "lo", DONE])) as client,
        client.responses.stream(model="m", input="hi", background=True) as stream,
    ):
        types = [event.type async for event in stream]
        response = await stream.get_final_response()
    assert types[:4] == ["response.created", "response.queued", "response.in_progress", "response.output_item.added"]
    assert (types[-1], response.output_text, response.background) == ("response.completed", "Hello", True)


async def test_a_stream_can_be_resumed_from_any_number() -> None:
    async with client_of(ScriptedModel(["Hel", "lo ", Reasoning("x"), "you", DONE])) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        await polled(client, response.id)
        whole = await bytes_of(client, response.id)
        frames = whole.split(b"\n\n")
        assert check_stream(whole).findings == []
        for after in range(-1, len(frames) - 2):
            assert await bytes_of(client, response.id, starting_after=after) == b"\n\n".join(frames[after + 1 :])
        events = [event async for event in await client.responses.retrieve(response.id, stream=True, starting_after=3)]
        assert [event.sequence_number for event in events] == list(range(4, len(frames) - 2))
        async with client.responses.stream(response_id=response.id, starting_after=3) as stream:
            assert (await stream.get_final_response()).output_text == "Hello you"


@pytest.mark.parametrize("background", [True, False])
async def test_a_resumed_stream_can_begin_with_what_there_was(background: bool) -> None:
    async with client_of(ScriptedModel([Reasoning("x"), "Hel", "lo", DONE])) as client:
        response = await client.responses.create(model="m", input="hi", background=background)
        await polled(client, response.id)
        whole = [event async for event in await client.responses.retrieve(response.id, stream=True)]
        after = next(event.sequence_number for event in whole if event.type == "response.output_text.delta")
        headers = {"x-antiphon-snapshot": "true"}
        stream = await client.responses.retrieve(
            response.id, stream=True, starting_after=after, extra_headers=headers, include_obfuscation=False
        )
        created, reasoning, message, *rest = [event async for event in stream]
    assert stream.response.headers["x-antiphon-snapshot"] == "true"
    assert [event.sequence_number for event in (created, reasoning, message)] == [after] * 3
    assert (created.type, created.response.status) == ("response.created", "in_progress")
    assert reasoning.item.type == "reasoning"
    assert (message.type, message.output_index) == ("response.output_item.added", 1)
    assert message.item.content[0].text == ("Hel" if background else "Hello")
    assert [event.sequence_number for event in rest] == list(range(after + 1, len(whole)))


async def test_padding_can_be_left_out_of_a_replay() -> None:
    async with client_of(ScriptedModel(["Hello", DONE])) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        await polled(client, response.id)
        assert b'"obfuscation"' in await bytes_of(client, response.id)
        assert b'"obfuscation"' not in await bytes_of(client, response.id, include_obfuscation="false")


async def test_any_number_of_readers_follow_what_is_still_being_said() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    script = [part for gate, word in zip(gates, ("one ", "two ", "three"), strict=True) for part in (gate, word)]
    async with client_of(ScriptedModel([*script, DONE])) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        readers = [asyncio.create_task(bytes_of(client, response.id)) for _ in range(5)]
        for gate in gates:
            gate.set()
            await asyncio.sleep(0)
        first, *others = await asyncio.gather(*readers)
        assert check_stream(first).findings == []
        assert all(other == first for other in others) and await bytes_of(client, response.id) == first


async def test_a_client_that_leaves_changes_nothing() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(["Hel", gate, "lo", DONE])
    async with client_of(model) as client:
        stream, id = await begun(client)
        await stream.close()
        gate.set()
        assert (await polled(client, id)).output_text == "Hello"
    assert not model.samples[0].left_early


async def test_cancelling_stops_the_model_and_is_idempotent() -> None:
    model = ScriptedModel(["Hel", asyncio.Event()])
    async with client_of(model) as client:
        stream, id = await begun(client)
        cancelled = await client.responses.cancel(id)
        rest = [event.type async for event in stream]
        assert model.samples[0].left_early
        assert (cancelled.status, cancelled.output_text, cancelled.usage) == ("cancelled", "Hel", None)
        assert (cancelled.completed_at, cancelled.error) == (None, None)
        assert rest == [], "no event was made up"
        for again in (await client.responses.cancel(id), await client.responses.retrieve(id)):
            assert again.model_dump() == cancelled.model_dump()
        assert (await bytes_of(client, id)).endswith(b"data: [DONE]\n\n")
        continued = await client.responses.create(model="m", input="Go on", previous_response_id=id, background=True)
        assert continued.status == "queued"


async def test_a_queued_response_can_be_cancelled() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([gate, "ok", DONE])
    async with client_of(model, config=Config(background_running_max=1)) as client:
        first = await client.responses.create(model="m", input="hi", background=True)
        second = await client.responses.create(model="m", input="hi", background=True)
        assert (await client.responses.cancel(second.id)).status == "cancelled"
        gate.set()
        assert (await polled(client, first.id)).status == "completed"
    assert len(model.samples) == 1


async def test_what_has_ended_is_not_cancelled_and_what_somebody_waits_for_cannot_be() -> None:
    async with client_of(ScriptedModel(["ok", DONE], again=True)) as client:
        done = await polled(client, (await client.responses.create(model="m", input="hi", background=True)).id)
        assert (await client.responses.cancel(done.id)).model_dump() == done.model_dump()
        waited = await client.responses.create(model="m", input="hi")
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            await client.responses.cancel(waited.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.cancel("resp_nothing")


async def test_a_foreground_response_is_told_again_from_its_items() -> None:
    call = Call(0, "f", '{"a":1}', "call_1")
    async with client_of(ScriptedModel([Reasoning("Hm"), "Hello", call, DONE], "cut")) as client:
        tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
        response = await client.responses.create(model="m", input="hi", tools=[tool])
        whole = await bytes_of(client, response.id)
        assert whole == await bytes_of(client, response.id), "it is not the same each time"
        report = check_stream(whole)
        assert report.findings == []
        async with client.responses.stream(response_id=response.id) as stream:
            told = await stream.get_final_response()
        again = {name: value for name, value in told.model_dump(warnings=False).items() if name != "output"}
        assert again == {name: value for name, value in response.model_dump().items() if name != "output"}
        assert [item.id for item in told.output] == [item.id for item in response.output]
        frames = whole.split(b"\n\n")
        assert await bytes_of(client, response.id, starting_after=4) == b"\n\n".join(frames[5:])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"starting_after": "99"}, "starting_after"),
        ({"starting_after": "x"}, "starting_after"),
        ({"stream": "perhaps"}, "stream"),
        ({"include_obfuscation": "7"}, "include_obfuscation"),
        ({"include": "nonsense"}, "include[0]"),
    ],
)
async def test_a_wrong_query_is_refused(query: dict[str, str], param: str) -> None:
    async with client_of(ScriptedModel(["ok", DONE], again=True)) as client:
        for background in (True, False):
            response = await client.responses.create(model="m", input="hi", background=background)
            with pytest.raises(openai.BadRequestError) as caught:
                await client.get(
                    f"/responses/{response.id}", cast_to=object, options={"params": {"stream": "true", **query}}
                )
            assert caught.value.param == param


async def test_a_failure_is_kept_and_told() -> None:
    model = ScriptedModel(["Hel", UpstreamError("The model fell over.", code="upstream_error")])
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        failed = await polled(client, response.id)
        assert (failed.status, failed.error and failed.error.code) == ("failed", "server_error")
        stream = await bytes_of(client, response.id)
    report = check_stream(stream)
    assert report.findings == [] and report.response is not None
    assert b"event: error\n" in stream and (report.response.status, failed.output_text) == ("failed", "Hel")


async def test_one_that_is_cancelled_while_its_failure_is_written_is_counted(
    monkeypatch: pytest.MonkeyPatch, memory_store: SqliteStore
) -> None:
    finish, cancel, writing, gate = memory_store.runs.finish, memory_store.runs.cancel, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> None:
        writing.set()
        await gate.wait()
        await finish(*args)

    async def open_gate(*args: Any) -> int | None:
        epoch = await cancel(*args)
        gate.set()
        return epoch

    monkeypatch.setattr(memory_store.runs, "finish", slow)
    monkeypatch.setattr(memory_store.runs, "cancel", open_gate)
    async with client_of(ScriptedModel(["Hel", UpstreamError("It fell over.")]), store=memory_store) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        await writing.wait()
        assert (await client.responses.cancel(response.id)).status == "cancelled"
        usage: Any = await client.get("/usage", cast_to=object)
    assert [day["requests"] for day in usage["data"]] == [1]


async def test_what_shall_not_be_stored_is_there_to_be_polled_and_then_goes(memory_store: SqliteStore) -> None:
    async with client_of(ScriptedModel(["ok", DONE], again=True), store=memory_store) as client:
        response = await client.responses.create(model="m", input="hi", background=True, store=False)
        done = await polled(client, response.id)
        assert (done.status, done.store) == ("completed", False)  # type: ignore[attr-defined]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="Go on", previous_response_id=response.id)
        assert caught.value.code == "previous_response_not_found"
        ended = int(done.completed_at or 0)
        assert await memory_store.retention.purge(Selection(expired=ended + 599), 9) == 0
        assert await memory_store.retention.purge(Selection(expired=ended + 601), 9) == 1
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response.id)


async def test_nothing_continues_what_has_not_ended() -> None:
    async with client_of(ScriptedModel(["Hel", asyncio.Event()])) as client:
        _, id = await begun(client)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="Go on", previous_response_id=id)
        assert (caught.value.code, caught.value.param) == ("previous_response_not_ended", "previous_response_id")


async def test_deleting_stops_the_work() -> None:
    model = ScriptedModel(["Hel", asyncio.Event()])
    async with client_of(model) as client:
        stream, id = await begun(client)
        await client.responses.delete(id)
        assert [event async for event in stream] == []
        assert model.samples[0].left_early
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(id)


async def test_its_conversation_is_locked_until_it_ends() -> None:
    gate = asyncio.Event()
    async with client_of(ScriptedModel(["Hel", gate, "lo", DONE], ["ok", DONE], ["Hel", asyncio.Event()])) as client:
        conversation = (await client.conversations.create()).id
        stream, _ = await begun(client, conversation=conversation)
        with pytest.raises(openai.BadRequestError, match="Another process"):
            await client.responses.create(model="m", input="x", conversation=conversation)
        assert (await client.conversations.items.list(conversation)).data == []
        gate.set()
        assert [event async for event in stream][-1].type == "response.completed"
        await client.responses.create(model="m", input="x", conversation=conversation)
        roles = [item.role async for item in client.conversations.items.list(conversation, order="asc")]  # type: ignore[union-attr]
        assert roles == ["user", "assistant", "user", "assistant"]
        _, id = await begun(client, conversation=conversation)
        await client.responses.cancel(id)
        await client.conversations.delete(conversation)


async def test_a_full_queue_says_so() -> None:
    config = Config(background_running_max=1, background_queued_max=3, background_queued_per_project_max=2)
    async with client_of(ScriptedModel(["Hel", asyncio.Event()]), config=config) as client:
        await begun(client)
        for _ in range(2):
            await client.responses.create(model="m", input="hi", background=True)
        with pytest.raises(openai.RateLimitError, match="of yours are queued") as caught:
            await client.responses.create(model="m", input="hi", background=True)
    assert caught.value.response.headers["retry-after"] == "10"
    assert caught.value.code == "rate_limit_exceeded"


async def test_a_wide_window_lets_others_go_first() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([gate, "ok", DONE], ["ok", DONE], again=True)
    async with client_of(model, config=Config(background_running_max=1)) as client:
        made = []
        for name, window in (("first", "soonest"), ("late", "8h"), ("later", "2h"), ("soon", "soonest")):
            more: Any = {"background_options": {"completion_window": window}}
            made.append(await client.responses.create(model="m", input=name, background=True, **more))
            await seen(client, made[0].id, lambda response: response.status == "in_progress")
        gate.set()
        for response in made:
            await polled(client, response.id)
    assert [prompt.items[-1]["content"][0]["text"] for prompt in model.prompts] == ["first", "soon", "later", "late"]


# Function calls and hosted tools

FUNCTION: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
RECORDER: Any = {
    "type": "mcp",
    "server_label": "recorder",
    "server_url": "https://example.org/secret",
    "authorization": "canary-secret",
    "require_approval": "never",
    "allowed_tools": ["write", "read"],
}


async def test_a_call_becomes_visible_whole() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(["Let me", Call(0, "f", '{"a"', "call_1"), gate, Call(0, "", ":1}"), DONE])
    async with client_of(model) as client:
        stream, id = await begun(client, tools=[FUNCTION])
        half = await client.responses.retrieve(id)
        assert [item.type for item in half.output] == ["message"], "half a call was shown"
        gate.set()
        types = [event.type async for event in stream]
        done = await client.responses.retrieve(id)
    assert types.count("response.function_call_arguments.delta") == 1
    assert (done.output[1].type, done.output[1].arguments) == ("function_call", '{"a":1}')  # type: ignore[union-attr]


@pytest.mark.parametrize("background", [True, False])
async def test_a_hosted_tool_runs_and_the_model_reads_what_came_of_it(tmp_path: Path, background: bool) -> None:
    recorder = Recorder(tmp_path / "calls")
    calls: list[Delta] = [Call(0, "write", '{"a":1}', "call_1"), Call(1, "read", "{}", "call_2"), DONE]
    model = ScriptedModel([Text("Let me see."), calls], ["Done.", DONE])
    async with client_of(model, tools=[recorder]) as client:
        response = await client.responses.create(model="m", input="hi", tools=[RECORDER], background=background)
        done = await polled(client, response.id)
        stream = await bytes_of(client, response.id)
    assert [item.type for item in done.output] == ["message", "mcp_call", "mcp_call", "message"]
    outputs = [item.output for item in done.output if item.type == "mcp_call"]
    assert outputs == ['write was called with {"a":1}', "read was called with {}"]
    assert [call["event"] for call in recorder.calls()] == ["begun", "begun", "ended", "ended"]
    shown = [item["type"] for item in model.prompts[1].items]
    called = ["function_call", "function_call_output"]
    assert shown == ["message", "message", *called, *called]
    assert done.usage is not None and done.usage.input_tokens == 6, "the tokens of both turns count"
    assert check_stream(stream).findings == []
    assert b"canary-secret" not in stream


async def test_a_tool_that_fails_is_read_by_the_model_and_ends_nothing(tmp_path: Path) -> None:
    model = ScriptedModel([Call(0, "write", "{}", "call_1"), DONE], ["So be it.", DONE])
    async with client_of(model, tools=[Recorder(tmp_path)]) as client:  # a folder, which cannot be written
        response = await client.responses.create(model="m", input="hi", tools=[RECORDER])
    assert response.output_text == "So be it."
    call = response.output[0]
    assert call.type == "mcp_call" and call.status == "failed" and call.output is None
    assert "The tool failed." in str(call.error)


async def test_calls_beyond_the_limit_are_not_made(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "calls")
    twice: list[Delta] = [Call(0, "write", "{}", "call_1"), Call(1, "write", "{}", "call_2"), DONE]
    model = ScriptedModel(twice, ["Done.", DONE])
    async with client_of(model, tools=[recorder]) as client:
        response = await client.responses.create(model="m", input="hi", tools=[RECORDER], max_tool_calls=1)
    assert [item.type for item in response.output] == ["mcp_call", "message"]
    assert len(recorder.calls()) == 2
    assert model.prompts[1].functions == (), "a tool that cannot be called is offered no more"


# Handed on


async def test_a_text_goes_on_where_it_was_when_the_server_comes_back(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    first = ScriptedModel(["Once upon", " a", asyncio.Event()])
    async with client_of(first, store=store) as client:
        _, id = await begun(client)
        half = await seen(client, id, lambda response: response.output_text == "Once upon a")
    second = ScriptedModel([" time", DONE])
    async with client_of(second, store=store) as client:
        done = await polled(client, id)
        stream = await bytes_of(client, id)
    await store.close()
    assert second.prompts[0].prefix == "Once upon a"
    assert (done.output_text, done.output[0].id) == ("Once upon a time", half.output[0].id)
    assert check_stream(stream).findings == []


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (ScriptedModel(["Again.", DONE], supports_prefill=False), {}),
        (
            ScriptedModel(['{"a":1}', DONE]),
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}},
        ),
    ],
    ids=["the model cannot", "held to a schema"],
)
async def test_a_text_that_cannot_be_gone_on_with_begins_anew(
    tmp_path: Path, model: ScriptedModel, more: dict[str, Any]
) -> None:
    store = await SqliteStore.open(tmp_path)
    async with client_of(ScriptedModel(["Once upon", asyncio.Event()]), store=store) as client:
        _, id = await begun(client, **more)
    async with client_of(model, store=store) as client:
        done = await polled(client, id)
        stream = await bytes_of(client, id)
        items = [item async for item in client.responses.input_items.list(id)]
    await store.close()
    assert model.prompts[0].prefix == ""
    assert done.output_text in ("Again.", '{"a":1}'), "a passage is there twice"
    assert len(done.output) == 1 and len(items) == 1
    assert check_stream(stream).findings == []


@pytest.mark.parametrize(("name", "begun_calls"), [("write", 1), ("read", 2)])
async def test_a_call_in_flight_follows_its_policy(tmp_path: Path, name: str, begun_calls: int) -> None:
    store = await SqliteStore.open(tmp_path)
    calling = asyncio.Event()
    slow = Recorder(tmp_path / "calls", gate=lambda: calling)
    async with client_of(
        ScriptedModel([Call(0, name, "{}", "call_1"), DONE]),
        store=store,
        tools=[slow],
        config=Config(drain_s=0.01),
    ) as client:
        response = await client.responses.create(model="m", input="hi", tools=[RECORDER], background=True)
        await seen(client, response.id, lambda response: bool(slow.calls()))
    second = ScriptedModel(["Done.", DONE])
    async with client_of(second, store=store, tools=[Recorder(tmp_path / "calls")]) as client:
        done = await polled(client, response.id)
        stream = await bytes_of(client, response.id)
    await store.close()
    assert (done.status, done.output_text) == ("completed", "Done.")
    assert sum(call["event"] == "begun" for call in slow.calls()) == begun_calls
    call = done.output[0]
    assert call.type == "mcp_call" and call.status == ("failed" if begun_calls == 1 else "completed")
    assert check_stream(stream).findings == []


async def test_nothing_is_asked_again_behind_a_call_of_the_clients_own(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    slow = Recorder(tmp_path / "calls", gate=lambda gate=asyncio.Event(): gate)
    calls: list[Delta] = [Call(0, "read", "{}", "call_1"), Call(1, "f", "{}", "call_2"), DONE]
    tools = [RECORDER, FUNCTION]
    config = Config(drain_s=0.01)
    async with client_of(ScriptedModel([Text("So."), calls]), store=store, tools=[slow], config=config) as client:
        response = await client.responses.create(model="m", input="hi", tools=tools, background=True)
        await seen(client, response.id, lambda response: bool(slow.calls()))
    second = ScriptedModel()
    async with client_of(second, store=store, tools=[Recorder(tmp_path / "calls")]) as client:
        done = await polled(client, response.id)
    await store.close()
    assert (done.status, done.output_text, second.samples) == ("completed", "So.", [])
    assert sorted(item.type for item in done.output) == ["function_call", "mcp_call", "message"]
