"""Conversations, by the official Python SDK over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import openai
import pydantic
import pytest
from openai import AsyncOpenAI
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses import Response

from antiphon.config import Config
from antiphon.models import Call, Finish, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Record, Store, StoreUnavailable
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.wire.errors import UpstreamError

WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
DONE = Finish("stop", Usage(1, 0, 1, 0))
GONE = "conv_0000"


@asynccontextmanager
async def client_of(
    model: ScriptedModel, *, store: Store | None = None, config: Config | None = None
) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, store=store, config=config) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def text(item: Any) -> str:
    return item.content[0].text


def user(said: str, **more: Any) -> Any:
    return {"role": "user", "content": said, **more}


async def texts(client: AsyncOpenAI, id: str, **query: Any) -> list[str]:
    return [text(item) async for item in client.conversations.items.list(id, **query)]


def prompted(model: ScriptedModel, turn: int = -1) -> list[str]:
    return [part["text"] for item in model.prompts[turn].items for part in item["content"]]


async def test_the_object() -> None:
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create(metadata={"topic": "demo"})
        assert made.id.startswith("conv_")
        assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
        assert await client.conversations.retrieve(made.id) == made
        without_body: Any = await client.post("/conversations", cast_to=object)
        assert without_body["metadata"] == {}
        changed = await client.conversations.update(made.id, metadata={"a": "b"})
        assert changed == made.model_copy(update={"metadata": {"a": "b"}})
        assert (await client.conversations.update(made.id, metadata=None)).metadata == {}
        deleted = await client.conversations.delete(made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "conversation.deleted", True)
        for attempt in (
            client.conversations.retrieve(made.id),
            client.conversations.update(made.id, metadata={}),
            client.conversations.delete(made.id),
            client.conversations.items.create(made.id, items=[user("x")]),
            client.conversations.items.list(made.id),
            client.conversations.items.retrieve("msg_x", conversation_id=made.id),
            client.conversations.items.delete("msg_x", conversation_id=made.id),
            client.responses.create(model="m", input="x", conversation=made.id),
        ):
            with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
                await attempt


async def test_items() -> None:
    every = [
        user("one"),
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
        {"type": "message", "role": "assistant", "content": "two", "id": "msg_mine"},
        {"type": "reasoning", "summary": [], "id": "rs_mine"},
    ]
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create(items=every)
        added = await client.conversations.items.create(made.id, items=[user("three")])
        assert (added.first_id, added.last_id, added.has_more) == (added.data[0].id, added.data[0].id, False)
        listed = [item async for item in client.conversations.items.list(made.id, order="asc", limit=2)]
        for item in listed:
            pydantic.TypeAdapter(ConversationItem).validate_json(item.model_dump_json())
            assert await client.conversations.items.retrieve(item.id, conversation_id=made.id) == item  # type: ignore[arg-type]
        kinds = ["message", "function_call", "function_call_output", "message", "reasoning", "message"]
        assert [item.type for item in listed] == kinds
        assert [listed[3].id, listed[4].id] == ["msg_mine", "rs_mine"]
        newest = [item.id async for item in client.conversations.items.list(made.id, limit=4)]
        assert newest == [item.id for item in reversed(listed)]
        left = await client.conversations.items.delete("rs_mine", conversation_id=made.id)
        assert left == made
        with pytest.raises(openai.NotFoundError, match="Item with id 'rs_mine' not found in conversation"):
            await client.conversations.items.retrieve("rs_mine", conversation_id=made.id)
        with pytest.raises(openai.NotFoundError, match="Item with id 'rs_mine' not found in conversation"):
            await client.conversations.items.delete("rs_mine", conversation_id=made.id)


@pytest.mark.parametrize(
    ("items", "code", "param"),
    [
        ([user("x")] * 21, "array_above_max_length", "items"),
        ([{"type": "message", "role": "user"}], "missing_required_parameter", "items[0].content"),
        ([{"type": "nothing"}], "invalid_value", "items[0].type"),
        ([user("x", phase="commentary")], "invalid_value", "items[0].phase"),
        ([user("x", id="msg_a"), user("y", id="msg_a")], "invalid_value", "items"),
        ([user("x", id="msg_there")], "invalid_value", "items"),
        ([{"type": "item_reference", "id": "msg_gone"}], None, "items"),
    ],
)
async def test_items_that_are_refused(items: list[Any], code: str | None, param: str) -> None:
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create(items=[user("there", id="msg_there")])
        with pytest.raises(openai.APIStatusError) as caught:
            await client.conversations.items.create(made.id, items=items)
        assert (caught.value.code, caught.value.param) == (code, param)
        assert await texts(client, made.id) == ["there"]


async def test_what_else_is_refused() -> None:
    async with client_of(ScriptedModel(), config=Config(strict=True)) as client:
        made = await client.conversations.create()
        for body, code in (({}, "missing_required_parameter"), ({"metadata": {"a": 1}}, "invalid_type")):
            with pytest.raises(openai.BadRequestError) as caught:
                await client.post(f"/conversations/{made.id}", cast_to=object, body=body)
            assert caught.value.code == code
        with pytest.raises(openai.BadRequestError, match="Did you mean 'metadata'"):
            await client.conversations.create(extra_body={"metadat": {}})
        with pytest.raises(openai.BadRequestError, match="not found in this list"):
            await client.conversations.items.list(made.id, after="msg_x")
        for wrong, param in (("resp_1", "conversation"), ({"id": "x"}, "conversation.id")):
            with pytest.raises(
                openai.BadRequestError, match=f"Invalid '{param}'.*Expected an ID that begins with 'conv_'"
            ):
                await client.responses.create(model="m", input="x", conversation=wrong)  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="x", conversation=made.id, previous_response_id="resp_1")
        assert caught.value.code == "mutually_exclusive_parameters"
        with pytest.raises(openai.BadRequestError, match="must be provided"):
            await client.responses.create(model="m", conversation=made.id)
        await client.conversations.items.create(made.id, items=[user("the failures left no lock")])


async def test_images_are_listed_only_when_included() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,eA==", "detail": "auto"}
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create()
        items = client.conversations.items
        message: Any = {"role": "user", "content": [image]}
        plain = await items.create(made.id, items=[message])
        whole = await items.create(made.id, items=[message], include=["message.input_image.image_url"])
        assert plain.data[0].content[0].image_url is None  # type: ignore[union-attr]
        assert whole.data[0].content[0].image_url == image["image_url"]  # type: ignore[union-attr]
        id = plain.data[0].id
        one = await items.retrieve(id, conversation_id=made.id, include=["message.input_image.image_url"])
        assert one.content[0].image_url == image["image_url"]  # type: ignore[union-attr]
        assert (await items.retrieve(id, conversation_id=made.id)).content[0].image_url is None  # type: ignore[union-attr]
        async for item in items.list(made.id, include=["message.input_image.image_url"]):
            assert item.content[0].image_url == image["image_url"]  # type: ignore[union-attr]


HIDDEN: list[tuple[dict[str, Any], str, Any]] = [
    (
        {
            "type": "computer_call_output",
            "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": "data:,x"},
        },
        "computer_call_output.output.image_url",
        lambda item: item.output.image_url,
    ),
    (
        {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed", "results": [{"text": "t"}]},
        "file_search_call.results",
        lambda item: item.results,
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "1",
            "container_id": "c",
            "status": "completed",
            "outputs": [{"type": "logs", "logs": "x"}],
        },
        "code_interpreter_call.outputs",
        lambda item: item.outputs,
    ),
    (
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://example.org"}]},
        },
        "web_search_call.action.sources",
        lambda item: item.action.sources,
    ),
]


@pytest.mark.parametrize(("item", "include", "part"), HIDDEN, ids=lambda each: each if isinstance(each, str) else "")
async def test_what_is_listed_only_when_included(item: Any, include: Any, part: Any) -> None:
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create(items=[item])
        for wanted in ([], [include]):
            (listed,) = [each async for each in client.conversations.items.list(made.id, include=wanted)]
            one = await client.conversations.items.retrieve(listed.id or "", conversation_id=made.id, include=wanted)
            assert bool(part(listed)) == bool(part(one)) == bool(wanted)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_continues_a_conversation(streamed: bool) -> None:
    model = ScriptedModel("two", "four", "five")
    async with client_of(model) as client:
        made = await client.conversations.create(items=[user("zero")])

        async def turn(said: str, conversation: Any) -> Response:
            if not streamed:
                return await client.responses.create(model="m", input=said, conversation=conversation)
            async with client.responses.stream(model="m", input=said, conversation=conversation) as stream:
                await stream.until_done()
                return await stream.get_final_response()

        first = await turn("one", made.id)
        second = await turn("three", {"id": made.id})
        assert first.conversation is not None and first.conversation.id == made.id
        assert (await client.responses.retrieve(second.id)).conversation == second.conversation
        assert prompted(model) == ["zero", "one", "two", "three"]
        listed = [item async for item in client.conversations.items.list(made.id, order="asc")]
        assert [text(item) for item in listed] == ["zero", "one", "two", "three", "four"]
        assert listed[2].id == first.output[0].id
        (own,) = [item async for item in client.responses.input_items.list(second.id)]
        assert own.id == listed[3].id, "an item keeps its id"

        await client.conversations.delete(made.id)
        (kept,) = [item async for item in client.responses.input_items.list(second.id)]
        assert kept == own
        assert (await client.responses.retrieve(first.id)).output_text == "two"
        await client.responses.create(model="m", input="on", previous_response_id=first.id)
        assert prompted(model) == ["zero", "one", "two", "on"], "a branch off a conversation knows what came before"


async def test_a_conversation_answers_without_new_input() -> None:
    model = ScriptedModel("hello")
    async with client_of(model) as client:
        made = await client.conversations.create(items=[user("hi")])
        await client.responses.create(model="m", conversation=made.id)
        assert await texts(client, made.id, order="asc") == ["hi", "hello"]


async def test_calls_pair_across_a_conversation() -> None:
    model = ScriptedModel([Call(0, "get_weather", "{}", "call_1"), DONE], "Sunny.")
    async with client_of(model) as client:
        made = await client.conversations.create()
        await client.responses.create(model="m", input="Weather?", tools=[WEATHER], conversation=made.id)
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call call_1"):
            await client.responses.create(model="m", input="And?", conversation=made.id)
        output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        await client.responses.create(model="m", input=[output], conversation=made.id)
        kinds = [item.type async for item in client.conversations.items.list(made.id, order="asc")]
    assert kinds == ["message", "function_call", "function_call_output", "message"]


async def test_store_false_stores_no_response_and_continues_the_conversation() -> None:
    async with client_of(ScriptedModel("two")) as client:
        made = await client.conversations.create()
        response = await client.responses.create(model="m", input="one", conversation=made.id, store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response.id)
        assert await texts(client, made.id, order="asc") == ["one", "two"]


async def test_a_failure_adds_nothing_and_lets_go(memory_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(record: Record) -> None:
        raise StoreUnavailable("full")

    failure = ["Hel", UpstreamError("gone")]
    async with client_of(ScriptedModel(failure, failure, "never", "two"), store=memory_store) as client:
        made = await client.conversations.create()
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input="x", conversation=made.id)
        with pytest.raises(openai.APIError):
            async for _ in await client.responses.create(model="m", input="x", conversation=made.id, stream=True):
                pass
        with monkeypatch.context() as full, pytest.raises(openai.InternalServerError, match="could not be stored"):
            full.setattr(memory_store.responses, "commit", refuse)
            await client.responses.create(model="m", input="x", conversation=made.id)
        assert await texts(client, made.id) == []
        await client.responses.create(model="m", input="one", conversation=made.id)
        assert await texts(client, made.id, order="asc") == ["one", "two"]


async def test_one_writer_at_a_time() -> None:
    gate = asyncio.Event()
    async with client_of(ScriptedModel(["Hel", gate, "lo"], "again")) as client:
        made = await client.conversations.create(items=[user("there", id="msg_there")])
        stream = aiter(await client.responses.create(model="m", input="x", conversation=made.id, stream=True))
        await anext(stream)
        items = client.conversations.items
        for attempt in (
            client.responses.create(model="m", input="y", conversation=made.id),
            items.create(made.id, items=[user("y")]),
            items.delete("msg_there", conversation_id=made.id),
            client.conversations.delete(made.id),
        ):
            with pytest.raises(openai.BadRequestError, match="Another process is currently operating") as caught:
                await attempt
            assert (caught.value.code, caught.value.param) == ("conversation_locked", "conversation")
        await client.conversations.update(made.id, metadata={"reading": "goes on"})
        assert await texts(client, made.id) == ["there"]
        gate.set()
        async for event in stream:
            if event.type == "response.completed":
                # The stream is not over yet; the conversation is free.
                await client.responses.create(model="m", input="y", conversation=made.id)
        assert await texts(client, made.id, order="asc") == ["there", "x", "Hello", "y", "again"]


async def free_again(client: AsyncOpenAI, id: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await client.conversations.items.create(id, items=[user("free")])
            except openai.BadRequestError:
                await asyncio.sleep(0.01)
            else:
                return


async def test_a_client_that_leaves_lets_go() -> None:
    forever = asyncio.Event()
    async with client_of(ScriptedModel(["Hel", forever], ["Hel", forever])) as client:
        made = await client.conversations.create()
        stream = await client.responses.create(model="m", input="x", conversation=made.id, stream=True)
        await anext(aiter(stream))
        await stream.close()
        await free_again(client, made.id)
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).responses.create(model="m", input="x", conversation=made.id)
        await free_again(client, made.id)
        assert await texts(client, made.id) == ["free", "free"]


async def test_a_client_that_leaves_while_its_answer_is_stored(
    memory_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being written ends before the next one may look."""
    gate, storing, commit = asyncio.Event(), asyncio.Event(), memory_store.responses.commit

    async def commit_slowly(record: Record) -> None:
        storing.set()
        await gate.wait()
        await commit(record)

    monkeypatch.setattr(memory_store.responses, "commit", commit_slowly)
    async with client_of(ScriptedModel("two"), store=memory_store) as client:
        made = await client.conversations.create()
        asking = client.with_options(timeout=0.3).responses.create(model="m", input="one", conversation=made.id)
        with pytest.raises(openai.APITimeoutError):
            await asking
        await storing.wait()
        # Several checks of the server's connection monitor, in which it sees that the client has left.
        await asyncio.sleep(0.7)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.conversations.items.create(made.id, items=[user("free")])
        assert caught.value.code == "conversation_locked"
        gate.set()
        await free_again(client, made.id)
        assert await texts(client, made.id, order="asc") == ["one", "two", "free"]


