"""What model servers send, over real sockets: an answer is lost only where it cannot be understood."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import brotli
import pytest
import zstandard
from odd import PROMPT, calls, said, tool, used
from scripted_upstream import Answer, Upstream, finish, frames, plain, text, usage

from antiphon.models import Delta, Prompt, Usage
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.model import ChatModel
from antiphon.models.chat.upstream import upstream_models
from antiphon.wire.errors import ApiError, RateLimited, Unavailable, UpstreamError, UpstreamTimeout

WHOLE = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections whose last bytes are still to come are closed soon, and so before their session is; servers that say
    nothing of what was used are not waited for as long.
    """
    monkeypatch.setattr("antiphon.models.chat.model._TRAILER_S", 0.01)
    monkeypatch.setattr("antiphon.models.chat.model._USAGE_S", 0.4)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


async def read(upstream: Upstream | RawUpstream, prompt: Prompt = PROMPT, **fields: Any) -> list[Delta]:
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", **fields))
    try:
        async with asyncio.timeout(8), model.sample(prompt) as batches:
            return [one async for batch in batches for one in batch]
    finally:
        await asyncio.sleep(0.02)
        await model.close()


def raw(*parts: bytes) -> Answer:
    return Answer(steps=parts)


A = '{"city": "A"}'
HEL, LO = frames(text("Hel"), done=False), frames(text("lo"), finish(), usage(3, 2))
END: list[Any] = [
    ("cut",),
    (frames(usage(3, 2), done=False), "cut"),
    (frames(usage(3, 2), done=False), "hang"),
    ("hang",),
    (b": keep-alive\n\n",) * 40 + ("hang",),
    (b'data: {"error": {"message": "too late"}}\n\n',),
    (b'data: {"choi',),
]


@pytest.mark.parametrize("end", END)
@pytest.mark.parametrize("called", [False, True])
async def test_an_answer_is_complete_once_it_says_why_it_ends(upstream: Upstream, end: Any, called: bool) -> None:
    begin = tool(0, "a", "ping", A) if called else text("Hello")
    upstream.play(raw(frames(begin, finish(), done=False), *end))
    deltas = await read(upstream)
    assert calls(deltas) == [("ping", A)] if called else said(deltas) == "Hello"
    assert used(deltas) == (Usage(3, 0, 2, 0) if isinstance(end[0], bytes) and b"usage" in end[0] else None)


async def test_usage_is_waited_for_and_a_server_that_ends_too_early_is_heard_out(upstream: Upstream) -> None:
    gate = asyncio.Event()
    upstream.play(raw(frames(text("Hel"), finish(), done=False), gate, frames(text("lo"), finish(), usage(3, 2))))
    asyncio.get_running_loop().call_later(0.3, gate.set)
    deltas = await read(upstream)
    assert (said(deltas), used(deltas)) == ("Hello", Usage(3, 0, 2, 0))


async def test_the_last_frame_of_all_ends_an_answer_that_does_not_say_why(upstream: Upstream) -> None:
    upstream.play(raw(frames(text("Hel"), text("lo"), usage(3, 2))))
    deltas = await read(upstream)
    assert (said(deltas), used(deltas)) == ("Hello", Usage(3, 0, 2, 0))
    upstream.play(raw(frames(tool(0, "a", "ping", "{}"))))
    assert calls(await read(upstream)) == [("ping", "{}")]
    upstream.play(raw(frames()))
    with pytest.raises(UpstreamError, match="ended mid-stream"):
        await read(upstream)


@pytest.mark.parametrize("tail", [(), ("cut",), (b"data: Out of memory\n\ndata: [DONE]\n\n",)])
async def test_an_answer_that_does_not_say_why_it_ends_is_none(upstream: Upstream, tail: Any) -> None:
    upstream.play(raw(frames(text("Hel"), done=False), *tail))
    with pytest.raises(UpstreamError, match="ended mid-stream"):
        await read(upstream)


FORMS: list[Any] = [
    (frames(text("Hello"), finish()), "application/json"),
    (frames(text("Hello"), finish()), "Text/Event-Stream; charset=UTF-8"),
    (json.dumps(WHOLE).encode(), "text/event-stream"),
    (json.dumps(WHOLE, indent=2).encode(), "text/plain"),
    (b"\n\n  " + json.dumps(WHOLE).encode(), "Application/JSON"),
    (b"".join(json.dumps(one).encode() + b"\n" for one in (text("Hel"), text("lo"), finish())), "application/x-ndjson"),
    (json.dumps([text("Hel"), text("lo"), finish()]).encode(), "application/json"),
    (json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode(), "application/json"),
]


