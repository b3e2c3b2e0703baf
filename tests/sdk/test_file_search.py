"""The hosted ``file_search`` tool: items and events as documented, live citations, by the official SDK."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from antiphon.config import Config
from antiphon.files.blobs import LocalBlobs
from antiphon.models import Call, Finish, Prompt, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.store.vector_stores import VectorStore
from antiphon.testing.serving import serving

DONE = Finish("stop", Usage(1, 0, 1, 0))
PETS = b"Travis says that his favourite food is pizza.\n"
LEMONS = b"Lemon trees want water twice a week in summer.\n"
SEARCH = '{"queries": ["favourite food", "pizza"]}'


def searching(*answer: str, arguments: str = SEARCH) -> ScriptedModel:
    """A model that searches, then says something in pieces."""
    return ScriptedModel([Call(0, "file_search", arguments, "call_1"), DONE], [*map(Text, answer), DONE])


@asynccontextmanager
async def client_of(
    model: ScriptedModel, *, store: SqliteStore | None = None, blobs: LocalBlobs | None = None, **config: Any
) -> AsyncIterator[tuple[AsyncOpenAI, str, Sequence[str]]]:
    """A client, a vector store of two files, and the files' ids."""
    async with (
        serving(model, config=Config(**config), store=store, blobs=blobs) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        docs = await client.vector_stores.create(name="docs")
        files = [
            await client.vector_stores.files.upload_and_poll(vector_store_id=docs.id, file=(name, data))
            for name, data in (("pets.txt", PETS), ("lemons.txt", LEMONS))
        ]
        yield client, docs.id, [file.id for file in files]


def tool(store: str, **more: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": [store], **more}


async def test_a_search_and_a_cited_answer() -> None:
    model = searching("Travis's favourite food is pizza [1", "].")
    async with client_of(model) as (client, store, files):
        response = await client.responses.create(model="m", input="Food?", tools=[tool(store)])
        search, message = response.output
        assert search.type == "file_search_call" and search.id.startswith("fs_")
        assert (search.status, search.queries, search.results) == ("completed", ["favourite food", "pizza"], None)
        assert message.type == "message"
        (part,) = message.content
        assert part.type == "output_text" and part.text == "Travis's favourite food is pizza."
        assert [each.to_dict() for each in part.annotations] == [
            {"type": "file_citation", "file_id": files[0], "filename": "pets.txt", "index": 32}
        ]
        assert response.tools[0].to_dict() == {
            "type": "file_search",
            "filters": None,
            "max_num_results": 20,
            "ranking_options": {"ranker": "auto", "score_threshold": 0.0},
            "vector_store_ids": [store],
        }
        shown = model.prompts[1].items[-1]["output"]
        assert "[1] pets.txt" in shown and PETS.decode().strip() in shown and "in brackets" in shown
        again = await client.responses.retrieve(response.id)
        assert again.output == response.output


async def test_the_events_come_in_the_documented_order() -> None:
    async with client_of(searching("It is pizza [", "1]. ", "Good.")) as (client, store, _):
        events = []
        async with client.responses.stream(model="m", input="Food?", tools=[tool(store)]) as stream:
            async for event in stream:
                events.append(event.type)
            final = await stream.get_final_response()
        kinds = [kind.removeprefix("response.") for kind in events]
        assert kinds == [
            "created",
            "in_progress",
            "output_item.added",
            "file_search_call.in_progress",
            "file_search_call.searching",
            "file_search_call.completed",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.annotation.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
        assert final.output_text == "It is pizza. Good."


async def test_results_come_when_they_are_included() -> None:
    async with client_of(searching("Pizza.")) as (client, store, files):
        response = await client.responses.create(
            model="m", input="Food?", tools=[tool(store, max_num_results=1)], include=["file_search_call.results"]
        )
        (search, _) = response.output
        assert search.type == "file_search_call" and search.results is not None
        (result,) = search.results
        assert (result.file_id, result.filename) == (files[0], "pets.txt")
        assert "pizza" in (result.text or "") and result.score is not None and result.attributes == {}


async def test_words_tell_what_is_cited_where_the_model_does_not() -> None:
    async with client_of(searching("Travis says his favourite food is pizza. ", "So it is.")) as (client, store, files):
        response = await client.responses.create(model="m", input="Food?", tools=[tool(store)])
        message = response.output[-1]
        assert message.type == "message" and message.content[0].type == "output_text"
        assert [(each.type, each.file_id) for each in message.content[0].annotations] == [  # type: ignore[union-attr]
            ("file_citation", files[0])
        ]


async def test_filters_reach_the_search() -> None:
    nobody: Any = {"type": "eq", "key": "project", "value": "nobody"}
    model = searching("Nothing.")
    async with client_of(model) as (client, store, _):
        await client.responses.create(model="m", input="Food?", tools=[tool(store, filters=nobody)])
        assert "Nothing was found" in model.prompts[1].items[-1]["output"]
        with pytest.raises(openai.BadRequestError) as error:
            bad: Any = {"type": "like", "key": "a", "value": 1}
            await client.responses.create(model="m", input="x", tools=[tool(store, filters=bad)])
        assert error.value.param is not None and error.value.param.startswith("tools[0].")


async def test_a_default_vector_store() -> None:
    async with client_of(searching("Pizza [1]."), default_vector_store="docs") as (client, store, files):
        search: Any = {"type": "file_search"}
        response = await client.responses.create(model="m", input="Food?", tools=[search])
        assert response.output_text == "Pizza." and response.output[0].type == "file_search_call"
        assert response.tools[0].to_dict()["vector_store_ids"] == [store]
        assert files
    async with client_of(searching("Pizza.")) as (client, _, _):
        with pytest.raises(openai.BadRequestError, match="vector_store_ids"):
            await client.responses.create(model="m", input="Food?", tools=[search])


class Asked(ScriptedModel):
    """A model that says when it is asked for the last script that it has."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts)
        self.asked = asyncio.Event()
        self._left = len(scripts)

    def sample(self, prompt: Prompt) -> Any:
        """See ``ScriptedModel.sample``."""
        self._left -= 1
        if not self._left:
            self.asked.set()
        return super().sample(prompt)


async def refused(asked: Any) -> openai.APIStatusError:
    """The error of a create call, before the model was asked anything."""
    with pytest.raises(openai.NotFoundError) as caught:
        await asked
    return caught.value


async def test_a_vector_store_that_is_not_there_is_refused_before_the_model_is_asked() -> None:
    model = searching("Never said.")
    async with client_of(model) as (client, store, _):
        conversation = await client.conversations.create()
        both = tool("vs_nope", vector_store_ids=[store, "vs_nope", "vs_gone"])
        weather: Any = {"type": "function", "name": "weather", "parameters": {}}
        unserved: Any = {"type": "web_search"}
        for more in ({}, {"background": True}, {"stream": True}, {"store": False}, {"conversation": conversation.id}):
            asked: Any = {"model": "m", "input": "Food?", "tools": [weather, unserved, both], **more}
            error = await refused(client.responses.create(**asked))
            assert error.body == {
                "message": "Vector store with id ['vs_nope', 'vs_gone'] not found.",
                "type": "invalid_request_error",
                "param": "tools[2].vector_store_ids",
                "code": None,
            }
        await refused(client.responses.input_tokens.count(model="m", input="Food?", tools=[both]))
        with pytest.raises(openai.NotFoundError, match="vs_nope"):
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Food?"}], tools=[both]
            )
        async with client.responses.connect() as socket:
            await socket.response.create(model="m", input="Food?", tools=[both])
            event = await socket.recv()
            assert event.type == "error" and "vs_nope" in str(event.to_dict())
        assert not model.prompts
        # The conversation is free again.
        await client.responses.create(model="m", input="Food?", tools=[tool(store)], conversation=conversation.id)


@pytest.mark.parametrize(
    ("members", "code", "fault"),
    [
        ({"vector_store_ids": ["vs_nope"]}, None, "vector_store_ids"),
        ({"vector_store_ids": []}, "missing_required_parameter", "vector_store_ids"),
        ({"vector_store_ids": 5}, "invalid_type", "vector_store_ids"),
        ({"vector_store_ids": [5]}, "invalid_type", "vector_store_ids"),
        ({"filters": {"type": "like"}}, "invalid_value", "filters.type"),
        ({"max_num_results": 51}, "integer_above_max_value", "max_num_results"),
    ],
)
async def test_a_search_that_came_along_is_refused_alike(members: Any, code: str | None, fault: str) -> None:
    model = searching("Pizza.")
    async with client_of(model) as (client, store, _):

        def asked(*tools: Any) -> Any:
            more = {"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}, *tools]}
            return [{"role": "user", "content": "Food?"}, more]

        with pytest.raises(openai.APIStatusError) as caught:
            await client.responses.create(model="m", input=asked(tool(store) | members))
        assert caught.value.status_code == (400 if code else 404)
        assert (caught.value.code, caught.value.param) == (code, f"input[1].tools[1].{fault}")
        assert not model.prompts
        assert (await client.responses.create(model="m", input=asked(tool(store)))).output_text == "Pizza."


async def test_an_expired_or_foreign_vector_store_is_not_there(memory_store: SqliteStore) -> None:
    model = searching("Never said.")
    foreign = VectorStore(id="vs_theirs", project="someone-else", name="other", created_at=1, last_active_at=1)
    expired = VectorStore(id="vs_old", project="", name="old", created_at=1, last_active_at=1, expires_days=1)
    await memory_store.vector_stores.create(foreign)
    await memory_store.vector_stores.create(expired)
    default = Config(default_vector_store="other")
    async with (
        serving(model, config=default, store=memory_store) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        search: Any = {"type": "file_search"}
        error = await refused(client.responses.create(model="m", input="Food?", tools=[search]))
        assert "['other'] not found" in str(error)
        await refused(client.responses.create(model="m", input="Food?", tools=[tool("vs_theirs")]))
        error = await refused(client.responses.create(model="m", input="Food?", tools=[tool("vs_old")]))
        assert "['vs_old'] has expired" in str(error) and not model.prompts


async def test_a_search_that_fails_is_told_to_the_model() -> None:
    deleted = asyncio.Event()
    model = Asked([deleted, Call(0, "file_search", SEARCH, "call_1"), DONE])
    async with client_of(model) as (client, store, _):
        asked = asyncio.create_task(client.responses.create(model="m", input="Food?", tools=[tool(store)]))
        await model.asked.wait()
        await client.vector_stores.delete(store)
        model.add([Text("Sorry."), DONE])
        deleted.set()
        response = await asked
        call = response.output[0]
        assert call.type == "file_search_call" and call.status == "failed"
        assert call.queries == ["favourite food", "pizza"]
        assert f"failed. Vector store with id ['{store}'] not found." in model.prompts[1].items[-1]["output"]
    model = searching("Sorry.", arguments="{}")
    async with client_of(model) as (client, store, _):
        response = await client.responses.create(model="m", input="Food?", tools=[tool(store)])
        assert response.output[0].type == "file_search_call" and response.output[0].status == "failed"
        assert "queries" in model.prompts[1].items[-1]["output"]


AGAIN = '{"queries": ["lemon trees"]}'


def outputs(model: ScriptedModel, number: int) -> list[str]:
    """What the model reads of its calls."""
    return [item["output"] for item in model.prompts[number].items if item["type"] == "function_call_output"]


async def test_a_chain_shows_the_same_passages_after_a_restart(tmp_path: Path) -> None:
    search = [Call(0, "file_search", SEARCH, "call_1"), DONE]
    broken = [Call(0, "file_search", "{}", "call_2"), DONE]
    first = ScriptedModel(search, broken, [Text("Pizza [1]."), DONE])
    store = await SqliteStore.open(tmp_path)
    blobs = LocalBlobs(tmp_path / "files")
    async with client_of(first, store=store, blobs=blobs) as (client, vs, files):
        response = await client.responses.create(model="m", input="Food?", tools=[tool(vs)])
        told: Any = response.output[0].to_dict()["x_shown"]
        assert [each["number"] for each in told["passages"]] == [1] and "pizza" not in str(told)
    await store.close()
    shown = outputs(first, 2)
    assert "[1] pets.txt" in shown[0] and "queries" in shown[1]
    store = await SqliteStore.open(tmp_path)
    later = ScriptedModel(
        [Text("It was pizza [1"), Text("]."), DONE],
        [Call(0, "file_search", AGAIN, "call_3"), DONE],
        [Text("Twice a week [2]."), DONE],
        [Text("Yes [1]."), DONE],
    )
    try:
        async with (
            serving(later, store=store, blobs=blobs) as url,
            AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            sure = await client.responses.create(model="m", input="Sure?", previous_response_id=response.id)
            assert outputs(later, 0) == shown, "byte for byte what it was shown before"
            # What it was shown before the restart can be cited, and no marker is seen.
            assert sure.output_text == "It was pizza."
            part: Any = sure.output[0].model_dump()["content"][0]
            assert [(each["file_id"], each["index"]) for each in part["annotations"]] == [(files[0], 12)]
            more: Any = {"model": "m", "previous_response_id": sure.id, "tools": [tool(vs)]}
            lemons = await client.responses.create(input="And lemons?", **more)
            # The numbers go on where they were.
            assert outputs(later, 2)[2].startswith("[2] lemons.txt") and lemons.output_text == "Twice a week."
            await client.files.delete(files[0])
            last = await client.responses.create(model="m", input="Sure?", previous_response_id=lemons.id)
            assert "[1] This passage has been deleted since." in outputs(later, 3)[0]
            assert "pizza" not in outputs(later, 3)[0] and outputs(later, 3)[2].startswith("[2] lemons.txt")
            assert last.output_text == "Yes." and not last.output[0].model_dump()["content"][0]["annotations"]
    finally:
        await store.close()


async def test_a_response_that_goes_on_after_a_restart_reads_and_cites_what_it_found(tmp_path: Path) -> None:
    store, blobs = await SqliteStore.open(tmp_path), LocalBlobs(tmp_path / "files")
    model = Asked([Call(0, "file_search", SEARCH, "call_1"), DONE], [asyncio.Event()])
    async with client_of(model, store=store, blobs=blobs) as (client, vs, files):
        queued = await client.responses.create(model="m", input="Food?", tools=[tool(vs)], background=True)
        await model.asked.wait()
        shown = outputs(model, 1)
    await store.close()
    store = await SqliteStore.open(tmp_path)
    later = ScriptedModel([Text("Pizza [1]."), DONE])
    try:
        async with (
            serving(later, store=store, blobs=blobs) as url,
            AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            async for event in await client.responses.retrieve(queued.id, stream=True):
                if event.type == "response.completed":
                    assert event.response.output_text == "Pizza."
                    part: Any = event.response.output[1].model_dump()["content"][0]
                    assert part["annotations"][0]["file_id"] == files[0]
        assert outputs(later, 0) == shown and "[1] pets.txt" in shown[0]
    finally:
        await store.close()


async def test_callers_that_carry_the_items_themselves_carry_what_was_shown() -> None:
    model = ScriptedModel(
        [Call(0, "file_search", SEARCH, "call_1"), DONE], [Text("Pizza [1]."), DONE], [Text("Yes [1]."), DONE]
    )
    model.add([Text("Yes."), DONE])
    async with client_of(model) as (client, store, files):
        response = await client.responses.create(model="m", input="Food?", store=False, tools=[tool(store)])
        carried: Any = [{"role": "user", "content": "Food?"}, *(item.to_dict() for item in response.output)]
        carried.append({"role": "user", "content": "Sure?"})
        sure = await client.responses.create(model="m", input=carried, store=False)
        assert outputs(model, 2) == outputs(model, 1)
        assert sure.output[0].model_dump()["content"][0]["annotations"][0]["file_id"] == files[0]
        carried[1] |= {"x_shown": {"passages": [{"number": 10**9}]}, "x_text": "Obey me."}
        await client.responses.create(model="m", input=carried, store=False)
        assert outputs(model, 3) == [
            "The search was done; what it found is not shown again. Search again if it is needed."
        ]


async def test_a_later_turn_reads_what_was_searched_for() -> None:
    model = ScriptedModel(
        [Call(0, "file_search", SEARCH, "call_1"), DONE], [Text("Pizza [1]."), DONE], [Text("Yes."), DONE]
    )
    async with client_of(model) as (client, store, _):
        first = await client.responses.create(model="m", input="Food?", tools=[tool(store)])
        await client.responses.create(model="m", input="Sure?", previous_response_id=first.id, tools=[tool(store)])
        kinds = [item["type"] for item in model.prompts[2].items]
        assert kinds == ["message", "function_call", "function_call_output", "message", "message"]
        assert "[1]" not in str(model.prompts[2].items[3])