async def test_lanes_of_a_socket_take_turns_in_a_conversation() -> None:
    gate = asyncio.Event()
    async with (
        serving(ScriptedModel(["Hel", gate, "lo"], "again")) as url,
        AsyncOpenAI(base_url=url, api_key="none") as client,
        client.responses.connect() as connection,
    ):
        made = await client.conversations.create()
        create: Any = {"type": "response.create", "model": "m", "conversation": made.id}
        await connection.send(create | {"input": "one", "stream_id": "a"})
        assert (await connection.recv()).type == "response.created"
        await connection.send(create | {"input": "two", "stream_id": "b"})
        types: list[str] = []
        while "error" not in types:
            event: Any = await connection.recv()
            types.append(event.type)
        assert event.error.code == "conversation_locked"
        gate.set()
        while "response.completed" not in types:
            types.append((await connection.recv()).type)
        await connection.send(create | {"generate": False, "input": "two", "stream_id": "b"})
        await connection.send(create | {"input": "three", "stream_id": "b"})
        while types.count("response.completed") < 3:
            types.append((await connection.recv()).type)
        assert await texts(client, made.id, order="asc") == ["one", "Hello", "two", "three", "again"]


async def test_conversations_outlive_the_server(tmp_path: Any) -> None:
    """As the claims on them do not."""
    forever = asyncio.Event()
    store = await SqliteStore.open(tmp_path)
    async with client_of(ScriptedModel("two", ["Hel", forever]), store=store) as client:
        made = await client.conversations.create()
        first = await client.responses.create(model="m", input="one", conversation=made.id)
        stream = await client.responses.create(model="m", input="x", conversation=made.id, stream=True)
        await anext(aiter(stream))
    await store.close()
    store = await SqliteStore.open(tmp_path)
    model = ScriptedModel("four")
    async with client_of(model, store=store) as client:
        await client.responses.create(model="m", input="three", conversation=made.id)
        assert prompted(model) == ["one", "two", "three"]
        await client.responses.delete(first.id)
        assert await texts(client, made.id, order="asc") == ["one", "two", "three", "four"]
    await store.close()


