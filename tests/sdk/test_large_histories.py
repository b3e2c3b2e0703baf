"""Small requests that name much of what is stored: it counts as a body does, and is read in bounded pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from antiphon.config import Config
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import listing
from antiphon.testing.serving import serving

TEXT = "x" * 100_000


class Held(ScriptedModel):
    """A model that says when it was asked."""

    def __init__(self, *scripts: Any, again: bool) -> None:
        super().__init__(*scripts, again=again)
        self.asked = asyncio.Event()

    def sample(self, prompt: Any) -> Any:
        self.asked.set()
        return super().sample(prompt)


async def post(session: aiohttp.ClientSession, url: str, **body: Any) -> tuple[int, Any]:
    async with session.post(url, json=body) as answer:
        return answer.status, await answer.json()


async def get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        assert answer.status == 200
        return await answer.json()


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.mark.parametrize("kind", ["previous_response_id", "conversation", "item_reference"])
async def test_a_context_that_a_request_names_shares_the_room_of_bodies(kind: str) -> None:
    gate = asyncio.Event()
    model = Held(["Hi."], [gate, "Hi."], ["Hi."], again=True)
    async with (
        serving(model, config=Config(bodies_bytes_max=400_000)) as url,
        aiohttp.ClientSession() as session,
        asyncio.timeout(30),
    ):
        _, kept = await post(session, f"{url}/conversations", items=said(TEXT, TEXT))
        _, made = await post(session, f"{url}/responses", model="m", input=said(TEXT, TEXT))
        items = await get(session, f"{url}/responses/{made['id']}/input_items")
        named: dict[str, Any] = {
            "previous_response_id": {"input": "x", "previous_response_id": made["id"]},
            "conversation": {"input": "x", "conversation": kept["id"]},
            "item_reference": {"input": [{"type": "item_reference", "id": item["id"]} for item in items["data"]]},
        }[kind]
        model.asked.clear()
        first = asyncio.create_task(post(session, f"{url}/responses", model="m", store=False, **named))
        await model.asked.wait()
        status, answer = await post(session, f"{url}/responses/input_tokens", model="m", **named)
        assert (status, answer["error"]["code"]) == (503, "too_many_bodies")
        gate.set()
        assert (await first)[0] == 200
        assert (await post(session, f"{url}/responses", model="m", store=False, **named))[0] == 200


async def test_a_context_that_never_has_room_is_not_asked_for_again() -> None:
    async with (
        serving(ScriptedModel("Hi.", again=True), config=Config(bodies_bytes_max=400_000)) as url,
        aiohttp.ClientSession() as session,
    ):
        _, kept = await post(session, f"{url}/conversations", items=said(TEXT, TEXT))
        await post(session, f"{url}/conversations/{kept['id']}/items", items=said(TEXT, TEXT))
        status, answer = await post(session, f"{url}/responses", model="m", input="x", conversation=kept["id"])
        assert (status, answer["error"]["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize("kind", ["previous_response_id", "conversation", "item_reference"])
async def test_a_context_that_no_model_reads_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CONTEXT_BYTES_MAX", 250_000)
    async with serving(ScriptedModel("Hi.", again=True)) as url, aiohttp.ClientSession() as session:
        _, kept = await post(session, f"{url}/conversations", items=said(TEXT, TEXT, TEXT))
        _, made = await post(session, f"{url}/responses", model="m", input=said(TEXT, TEXT, TEXT))
        items = await get(session, f"{url}/responses/{made['id']}/input_items")
        named: dict[str, Any] = {
            "previous_response_id": {"input": "x", "previous_response_id": made["id"]},
            "conversation": {"input": "x", "conversation": kept["id"]},
            "item_reference": {"input": [{"type": "item_reference", "id": item["id"]} for item in items["data"]]},
        }[kind]
        for path in ("responses", "responses/input_tokens", "responses/compact"):
            if kind == "conversation" and path.endswith("compact"):
                continue
            status, answer = await post(session, f"{url}/{path}", model="m", **named)
            param = {"item_reference": "input"}.get(kind, kind)
            assert (status, answer["error"]["code"]) == (400, "context_length_exceeded"), path
            assert answer["error"]["param"] == param


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_large_items_are_shorter(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES_MAX", 250_000)
    async with serving(ScriptedModel(TEXT, again=True)) as url, aiohttp.ClientSession() as session:
        texts = [f"{n}{TEXT}" for n in range(5)]
        _, kept = await post(session, f"{url}/conversations", items=said(*texts))
        _, made = await post(session, f"{url}/responses", model="m", input=said(*texts))
        responses = [made, *[(await post(session, f"{url}/responses", model="m", input="x"))[1] for _ in range(4)]]
        expected = texts if order == "asc" else texts[::-1]
        for place in (f"responses/{made['id']}/input_items", f"conversations/{kept['id']}/items"):
            pages = await paged(session, f"{url}/{place}?limit=4&order={order}")
            assert [len(page) for page in pages] == [2, 2, 1]
            assert [item["content"][0]["text"] for page in pages for item in page] == expected
        pages = await paged(session, f"{url}/responses?limit=4&order={order}")
        assert [len(page) for page in pages] == [2, 2, 1]
        # Those of one second are in the order of their ids, which those of one millisecond have by chance.
        ids = sorted(response["id"] for response in responses)
        assert [item["id"] for page in pages for item in page] == (ids if order == "asc" else ids[::-1])


async def test_a_page_has_one_entry_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_BYTES_MAX", 10)
    async with serving(ScriptedModel("Hi.")) as url, aiohttp.ClientSession() as session:
        _, kept = await post(session, f"{url}/conversations", items=said("a", "b", "c"))
        pages = await paged(session, f"{url}/conversations/{kept['id']}/items?limit=3&order=asc")
        assert [len(page) for page in pages] == [1, 1, 1]


async def paged(session: aiohttp.ClientSession, url: str) -> list[list[Any]]:
    """All pages, to the end."""
    pages: list[list[Any]] = []
    after = ""
    while True:
        page = await get(session, url + after)
        pages.append(page["data"])
        assert len(pages) < 10
        if not page["has_more"]:
            return pages
        after = f"&after={page['last_id']}"
