"""What our clients give back: the official objects, with what the founding text adds to them."""

import copy
import json
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, omit
from openai.types.responses import CompactedResponse as OfficialCompacted
from openai.types.responses import Response as OfficialResponse
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_input_item import ResponseInputItem

from antiphon import AsyncOpenAI as Antiphon
from antiphon.client.sdk.content import Content
from antiphon.client.sdk.results import CompactedResponse, Response, extend
from antiphon.models import Call, Finish, Reasoning, Refusal, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TALK = [
    Reasoning("hm"),
    [Text("Let me"), Text(" see.")],
    Call(0, "get_weather", '{"city": "P"}', "call_1"),
    Finish("stop", Usage(input=3, cached=1, output=4, reasoning=2)),
]


@asynccontextmanager
async def clients(*scripts: Any) -> AsyncIterator[tuple[Antiphon, AsyncOpenAI]]:
    """Ours and the official one, at the same server."""
    async with (
        serving(ScriptedModel(*scripts, again=True)) as url,
        Antiphon(base_url=url, api_key="none", max_retries=0) as ours,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as theirs,
    ):
        yield ours, theirs


async def test_content_reads_as_its_text_and_is_the_official_list() -> None:
    async with clients("Hello") as (client, _):
        response = await client.responses.create(model="m", input={"role": "user", "content": "hi"})
    content: Any = response.output[0].content  # type: ignore[union-attr]
    assert f"{content}" == str(content) == "Hello"
    assert f"{content:>7}|" == "  Hello|"
    assert (content == "Hello", content != "Hello", content == "Bye") == (True, False, False)
    assert ("ell" in content, "x" in content, content[0] in content) == (True, False, True)
    assert isinstance(content, list)
    assert content == list(content)
    assert list(content) == content
    assert content[0].text == "Hello"
    assert response.output_text == "Hello"
    assert repr(content) == repr(list(content))
    with pytest.raises(TypeError):
        hash(content)


async def test_the_content_of_a_refusal_is_its_words() -> None:
    async with clients([Refusal("I can't.")]) as (client, _):
        response = await client.responses.create(model="m", input="hi")
    assert str(response.output[0].content) == response.refusal == "I can't."  # type: ignore[union-attr]
    assert response.output_text == ""


async def test_a_response_is_the_official_one_in_every_other_way() -> None:
    async with clients(TALK) as (client, official):
        ours = await client.responses.create(model="m", input="hi", tools=[WEATHER])
        theirs = await official.responses.retrieve(ours.id)
    assert type(ours) is Response
    assert type(theirs) is OfficialResponse
    assert isinstance(ours, OfficialResponse)
    assert ours == theirs
    assert theirs == ours
    assert ours.model_dump() == theirs.model_dump()
    assert ours.model_dump_json() == theirs.model_dump_json()
    assert ours.to_dict() == theirs.to_dict()
    assert ours.to_json() == theirs.to_json()
    assert repr(ours) == repr(theirs)
    assert ours != ours.model_copy(update={"id": "other"})
    assert ours._request_id is not None


async def test_it_survives_pickling_and_copying() -> None:
    async with clients(TALK) as (client, _):
        response = await client.responses.create(model="m", input="hi", tools=[WEATHER])
    for again in (pickle.loads(pickle.dumps(response)), copy.deepcopy(response), response.model_copy(deep=True)):
        assert type(again) is Response
        assert again == response
        assert again.tool_calls == response.tool_calls
        assert isinstance(again.output[1].content, Content)  # type: ignore[union-attr]


async def test_output_can_be_fed_back() -> None:
    async with clients("Hello") as (client, _):
        first = await client.responses.create(model="m", input="hi", store=False)
        again = await client.responses.create(
            model="m", input=[*first.output, {"role": "user", "content": "more"}], store=False
        )
    assert again.status == "completed"
    pydantic.TypeAdapter(list[ResponseInputItem]).validate_python([item.to_dict() for item in first.output])