@pytest.mark.parametrize(("body", "kind"), FORMS)
@pytest.mark.parametrize("status", [200, 201])
async def test_the_body_says_what_it_is(upstream: Upstream, body: bytes, kind: str, status: int) -> None:
    upstream.play(Answer(steps=(body,), content_type=kind, status=status))
    assert said(await read(upstream)) == "Hello"


DEFLATE = zlib.compressobj(wbits=-15)
PACKED: list[Any] = [
    (gzip.compress(frames(text("Hello"), finish())), "gzip"),
    (gzip.compress(HEL) + gzip.compress(LO), "GZIP"),
    (gzip.compress(frames(text("Hello"), finish())), ""),
    (zlib.compress(frames(text("Hello"), finish())), "deflate"),
    (DEFLATE.compress(frames(text("Hello"), finish())) + DEFLATE.flush(), "deflate"),
    (zstandard.compress(HEL) + zstandard.compress(LO), "zstd"),
    (brotli.compress(frames(text("Hello"), finish())), "br"),
    (frames(text("Hello"), finish()), "gzip"),
    (frames(text("Hello"), finish()), "br"),
    (frames(text("Hello"), finish()), "identity"),
    (gzip.compress(frames(text("Hello"), finish())) + b"\0" * 20, "gzip"),
    (gzip.compress(frames(text("Hello"), finish()))[:-8], "gzip"),
    *((frames(text("Hello"), finish()).decode().encode(name), "") for name in ("utf-16", "utf-16-be", "utf-32-le")),
    (json.dumps(WHOLE).encode("utf-16"), ""),
]


@pytest.mark.parametrize(("body", "encoding"), PACKED)
async def test_packed_answers(upstream: Upstream, body: bytes, encoding: str) -> None:
    pieces = tuple(body[at : at + 9] for at in range(0, len(body), 9))
    upstream.play(Answer(steps=pieces, headers={"Content-Encoding": encoding} if encoding else {}))
    assert said(await read(upstream)) == "Hello"


async def test_a_packing_that_is_not_understood_is_named(upstream: Upstream) -> None:
    upstream.play(Answer(steps=(b"\x1f\x9d\x90\x48",), headers={"Content-Encoding": "compress"}))
    with pytest.raises(UpstreamError, match="packed its answer with compress"):
        await read(upstream)


@pytest.mark.parametrize(("pack", "encoding"), [(gzip, "gzip"), (zstandard, "zstd"), (brotli, "br")])
async def test_a_small_answer_that_unpacks_to_a_large_one_is_bounded(
    upstream: Upstream, pack: Any, encoding: str
) -> None:
    packed = pack.compress(b"data: " + b" " * 3_000_000)
    upstream.play(Answer(steps=(packed,), headers={"Content-Encoding": encoding}))
    with pytest.raises(UpstreamError):
        await read(upstream, answer_bytes_max=100_000)


async def test_long_and_many_headers(upstream: Upstream) -> None:
    many = {f"X-{n}": "a" for n in range(300)} | {"Content-Security-Policy": "a" * 40_000}
    upstream.play(Answer(steps=(frames(text("Hello"), finish()),), headers=many))
    assert said(await read(upstream)) == "Hello"


REFUSALS: list[Any] = [
    (404, "No provider of this model takes tools.", 404, "upstream_rejected"),
    (404, "The model `m` does not exist.", 502, "upstream_model_not_found"),
    (403, "The input was flagged by moderation.", 403, "upstream_rejected"),
    (403, "Invalid API key.", 502, "upstream_refused_key"),
    (403, "<html>Just a moment…</html>", 502, "upstream_error"),
    (400, "cl\ufffd refus\ufffde", 400, "upstream_rejected"),
    (400, "<Error><Message>No such region.</Message></Error>", 400, "upstream_rejected"),
    (422, "Unknown field.", 400, "upstream_rejected"),
    (402, "Insufficient credits.", 429, "rate_limit_exceeded"),
    (404, "\u627e\u4e0d\u5230\u8be5\u6587\u4ef6\u3002", 404, "upstream_rejected"),
    (424, "The generation failed.", 502, "upstream_error"),
    (498, "Capacity exceeded.", 503, "unavailable"),
    (524, "A timeout occurred.", 504, "upstream_timeout"),
]


