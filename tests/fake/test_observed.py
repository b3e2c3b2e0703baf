"""What a served request leaves in the figures and in the log, and what it must not leave anywhere."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from scripted_upstream import Answer, Upstream, failure, finish, frames, sse, text

from antiphon.models import Call, Finish, Usage
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.model import ChatModel
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.telemetry import logs
from antiphon.testing.serving import serving
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

CANARY = "canary-7f3a"
KEY = "sk-canary-key-91b2"


@asynccontextmanager
async def session_of(*args: object, **named: object) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(*args, **named) as url,  # type: ignore[arg-type]
        aiohttp.ClientSession(url.removesuffix("v1")) as session,
    ):
        yield session


async def ask(session: aiohttp.ClientSession, **more: object) -> tuple[int, bytes]:
    body: Json = {"model": "m", "input": f"say {CANARY}", "instructions": CANARY, **more}
    async with session.post("v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        return answer.status, await answer.read()


async def scraped(session: aiohttp.ClientSession) -> dict[str, float]:
    async with session.get("metrics") as answer:
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = (await answer.text()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_figures_of_what_was_served(tmp_path: Path) -> None:
    done = Finish("stop", Usage(input=3, output=4))
    model = ScriptedModel(["Hi", done], ["Hi", done], ["Hi", UpstreamError("it broke")])
    store = await SqliteStore.open(tmp_path)
    async with session_of(model, store=store) as session:
        await ask(session)
        await ask(session, stream=True)
        await ask(session, stream=True)
        await ask(session, temperature=99)
        async with session.get("v1/nothing/" + CANARY), session.request(CANARY.upper(), "v1/responses"):
            pass
        stats = await scraped(session)
    await store.close()
    counted = {
        'antiphon_http_requests_total{method="POST",route="/v1/responses",status="200"}': 3,
        'antiphon_http_requests_total{method="POST",route="/v1/responses",status="400"}': 1,
        'antiphon_http_requests_total{method="other",route="unknown",status="404"}': 1,
        'antiphon_errors_total{code="upstream_error"}': 1,
        'antiphon_errors_total{code="unknown_url"}': 1,
        'antiphon_responses_total{status="completed"}': 2,
        'antiphon_responses_total{status="failed"}': 1,
        'antiphon_tokens_total{direction="input"}': 6,
        'antiphon_tokens_total{direction="output"}': 8,
        "antiphon_time_to_first_token_seconds_count": 3,
        "antiphon_response_duration_seconds_count": 3,
        "antiphon_overhead_seconds_count": 2,
        "antiphon_open_streams": 0,
        "antiphon_open_requests": 1,
        "antiphon_store_writes_pending": 0,
        "antiphon_store_commits_total": 3,
        "antiphon_store_group_size_count": 3,
    }
    assert {name: stats.get(name) for name in counted} == counted
    assert stats["antiphon_store_used_bytes"] > 0
    assert stats["antiphon_store_file_bytes"] >= stats["antiphon_store_used_bytes"]
    assert not any(CANARY in name.lower() for name in stats)


async def test_what_helped_calls_is_counted() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    bad, good = Call(0, "f", '{"a":"x"}', "c1"), Call(0, "f", '{"a":1,"b":null}', "c2")
    model = ScriptedModel([bad, Finish()], [good, Finish("stop", helps=("shown_in_words",))], tool_help="repair")
    async with session_of(model) as session:
        await ask(session, tools=[{"type": "function", "name": "f", "parameters": schema}])
        stats = await scraped(session)
    counted = {name: value for name, value in stats.items() if name.startswith("antiphon_tool_help_total")}
    measures = ("arguments_mended", "held_to_schema", "shown_in_words")
    assert counted == {f'antiphon_tool_help_total{{measure="{measure}"}}': 1 for measure in measures}


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Everything that any logger says from DEBUG on, in the server's own format."""
    root, written = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    logs.set_up(request.param, logging.DEBUG, written)
    yield written
    root.handlers[:] = before
    root.setLevel(level)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FAILURES: list[Answer] = [
    failure(400, f"bad prompt: {CANARY}"),
    failure(401, f"no such key {KEY} for {CANARY}"),
    failure(404, f"no model for {CANARY}"),
    failure(429, f"slow down with {CANARY}"),
    failure(500, f"broke at {CANARY}"),
    failure(504, f"late with {CANARY}"),
    Answer(status=0),
    Answer(steps=(f"data: {{{CANARY}\n\n".encode(),)),
    Answer(steps=(f'data: {{"choices": "{CANARY}"}}\n\n'.encode(),)),
    Answer(steps=(frames(text(CANARY), done=False), "cut")),
    sse(text(CANARY), done=False),
    sse(text(f"not json {CANARY}"), finish()),
]


