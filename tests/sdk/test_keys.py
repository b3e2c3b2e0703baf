"""Keys over a real socket: who is let in, whose is what, what is limited, and what is counted."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from memory_keys import MemoryKeys
from openai import AsyncOpenAI

from antiphon import cli
from antiphon.access import keyring
from antiphon.access.pricing import Price
from antiphon.assembly import CannotOpen, open_engine
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.http.app import ROUTES, Route
from antiphon.http.websocket.socket import METHOD as WEBSOCKET
from antiphon.models import Finish, Reasoning, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Selection, Store
from antiphon.store.keys import Allowance, mint_key
from antiphon.store.sqlite import DATABASE_NAME, SqliteStore
from antiphon.store.sqlite import keys as statements
from antiphon.testing.serving import serving
from antiphon.wire.errors import UpstreamError

DONE = Finish("stop", Usage(input=3, cached=1, output=4, reasoning=2))


class Server:
    """A server with keys; ``client`` speaks with one of them."""

    def __init__(self, url: str, keys: MemoryKeys) -> None:
        self.url = url
        self.keys = keys
        self._clients: list[AsyncOpenAI] = []

    def client(self, project: str = "", **limits: int) -> AsyncOpenAI:
        key, secret = mint_key(f"of {project}", project, Allowance(**limits), 1)
        self.keys.kept.append(key)
        return self.client_with(secret)

    def client_with(self, secret: str) -> AsyncOpenAI:
        self._clients.append(AsyncOpenAI(base_url=self.url, api_key=secret, max_retries=0))
        return self._clients[-1]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def server_of(
    model: ScriptedModel,
    monkeypatch: pytest.MonkeyPatch,
    *,
    locked: bool = True,
    store: Store | None = None,
    config: Config | None = None,
) -> AsyncIterator[Server]:
    """A server that has a key from the beginning if ``locked``, and looks for others all the time."""
    monkeypatch.setattr(keyring, "SYNC_S", 0.01)
    keys = MemoryKeys()
    if locked:
        keys.kept.append(mint_key("the first", "", Allowance(), 0)[0])
    async with serving(model, keys=keys, store=store, config=config) as url:
        server = Server(url, keys)
        yield server
        await server.close()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(2000):
        if await true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")


async def let_in(client: AsyncOpenAI) -> bool:
    try:
        await client.models.list()
    except openai.AuthenticationError:
        return False
    return True


async def shut_out(client: AsyncOpenAI) -> bool:
    return not await let_in(client)


async def to_usage(client: AsyncOpenAI) -> list[dict[str, Any]]:
    return (await client.get("/usage", cast_to=dict[str, Any]))["data"]


async def test_a_key_made_while_the_server_runs_shuts_the_door_and_one_revoked_stops_opening(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with server_of(ScriptedModel("ok", again=True), monkeypatch, locked=False) as server:
        stranger = server.client_with("sk-stranger-0123456789abcdef")
        assert await let_in(stranger)
        client = server.client("p")
        await until(lambda: let_in(client))
        await until(lambda: shut_out(stranger))
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.responses.create(model="m", input="x")
        assert (caught.value.code, caught.value.type, caught.value.param) == (
            "invalid_api_key",
            "invalid_request_error",
            None,
        )
        assert stranger.api_key not in caught.value.message and stranger.api_key not in caplog.text
        assert (await client.responses.create(model="m", input="x")).output_text == "ok"
        assert client.api_key not in caplog.text
        (key,) = server.keys.kept
        server.keys.kept = [
            type(key)(**{name: getattr(key, name) for name in key.__struct_fields__} | {"revoked_at": 9})
        ]
        await until(lambda: shut_out(client))
        assert not await let_in(stranger)


async def test_every_route_of_the_api_asks_for_a_key_and_health_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with server_of(ScriptedModel(), monkeypatch) as server, aiohttp.ClientSession() as session:
        client = server.client("p")
        await until(lambda: let_in(client))
        paths = [(route.method, route.path) for route in ROUTES]
        for method, path in [*paths, ("GET", "/v1/nothing"), ("PUT", "/v1/responses")]:
            url = server.url.removesuffix("/v1") + re.sub(r"\{.*?\}", "any", path)
            if method == WEBSOCKET:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(url)
                assert refused.value.status == 401
                continue
            async with session.request(method, url, data=b"{") as answer:
                if not path.startswith(("/v1/", "/antiphon/")):
                    assert answer.status == 200, path
                    continue
                error = (await answer.json())["error"]
            assert (answer.status, error["code"], set(error)) == (
                401,
                "invalid_api_key",
                {"message", "type", "param", "code"},
            )
        async with session.get(f"{server.url}/models", headers={"Authorization": "Basic x"}) as answer:
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert "handshake" not in caplog.text  # a refusal is no fault of this server


async def test_an_open_socket_is_no_way_around_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that was opened with a key that is revoked since, nor one from before there were keys."""
    async with server_of(ScriptedModel("ok", again=True), monkeypatch, locked=False) as server:
        stranger = server.client_with("none")
        async with stranger.responses.connect() as early:
            assert await answered(early) == "ok"
            client = server.client("p")
            await until(lambda: shut_out(stranger))
            assert await answered(early) == "invalid_api_key"
        async with client.responses.connect() as socket:
            assert await answered(socket) == "ok"
            server.keys.kept = [msgspec.structs.replace(key, revoked_at=9) for key in server.keys.kept]
            await until(lambda: shut_out(client))
            assert await answered(socket) == "invalid_api_key"


