"""Spans as a collector receives them, over OTLP/HTTP on a real socket."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from antiphon.assembly import CannotOpen, _open_traces
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.http.app import HttpApp
from antiphon.models import Finish, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.telemetry import traces
from antiphon.testing.serving import OneModel, serving
from antiphon.wire.errors import UpstreamError

CANARY = "canary-7f3a"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@asynccontextmanager
async def sink(received: list[bytes]) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def spans_of(received: list[bytes]) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: list[Any] = []
    for body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def told(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


async def test_a_span_per_response_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    received: list[bytes] = []
    engines: list[Engine] = []
    real = HttpApp.__init__
    monkeypatch.setattr(
        HttpApp, "__init__", lambda self, engine, *more: (engines.append(engine), real(self, engine, *more))[1]
    )
    model = ScriptedModel([CANARY, Finish("length", Usage(input=3, output=4))], [CANARY, UpstreamError(CANARY)])
    async with sink(received) as endpoint, serving(model) as url, ClientSession() as session:
        monkeypatch.setenv(traces.ENDPOINT, endpoint)
        tracing = _open_traces(engines[0])
        for _ in range(2):
            body = {"model": "m", "input": CANARY, "max_output_tokens": 16}
            async with session.post(f"{url}/responses", json=body, headers={"traceparent": PARENT}) as answer:
                await answer.read()
        await asyncio.to_thread(tracing.close)
    done, failed = spans_of(received)
    assert not [body for body in received if CANARY.encode() in body]
    assert done.name == failed.name == "chat scripted"
    assert done.trace_id.hex() == PARENT.split("-")[1] and done.parent_span_id.hex() == PARENT.split("-")[2]
    attributes = told(done)
    assert attributes["gen_ai.request.model"] == "m" and attributes["gen_ai.response.model"] == "scripted"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (3, 4)
    assert [value.string_value for value in attributes["gen_ai.response.finish_reasons"].values] == ["length"]
    assert attributes["antiphon.request_id"].startswith("req_")
    assert [event.name for event in done.events] == ["model.asked", "model.first_delta", "model.finished"]
    moments = [done.start_time_unix_nano, *(event.time_unix_nano for event in done.events), done.end_time_unix_nano]
    assert moments == sorted(moments)
    assert (told(failed)["error.type"], failed.status.code) == ("upstream_error", 2)


async def test_without_the_extra_the_start_says_what_is_missing(
    memory_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(CannotOpen, match=r"pip install 'antiphon\[otel\]'"):
        _open_traces(Engine(Config(), OneModel(ScriptedModel()), memory_store))


def test_nothing_of_it_is_imported_unasked() -> None:
    import subprocess

    code = "import antiphon.cli.server, sys; print([name for name in sys.modules if 'opentelemetry' in name])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