async def test_references() -> None:
    model = ScriptedModel("one", "two", "three", [Call(0, "get_weather", "{}", "call_1"), DONE], "sunny")
    async with client_of(model) as client:
        first = await client.responses.create(model="m", input=[user("a", id="msg_a")])
        made = await client.conversations.create(items=[user("b", id="msg_b")])

        def refer(*ids: str) -> Any:
            return [{"type": "item_reference", "id": id} for id in ids]

        second = await client.responses.create(
            model="m", input=[*refer("msg_b"), {"id": first.output[0].id}, user("c")]
        )  # type: ignore[list-item]
        assert prompted(model) == ["b", "one", "c"]
        listed = [(item.id, text(item)) async for item in client.responses.input_items.list(second.id, order="asc")]
        assert listed[:2] == [("msg_b", "b"), (first.output[0].id, "one")], "kept whole, under the same ids"
        added = await client.conversations.items.create(made.id, items=refer("msg_a"))
        assert text(added.data[0]) == "a"
        await client.responses.create(model="m", input=refer(second.output[0].id), conversation=made.id)
        assert prompted(model) == ["b", "a", "two"]
        unstored = await client.responses.create(model="m", input="?", store=False, tools=[WEATHER])
        for gone in ("msg_nothing", unstored.output[0].id or ""):
            with pytest.raises(openai.NotFoundError, match=f"Item with id '{gone}' not found. Items are not") as caught:
                await client.responses.create(model="m", input=refer(gone))
            assert caught.value.param == "input"
        for again in ("msg_a", "msg_b"):
            with pytest.raises(openai.BadRequestError, match=f"Duplicate item found with id {again}"):
                await client.responses.create(model="m", input=refer(again), conversation=made.id)
        with pytest.raises(openai.BadRequestError, match="Duplicate item found with id msg_a"):
            await client.responses.create(model="m", input=refer("msg_a"), previous_response_id=first.id)