async def answered(socket: Any) -> str:
    """The answer to a request on a socket, or the error's code."""
    await socket.response.create(model="m", input="x")
    async for event in socket:
        if event.type == "error":
            return event.error.code
        if event.type == "response.completed":
            return event.response.output_text
    raise AssertionError("the socket is closed")


async def test_the_origin_check_is_for_servers_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel(), monkeypatch, locked=False) as server:
        page = {"Origin": "https://example.org"}
        with pytest.raises(openai.BadRequestError, match="web pages"):
            await server.client_with("none").models.list(extra_headers=page)
        client = server.client("p")
        await until(lambda: shut_out(server.client_with("none")))
        await client.models.list(extra_headers=page)


# Whose is what

Make = Callable[[AsyncOpenAI], Awaitable[str]]


async def a_response(client: AsyncOpenAI) -> str:
    """In the background, for that can be cancelled too."""
    stream = await client.responses.create(model="m", input="x", background=True, stream=True)
    (id,) = [event.response.id async for event in stream if event.type == "response.completed"]
    return id


async def a_conversation(client: AsyncOpenAI) -> str:
    message: Any = {"type": "message", "role": "user", "content": "x", "id": ITEM}
    return (await client.conversations.create(items=[message])).id


async def its_item(client: AsyncOpenAI) -> str:
    return ITEM


async def a_file(client: AsyncOpenAI) -> str:
    return (await client.files.create(file=("a.txt", b"Ada wrote this."), purpose="user_data")).id


async def an_upload(client: AsyncOpenAI) -> str:
    return (await client.uploads.create(bytes=5, filename="a.txt", mime_type="text/plain", purpose="user_data")).id


async def a_vector_store(client: AsyncOpenAI) -> str:
    store = await client.vector_stores.create(name="s")
    for file in (await client.files.list()).data:
        await client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    return store.id


async def a_batch(client: AsyncOpenAI) -> str:
    """In the latest vector store, which was made before it."""
    (store, *_) = (await client.vector_stores.list()).data
    batch = await client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[await a_file(client)])
    return batch.id


ITEM = "msg_1a2b3c"
MADE: dict[str, Make] = {
    "response_id": a_response,
    "conversation_id": a_conversation,
    "item_id": its_item,
    "file_id": a_file,
    "upload_id": an_upload,
    "vector_store_id": a_vector_store,
    "batch_id": a_batch,
}
"""For every name in a route's path: how its owner makes such a thing. A new route with an id needs its line here."""
SHARED = {"model"}
"""Names that belong to no one."""
BODIES: dict[str, Any] = {
    "/v1/conversations/{conversation_id}": {"metadata": {}},
    "/v1/conversations/{conversation_id}/items": {"items": []},
    "/v1/vector_stores/{vector_store_id}/search": {"query": "Ada"},
    "/v1/vector_stores/{vector_store_id}/files/{file_id}": {"attributes": {}},
}
"""What a route's path needs as a body; an empty object by default."""
WANTS_MORE = {
    "/v1/uploads/{upload_id}/parts",
    "/v1/uploads/{upload_id}/complete",
    "/v1/vector_stores/{vector_store_id}/files",
    "/v1/vector_stores/{vector_store_id}/file_batches",
}
"""Where the project is told that the body lacks something: no body that is the same for everybody would do."""
OWNED = [route for route in ROUTES if set(route.pattern.groupindex) - SHARED]


