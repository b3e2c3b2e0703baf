"""What no SDK sends: the edge, byte by byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from antiphon.cli.check_stream import check_stream
from antiphon.config import Config
from antiphon.http.app import ROUTES
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving


@asynccontextmanager
async def session_of(model: ScriptedModel, config: Config | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(model, config=config) as url,
        aiohttp.ClientSession(url.removesuffix("v1"), raise_for_status=False) as session,
    ):
        yield session


REFUSED = [
    ("POST", "/v1/responses", b"{", 400, None),
    ("POST", "/v1/responses", b"[]", 400, None),
    ("POST", "/v1/responses", b"\xff", 400, None),
    ("POST", "/v1/responses", b"[" * 9_000 + b"]" * 9_000, 400, None),
    ("POST", "/v1/responses", b"{}", 400, "missing_required_parameter"),
    ("PUT", "/v1/responses", b"{}", 405, "method_not_allowed"),
    ("DELETE", "/v1/responses", b"", 405, "method_not_allowed"),
    ("POST", "/v1/responses/compact", b"{}", 400, "missing_required_parameter"),
    ("POST", "/v1/responses/input_tokens", b"[]", 400, "invalid_type"),
    ("POST", "/v1/responses/resp_none", b"{}", 405, "method_not_allowed"),
    ("GET", "/v1/nothing", b"", 404, "unknown_url"),
    ("GET", "/v1/responses/resp_none", b"", 404, None),
    ("DELETE", "/v1/responses/resp_none", b"", 404, None),
    ("GET", "/v1/responses/resp_none/input_items", b"", 404, None),
    ("GET", "/v1/responses/resp_none/input_items?limit=0", b"", 400, "integer_below_min_value"),
    ("POST", "/v1/responses", b'{"model":"m","input":"' + b"x" * 70_000 + b'"}', 413, "request_too_large"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), REFUSED)
async def test_refusals_have_the_documented_shape(
    method: str, path: str, body: bytes, status: int, code: str | None
) -> None:
    async with (
        session_of(ScriptedModel(), Config(body_bytes_max=65_536)) as session,
        session.request(method, path, data=body) as answer,
    ):
        envelope = await answer.json()
        assert answer.status == status
        assert set(envelope) == {"error"}
        assert set(envelope["error"]) == {"message", "type", "param", "code"}
        assert envelope["error"]["code"] == code or code is None
        assert envelope["error"]["message"]
        assert answer.headers["x-request-id"].startswith("req_")


async def test_a_stream_on_the_wire() -> None:
    body = {"model": "m", "input": "x", "stream": True}
    async with session_of(ScriptedModel(["Hel", "lo"], again=True)) as session:
        async with session.post("/v1/responses", json=body) as answer:
            raw = await answer.read()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        plain_body = body | {"stream_options": {"include_obfuscation": False}}
        async with session.post("/v1/responses", json=plain_body) as answer:
            plain = await answer.read()
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")
    assert b"\r" not in raw
    assert check_stream(raw).findings == []
    assert b"obfuscation" in raw
    assert b"obfuscation" not in plain
    deltas = [line for line in raw.split(b"\n") if b'output_text.delta","' in line]
    assert {(len(line) - len(b"data: ")) % 32 for line in deltas} == {0}


async def test_a_page_of_another_site_is_refused() -> None:
    async with session_of(ScriptedModel("ok")) as session:
        async with session.get("/v1/models", headers={"Origin": "https://example.org"}) as answer:
            assert (await answer.json())["error"]["code"] == "foreign_origin"
        async with session.get("/v1/models", headers={"Origin": "http://[evil"}) as answer:
            assert (await answer.json())["error"]["code"] == "foreign_origin"
        async with session.head("/health") as answer:
            assert answer.status == 200
        async with session.get("/v1/models", headers={"Origin": "http://localhost:3000"}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("rebound.example.org", 400),
        ("rebound.example.org:8484", 400),
        ("127.0.0.1.example.org", 400),
        ("rebound.example.org.", 400),
        ("[evil", 400),
        ("127.0.0.1:1", 200),
        ("[::1]:8484", 200),
        ("localhost", 200),
        ("app.localhost:3000", 200),
        ("host.docker.internal:8484", 200),
        ("antiphon.invalid", 200),
        ("gateway", 200),
    ],
)
async def test_a_name_that_another_site_can_have_is_refused(host: str, status: int) -> None:
    """A page whose name is made to lead here may read what it likes: the browser takes us for its own site."""
    async with session_of(ScriptedModel()) as session:
        for path in ("/v1/responses", "/v1/models", "/metrics"):
            async with session.get(path, headers={"Host": host}) as answer:
                assert answer.status == status
                if status == 400:
                    assert (await answer.json())["error"]["code"] == "foreign_host"


OF_FILES = ("/v1/files", "/v1/uploads", "/v1/vector_stores", "/v1/embeddings")


async def test_health_and_the_openapi_document() -> None:
    async with session_of(ScriptedModel()) as session:
        for path in ("/health", "/readyz"):
            async with session.get(path) as answer:
                assert answer.status == 200
        async with session.get("/openapi.json") as answer:
            document = await answer.json()
    assert set(document["paths"]["/v1/responses/{response_id}"]) == {"get", "delete"}
    for path, field in (("/v1/files", "file"), ("/v1/uploads/{upload_id}/parts", "data")):
        ((kind, form),) = document["paths"][path]["post"]["requestBody"]["content"].items()
        (*_, file) = form["schema"].get("allOf", [form["schema"]])
        assert (kind, file["properties"][field]["format"]) == ("multipart/form-data", "binary")
    bodies = {
        path: operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path, operations in document["paths"].items()
        if "application/json" in operations.get("post", {}).get("requestBody", {"content": ()})["content"]
    }
    posts = {route.path for route in ROUTES if route.method == "POST" and route.body is not None}
    assert bodies.keys() == posts - {"/v1/files"}
    own = {path: name for path, name in bodies.items() if not path.startswith(OF_FILES)}
    assert own == {
        "/v1/responses": "CreateRequest",
        "/v1/responses/input_tokens": "CountRequest",
        "/v1/responses/compact": "CompactRequest",
        "/v1/chat/completions": "ChatRequest",
        "/v1/conversations": "NewConversation",
        "/v1/conversations/{conversation_id}": "ChangedConversation",
        "/v1/conversations/{conversation_id}/items": "NewItems",
        "/antiphon/purge": "Purge",
    }
    assert "CreateRequest" in document["components"]["schemas"]
    assert "Response" in document["components"]["schemas"]


async def test_one_request_object_as_input() -> None:
    model = ScriptedModel("Hi!")
    async with (
        session_of(model) as session,
        session.post(
            "/v1/responses", json={"model": "gpt-4", "input": {"role": "user", "content": "Hello!"}}
        ) as answer,
    ):
        assert answer.status == 200
    assert model.prompts[0].items[0]["content"][0]["text"] == "Hello!"


async def test_what_is_ignored_is_named_on_every_route_that_takes_a_body() -> None:
    part, file = aiohttp.FormData(), aiohttp.FormData({"purpose": "assistants", "bogus": "1"})
    part.add_field("data", b"hello", filename="part")
    file.add_field("file", b"hello", filename="a.txt")
    upload = {"filename": "a.txt", "bytes": 5, "mime_type": "text/plain", "purpose": "assistants"}
    async with session_of(ScriptedModel("Hi!", again=True)) as session:

        async def send(path: str, **body: Any) -> Any:
            async with session.post(path, json={**body, "bogus": 1}) as answer:
                assert answer.status == 200 and answer.headers["x-antiphon-ignored"] == "bogus", path
                return await answer.json()

        async with session.post("/v1/files", data=file) as answer:
            assert answer.headers["x-antiphon-ignored"] == "bogus"
            file_id = (await answer.json())["id"]
        upload_id = (await send("/v1/uploads", **upload))["id"]
        async with session.post(f"/v1/uploads/{upload_id}/parts", data=part) as answer:
            part_id = (await answer.json())["id"]
        await send(f"/v1/uploads/{upload_id}/complete", part_ids=[part_id])
        store = f"/v1/vector_stores/{(await send('/v1/vector_stores'))['id']}"
        await send(store, name="n")
        await send(f"{store}/search", query="x")
        await send(f"{store}/files", file_id=file_id)
        await send(f"{store}/files/{file_id}", attributes={})
        await send(f"{store}/file_batches", file_ids=[file_id])
        conversation = f"/v1/conversations/{(await send('/v1/conversations'))['id']}"
        await send(conversation, metadata={})
        await send(f"{conversation}/items", items=[{"role": "user", "content": "x"}])
        for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"):
            await send(path, model="m", input="x")
        await send("/v1/chat/completions", model="m", messages=[{"role": "user", "content": "x"}])
