"""WebSocket on /v1/responses: the official SDK over a real socket, and frames that no SDK sends."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI, OpenAI

from antiphon.config import Config
from antiphon.engine.memory import Memories
from antiphon.http.websocket.lanes import (
    NAMED_MAX,
    RUNNING_MAX,
    WAITING_MAX,
    Memory,
)
from antiphon.models import Call, Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.store import Store
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.wire.errors import RateLimited, UpstreamError

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


class Socket:
    """Frames as JSON. ``turn`` reads one answer to its end."""

    def __init__(self, raw: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = raw

    async def create(self, input: Any = "hi", **fields: Any) -> None:
        await self.raw.send_json({"type": "response.create", "model": "m", "input": input, **fields})

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            return await self.raw.receive_json()

    async def turn(self) -> list[dict[str, Any]]:
        frames = [await self.read()]
        while frames[-1]["type"] not in TERMINAL and "status" not in frames[-1]:
            frames.append(await self.read())
        return frames

    async def ask(self, input: Any = "hi", **fields: Any) -> dict[str, Any]:
        """Create, and return the final response or the error frame."""
        await self.create(input, **fields)
        last = (await self.turn())[-1]
        return last.get("response", last)


@asynccontextmanager
async def socket_of(
    model: ScriptedModel,
    *,
    config: Config | None = None,
    store: Store | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Socket]:
    async with (
        serving(model, config=config, store=store) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/responses", headers=headers, max_msg_size=0) as raw,
    ):
        yield Socket(raw)


def words(model: ScriptedModel, n: int) -> list[str]:
    return [part["text"] for item in model.prompts[n].items for part in item["content"]]


def text_of(response: dict[str, Any]) -> str:
    return response["output"][0]["content"][0]["text"]


# --- the official SDK ------------------------------------------------------------------------------------------------


async def test_the_sdk_converses_without_storing_anything(memory_store: SqliteStore) -> None:
    model = ScriptedModel(["Hel", "lo"], "again")
    async with (
        serving(model, store=memory_store) as url,
        AsyncOpenAI(base_url=url, api_key="none") as client,
        client.responses.connect() as connection,
    ):
        previous = None
        for input, expected in (("one", "Hello"), ("two", "again")):
            await connection.response.create(model="m", input=input, store=False, previous_response_id=previous)
            events = []
            async for event in connection:
                events.append(event)
                if event.type == "response.completed":
                    break
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[0].type == "response.created"
            assert event.response.output_text == expected
            previous = event.response.id
    assert words(model, 1) == ["one", "Hello", "two"]
    assert await memory_store.retention.read_records(after=None, limit=1) == []


# The SDK opens its connection in a way that websockets 17 has begun to discourage.
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")
async def test_the_synchronous_sdk() -> None:
    def talk(url: str) -> list[str]:
        with (
            OpenAI(base_url=url, api_key="none") as client,
            client.responses.connect() as connection,
        ):
            connection.response.create(model="m", input="hi")
            types = []
            for event in connection:
                types.append(event.type)
                if event.type == "response.completed":
                    return types
        return types

    async with serving(ScriptedModel("Hello")) as url:
        types = await asyncio.to_thread(talk, url)
    assert types[:2] == ["response.created", "response.in_progress"]


async def test_the_sdk_reads_error_frames() -> None:
    async with (
        serving(ScriptedModel()) as url,
        AsyncOpenAI(base_url=url, api_key="none") as client,
        client.responses.connect() as connection,
    ):
        await connection.response.create(model="m", input="x", previous_response_id="resp_none")
        event = await connection.recv()
    assert event.type == "error"
    assert (event.status, event.error.code) == (400, "previous_response_not_found")  # type: ignore[union-attr]


# --- one lane --------------------------------------------------------------------------------------------------------


async def test_events_are_those_of_a_stream() -> None:
    async with socket_of(ScriptedModel(["Hel", "lo"], again=True)) as socket:
        await socket.create()
        frames = await socket.turn()
        assert not any("stream_id" in frame for frame in frames)
        assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
        deltas = [frame for frame in frames if frame["type"] == "response.output_text.delta"]
        assert [frame["delta"] for frame in deltas] == ["Hel", "lo"]
        assert all("obfuscation" in frame for frame in deltas)
        await socket.create()
        assert (await socket.read())["type"] == "response.created"  # no [DONE] came before it


async def test_frames_without_a_stream_id_are_answered_in_order() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([gate, "first"], "second", "third")
    async with socket_of(model) as socket:
        for input in ("a", "b", "c"):
            await socket.create(input)
        assert (await socket.read())["type"] == "response.created"
        assert len(model.samples) == 1
        gate.set()
        answers = [text_of((await socket.turn())[-1]["response"]) for _ in range(3)]
    assert answers == ["first", "second", "third"]
    assert [words(model, n) for n in range(3)] == [["a"], ["b"], ["c"]]


async def test_transport_members() -> None:
    async with socket_of(ScriptedModel("ok", again=True)) as socket:
        assert (await socket.ask(stream=True, background=False))["status"] == "completed"
        refused = await socket.ask(background=True)
        await socket.create(stream_options={"include_obfuscation": False})
        frames = await socket.turn()
    assert (refused["error"]["code"], refused["error"]["param"]) == ("unsupported_parameter", "background")
    assert not any("obfuscation" in frame for frame in frames)


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ("{", "invalid_request_error", None),
        ("[]", "invalid_type", None),
        ("[" * 9000, "invalid_request_error", None),
        (b"{}", "invalid_request_error", None),
        ("{}", "invalid_value", "type"),
        ('{"type":"response.delete"}', "invalid_value", "type"),
        ('{"type":"response.create"}', "missing_required_parameter", "model"),
        ('{"type":"response.create","stream_id":""}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":"a b"}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":7}', "invalid_stream_id", "stream_id"),
        (json.dumps({"type": "response.create", "stream_id": "a" * 257}), "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":"a\\n"}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","generate":"no"}', "invalid_type", "generate"),
    ],
)
async def test_refused_frames(frame: str | bytes, code: str, param: str | None) -> None:
    async with socket_of(ScriptedModel("still here")) as socket:
        await (socket.raw.send_str(frame) if isinstance(frame, str) else socket.raw.send_bytes(frame))
        refused = await socket.read()
        assert set(refused) == {"type", "status", "error"}
        assert (refused["type"], refused["status"]) == ("error", 400)
        assert set(refused["error"]) == {"type", "code", "message", "param"}
        assert (refused["error"]["code"], refused["error"]["param"]) == (code, param)
        assert text_of(await socket.ask()) == "still here"


async def test_steering_is_declined_and_hands_the_input_back() -> None:
    async with socket_of(ScriptedModel()) as socket:
        await socket.raw.send_json({"type": "response.steer", "previous_response_id": "resp_1", "input": "wait"})
        frame = await socket.read()
    assert frame["type"] == "response.steer.failed"
    assert frame["error"]["code"] == "steering_not_supported"
    assert frame["steer"] == {"previous_response_id": "resp_1", "input": "wait"}


async def test_a_failure_before_and_after_the_beginning() -> None:
    limit = RateLimited("slow down", headers={"retry-after": "7"})
    model = ScriptedModel([limit], ["Hel", UpstreamError("gone")], [ZeroDivisionError("secret")], "fine")
    async with socket_of(model) as socket:
        await socket.create()
        (early,) = await socket.turn()
        await socket.create(stream_id="a")
        late = await socket.turn()
        await socket.create()
        (fault,) = await socket.turn()
        assert text_of(await socket.ask()) == "fine"
    assert (early["status"], early["error"]["code"]) == (429, "rate_limit_exceeded")
    assert early["error"]["headers"] == {"retry-after": "7"}
    assert [frame["type"] for frame in late][-2:] == ["error", "response.failed"]
    assert (late[-2]["error"]["code"], late[-2]["stream_id"]) == ("upstream_error", "a")
    assert (fault["status"], fault["error"]["code"]) == (500, "server_error")
    assert "secret" not in fault["error"]["message"]


# --- memory ----------------------------------------------------------------------------------------------------------


async def test_a_failed_continuation_is_forgotten() -> None:
    orphan = [{"type": "function_call_output", "call_id": "call_none", "output": "?"}]
    async with socket_of(ScriptedModel("one", "two", "three")) as socket:
        first = await socket.ask(store=False)
        failed = await socket.ask(orphan, store=False, previous_response_id=first["id"])
        gone = await socket.ask("again", store=False, previous_response_id=first["id"])
        assert "No tool call found" in failed["error"]["message"]
        assert gone["error"]["code"] == "previous_response_not_found"
        second = await socket.ask(store=False)
        unknown = await socket.ask("other", store=False, previous_response_id="resp_none")
        assert unknown["error"]["code"] == "previous_response_not_found"
        assert text_of(await socket.ask(store=False, previous_response_id=second["id"])) == "three"


async def test_a_model_that_fails_a_continuation_has_it_forgotten() -> None:
    async with socket_of(ScriptedModel("one", [UpstreamError("gone")])) as socket:
        first = await socket.ask(store=False)
        assert (await socket.ask(store=False, previous_response_id=first["id"]))["status"] == 502
        gone = await socket.ask(store=False, previous_response_id=first["id"])
    assert gone["error"]["code"] == "previous_response_not_found"


async def test_only_the_latest_response_of_a_lane_is_remembered() -> None:
    async with socket_of(ScriptedModel("ok", again=True)) as socket:
        first = await socket.ask(store=False)
        await socket.ask(store=False, previous_response_id=first["id"])
        gone = await socket.ask(store=False, previous_response_id=first["id"])
    assert gone["error"]["code"] == "previous_response_not_found"


async def test_nothing_is_remembered_by_another_connection() -> None:
    async with serving(ScriptedModel("ok", again=True)) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/responses") as raw:
            first = await Socket(raw).ask(store=False)
        async with session.ws_connect(f"{url}/responses") as raw:
            gone = await Socket(raw).ask(store=False, previous_response_id=first["id"])
    assert gone["error"]["code"] == "previous_response_not_found"


async def test_a_stored_response_is_the_stores(client_store: Store) -> None:
    model = ScriptedModel("one", "two", "three")
    async with serving(model, store=client_store) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/responses") as raw:
            socket = Socket(raw)
            first = await socket.ask("a")
            second = await socket.ask("b", previous_response_id=first["id"])
            orphan = [{"type": "function_call_output", "call_id": "call_none", "output": "?"}]
            assert (await socket.ask(orphan, previous_response_id=second["id"]))["status"] == 400
        async with session.ws_connect(f"{url}/responses") as raw:
            assert text_of(await Socket(raw).ask("c", previous_response_id=second["id"])) == "three"
        async with session.delete(f"{url}/responses/{second['id']}") as answer:
            assert answer.status == 200
        async with session.ws_connect(f"{url}/responses") as raw:
            gone = await Socket(raw).ask("d", previous_response_id=second["id"])
    assert gone["error"]["code"] == "previous_response_not_found"
    assert words(model, 2) == ["a", "one", "b", "two", "c"]


@pytest.fixture(params=["memory", "sqlite"])
async def client_store(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Store]:
    store = await SqliteStore.in_memory() if request.param == "memory" else await SqliteStore.open(tmp_path)
    yield store
    await store.close()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("input", ["Remember: cobalt.", []])
async def test_a_warm_up_can_be_continued(client_store: Store, kept: bool, input: Any) -> None:
    model = ScriptedModel("cobalt")
    async with socket_of(model, store=client_store) as socket:
        await socket.create(input, generate=False, store=kept)
        frames = await socket.turn()
        warm = frames[-1]["response"]
        assert [frame["type"] for frame in frames] == ["response.created", "response.in_progress", "response.completed"]
        assert (warm["output"], warm["usage"]["total_tokens"]) == ([], 0)
        assert model.samples == []
        assert (await socket.ask("?", store=kept, previous_response_id=warm["id"]))["status"] == "completed"
    assert words(model, 0) == [*([input] if input else []), "?"]


def test_memory_is_bounded() -> None:
    memory = Memory(120, Memories(1000))
    for lane in ("a", "b", "c"):
        memory.keep(lane, f"resp_{lane}", [{"text": "x" * 40}])
    assert [memory.recall(f"resp_{lane}") is None for lane in ("a", "b", "c")] == [True, False, False]
    memory.keep("d", "resp_d", [{"text": "x" * 200}])
    assert memory.recall("resp_d") is None


def test_all_memories_together_are_bounded() -> None:
    memories = Memories(150)
    first, second, third = (Memory(1000, memories) for _ in range(3))
    for memory in (first, second, third):
        memory.keep(None, "resp_1", [{"text": "x" * 40}])
    assert [memory.recall("resp_1") is None for memory in (first, second, third)] == [True, False, False]
    second.close()
    first.keep(None, "resp_2", [{"text": "x" * 40}])
    assert first.recall("resp_2") and third.recall("resp_1")


async def test_tools_over_a_chain_that_is_not_stored() -> None:
    model = ScriptedModel([Call(0, "get_weather", "{}", "call_1"), Finish()], "Sunny.")
    tools = [{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}]
    async with socket_of(model) as socket:
        asked = await socket.ask("Weather?", tools=tools, store=False)
        output = [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]
        told = await socket.ask(output, tools=tools, store=False, previous_response_id=asked["id"])
    assert text_of(told) == "Sunny."
    assert [item["type"] for item in model.prompts[1].items] == ["message", "function_call", "function_call_output"]


# --- many lanes ------------------------------------------------------------------------------------------------------


async def test_lanes_run_side_by_side_and_say_which_they_are() -> None:
    gate = asyncio.Event()
    async with socket_of(ScriptedModel([Text("slow"), gate], "quick")) as socket:
        await socket.create(stream_id="a.1_-")
        while (await socket.read())["type"] != "response.output_text.delta":
            pass
        await socket.create(stream_id="b")
        frames = await socket.turn()
        gate.set()
        rest = await socket.turn()
    assert {frame["stream_id"] for frame in frames} == {"b"}
    assert {frame["stream_id"] for frame in rest} == {"a.1_-"}


async def test_a_lane_may_fork_from_another() -> None:
    model = ScriptedModel("one", "two")
    async with socket_of(model) as socket:
        first = await socket.ask("a", store=False, stream_id="main")
        forked = await socket.ask("b", store=False, stream_id="critic", previous_response_id=first["id"])
        assert text_of(forked) == "two"
        refused = await socket.ask("c", store=False, stream_id="critic", previous_response_id="resp_none")
        assert refused["stream_id"] == "critic"
    assert words(model, 1) == ["a", "one", "b"]


async def test_more_responses_than_may_run_wait() -> None:
    gate = asyncio.Event()
    model = ScriptedModel([Text("x"), gate], again=True)
    async with socket_of(model) as socket:
        for n in range(RUNNING_MAX + 3):
            await socket.create(stream_id=f"lane{n}")
        seen: set[str] = set()
        while len(seen) < RUNNING_MAX:
            frame = await socket.read()
            if frame["type"] == "response.output_text.delta":
                seen.add(frame["stream_id"])
        assert len(model.samples) == RUNNING_MAX
        gate.set()
        ended: set[str] = set()
        while len(ended) < RUNNING_MAX + 3:
            frame = await socket.read()
            if frame["type"] == "response.completed":
                ended.add(frame["stream_id"])


async def test_names_and_waiting_frames_are_bounded() -> None:
    gate = asyncio.Event()
    async with socket_of(ScriptedModel([gate, "x"], again=True)) as socket:
        await socket.create()
        assert (await socket.read())["type"] == "response.created"
        for _ in range(WAITING_MAX + 1):
            await socket.create()
        while (full := await socket.read())["type"] != "error":
            pass
        assert (full["status"], full["error"]["code"]) == (429, "websocket_queue_full")
        gate.set()
        for _ in range(WAITING_MAX + 1):
            await socket.turn()
        for n in range(NAMED_MAX):
            await socket.ask(stream_id=f"lane{n}")
        refused = await socket.ask(stream_id="one-too-many")
        assert refused["error"]["code"] == "websocket_stream_limit_reached"
        assert refused["stream_id"] == "one-too-many"
        assert (await socket.ask(stream_id="lane0"))["status"] == "completed"
        assert (await socket.ask())["status"] == "completed"


# --- the connection --------------------------------------------------------------------------------------------------


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110  (nothing to wait for)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("abruptly", [True, False])
async def test_a_client_that_leaves_stops_the_models_work(abruptly: bool) -> None:
    forever = asyncio.Event()
    model = ScriptedModel(["Hel", forever], again=True)
    async with serving(model) as url, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/responses") as raw:
            for lane in ("a", "b"):
                await Socket(raw).create(stream_id=lane)
            await until(lambda: len(model.samples) == 2)
            if abruptly:
                assert raw._response.connection is not None
                raw._response.connection.close()
        await until(lambda: all(sampled.left_early for sampled in model.samples))


async def test_a_slow_reader_holds_up_only_itself() -> None:
    many: list[Any] = [[Text("x" * 500)] * 1000 for _ in range(30)]
    model = ScriptedModel(many, "quick")
    async with (
        serving(model) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/responses", max_msg_size=0) as slow,
        session.ws_connect(f"{url}/responses") as other,
    ):
        transport = slow._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        await Socket(slow).create("slow")
        await until(lambda: model.samples)
        assert text_of(await Socket(other).ask()) == "quick"
        # The model is not read further than what fits into the sockets' buffers.
        assert not model.samples[0].finished
        transport.resume_reading()  # type: ignore[union-attr]
        frames = await Socket(slow).turn()
    assert len(text_of(frames[-1]["response"])) == 30 * 1000 * 500


async def test_the_beginning_is_shown_before_a_slow_first_token() -> None:
    gate = asyncio.Event()
    async with socket_of(ScriptedModel([gate, "late"])) as socket:
        await socket.create()
        assert (await socket.read())["type"] == "response.created"
        gate.set()
        assert (await socket.turn())[-1]["type"] == "response.completed"


async def test_a_connection_has_its_time() -> None:
    forever = asyncio.Event()
    model = ScriptedModel(["Hel", forever])
    async with socket_of(model, config=Config(websocket_lifetime_s=1.0)) as socket:
        await socket.create()
        while (frame := await socket.read())["type"] != "error":
            pass
        assert (frame["status"], frame["error"]["code"]) == (400, "websocket_connection_limit_reached")
        assert (await socket.raw.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.raw.close_code == 1000
    assert model.samples[0].left_early


async def test_a_frame_larger_than_a_body_closes_the_connection() -> None:
    async with socket_of(ScriptedModel("ok"), config=Config(body_bytes_max=65_536)) as socket:
        assert (await socket.ask("x" * 60_000))["status"] == "completed"
        await socket.create("x" * 70_000)
        assert (await socket.raw.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.raw.close_code == 1009


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/responses", {"Origin": "https://example.org"}, 400),
        ("/responses", {"Host": "rebound.example.org"}, 400),
        ("/nothing", {}, 404),
        ("/models", {}, 405),
    ],
)
async def test_refused_upgrades_are_answered_as_http(path: str, headers: dict[str, str], status: int) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"x" * 16).decode(),
    }
    async with (
        serving(ScriptedModel()) as url,
        aiohttp.ClientSession() as session,
        session.get(url + path, headers=upgrade | headers) as answer,
    ):
        envelope = await answer.json()
    assert answer.status == status
    assert set(envelope["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_page_on_this_machine_may_connect() -> None:
    async with socket_of(ScriptedModel("ok"), headers={"Origin": "http://localhost:3000"}) as socket:
        assert text_of(await socket.ask()) == "ok"


async def test_there_are_so_many_sockets_and_no_more() -> None:
    async with (
        serving(ScriptedModel("ok"), config=Config(websockets_max=1)) as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.ws_connect(f"{url}/responses") as raw:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/responses")
            assert refused.value.status == 429
            assert (await Socket(raw).ask())["status"] == "completed"
        async with asyncio.timeout(20):
            while True:
                # The server hears of a closed socket in its own time.
                try:
                    async with session.ws_connect(f"{url}/responses"):
                        return
                except aiohttp.WSServerHandshakeError:
                    continue