@pytest.mark.parametrize("route", OWNED, ids=lambda route: f"{route.method} {route.path}")
async def test_another_projects_id_is_answered_as_a_missing_one(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel("ok", again=True), monkeypatch) as server:
        project, other = server.client("a"), server.client("b")
        await until(lambda: let_in(other))
        # A file is in the vector store that is made behind it.
        ids = {name: await MADE[name](project) for name in sorted(route.pattern.groupindex, key=list(MADE).index)}
        missing = {name: re.sub(r"(?<=[_-]).*", lambda found: "0" * len(found[0]), id) for name, id in ids.items()}

        async def answer(client: AsyncOpenAI, ids: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
            headers = {"Authorization": f"Bearer {client.api_key}"}
            body = None if route.method in ("GET", "DELETE") else json.dumps(BODIES.get(route.path, {}))
            url = server.url.removesuffix("/v1") + route.path.format(**ids)
            async with aiohttp.request(route.method, url, headers=headers, data=body) as found:
                text = await found.read()
                for name, id in ids.items():
                    text = text.replace(id.encode(), name.encode())
                told = {
                    name: value for name, value in found.headers.items() if name.lower() not in ("x-request-id", "date")
                }
                return found.status, text, told

        theirs, none = await answer(other, ids), await answer(other, missing)
        assert theirs == none
        wants_more = route.method == "POST" and route.path in WANTS_MORE
        assert theirs[0] == 404 or (wants_more and theirs[0] == 400)
        assert (await answer(project, ids))[0] == (400 if wants_more else 200), "it was there all the time"


async def test_another_projects_things_are_in_no_list_and_cannot_be_referred_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with server_of(ScriptedModel("ok", again=True), monkeypatch) as server:
        project, other = server.client("a"), server.client("b")
        await until(lambda: let_in(other))
        id, response = await a_conversation(project), await a_response(project)
        for path, found in (("/conversations", id), ("/responses", response)):
            lists: list[Any] = [await client.get(path, cast_to=object) for client in (project, other)]
            assert [[each["id"] for each in page["data"]] for page in lists] == [[found], []]
        reference: Any = {"type": "item_reference", "id": ITEM}
        with pytest.raises(openai.NotFoundError, match="Item with id"):
            await other.responses.create(model="m", input=[reference])
        with pytest.raises(openai.NotFoundError, match="Conversation with id"):
            await other.responses.create(model="m", input="x", conversation=id)
        await project.responses.create(model="m", input=[reference])


async def test_another_projects_response_cannot_be_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel("ok", again=True), monkeypatch) as server:
        project, other, colleague = server.client("a"), server.client("b"), server.client("a")
        await until(lambda: let_in(colleague))
        id = await a_response(project)
        with pytest.raises(openai.BadRequestError) as theirs:
            await other.responses.create(model="m", input="x", previous_response_id=id)
        with pytest.raises(openai.BadRequestError) as none:
            await other.responses.create(model="m", input="x", previous_response_id="resp_0")
        assert theirs.value.message.replace(id, "resp_0") == none.value.message
        assert theirs.value.code == none.value.code == "previous_response_not_found"
        assert (await colleague.responses.retrieve(id)).output_text == "ok", "a project shares what is its own"


async def test_a_response_is_known_by_its_key(monkeypatch: pytest.MonkeyPatch, memory_store: SqliteStore) -> None:
    """Whichever way it came: so that all that was made with a key can be found."""
    async with server_of(ScriptedModel("ok", again=True), monkeypatch, store=memory_store) as server:
        client, colleague = server.client("a"), server.client("a")
        await until(lambda: let_in(colleague))
        kept = await a_response(colleague)
        conversation = await a_conversation(client)
        made = [await a_response(client)]
        made.append((await client.responses.create(model="m", input="y", conversation=conversation)).id)
        async with client.responses.stream(model="m", input="x") as stream:
            made.append((await stream.get_final_response()).id)
        async with client.responses.connect() as socket:
            await socket.response.create(model="m", input="x")
            made += [
                event.response.id async for event in _until_completed(socket) if event.type == "response.completed"
            ]
        assert len(made) == 4
        _, key, _ = server.keys.kept
        assert await memory_store.retention.purge(Selection(key_id=key.id), 9) == 4
        assert [record.id for record in await memory_store.retention.read_records(after=None, limit=9)] == [kept]


async def _until_completed(socket: Any) -> AsyncIterator[Any]:
    async for event in socket:
        yield event
        if event.type == "response.completed":
            return


