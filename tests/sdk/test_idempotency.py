"""``Idempotency-Key`` over a real socket: sent again, a request is answered again and not done again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from memory_keys import MemoryKeys
from openai import AsyncOpenAI

from antiphon.access import keyring
from antiphon.http import idempotency, sse
from antiphon.models import Text
from antiphon.models.scripted import ScriptedModel
from antiphon.store.keys import Allowance, mint_key
from antiphon.testing.serving import serving
from antiphon.wire.errors import UpstreamError

ONCE = {"Idempotency-Key": "one"}


@asynccontextmanager
async def client_of(model: ScriptedModel, keys: MemoryKeys | None = None) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, keys=keys) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


async def raw(client: AsyncOpenAI, key: str = "one", **body: Any) -> tuple[int, bytes, Any]:
    headers = {"Idempotency-Key": key, "Authorization": f"Bearer {client.api_key}"}
    body = {"model": "m", "input": "x", **body}
    async with aiohttp.request("POST", f"{client.base_url}responses", json=body, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")


@pytest.mark.parametrize("store", [True, False])
async def test_the_same_request_gives_the_same_response(store: bool) -> None:
    model = ScriptedModel("one", "two")
    async with client_of(model) as client:
        first = await client.responses.create(model="m", input="x", store=store, extra_headers=ONCE)
        again = await client.responses.create(model="m", input="x", store=store, extra_headers=ONCE)
        assert again == first and again._request_id != first._request_id
        other = await client.responses.create(
            model="m", input="x", store=store, extra_headers={"Idempotency-Key": "two"}
        )
        assert (first.output_text, other.output_text) == ("one", "two")
        raw_again = await client.responses.with_raw_response.create(
            model="m", input="x", store=store, extra_headers=ONCE
        )
        assert raw_again.headers["x-antiphon-replayed"] == "true"
    assert len(model.samples) == 2


async def test_a_stream_is_replayed_byte_for_byte() -> None:
    model = ScriptedModel(["Hel", "lo"], again=True)
    async with client_of(model) as client:
        first, again = await raw(client, stream=True), await raw(client, stream=True)
        assert first[:2] == again[:2]
        assert again[1].endswith(b"data: [DONE]\n\n")
        streamed = [
            await client.responses.create(model="m", input="y", stream=True, extra_headers={"Idempotency-Key": "sdk"})
            for _ in range(2)
        ]
        heard = [[event async for event in stream] for stream in streamed]
        assert heard[0] == heard[1] and heard[0][-1].type == "response.completed"
    assert len(model.samples) == 2


async def test_while_the_first_is_running_the_second_waits_for_it() -> None:
    hold = asyncio.Event()
    model = ScriptedModel(["Hel", hold, "lo"])
    async with client_of(model) as client:
        both = [asyncio.create_task(raw(client, stream=True)) for _ in range(2)]
        await until(lambda: len(model.samples) == 1)
        third = asyncio.create_task(raw(client, stream=True))
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in (*both, third))
        hold.set()
        answers = await asyncio.gather(*both, third)
    assert len({body for _, body, _ in answers}) == 1
    assert len(model.samples) == 1


async def test_another_body_is_refused_and_not_to_be_tried_again() -> None:
    async with client_of(ScriptedModel("ok")) as client:
        await raw(client)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="y", extra_headers=ONCE)
        assert caught.value.code == "idempotency_key_reused"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert (await raw(client, key="k" * 256))[0] == 400


async def test_a_failure_is_not_kept() -> None:
    model = ScriptedModel([UpstreamError("away")], ["Hel", UpstreamError("broken")], "ok")
    async with client_of(model) as client:
        assert (await raw(client))[0] == 502
        assert b"response.failed" in (await raw(client, stream=True))[1]
        assert (await raw(client, stream=True))[0] == 200
    assert len(model.samples) == 3


async def test_the_work_goes_on_while_somebody_waits_for_it_and_no_longer() -> None:
    hold = asyncio.Event()
    model = ScriptedModel(["Hel", hold, "lo"], ["again", hold], "third")
    async with client_of(model) as client:
        first = asyncio.create_task(raw(client))
        await until(lambda: len(model.samples) == 1)
        second = asyncio.create_task(raw(client))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.6)
        hold.set()
        assert b"Hello" in (await second)[1]
        hold.clear()
        alone = asyncio.create_task(raw(client, key="two"))
        await until(lambda: len(model.samples) == 2)
        alone.cancel()
        await until(lambda: model.samples[1].left_early)
        assert b"third" in (await raw(client, key="two"))[1]


async def test_projects_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "SYNC_S", 0.01)
    keys, secrets = MemoryKeys(), []
    for project in "ab":
        key, secret = mint_key("", project, Allowance(rpm=1), 0)
        keys.kept.append(key)
        secrets.append(secret)
    async with client_of(ScriptedModel("for a", "for b"), keys) as client:
        for secret, text in zip(secrets, (b"for a", b"for b"), strict=True):
            client.api_key = secret
            assert text in (await raw(client))[1]
            assert text in (await raw(client))[1], "played again, it takes nothing from the limit"


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "ANSWERS_MAX", 2)
    model = ScriptedModel("one", "two", "three", "four", "x" * 100, "five")
    async with client_of(model) as client:
        for key in ("1", "2", "3"):
            await raw(client, key=key)
        assert b"three" in (await raw(client, key="3"))[1]
        assert b"four" in (await raw(client, key="1"))[1], "the oldest was forgotten"
        monkeypatch.setattr(idempotency, "BYTES_MAX", 50)
        await raw(client, key="5")
        assert b"five" in (await raw(client, key="5"))[1], "an answer that is too large is not kept"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deleted_response_is_not_told_again(stream: bool) -> None:
    model = ScriptedModel("secret", "new")
    async with client_of(model) as client:
        _, first, _ = await raw(client, stream=stream)
        assert b"secret" in first
        await client.responses.delete("resp_" + first.split(b'"id":"resp_')[1].split(b'"')[0].decode())
        _, again, headers = await raw(client, stream=stream)
        assert b"secret" not in again
        assert "x-antiphon-replayed" not in headers


async def test_a_project_has_room_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "ANSWERS_MAX", 2)
    keys, secrets = MemoryKeys(), []
    for project in "ab":
        key, secret = mint_key("", project, Allowance(), 0)
        keys.kept.append(key)
        secrets.append(secret)
    model = ScriptedModel("kept", *["x"] * 5, again=True)
    async with client_of(model, keys) as client:
        a, b = (client.with_options(api_key=secret) for secret in secrets)
        _, first, _ = await raw(a, "mine")
        for n in range(5):
            await raw(b, f"other {n}")
        assert (await raw(a, "mine"))[1] == first


async def test_the_model_is_not_read_faster_than_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    many: list[Any] = [[Text("x" * 500)] * 1000 for _ in range(40)]
    model = ScriptedModel(many)
    async with serving(model) as url, aiohttp.ClientSession() as session:
        body = {"model": "m", "input": "x", "stream": True}
        async with session.post(f"{url}/responses", json=body, headers=ONCE) as slow:
            transport = slow.connection.transport  # type: ignore[union-attr]
            transport.pause_reading()  # type: ignore[union-attr]
            await until(lambda: bool(model.samples))
            await asyncio.sleep(1)
            assert not model.samples[0].finished
            async with session.post(f"{url}/responses", json=body, headers=ONCE) as quick:  # not held up by the other
                told = await quick.read()
            transport.resume_reading()  # type: ignore[union-attr]
            assert told == await slow.read() and told.endswith(b"data: [DONE]\n\n")
    assert len(model.samples) == 1


async def test_an_answer_that_nobody_took_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALLED_S", 0.5)
    many: list[Any] = [[Text("x" * 500)] * 1000 for _ in range(40)]
    model = ScriptedModel(many, "again")
    async with serving(model) as url, aiohttp.ClientSession() as session:
        body = {"model": "m", "input": "x", "stream": True}
        async with session.post(f"{url}/responses", json=body, headers=ONCE) as stalled:
            stalled.connection.transport.pause_reading()  # type: ignore[union-attr]
            await until(lambda: bool(model.samples) and model.samples[0].left_early)
        async with session.post(f"{url}/responses", json=body, headers=ONCE) as answer:
            assert b"again" in await answer.read()


async def test_what_was_answered_in_a_conversation_goes_with_it() -> None:
    model = ScriptedModel("One.", "Two.")
    async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        conversation = await client.conversations.create()
        headers = {"Idempotency-Key": "k"}
        asked: Any = {"model": "m", "input": "x", "conversation": conversation.id, "extra_headers": headers}
        assert (await client.responses.create(**asked)).output_text == "One."
        assert (await client.responses.create(**asked)).output_text == "One."
        await client.conversations.delete(conversation.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(**asked)


async def keep_response(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """What is kept and may be deleted: where, and a request that names it."""
    kept = await client.responses.create(model="m", input="x")
    return f"responses/{kept.id}", "responses", {"input": "x", "previous_response_id": kept.id, "store": False}


async def keep_compacted(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; compacted."""
    kept = await client.responses.create(model="m", input="x")
    return f"responses/{kept.id}", "responses/compact", {"input": "x", "previous_response_id": kept.id}