async def test_tool_calls() -> None:
    async with clients(TALK, "none") as (client, _):
        response = await client.responses.create(model="m", input="hi", tools=[WEATHER])
        without = await client.responses.create(model="m", input="hi")
    assert without.tool_calls is None
    assert response.tool_calls is not None
    (call,) = response.tool_calls
    assert (call.id, call.type) == ("call_1", "function")
    assert call.function == {"name": "get_weather", "arguments": '{"city": "P"}'}
    assert (call.apply_patch, call.computer_use) == (None, None)
    assert call.item is response.output[2]


PATCH = {"type": "update_file", "path": "a.py", "diff": "@@\n-x\n+y"}


def response_of(*output: Any) -> Response:
    """An official response with that output, extended as the client does it."""
    body = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "tools": []}
    official = OfficialResponse.construct(**body, output=list(output), tool_choice="auto", parallel_tool_calls=True)
    return extend(official)  # type: ignore[return-value]


def test_calls_of_every_kind_but_those_that_were_answered() -> None:
    response = response_of(
        {"type": "file_search_call", "id": "fs_1", "queries": [], "status": "completed"},
        {"type": "apply_patch_call", "id": "a", "call_id": "c1", "status": "completed", "operation": PATCH},
        {
            "type": "computer_call",
            "id": "b",
            "call_id": "c2",
            "status": "completed",
            "pending_safety_checks": [],
            "actions": [{"type": "screenshot"}],
        },
        {"type": "custom_tool_call", "id": "c", "call_id": "c3", "name": "sql", "input": "select 1"},
        {"type": "shell_call", "id": "d", "call_id": "c4", "status": "completed", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "id": "e", "call_id": "c4", "status": "completed", "output": []},
    )
    assert response.tool_calls is not None
    patch, computer, custom = response.tool_calls
    assert (patch.type, computer.type, custom.type) == ("apply_patch", "computer_use", "custom")
    assert patch.apply_patch == PATCH
    assert f"Patch: {patch.apply_patch}" == "Patch: *** Update File: a.py\n@@\n-x\n+y"
    assert computer.computer_use == {"actions": [{"type": "screenshot"}], "pending_safety_checks": []}
    assert (custom.name, custom.input) == ("sql", "select 1")
    assert patch.function is None


async def test_every_event_has_a_delta() -> None:
    said, deltas = "", {}
    async with clients(TALK) as (client, _):
        async for event in await client.responses.create(model="m", input="hi", tools=[WEATHER], stream=True):
            deltas[event.type] = event.delta  # type: ignore[union-attr]
            if event.delta:  # type: ignore[union-attr]
                said += event.delta.content  # type: ignore[union-attr]
    assert said == "Let me see."
    assert deltas["response.created"] is None
    assert deltas["response.completed"] is None
    arguments = deltas["response.function_call_arguments.delta"]
    assert (arguments, arguments.content) == ('{"city": "P"}', "")
    assert isinstance(deltas["response.output_text.delta"], str)


async def test_events_are_the_official_ones_in_every_other_way() -> None:
    async with clients(TALK) as (client, _):
        events = [e async for e in await client.responses.create(model="m", input="hi", tools=[WEATHER], stream=True)]
    for event in events:
        body = json.loads(event.to_json())
        official = pydantic.TypeAdapter[Any](ResponseStreamEvent).validate_python(body)
        assert isinstance(event, type(official))
        assert "delta" not in event.to_dict() or "delta" in type(official).model_fields
        assert event == official
        assert official == event
        assert event.to_json() == official.to_json()
        assert repr(event).split("(")[0] == type(official).__name__
        again = pickle.loads(pickle.dumps(event))
        assert (type(again), again) == (type(event), event)
        assert copy.deepcopy(event) == event