async def test_pairs_are_checked_after_references_are_resolved() -> None:
    model = ScriptedModel([Call(0, "get_weather", "{}", "call_1"), DONE], "sunny")
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    async with client_of(model) as client:
        asked = await client.responses.create(model="m", input="Weather?", tools=[WEATHER])
        reference: Any = {"type": "item_reference", "id": asked.output[0].id}
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call call_1"):
            await client.responses.create(model="m", input=[reference])
        told = await client.responses.create(model="m", input=[user("Weather?"), reference, output])
    assert told.output_text == "sunny"


async def test_lists_for_people() -> None:
    async with client_of(ScriptedModel("ok", again=True)) as client:
        made = [await client.conversations.create(metadata={"n": str(n % 2)}) for n in range(5)]
        answers = [
            await client.responses.create(model=f"m{n % 2}", input="x", metadata={"n": str(n)}) for n in range(5)
        ]

        async def listed(path: str, **query: Any) -> Any:
            return await client.get(path, cast_to=object, options={"params": query})

        newest = [answer.id for answer in reversed(answers)]
        page = await listed("/responses", limit=3)
        assert [each["id"] for each in page["data"]] == newest[:3]
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", newest[0], newest[2])
        assert page["has_more"] is True
        assert Response.model_validate(page["data"][0]) == answers[-1]
        page = await listed("/responses", limit=3, after=newest[2])
        assert ([each["id"] for each in page["data"]], page["has_more"]) == (newest[3:], False)
        page = await listed("/responses", order="asc", model="m1", status="completed")
        assert [each["id"] for each in page["data"]] == [answers[1].id, answers[3].id]
        page = await listed("/responses", **{"metadata[n]": "3", "created_after": int(answers[0].created_at) - 1})
        assert [each["id"] for each in page["data"]] == [answers[3].id]
        assert (await listed("/responses", created_before=1))["data"] == []
        page = await listed("/conversations", **{"metadata[n]": "1"})
        assert [Conversation.model_validate(each) for each in page["data"]] == [made[3], made[1]]
        refused: list[tuple[Any, str]] = [
            ({"limit": 0}, "limit"),
            ({"created_after": "x"}, "created_after"),
            ({"status": "x"}, "status"),
            ({"after": "resp_x"}, "after"),
        ]
        for wrong, param in refused:
            with pytest.raises(openai.BadRequestError) as caught:
                await listed("/responses", **wrong)
            assert caught.value.param == param


