"""What clients bring along that the official ones do not: compressed bodies, other origins, old HTTP, patience."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import brotli
import pytest
import zstandard

from antiphon.cli.check_stream import check_stream
from antiphon.config import Config
from antiphon.models import Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

BODY = json.dumps({"model": "m", "input": "hi"}).encode()
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(BODY) + RAW.flush()
ZSTD = zstandard.ZstdCompressor()
PACKED = {
    "gzip": gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    " Deflate ": DEFLATED,
    "zstd": ZSTD.compress(BODY[:9]) + ZSTD.compress(BODY[9:]),
    "br": brotli.compress(BODY),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
    "identity": BODY,
    "x-gzip, identity": gzip.compress(BODY) + b"\0" * 9,
}


@asynccontextmanager
async def session_of(model: ScriptedModel, **settings: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with serving(model, config=Config(**settings)) as url, aiohttp.ClientSession() as session:
        yield session, url


async def post(session: aiohttp.ClientSession, url: str, data: bytes, **headers: str) -> tuple[int, Any]:
    async with session.post(f"{url}/responses", data=data, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("encoding", PACKED)
async def test_bodies_may_be_packed(encoding: str) -> None:
    async with session_of(ScriptedModel("Hi.")) as (session, url):
        status, answer = await post(session, url, PACKED[encoding], **{"content-encoding": encoding})
    assert (status, answer["status"]) == (200, "completed")


@pytest.mark.parametrize(
    ("encoding", "data", "status", "code"),
    [
        ("lzma", b"x", 415, "unsupported_content_encoding"),
        ("gzip, gzip, gzip, gzip", b"x", 415, "unsupported_content_encoding"),
        ("gzip", b"no gzip", 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], 400, "invalid_content_encoding"),
        ("br", brotli.compress(BODY)[:-3], 400, "invalid_content_encoding"),
        ("zstd", b"\x28\xb5\x2f\xfd nothing", 400, "invalid_content_encoding"),
        ("zstd", zstandard.ZstdCompressor().compress(BODY)[:-2], 400, "invalid_content_encoding"),
        ("zstd", zstandard.ZstdCompressor().compress(BODY) + b"junk", 400, "invalid_content_encoding"),
        ("deflate", DEFLATED[:-2], 400, "invalid_content_encoding"),
        ("deflate", DEFLATED + b"junk", 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(b" " * 2_000_000, mtime=0), 413, "request_too_large"),
        ("deflate", zlib.compress(b" " * 2_000_000), 413, "request_too_large"),
        ("br", brotli.compress(b" " * 2_000_000), 413, "request_too_large"),
        ("zstd", zstandard.ZstdCompressor().compress(b" " * 2_000_000), 413, "request_too_large"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused(encoding: str, data: bytes, status: int, code: str) -> None:
    async with session_of(ScriptedModel(), body_bytes_max=1_000_000) as (session, url):
        answer = await post(session, url, data, **{"content-encoding": encoding})
    assert (answer[0], answer[1]["error"]["code"]) == (status, code)


async def test_an_encoding_may_be_said_in_several_headers() -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "br")]
    async with session_of(ScriptedModel("Hi.")) as (session, url):
        answer = await session.post(f"{url}/responses", data=PACKED["gzip, br"], headers=headers)
        assert answer.status == 200


FORM_TYPE = {"content-type": "multipart/form-data; boundary=x"}


def form(content: bytes) -> bytes:
    named = [(b'"purpose"', b"assistants"), (b'"file"; filename="a.txt"', content)]
    parts = (b"--x\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % each for each in named)
    return b"".join(parts) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: zlib.compress(data, wbits=-15)),
        ("zstd", ZSTD.compress),
        ("br", brotli.compress),
        ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
        ("Identity", bytes),
    ],
)
@pytest.mark.parametrize("content", [b"hello", bytes(range(256)) * 3000], ids=["short", "long"])
async def test_a_form_may_be_packed(encoding: str, pack: Any, content: bytes) -> None:
    data = pack(form(content))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), max(1, len(data) // 9)):
            yield data[start : start + max(1, len(data) // 9)]

    async with session_of(ScriptedModel()) as (session, url):
        headers = FORM_TYPE | {"content-encoding": encoding}
        async with session.post(f"{url}/files", data=pieces(), headers=headers) as answer:
            assert answer.status == 200
            file = await answer.json()
        async with session.get(f"{url}/files/{file['id']}/content") as answer:
            assert await answer.read() == content


@pytest.mark.parametrize(
    ("encoding", "data", "status", "code"),
    [
        ("lzma", b"x", 415, "unsupported_content_encoding"),
        ("gzip", form(b"hello"), 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(form(b"hello"))[:-5], 400, "invalid_content_encoding"),
        ("br", brotli.compress(form(b"hello"))[:-2], 400, "invalid_content_encoding"),
        ("gzip", gzip.compress(form(bytes(6_000_000))), 413, "request_too_large"),
        ("zstd", ZSTD.compress(form(bytes(6_000_000))), 413, "request_too_large"),
        ("br", brotli.compress(form(bytes(6_000_000))), 413, "request_too_large"),
        ("br", brotli.compress(b"x" * 6_000_000), 400, None),
    ],
)
async def test_a_form_that_cannot_be_unpacked_is_refused(
    encoding: str, data: bytes, status: int, code: str | None
) -> None:
    async with session_of(ScriptedModel(), file_bytes_max=1_000_000) as (session, url):
        headers = FORM_TYPE | {"content-encoding": encoding}
        async with session.post(f"{url}/files", data=data, headers=headers) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (status, code), error
            assert ("accept-encoding" in answer.headers) is (status == 415)
        async with session.get(f"{url}/files") as answer:
            assert (await answer.json())["data"] == []


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        ("http://localhost:3000", (), True),
        ("https://chat.example.org", (), False),
        ("https://chat.example.org", ("https://chat.example.org",), True),
        ("https://other.example.org", ("https://chat.example.org",), False),
        ("https://chat.example.org", ("*",), True),
    ],
)
async def test_pages_of_other_origins(origin: str, origins: tuple[str, ...], allowed: bool) -> None:
    asks = {"origin": origin, "access-control-request-method": "POST"}
    asks["access-control-request-headers"] = "authorization,content-type,x-stainless-os"
    asks["access-control-request-private-network"] = "true"
    async with session_of(ScriptedModel("Hi."), cors_origins=origins) as (session, url):
        async with session.options(f"{url}/responses", headers=asks) as answer:
            assert (answer.status == 200) is allowed
            assert ("access-control-allow-origin" in answer.headers) is allowed
        headers = {"origin": origin, "content-type": "application/json"}
        async with session.post(f"{url}/responses", data=BODY, headers=headers) as answer:
            assert (answer.status == 200) is allowed
            if allowed:
                assert answer.headers["access-control-allow-origin"] in (origin, "*")
                exposed = answer.headers["access-control-expose-headers"]
                assert {"x-antiphon-model", "x-should-retry", "x-antiphon-estimated"} <= set(exposed.split(", "))


@pytest.mark.parametrize("streamed", [False, True])
async def test_old_http_gets_no_chunks(streamed: bool) -> None:
    body = json.dumps({"model": "m", "input": "hi", "stream": streamed}).encode()
    async with session_of(ScriptedModel("Hi.")) as (_, url):
        place = urlsplit(url)
        head = f"POST /v1/responses HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(head + body)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    if streamed:
        assert rest.endswith(b"data: [DONE]\n\n") and check_stream(rest).findings == []
    else:
        assert json.loads(rest)["status"] == "completed"


async def test_idle_connections_stay_open_as_long_as_is_set() -> None:
    async with session_of(ScriptedModel(), keep_alive_s=1) as (_, url):
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await asyncio.wait_for(reader.read(9), 5) == b"HTTP/1.1 "
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
    assert Config().keep_alive_s == 75


@pytest.mark.parametrize("background", [False, True])
async def test_a_silent_stream_repeats_that_it_goes_on(background: bool) -> None:
    gate = asyncio.Event()
    model = ScriptedModel([gate, Text("Hi."), Finish()])
    async with session_of(model, heartbeat_s=0.05) as (session, url):
        body = {"model": "m", "input": "hi", "stream": True, "background": background}
        async with session.post(f"{url}/responses", json=body) as answer:
            seen = b""
            while seen.count(b"event: response.in_progress") < 3:
                seen += await asyncio.wait_for(answer.content.readany(), 10)
            gate.set()
            seen += await answer.read()
        assert check_stream(seen).findings == []
        id = json.loads(seen.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        if background:
            async with session.get(f"{url}/responses/{id}?stream=true") as again:
                replayed = await again.read()
            assert replayed.count(b"event: response.in_progress") == seen.count(b"event: response.in_progress")


async def test_a_silent_socket_does_too() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([gate, Text("Hi."), Finish()])
    async with session_of(model, heartbeat_s=0.05) as (session, url), session.ws_connect(f"{url}/responses") as ws:
        await ws.send_json({"type": "response.create", "model": "m", "input": "hi"})
        types: list[str] = []
        while types.count("response.in_progress") < 3:
            types.append((await ws.receive_json(timeout=10))["type"])
        gate.set()
        while types[-1] != "response.completed":
            types.append((await ws.receive_json(timeout=10))["type"])


async def test_nobody_is_told_when_nobody_shall_be() -> None:
    gate = asyncio.Event()
    async with session_of(ScriptedModel([gate, Text("Hi."), Finish()]), heartbeat_s=0) as (session, url):
        body = {"model": "m", "input": "hi", "stream": True}
        async with session.post(f"{url}/responses", json=body) as answer:
            asyncio.get_running_loop().call_later(0.2, gate.set)
            assert (await answer.read()).count(b"event: response.in_progress") == 1