# Limits


async def test_requests_per_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel(["ok", DONE], again=True), monkeypatch) as server:
        client, free = server.client(rpm=2, tpm=100_000), server.client()
        await until(lambda: let_in(free))
        raw = await client.responses.with_raw_response.create(model="m", input="x")
        told = {name: raw.headers[f"x-ratelimit-{name}"] for name in ("limit-requests", "remaining-requests")}
        assert told == {"limit-requests": "2", "remaining-requests": "1"}
        assert raw.headers["x-ratelimit-limit-tokens"] == "100000"
        for name in ("requests", "tokens"):
            assert re.fullmatch(r"(\d+m)?(\d+(\.\d+)?s)|\d+ms", raw.headers[f"x-ratelimit-reset-{name}"])
        async with client.responses.stream(model="m", input="x") as stream:
            assert (await stream.get_final_response()).output_text == "ok"
        with pytest.raises(openai.RateLimitError) as caught:
            await client.responses.create(model="m", input="x", stream=True)
        assert caught.value.code == "rate_limit_exceeded"
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 30
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        raw = await free.responses.with_raw_response.create(model="m", input="x")
        assert not [name for name in raw.headers if name.startswith("x-ratelimit")]


async def test_chat_completions_are_let_in_limited_and_counted_as_responses_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with server_of(ScriptedModel(["ok", DONE], again=True), monkeypatch) as server:
        client = server.client(rpm=2, tpm=100_000)
        await until(lambda: let_in(client))
        raw = await client.chat.completions.with_raw_response.create(**asked)
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        stream = await client.chat.completions.create(**asked, stream=True)
        assert [chunk async for chunk in stream]
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**asked)
        assert int(caught.value.response.headers["retry-after"]) > 0
        with pytest.raises(openai.AuthenticationError):
            await server.client_with("sk-nobodys").chat.completions.create(**asked)
        (row,) = await to_usage(client)
        assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (2, 6, 8)


async def test_queries_are_rewritten_on_the_account_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel(["lemon trees", DONE], ["cats", DONE], ["unsaid", Finish()], [UpstreamError("gone")])
    prices = {"*": Price(input=1.0, output=2.0)}
    async with server_of(model, monkeypatch, config=Config(prices=prices)) as server:
        client = server.client(rpm=3)
        await until(lambda: let_in(client))
        store = (await client.vector_stores.create()).id
        await client.vector_stores.search(store, query=["about lemons", "about pets"], rewrite_query=True)
        await client.vector_stores.search(store, query="as it is")
        (row,) = await to_usage(client)
        assert (row["requests"], row["input_tokens"], row["output_tokens"], row["requests_estimated"]) == (1, 6, 8, 0)
        assert row["cost"] == (6 * 1 + 8 * 2) / 1_000_000
        await client.vector_stores.search(store, query="again", rewrite_query=True)
        (row,) = await to_usage(client)
        assert (row["requests"], row["requests_estimated"]) == (2, 1) and row["input_tokens"] > 6
        await client.vector_stores.search(store, query="the model fails", rewrite_query=True)
        with pytest.raises(openai.RateLimitError):
            await client.vector_stores.search(store, query="too often", rewrite_query=True)
        await client.vector_stores.search(store, query="as it is")
    assert len(model.samples) == 4


async def test_the_client_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel("ok", again=True), monkeypatch) as server:
        client = server.client(rpm=600).with_options(max_retries=3)
        await until(lambda: let_in(client))
        made = await asyncio.gather(*(client.responses.create(model="m", input="x") for _ in range(605)))
        assert {response.output_text for response in made} == {"ok"}