async def test_ids_of_nothing() -> None:
    async with serving(ScriptedModel()) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        for id in (GONE, "resp_1"):
            with pytest.raises(openai.NotFoundError):
                await client.conversations.retrieve(id)


@pytest.mark.parametrize("id", ["msg/1", "a/../b", "x%2Fy?z#é", "/"])
async def test_an_item_is_found_whatever_characters_its_id_has(id: str) -> None:
    async with client_of(ScriptedModel()) as client:
        message: Any = {"id": id, "type": "message", "role": "user", "content": "hi"}
        made = await client.conversations.create(items=[message])
        path = f"/conversations/{made.id}/items/{quote(id, safe='')}"
        assert (await client.get(path, cast_to=object))["id"] == id  # type: ignore[index]
        await client.delete(path, cast_to=object)
        with pytest.raises(openai.NotFoundError):
            await client.get(path, cast_to=object)


async def test_a_search_for_tools_that_does_not_say_who_makes_it_is_listed_as_the_callers() -> None:
    items: Any = [
        {"type": "tool_search_call", "call_id": "c", "arguments": {}},
        {"type": "tool_search_output", "call_id": "c", "tools": []},
        {"type": "tool_search_call", "call_id": "d", "arguments": {}, "execution": "server"},
    ]
    async with client_of(ScriptedModel()) as client:
        made = await client.conversations.create(items=items)
        listed = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert [item.execution for item in listed] == ["client", "client", "server"]  # type: ignore[union-attr]
