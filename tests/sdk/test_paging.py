"""Every list, by the official Python SDK: who deletes what a page shows and then asks for the next misses nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from antiphon.models import Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

N = 3
MESSAGE: Any = {"type": "message", "role": "user", "content": "hello"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(ScriptedModel(*[[Text("x"), Finish()]] * 2 * N)) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


Listed = tuple[str, Callable[[str], Awaitable[Any]]]
"""The path of a list, and what deletes an entry of it."""


async def conversations(client: AsyncOpenAI) -> Listed:
    for _ in range(N):
        await client.conversations.create()
    return "/conversations", client.conversations.delete


async def items(client: AsyncOpenAI) -> Listed:
    made = await client.conversations.create(items=[MESSAGE] * N)
    return f"/conversations/{made.id}/items", lambda id: client.conversations.items.delete(id, conversation_id=made.id)


async def responses(client: AsyncOpenAI) -> Listed:
    for _ in range(N):
        await client.responses.create(model="m", input="hello")
    return "/responses", client.responses.delete


async def files(client: AsyncOpenAI) -> Listed:
    for n in range(N):
        await client.files.create(file=(f"{n}.txt", b"text"), purpose="user_data")
    return "/files", client.files.delete


async def vector_stores(client: AsyncOpenAI) -> Listed:
    for n in range(N):
        await client.vector_stores.create(name=str(n))
    return "/vector_stores", client.vector_stores.delete


async def store_files(client: AsyncOpenAI) -> Listed:
    store = await client.vector_stores.create(name="files")
    for n in range(N):
        made = await client.files.create(file=(f"{n}.txt", b"text"), purpose="user_data")
        await client.vector_stores.files.create(vector_store_id=store.id, file_id=made.id)
    delete = client.vector_stores.files.delete
    return f"/vector_stores/{store.id}/files", lambda id: delete(id, vector_store_id=store.id)


async def files_in_a_store(client: AsyncOpenAI) -> Listed:
    """The file itself goes, and so leaves the store's list."""
    path, _ = await store_files(client)
    return path, client.files.delete


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("fill", [conversations, items, responses, files, vector_stores, store_files, files_in_a_store])
async def test_paging_goes_on_behind_what_was_deleted(
    client: AsyncOpenAI, fill: Callable[[AsyncOpenAI], Awaitable[Listed]], order: str
) -> None:
    path, delete = await fill(client)
    whole: Any = await client.get(path, cast_to=object, options={"params": {"limit": 100}})
    seen: list[str] = []
    asked: dict[str, Any] = {"limit": 2, "order": order}
    while True:
        page: Any = await client.get(path, cast_to=object, options={"params": asked})
        for entry in page["data"]:
            await delete(entry["id"])
            seen.append(entry["id"])
        if not page["has_more"]:
            break
        asked["after"] = page["last_id"]
    assert sorted(seen) == sorted(entry["id"] for entry in whole["data"]) and len(seen) >= N
    with pytest.raises(openai.BadRequestError):
        await client.get(path, cast_to=object, options={"params": {"after": "none_of_these"}})
