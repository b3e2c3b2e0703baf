"""Webhooks of a whole server, read with the official SDK: of every end that a background response can come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI
from receiver import Receiver

from antiphon.cli import main
from antiphon.config import Config, ConfigError, load
from antiphon.models import Finish, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Store
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.telemetry.meter import Meter
from antiphon.testing.serving import serving
from antiphon.webhooks.dispatcher import WebhookDispatcher
from antiphon.webhooks.outbox import (
    Endpoint,
    Outbox,
    endpoints,
    new_secret,
)
from antiphon.wire.errors import UpstreamError

DONE = Finish("stop", Usage(input=3, output=4))
SECRET = new_secret()


def endpoint_of(receiver: Receiver, **more: Any) -> Endpoint:
    (endpoint,) = endpoints([{"url": receiver.url, "secret": SECRET, "private": True, **more}])
    return endpoint


@asynccontextmanager
async def client_of(model: ScriptedModel, *told: Endpoint, store: Store | None = None) -> AsyncIterator[AsyncOpenAI]:
    config = Config(webhooks=told)
    async with (
        serving(model, store=store, config=config) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0, webhook_secret=SECRET) as client,
    ):
        yield client


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = await SqliteStore.in_memory() if request.param == "memory" else await SqliteStore.open(tmp_path)
    yield store
    await store.close()


async def settled(store: Store, many: int) -> None:
    """Wait until so many deliveries have been recorded; that can only be polled."""
    while sum(each.status != "waiting" for each, _ in await store.deliveries.read_recent(99)) < many:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("end", "type"),
    [
        (DONE, "response.completed"),
        (Finish("length"), "response.incomplete"),
        (UpstreamError("The model fell over.", code="upstream_error"), "response.failed"),
    ],
)
async def test_an_end_is_reported(end: Any, type: str, store: Store) -> None:
    async with (
        Receiver() as receiver,
        client_of(ScriptedModel(["Hel", end]), endpoint_of(receiver), store=store) as client,
    ):
        response = await client.responses.create(model="m", input="hi", background=True)
        (request,) = await receiver.got(1)
        event = client.webhooks.unwrap(request.body, request.headers)
        found = await client.responses.retrieve(response.id)
        await settled(store, 1)
    assert (event.type, event.object, event.data.id) == (type, "event", response.id)  # type: ignore[union-attr]
    assert event.id.startswith("evt_") and request.headers["webhook-id"].startswith("wh_")
    assert type == f"response.{found.status}", "it is told before it can be seen"
    ((delivery, attempts),) = await store.deliveries.read_recent(9)
    assert (delivery.status, [attempt.outcome for attempt in attempts]) == ("delivered", ["200"])


async def test_cancelling_is_told_once(store: Store) -> None:
    model = ScriptedModel(["Hel", asyncio.Event()])
    async with Receiver() as receiver, client_of(model, endpoint_of(receiver), store=store) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        for _ in range(2):
            await client.responses.cancel(response.id)
        (request,) = await receiver.got(1)
        await settled(store, 1)
    assert client.webhooks.unwrap(request.body, request.headers).type == "response.cancelled"
    assert len(receiver.received) == 1


async def test_what_its_conversation_does_not_take_is_told_as_failed(store: Store) -> None:
    gate = asyncio.Event()
    async with (
        Receiver() as receiver,
        client_of(ScriptedModel(["Hel", gate, DONE]), endpoint_of(receiver), store=store) as client,
    ):
        conversation = (await client.conversations.create()).id
        await client.responses.create(model="m", input="hi", background=True, conversation=conversation)
        assert await store.conversations.delete("", conversation)
        gate.set()
        (request,) = await receiver.got(1)
        await settled(store, 1)
    assert client.webhooks.unwrap(request.body, request.headers).type == "response.failed"
    assert len(receiver.received) == 1


async def test_only_what_is_asked_for_and_only_in_the_background(store: Store) -> None:
    model = ScriptedModel(["ok", DONE], again=True)
    async with Receiver() as all, Receiver() as failures, Receiver() as others:
        told = (
            endpoint_of(all),
            endpoint_of(failures, events=["response.failed"]),
            endpoint_of(others, project="other"),
        )
        async with client_of(model, *told, store=store) as client:
            await client.responses.create(model="m", input="hi")
            response = await client.responses.create(model="m", input="hi", background=True)
            (request,) = await all.got(1)
            assert client.webhooks.unwrap(request.body, request.headers).data.id == response.id  # type: ignore[union-attr]
            await settled(store, 1)
            assert len(await store.deliveries.read_recent(9)) == 1
        assert not (failures.received or others.received)


async def test_a_shutdown_leaves_what_waits_to_the_next_start(tmp_path: Path) -> None:
    """With a secret that is another by then."""
    async with Receiver() as receiver:
        endpoint = endpoint_of(receiver)
    store = await SqliteStore.open(tmp_path)
    async with client_of(ScriptedModel(["ok", DONE]), endpoint, store=store) as client:
        response = await client.responses.create(model="m", input="hi", background=True)
        while not (found := await store.deliveries.read_recent(1)) or not found[0][1]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await store.close()
    ((delivery, attempts),) = found
    assert [attempt.outcome for attempt in attempts] == ["connection refused"]
    store = await SqliteStore.open(tmp_path)
    async with Receiver(port=receiver.port) as receiver:
        outbox = Outbox([endpoint_of(receiver, secret=(new := new_secret()))], str, time)
        now = float(delivery.due_at or 0)
        async with WebhookDispatcher(
            store.deliveries, outbox, Meter(), clock=lambda: now, chance=lambda: 0.5
        ).working():
            (request,) = await receiver.got(1)
            await settled(store, 1)
    event = client.webhooks.unwrap(request.body, request.headers, secret=new)
    assert event.data.id == response.id  # type: ignore[union-attr]
    assert request.headers["webhook-id"] == delivery.id
    await store.close()


async def test_what_is_not_stored_is_told_too(memory_store: SqliteStore) -> None:
    async with (
        Receiver() as receiver,
        client_of(ScriptedModel(["ok", DONE]), endpoint_of(receiver), store=memory_store) as client,
    ):
        await client.responses.create(model="m", input="hi", background=True, store=False)
        await receiver.got(1)


async def test_the_figures_count_them(memory_store: SqliteStore) -> None:
    async with (
        Receiver(410) as receiver,
        client_of(ScriptedModel(["ok", DONE], again=True), endpoint_of(receiver), store=memory_store) as client,
    ):
        for _ in range(2):
            await client.responses.create(model="m", input="hi", background=True)
        await receiver.got(2)
        await settled(memory_store, 2)
        async with (
            aiohttp.ClientSession() as session,
            session.get(str(client.base_url).replace("v1/", "metrics")) as answer,
        ):
            stats = (await answer.text()).splitlines()
    for line in (
        'antiphon_webhook_attempts_total{result="delivered"} 1',
        'antiphon_webhook_attempts_total{result="failed"} 1',
        "antiphon_webhooks_given_up_total 1",
        "antiphon_webhooks_waiting 0",
    ):
        assert line in stats


async def test_the_command_lists_them_without_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = await SqliteStore.open(tmp_path)
    async with Receiver(410) as receiver:
        endpoint = endpoint_of(receiver)
        async with client_of(ScriptedModel(["ok", DONE]), endpoint, store=store) as client:
            response = await client.responses.create(model="m", input="hi", background=True)
            await settled(store, 1)
    file = tmp_path / "antiphon.toml"
    file.write_text(f'[[webhooks]]\nurl = "{endpoint.url}?token=hush"\nsecret = "{SECRET}"\nprivate = true\n')
    assert main(["webhooks", "--config", str(file), "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{endpoint.url}?…  all events  all projects  1 secret  private\n" in out
    assert f"response.completed  {response.id}" in out and "given up (410)" in out and "   1. " in out
    assert "hush" not in out and SECRET not in out
    await store.close()
    assert main(["webhooks", "--data", str(tmp_path / "nothing")]) == 0
    assert capsys.readouterr().out == "No endpoint is configured.\n"
    assert main(["webhooks", "secret"]) == 0
    made = capsys.readouterr().out.strip()
    assert endpoints([{"url": "https://example.com", "secret": made}])
    assert (tmp_path / DATABASE_NAME).exists() and not (tmp_path / "nothing").exists()


def test_endpoints_come_from_the_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text(f'[[webhooks]]\nurl = "https://a.example/"\nsecret = "{SECRET}"\nevents = ["response.failed"]\n')
    (endpoint,) = load({}, {}, file).webhooks
    assert (endpoint.url, endpoint.events, endpoint.private) == ("https://a.example/", ("response.failed",), False)
    text = f'[{{"url": "https://b.example/", "secret": "{SECRET}", "project": "default"}}]'
    (endpoint,) = load({}, {"ANTIPHON_WEBHOOKS": text}, file).webhooks
    assert (endpoint.url, endpoint.project) == ("https://b.example/", "")
    for wrong in (text.replace("https", "http"), text[1:], text.replace("whsec_", ""), text.replace("url", SECRET)):
        with pytest.raises(ConfigError, match="ANTIPHON_WEBHOOKS: webhooks cannot be used") as caught:
            load({}, {"ANTIPHON_WEBHOOKS": wrong})
        assert SECRET not in str(caught.value) and SECRET.removeprefix("whsec_") not in str(caught.value)