async def keep_item(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; an item that is referred to."""
    conversation = await client.conversations.create(items=[{"role": "user", "content": "x"}])
    (item,) = (await client.conversations.items.list(conversation.id)).data
    asked = {"input": [{"type": "item_reference", "id": item.id}], "store": False}
    return f"conversations/{conversation.id}/items/{item.id}", "responses", asked


async def keep_own_item(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; an item that the answer holds."""
    conversation = await client.conversations.create()
    asked = {"input": "x", "conversation": conversation.id}
    await raw(client, **asked)
    item = (await client.conversations.items.list(conversation.id, order="desc")).data[0]
    return f"conversations/{conversation.id}/items/{item.id}", "responses", asked


async def keep_file(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; a file that the model is shown."""
    file = await client.files.create(file=("a.txt", b"secret"), purpose="user_data")
    asked = {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": file.id}]}], "store": False}
    return f"files/{file.id}", "responses", asked


async def keep_store(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; files that are searched."""
    store = await client.vector_stores.create()
    asked = {"input": "x", "tools": [{"type": "file_search", "vector_store_ids": [store.id]}], "store": False}
    return f"vector_stores/{store.id}", "responses", asked


async def keep_completion(client: AsyncOpenAI) -> tuple[str, str, Any]:
    """The same; the response that a stored completion is."""
    asked = {"messages": [{"role": "user", "content": "x"}], "store": True}
    url, body = f"{client.base_url}chat/completions", {"model": "m", **asked}
    async with aiohttp.request("POST", url, json=body, headers=ONCE) as answer:
        made = await answer.json()
    return f"responses/resp_{made['id'].removeprefix('chatcmpl-')}", "chat/completions", asked


@pytest.mark.parametrize(
    "keep", [keep_response, keep_compacted, keep_item, keep_own_item, keep_file, keep_store, keep_completion]
)
async def test_what_was_made_of_something_deleted_is_not_told_again(keep: Callable[[AsyncOpenAI], Any]) -> None:
    async with client_of(ScriptedModel("secret", again=True)) as client:
        kept, path, asked = await keep(client)
        headers = {**ONCE, "Authorization": f"Bearer {client.api_key}"}

        async def is_replayed() -> bool:
            body = {"model": "m", **asked}
            async with aiohttp.request("POST", f"{client.base_url}{path}", json=body, headers=headers) as answer:
                await answer.read()
                return "x-antiphon-replayed" in answer.headers

        await is_replayed()
        assert await is_replayed()
        async with aiohttp.request("DELETE", f"{client.base_url}{kept}") as answer:
            assert answer.status == 200
        assert not await is_replayed()