@pytest.mark.parametrize(("status", "words", "shown", "code"), REFUSALS)
async def test_refusals_keep_their_reason(upstream: Upstream, status: int, words: str, shown: int, code: str) -> None:
    body = json.dumps({"error": {"message": words}}) if words[0] != "<" else words
    upstream.play(Answer(steps=(body.encode(),), status=status))
    with pytest.raises(ApiError) as caught:
        await read(upstream)
    assert (caught.value.status, caught.value.code) == (shown, code)
    if code == "upstream_rejected":
        assert words.removeprefix("<Error><Message>").partition("<")[0] in caught.value.message


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (529, Unavailable), (408, UpstreamTimeout), (504, UpstreamTimeout)]
)
async def test_when_to_come_again(upstream: Upstream, status: int, kind: type[ApiError]) -> None:
    upstream.play(plain({"error": {"message": "Loading model"}}, status, {"Retry-After": "7"}))
    with pytest.raises(kind) as caught:
        await read(upstream)
    assert caught.value.headers == {"Retry-After": "7"}
    assert "Loading model" in caught.value.message


class RawUpstream:
    """A server that writes the very bytes it is given, head and all, and then closes the connection or is silent."""

    def __init__(self, *parts: bytes, silent: bool = False) -> None:
        self._parts = parts
        self._silent = silent
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> RawUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        for part in self._parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        if not self._silent:
            writer.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = frames(text("Hello"), finish(), usage(3, 2))
DOCUMENT = json.dumps(WHOLE, ensure_ascii=False).replace("Hello", "Hellö").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def length(n: int) -> bytes:
    return b"Content-Length: %d\r\n" % n


