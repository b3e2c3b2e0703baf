"""The way between a reader and an application, both in one event loop here, so that nothing depends on time."""

import asyncio
from typing import Any

import httpx2
import pytest

from antiphon.client.inprocess.exchange import (
    BUFFERED_BYTES_MAX,
    AsgiExchange,
    AsyncInbox,
    Head,
    Part,
    SyncInbox,
    build_scope,
)

START = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]}


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def called(
    app: Any, method: str = "POST", body: bytes = b"asked"
) -> tuple[AsgiExchange, SyncInbox, "asyncio.Task[None]"]:
    inbox = SyncInbox()
    scope = build_scope(httpx2.Request(method, "http://antiphon.invalid/v1/a%20b?c=d&c=e", headers={"X-One": "1"}))
    call = AsgiExchange(asyncio.get_running_loop(), app, scope, body, inbox)
    return call, inbox, asyncio.ensure_future(call.run())


def arrived(inbox: SyncInbox) -> list[Part]:
    """What there is now."""
    parts: list[Part] = []
    while True:
        try:
            parts.append(inbox.get(0))
        except TimeoutError:
            return parts


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_the_application_is_reported() -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.extend([scope, await receive()])
        await send(START)
        await send(part(b"", more=False))
        told.append(await receive())

    _, inbox, running = called(app)
    await running
    scope, request, after = told
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "POST",
        "/v1/a b",
        b"/v1/a%20b",
        b"c=d&c=e",
    )
    assert (b"x-one", b"1") in scope["headers"]
    assert request == {"type": "http.request", "body": b"asked", "more_body": False}
    assert after == {"type": "http.disconnect"}
    assert arrived(inbox) == [Head(200, [(b"x", b"y")]), None]


async def test_an_application_waits_for_a_slow_reader_and_for_nobody_who_left() -> None:
    chunk = b"x" * (BUFFERED_BYTES_MAX // 4)
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(100):
            await send(part(chunk))
            sent += 1
        await send(part(b"", more=False))

    call, inbox, running = called(app)
    await settle()
    assert sent == 4
    call.acknowledge(len(chunk))
    await settle()
    assert sent == 4, "it goes on when half of it is taken, not with every byte"
    call.acknowledge(2 * len(chunk))
    await settle()
    assert sent == 7
    call.abandon()
    await running
    assert sent == 100
    assert arrived(inbox) == [Head(200, [(b"x", b"y")]), *[chunk] * 8]


async def test_a_reader_that_leaves_is_a_client_that_disconnects() -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        told.append(await receive())

    call, inbox, running = called(app)
    await settle()
    assert told == []
    call.abandon()
    await running
    assert told == [{"type": "http.disconnect"}]
    assert arrived(inbox) == [Head(200, [(b"x", b"y")])]


async def test_a_call_that_is_cut_tells_its_reader() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await receive()

    call, inbox, running = called(app)
    await settle()
    call.abort()
    await running
    _, fault = arrived(inbox)
    assert isinstance(fault, httpx2.RemoteProtocolError)


async def test_an_application_that_fails_before_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("secret")

    _, inbox, running = called(app)
    await running
    head, body, end = arrived(inbox)
    assert isinstance(head, Head)
    assert head.status == 500
    assert isinstance(body, bytes)
    assert b"server_error" in body
    assert b"secret" not in body
    assert end is None
    assert "the application failed" in caplog.text


@pytest.mark.parametrize("fault", [ValueError("x"), None])
async def test_an_application_that_ends_in_mid_answer(fault: Exception | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"half"))
        if fault:
            raise fault

    _, inbox, running = called(app)
    await running
    _, half, broken = arrived(inbox)
    assert half == b"half"
    assert isinstance(broken, httpx2.RemoteProtocolError)


async def test_an_application_that_is_cancelled() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.get_running_loop().create_future()

    _, inbox, running = called(app)
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (broken,) = arrived(inbox)
    assert isinstance(broken, httpx2.RemoteProtocolError)


async def test_head_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"x" * 2 * BUFFERED_BYTES_MAX))
        await send(part(b"y", more=False))

    _, inbox, running = called(app, "HEAD")
    await running
    assert arrived(inbox) == [Head(200, [(b"x", b"y")]), None]


async def test_an_inbox_wakes_its_reader_once_for_all_that_came() -> None:
    inbox = AsyncInbox()
    reading = asyncio.ensure_future(inbox.get(None))
    await settle()
    for one in (b"a", b"b", None):
        inbox.put(one)
    assert [await reading, await inbox.get(0), await inbox.get(0)] == [b"a", b"b", None]
    with pytest.raises(TimeoutError):
        await inbox.get(0)


def test_a_reader_whose_event_loop_was_closed_has_left() -> None:
    async def made() -> AsyncInbox:
        return AsyncInbox()

    gone = asyncio.run(made())
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        told.append(await receive())

    async def serve() -> None:
        scope = build_scope(httpx2.Request("GET", "http://antiphon.invalid/v1"))
        await AsgiExchange(asyncio.get_running_loop(), app, scope, b"", gone).run()

    asyncio.run(serve())
    assert told == [{"type": "http.disconnect"}]