async def test_what_was_taken_in_advance_is_given_back_in_the_background_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take 400 of 1000 tokens and uses 7: the third finds room only if the first two gave theirs back."""
    model = ScriptedModel(["ok", Finish("stop", Usage(input=3, output=4))], again=True)
    async with server_of(model, monkeypatch) as server:
        client = server.client(tpm=1000)
        await until(lambda: let_in(client))
        for _ in range(3):
            stream = await client.responses.create(
                model="m", input="x", max_output_tokens=400, background=True, stream=True
            )
            assert [event.type async for event in stream][-1] == "response.completed"


async def test_tokens_per_minute_and_a_days_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    used = Finish("stop", Usage(input=60, output=50))
    async with server_of(ScriptedModel(["ok", used], again=True), monkeypatch) as server:
        fast, spent = server.client(tpm=100), server.client(budget_tokens_per_day=100)
        await until(lambda: let_in(spent))
        for client, code in ((fast, "rate_limit_exceeded"), (spent, "insufficient_quota")):
            await client.responses.create(model="m", input="x")
            with pytest.raises(openai.RateLimitError) as caught:
                await client.responses.create(model="m", input="x")
            assert caught.value.code == code
        assert caught.value.response.headers["x-should-retry"] == "false"


# Usage


async def test_usage_is_counted_once_per_response_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = asyncio.Event()
    model = ScriptedModel(
        ["ok", DONE],  # as it should be
        ["ok", DONE],  # streamed, not stored
        ["not json", DONE],  # fails although the model said what it used
        ["x" * 40, UpstreamError("broken")],  # fails in the middle
        [UpstreamError("away")],  # never began to answer
        ["y" * 40, hold],  # its client leaves
    )
    async with server_of(model, monkeypatch) as server:
        client, other = server.client("p"), server.client("q")
        await until(lambda: let_in(other))
        await client.responses.create(model="m", input="x")
        async for _ in await client.responses.create(model="m", input="x", stream=True, store=False):
            pass
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input="json", text={"format": {"type": "json_object"}})
        (row,) = await to_usage(client)
        assert (row["requests"], row["input_tokens"], row["output_tokens"]) == (3, 9, 12)
        assert row["input_tokens_details"] == {"cached_tokens": 3}
        assert (row["requests_estimated"], row["key_name"]) == (0, "of p")
        with pytest.raises(openai.APIError):
            async for _ in await client.responses.create(model="m", input="x", stream=True):
                pass
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input="x")
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).responses.create(model="m", input="x" * 400)

        async def counted() -> bool:
            return (await to_usage(client))[0]["requests"] >= 6

        await until(counted)
        await asyncio.sleep(0.05)
        (row,) = await to_usage(client)
        assert (row["requests"], row["requests_estimated"]) == (6, 2)
        assert row["output_tokens"] == 12 + 10 + 10
        assert 9 + 100 < row["input_tokens"] < 9 + 120
        assert await to_usage(other) == []
        with pytest.raises(openai.BadRequestError):
            await client.get("/usage?start_date=yesterday", cast_to=dict[str, Any])
        assert (await client.get("/usage?end_date=2001-01-01", cast_to=dict[str, Any]))["data"] == []


async def test_usage_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server_of(ScriptedModel([Text("ok"), DONE]), monkeypatch, locked=False) as server:
        client = server.client_with("none")
        await client.responses.create(model="m", input="x")
        (row,) = await to_usage(client)
        assert (row["key_id"], row["total_tokens"], row["object"]) == (None, 7, "antiphon.usage")


# The real thing: a folder, the command line, and where the server may listen


async def test_the_command_line_beside_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keyring, "SYNC_S", 0.01)

    def command(*words: str) -> str:
        assert cli.main(["keys", *words, "--data", str(tmp_path)]) == 0
        return capsys.readouterr().out.strip()

    store = await SqliteStore.open(tmp_path)
    async with serving(ScriptedModel(["ok", DONE], again=True), store=store, keys=store.keys) as url:
        secret = await asyncio.to_thread(command, "create", "--name", "bot")
        async with AsyncOpenAI(base_url=url, api_key=secret, max_retries=0) as client:
            await until(lambda: let_in(client))
            await client.responses.create(model="m", input="x")

            async def counted() -> bool:
                return "  3 " in await asyncio.to_thread(command, "usage")

            await until(counted)
            (key,) = statements.read_keys_of(tmp_path / DATABASE_NAME)
            await asyncio.to_thread(command, "revoke", key.id)
            await until(lambda: shut_out(client))
    await store.close()


@pytest.mark.parametrize("store", ["sqlite", "memory"])
async def test_an_engine_finds_the_keys_of_its_folder(tmp_path: Path, store: str) -> None:
    assert cli.main(["keys", "create", "--data", str(tmp_path)]) == 0
    config = Config(data=tmp_path, store=store, upstream="http://127.0.0.1:9/v1")  # type: ignore[arg-type]
    async with open_engine(config, print) as engine:
        assert isinstance(engine, Engine)
        assert engine.keyring.requires_key and engine.keyring.has_open_key


async def test_an_engine_that_cannot_read_its_keys_does_not_open(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"no database, but long enough to be looked at as one" * 100)
    config = Config(data=tmp_path, store="memory", upstream="http://127.0.0.1:9/v1")
    with pytest.raises(CannotOpen, match="not a database"):
        async with open_engine(config, print):
            raise AssertionError("opened")


def test_no_address_but_loopback_without_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "serve",
        "--host",
        "0.0.0.0",
        "--port",
        "0",
        "--data",
        str(tmp_path),
        "--upstream",
        "http://127.0.0.1:9/v1",
    ]
    assert cli.main(words) == 1
    assert "antiphon keys create" in capsys.readouterr().err
    cli.main(["keys", "create", "--data", str(tmp_path)])
    (key,) = statements.read_keys_of(tmp_path / DATABASE_NAME)
    cli.main(["keys", "revoke", key.id, "--data", str(tmp_path)])
    assert cli.main(words) == 1, "a revoked key lets nobody in"


async def test_sealed_reasoning_is_its_projects_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedModel([Reasoning("hm"), "yes", DONE], again=True)
    async with server_of(model, monkeypatch) as server:
        ada, bob = server.client("ada"), server.client("bob")
        made = await ada.responses.create(model="m", input="x", include=["reasoning.encrypted_content"], store=False)
        carried: Any = [made.output[0].model_dump(exclude_none=True), {"role": "user", "content": "y"}]
        assert (await ada.responses.create(model="m", input=carried)).status == "completed"
        with pytest.raises(openai.BadRequestError) as caught:
            await bob.responses.create(model="m", input=carried)
    assert caught.value.code == "invalid_encrypted_content"


async def test_each_response_says_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {"m": Price(input=1000.0, output=2000.0, cached_input=100.0)}
    model = ScriptedModel(["ok", DONE], again=True)
    async with server_of(model, monkeypatch, config=Config(prices=prices)) as server:
        ada, bob = server.client("ada"), server.client("bob")
        await until(lambda: let_in(bob))
        stored = await ada.responses.create(model="m", input="x")
        kept = await ada.responses.create(model="m", input="x", store=False)
        made = await ada.responses.create(model="other", input="x", background=True)

        async def rows(client: AsyncOpenAI, query: str) -> list[dict[str, Any]]:
            return (await client.get(f"/usage?{query}", cast_to=dict[str, Any]))["data"]

        async def settled() -> bool:
            return len(await rows(ada, f"response_id={made.id}")) == 1

        await until(settled)
        await ada.responses.delete(stored.id)
        cost = pytest.approx(2 * 0.001 + 1 * 0.0001 + 4 * 0.002)
        (row,) = await rows(ada, f"response_id={stored.id}")
        assert (row["response_id"], row["model"], row["cost"]) == (stored.id, "m", cost)
        assert (row["requests"], row["total_tokens"], row["input_tokens_details"]) == (1, 7, {"cached_tokens": 1})
        assert row["output_tokens_details"] == {"reasoning_tokens": 2} and row["key_name"] == "of ada"
        listed = await rows(ada, "group_by=response")
        assert {entry["response_id"] for entry in listed} == {stored.id, kept.id, made.id}
        page = await ada.get("/usage?group_by=response&limit=1", cast_to=dict[str, Any])
        assert page["has_more"] and page["data"] == listed[:1]
        rest = await ada.get(f"/usage?group_by=response&after={listed[0]['response_id']}", cast_to=dict[str, Any])
        assert not rest["has_more"] and rest["data"] == listed[1:]
        assert [(entry["model"], entry["requests"]) for entry in await rows(ada, "group_by=model")] == [
            ("m", 2),
            ("other", 1),
        ]
        assert await rows(bob, f"response_id={stored.id}") == await rows(bob, "group_by=model") == []
        for wrong in ("group_by=colour", "limit=0", "limit=-1", "limit=x", "limit=1001"):
            with pytest.raises(openai.BadRequestError):
                await rows(ada, wrong)


async def test_usage_says_what_it_cost() -> None:
    prices = {"m": Price(input=1000.0, output=2000.0, cached_input=100.0)}
    async with (
        serving(ScriptedModel(["ok", DONE], again=True), config=Config(prices=prices)) as url,
        AsyncOpenAI(base_url=url, api_key="none") as client,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(2):
            await client.responses.create(model="m", input="x")
        await client.responses.create(model="free", input="x")
        async with session.get(f"{url}/usage") as answer:
            (row,) = (await answer.json())["data"]
    assert (row["requests"], row["cost"]) == (3, pytest.approx(2 * (2 * 0.001 + 1 * 0.0001 + 4 * 0.002)))