LINES: list[Any] = [
    (HEAD + length(len(BODY) - 40) + b"\r\n" + BODY,),
    (HEAD + length(len(BODY)) + b"\r\n" + BODY + b"HTTP/1.1 garbage\r\n\r\n",),
    (HEAD + length(0) + b"\r\n" + BODY,),
    (HEAD + length(len(BODY)) * 2 + b"\r\n" + BODY,),
    (HEAD + b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,),
    (HEAD + length(5) + CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\n\r\n",),
    (HEAD + CHUNKED + b"\r\n" + BODY,),
    (HEAD + CHUNKED + b"\r\n" + chunk(BODY), b"zz\r\nnonsense"),
    (HEAD + CHUNKED + b"\r\n", chunk(frames(text("Hello"), finish(), done=False)), b"zz\r\nnonsense"),
    *(
        (HEAD + line + b"\r\n" + CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\n\r\n",)
        for line in (
            b"no colon",
            b"a b: c",
            b"a : b",
            b": a",
            b"(a): b",
            b"a: \0",
            "é: é".encode(),
            b"a: b\r\n c",
            b"a: \xff",
        )
    ),
    *(
        (HEAD.replace(b"HTTP/1.1 200 OK", first) + CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\n\r\n",)
        for first in (b"HTTP/2 200", b"HTTP/2.0 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 200", b"\r\nHTTP/1.1 200 OK")
    ),
    (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + HEAD + length(3) + b"\r\n" + BODY,),
    ((HEAD + length(len(BODY)))[:30], (HEAD + length(len(BODY)))[30:] + b"\r\n" + BODY),
    ((HEAD + b"\r\n").replace(b"\r\n", b"\n") + BODY,),
]


@pytest.mark.parametrize("parts", LINES)
async def test_what_is_not_quite_http(parts: tuple[bytes, ...]) -> None:
    async with RawUpstream(*parts) as upstream:
        assert said(await read(upstream)) == "Hello"


async def test_a_length_in_characters() -> None:
    n = len(DOCUMENT.decode())
    async with RawUpstream(HEAD + length(n) + b"\r\n" + DOCUMENT) as upstream:
        assert said(await read(upstream)) == "Hellö"


async def test_chunks_that_make_no_sense_end_an_answer() -> None:
    parts = (HEAD + CHUNKED + b"\r\n", chunk(frames(text("Hello"), done=False)), b"zz\r\nnonsense")
    async with RawUpstream(*parts, silent=True) as upstream:
        with pytest.raises(UpstreamError, match="ended mid-stream"):
            await read(upstream)


WORDS = b'{"error": {"message": "Slow down."}}'
LATE = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (LATE + length(len(WORDS) + 9) + b"\r\n" + WORDS, "Slow down."),
        (LATE + CHUNKED + b"\r\n" + chunk(WORDS), "Slow down."),
        (LATE + length(9) + b"\r\n", ""),
        (LATE + b"Content-Encoding: gzip\r\n" + length(6) + b"\r\n\x1f\x8bxxxx", ""),
        (LATE + length(len(WORDS) * 2 + 2) + b"\r\n" + WORDS.decode().encode("utf-16"), "Slow down."),
    ],
)
@pytest.mark.parametrize("silent", [False, True])
async def test_an_error_whose_words_do_not_come_to_an_end(
    answer: bytes, words: str, silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.models.chat.connections._ERROR_S", 0.3)
    async with RawUpstream(answer, silent=silent) as upstream:
        with pytest.raises(RateLimited) as caught:
            await read(upstream)
    assert caught.value.headers == {"Retry-After": "7"}
    assert words in caught.value.message


async def test_a_list_of_models_whose_end_does_not_come() -> None:
    listed = b'{"data": [{"id": "m"}]}'
    async with RawUpstream(HEAD + length(len(listed) + 9) + b"\r\n" + listed) as upstream:
        roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options={})
        assert list(await roster.names()) == ["m"]
        await roster.close()


MODELS: list[Any] = [
    ([{"id": "m"}], ["m"]),
    (["m", "n"], ["m", "n"]),
    ({"data": [{"id": "m"}, {"name": "x"}, None, {"id": 7}, {}, True]}, ["m", "x", "7"]),
    ({"models": [{"name": "m"}, {"model": "n"}]}, ["m", "n"]),
    ({"data": {"m": {}}}, ["m"]),
    ({"data": {"models": [{"id": "m"}]}}, ["m"]),
    ({"data": {"id": "m", "object": "model"}}, ["m"]),
    ({"data": [], "models": [{"name": "m"}]}, ["m"]),
    ({"data": [{"id": None, "name": "m"}, {"id": ["x"]}, {"id": ""}]}, ["m"]),
    ({"data": [{"id": "m"}, {"id": "m"}], "x": float("nan")}, ["m"]),
    ([[{"id": "m"}], [{"id": "n"}]], ["m", "n"]),
    ({"result": [{"id": "429b9e8b-d99e-44de-91ad-706cf8183658", "name": "m"}]}, ["m"]),
    ({"data": [{"id": "429b9e8b-d99e-44de-91ad-706cf8183658"}]}, ["429b9e8b-d99e-44de-91ad-706cf8183658"]),
    ({"data": [{"model_name": "m"}, {"slug": "n"}, {"model": {"id": "o"}}, {"model": {"x": 1}}]}, ["m", "n", "o"]),
    (b'\xef\xbb\xbf{"data": [{"id": "m"}]}\n\nWarning: deprecated', ["m"]),
    (b'{"id": "m"}\n{"id": "n"}\n', ["m", "n"]),
    ({"id": "m", "permission": [{"id": "p"}]}, None),
    ({"error": {"message": "No."}, "details": [{"reason": "x"}]}, None),
    ({"object": "list", "data": None}, None),
    ({}, None),
    (7, None),
]


@pytest.mark.parametrize(("listed", "names"), MODELS)
@pytest.mark.parametrize("packed", [False, True])
async def test_lists_of_models(upstream: Upstream, listed: Any, names: list[str] | None, packed: bool) -> None:
    body = listed if isinstance(listed, bytes) else json.dumps(listed).encode()
    headers = {"Content-Encoding": "gzip"} if packed else {}
    upstream.play(Answer(steps=(gzip.compress(body) if packed else body,), headers=headers))
    roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options={})
    try:
        assert list(await roster.names()) == (names or [])
        assert await roster.ready()
        assert (await roster.find("any" if names is None else names[-1])).name == (
            "any" if names is None else names[-1]
        )
    finally:
        await roster.close()