async def test_the_helper_streams_the_same_events_and_a_dressed_response() -> None:
    async with clients(TALK) as (client, official):
        async with official.responses.stream(model="m", input="hi", tools=[WEATHER]) as theirs:
            expected = [(type(event).__mro__[0].__name__, event.type) async for event in theirs]
        async with client.responses.stream(model="m", input="hi", tools=[WEATHER]) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
    assert [(type(event).__name__, event.type) for event in events] == expected
    assert "".join(event.delta.content for event in events if event.delta) == "Let me see."
    assert [e.snapshot for e in events if e.type == "response.output_text.delta"] == ["Let me", "Let me see."]
    assert final.tool_calls is not None
    assert final.output_text == str(final.output[1].content) == "Let me see."  # type: ignore[union-attr]
    assert events[-1].response is final


async def test_aliases_reach_the_server_in_their_official_form() -> None:
    nested = {"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}
    async with clients("ok") as (client, _):
        response = await client.responses.create(
            model="m",
            input={"role": "user", "content": "hi"},
            reasoning_effort="low",
            tools=[nested],
            tool_choice=omit,
            prompt_cache_retention="in-memory",
        )
        parsed = await client.responses.parse(model="m", input="hi", verbosity="low")
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.tools[0].name == "get_weather"  # type: ignore[union-attr]
    assert response.prompt_cache_retention == "in_memory"
    assert parsed.text is not None
    assert parsed.text.verbosity == "low"


@pytest.mark.parametrize(
    "arguments",
    [
        {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
        {"verbosity": "low", "text": {"verbosity": "high"}},
    ],
)
async def test_an_alias_may_not_contradict_what_it_is_short_for(arguments: Any) -> None:
    async with clients("ok") as (client, _):
        with pytest.raises(TypeError, match="differ; pass one of them"):
            await client.responses.parse(model="m", input="hi", **arguments)
        same = await client.responses.create(model="m", input="hi", reasoning_effort="low", reasoning={"effort": "low"})
    assert same.reasoning is not None
    assert same.reasoning.effort == "low"


def compacted_of(**extra: Any) -> CompactedResponse:
    usage = {
        "input_tokens": 2000,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 300,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2300,
    }
    body = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": usage}
    return extend(OfficialCompacted.construct(**body, **extra))  # type: ignore[return-value]


def test_what_a_compaction_saves_is_the_servers_figure_or_computed() -> None:
    computed = compacted_of()
    assert (computed.original_token_count, computed.token_count, computed.reduction_percentage) == (2000, 300, 85.0)
    told = compacted_of(original_token_count=1000, token_count=100, reduction_percentage=90.0)
    assert (told.original_token_count, told.token_count, told.reduction_percentage) == (1000, 100, 90.0)
    assert told.model_dump()["original_token_count"] == 1000
    assert pickle.loads(pickle.dumps(told)) == told


async def test_raw_and_streaming_responses_parse_to_dressed_ones() -> None:
    async with clients("Hello") as (client, _):
        raw = await client.responses.with_raw_response.create(model="m", input="hi", reasoning_effort="low")
        assert raw.headers["x-antiphon-model"] == "scripted"
        assert type(raw.parse()) is Response
        async with client.responses.with_streaming_response.create(model="m", input="hi") as answer:
            assert type(await answer.parse()) is Response
        stream = (await client.responses.with_raw_response.create(model="m", input="hi", stream=True)).parse()
        assert [event.delta for event in [e async for e in stream] if event.delta] == ["Hello"]  # type: ignore[union-attr]
        parsed = (await client.responses.with_raw_response.parse(model="m", input="hi", text_format=None)).parse()  # type: ignore[arg-type]
        assert parsed.output_text == "Hello"


async def test_a_socket_gives_dressed_events() -> None:
    async with clients("Hello") as (client, _), client.responses.connect() as connection:
        await connection.response.create(model="m", input="hi")
        said = ""
        async for event in connection:
            said += event.delta.content if event.delta else ""  # type: ignore[union-attr]
            if event.type == "response.completed":
                assert event.response.tool_calls is None  # type: ignore[attr-defined]
                break
    assert said == "Hello"


async def test_errors_are_the_official_ones() -> None:
    async with clients("Hello") as (client, _):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_none")
        with pytest.raises(ValueError, match="non-empty value for `response_id`"):
            await client.responses.retrieve("")