async def converse(session: aiohttp.ClientSession, upstream: Upstream) -> None:
    """The same over a WebSocket, which remembers what it does not store."""
    body: Json = {"type": "response.create", "model": "m", "input": f"say {CANARY}", "store": False}
    async with session.ws_connect("v1/responses", headers={"Authorization": f"Bearer {KEY}"}) as socket:
        previous: Json = {}
        for answer in (sse(text(CANARY), finish()), *FAILURES[:4]):
            upstream.play(answer)
            await socket.send_json(body | previous)
            while True:
                event = await socket.receive_json(timeout=30)
                if event["type"] == "response.completed":
                    previous = {"previous_response_id": event["response"]["id"]}
                if event["type"] in ("response.completed", "response.failed", "error"):
                    break
        await socket.send_json(body | {"temperature": CANARY})
        assert (await socket.receive_json(timeout=30))["status"] == 400


async def test_nothing_that_was_said_is_logged_or_kept(log: io.StringIO, tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path)
    async with Upstream() as upstream:
        model = ChatModel(ChatConfig(base_url=upstream.url, model="m", api_key=KEY))
        async with session_of(model, store=store) as session:
            for answer in (sse(text(CANARY), finish()), *FAILURES):
                for stream in (False, True):
                    upstream.play(answer)
                    schema = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
                    checked = {"text": {"format": schema}} if answer is FAILURES[-1] else {}
                    await ask(session, stream=stream, store=False, **checked)
            await ask(session, store=False, temperature=CANARY)
            await ask(session, store=False, tool_choice={"type": CANARY})
            await ask(session, store=False, previous_response_id=CANARY)
            await converse(session, upstream)
        await model.close()
    files = contents(tmp_path)
    await store.close()
    files |= contents(tmp_path)
    for said in (CANARY, KEY):
        assert said not in log.getvalue()
        assert not [name for name, content in files.items() if said.encode() in content]
    assert log.getvalue().count("upstream_") >= 10, "the failures were not logged at all"


async def test_a_fault_of_ours_is_told_by_its_place(log: io.StringIO) -> None:
    model = ScriptedModel([ValueError(CANARY)], ["Hi", KeyError(CANARY)])
    async with session_of(model) as session:
        assert (await ask(session))[0] == 500
        assert b"response.failed" in (await ask(session, stream=True))[1]
    written = log.getvalue()
    assert CANARY not in written
    assert "builtins.ValueError" in written and "builtins.KeyError" in written
    assert "antiphon/turn.py:" in written


async def test_lines_of_json_name_their_request() -> None:
    written = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.set_up("json", logging.INFO, written)
    try:
        async with session_of(ScriptedModel([ValueError("x")], "Hi")) as session:
            ids = []
            for _ in range(2):
                async with session.post("v1/responses", json={"model": "m", "input": "x"}) as answer:
                    ids.append(answer.headers["x-request-id"])
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    own = [line for line in lines if line["logger"].startswith("antiphon.")]
    assert [(line["level"], line["logger"], line["request_id"]) for line in own] == [
        ("error", "antiphon.http.app", ids[0]),
        ("info", "antiphon.access", ids[0]),
        ("info", "antiphon.access", ids[1]),
    ]
    assert "caused by builtins.ValueError" in own[0]["exception"]
    assert {name: own[2][name] for name in ("method", "route", "status")} == {
        "method": "POST",
        "route": "/v1/responses",
        "status": 200,
    }


async def test_an_error_that_nobody_awaited_is_told_without_its_words(log: io.StringIO) -> None:
    import asyncio
    import gc

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.note_loop_error)

    async def lost() -> None:
        raise ValueError(CANARY)

    task = asyncio.ensure_future(lost())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert "never retrieved" in log.getvalue() and "builtins.ValueError" in log.getvalue()
    assert CANARY not in log.getvalue()
