"""Open Responses, spec 2026-04-24: its official suite rebuilt, the suite of llm-comply as it is, and what the profile
renames.

The schemas that judge are the specification's own, as llm-comply carries them.
"""

import asyncio
import base64
import importlib.resources
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from llm_comply.config import ComplianceConfig
from llm_comply.runner import TestRunner as ComplianceRunner
from llm_comply.schema import SpecLoader
from llm_comply.tests.open_responses import OPEN_RESPONSES_TESTS

from antiphon.config import Config
from antiphon.models import Call, Delta, Finish, Prompt, Reasoning, Text, Usage
from antiphon.models.scripted import ScriptedModel, Step
from antiphon.testing.serving import serving
from antiphon.wire.errors import RateLimited, Unavailable, UpstreamError, UpstreamTimeout

# jsonschema calls the resolver that llm-comply uses deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

SPEC = SpecLoader(str(importlib.resources.files("llm_comply") / "specs" / "openresponses.json"))
VERSION = {"OpenResponses-Version": "2026-04-24"}
DONE = Finish("stop", Usage(input=3, output=4, reasoning=2))
IMAGE = "data:image/png;base64," + base64.b64encode(b"\x89PNG not looked at").decode()
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "The city and state"}},
        "required": ["location"],
    },
}


class Capable(ScriptedModel):
    """Reasons, calls a function that it is offered, else repeats what it was told: an answer shows its context."""

    def __init__(self, *, reasons: bool = True, supports_images: bool = True) -> None:
        super().__init__(supports_images=supports_images)
        self._reasons = reasons

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Plays the script that suits the prompt."""
        self.add(self._script_for(prompt))
        return super().sample(prompt)

    def _script_for(self, prompt: Prompt) -> list[Step]:
        thought: list[Step] = [Reasoning("The user"), Reasoning(" asks.")] if self._reasons else []
        if prompt.functions:
            return [*thought, Call(0, prompt.functions[0].name, '{"location":', "call_1"), Call(0, "", '"SF"}'), DONE]
        said = [part["text"] for item in prompt.items for part in item.get("content") or () if "text" in part]
        return [*thought, Text("I was told: "), Text(" | ".join(said)), DONE]


class Suite:
    """What the official suite does to a server: requests, streams and sockets, each event and response judged."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def post(self, path: str = "/responses", **body: Any) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body) as answer:
            assert answer.content_type == "application/json"
            return answer.status, await answer.json()

    async def create(self, input: Any, **body: Any) -> dict[str, Any]:
        status, response = await self.post(model="m", input=input, **body)
        assert status == 200
        return whole(response)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[Callable[..., Awaitable[dict[str, Any]]]]:
        """A connection on which to take turns; each gives the final response or the error frame."""
        async with self.session.ws_connect(self.url + "/responses") as raw:

            async def turn(input: Any, **body: Any) -> dict[str, Any]:
                await raw.send_json({"type": "response.create", "model": "m", "input": input, **body})
                while True:
                    event = await raw.receive_json(timeout=30)
                    if "status" in event:
                        assert SPEC.validate(event, "WebSocketErrorEvent") == []
                        return event
                    assert SPEC.validate_sse_event(event["type"], event) == []
                    if event["type"] in ("response.completed", "response.failed", "response.incomplete"):
                        return whole(event["response"])

            yield turn


def whole(response: dict[str, Any]) -> dict[str, Any]:
    assert SPEC.validate(response, "ResponseResource") == []
    assert response["output"]
    assert response["status"] == "completed"
    return response


def text_of(response: dict[str, Any]) -> str:
    return response["output"][-1]["content"][0]["text"]


def said(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


# --- the 17 tests of the official suite ------------------------------------------------------------------------------


async def basic_response(suite: Suite) -> None:
    await suite.create([said("user", "Say hello in exactly 3 words.")])


async def assistant_phase(suite: Suite) -> None:
    history = [
        said("assistant", "I should answer with the saved number.", phase="commentary"),
        said("assistant", "The number is four.", phase="final_answer"),
        said("user", "Repeat only the number."),
    ]
    assert "The number is four." in text_of(await suite.create(history))


async def response_output_phase_schema(suite: Suite) -> None:
    response = await suite.create("x")
    for phase in ("commentary", "final_answer"):
        output = [item | {"phase": phase} if item["type"] == "message" else item for item in response["output"]]
        whole(response | {"output": output})


async def streaming_response(suite: Suite) -> None:
    body = {"model": "m", "input": [said("user", "Count from 1 to 5.")], "stream": True}
    async with suite.session.post(f"{suite.url}/responses", json=body) as answer:
        assert answer.content_type == "text/event-stream"
        *frames, done, rest = (await answer.text()).split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    events = []
    for frame in frames:
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
        assert SPEC.validate_sse_event(events[-1]["type"], events[-1]) == []
    assert "response.reasoning.delta" in {event["type"] for event in events}
    whole(events[-1]["response"])


async def websocket_response(suite: Suite) -> None:
    async with suite.socket() as turn:
        await turn([said("user", "Count from 1 to 3.")])


async def websocket_sequential_responses(suite: Suite) -> None:
    async with suite.socket() as turn:
        answers = [text_of(await turn(f"Reply with exactly: {word}", store=False)) for word in ("first", "second")]
    assert ["first" in answers[0], "second" in answers[1]] == [True, True]


async def websocket_continuation(suite: Suite) -> None:
    async with suite.socket() as turn:
        first = await turn("Remember the code word: cobalt. Reply with OK.", store=False)
        second = await turn("What is the code word?", store=False, previous_response_id=first["id"])
    assert "cobalt" in text_of(second)


async def websocket_reconnect_store_false_recovery(suite: Suite) -> None:
    async with suite.socket() as turn:
        first = await turn("Remember the code word: copper. Reply with OK.", store=False)
    async with suite.socket() as turn:
        lost = await turn("Try to continue after reconnect.", store=False, previous_response_id=first["id"])
        assert lost["error"]["code"] == "previous_response_not_found"
        recovered = await turn([said("user", "Start anew and reply with exactly: recovered")], store=False)
    assert "recovered" in text_of(recovered)


async def websocket_previous_response_not_found(suite: Suite) -> None:
    async with suite.socket() as turn:
        missing = await turn("This should fail.", store=False, previous_response_id="resp_openresponses_missing_1")
    assert missing["error"]["code"] == "previous_response_not_found"


async def websocket_failed_continuation_evicts_cache(suite: Suite) -> None:
    orphan = {"type": "function_call_output", "call_id": "call_openresponses_missing", "output": "No matching call."}
    async with suite.socket() as turn:
        first = await turn("Remember the code word: ember. Reply with OK.", store=False)
        failed = await turn([orphan], store=False, previous_response_id=first["id"])
        retried = await turn("Reply with exactly: stale", store=False, previous_response_id=first["id"])
    assert failed["type"] == "error"
    assert retried["error"]["code"] == "previous_response_not_found"


async def websocket_compact_new_chain(suite: Suite) -> None:
    status, compacted = await suite.post("/responses/compact", model="m", input=[said("user", "Remember slate.")])
    assert status == 200
    async with suite.socket() as turn:
        await turn([*compacted["output"], said("user", "What was it?")], store=False, tools=[])


async def system_prompt(suite: Suite) -> None:
    pirate = [said("system", "You are a pirate. Always respond in pirate speak."), said("user", "Say hello.")]
    assert "pirate" in text_of(await suite.create(pirate))


async def tool_calling(suite: Suite) -> None:
    asked = await suite.create([said("user", "What's the weather like in San Francisco?")], tools=[WEATHER])
    assert "function_call" in {item["type"] for item in asked["output"]}


async def image_input(suite: Suite) -> None:
    question = {"type": "input_text", "text": "What do you see in this image? Answer in one sentence."}
    await suite.create([said("user", [question, {"type": "input_image", "image_url": IMAGE}])])


async def multi_turn(suite: Suite) -> None:
    history = [said("user", "My name is Alice."), said("assistant", "Hello Alice!"), said("user", "What is my name?")]
    assert "My name is Alice." in text_of(await suite.create(history))


async def compact_response(suite: Suite) -> None:
    history = [said("user", "We agreed to launch on Tuesday."), said("assistant", "Understood.")]
    status, compacted = await suite.post("/responses/compact", model="m", input=history, prompt_cache_key="k")
    assert status == 200
    assert SPEC.validate(compacted, "CompactResource") == []
    assert "compaction" in {item["type"] for item in compacted["output"]}


async def compact_missing_model(suite: Suite) -> None:
    status, _ = await suite.post("/responses/compact", input=[said("user", "Compact this conversation.")])
    assert status in (400, 422)


OFFICIAL = (
    basic_response,
    assistant_phase,
    response_output_phase_schema,
    streaming_response,
    websocket_response,
    websocket_sequential_responses,
    websocket_continuation,
    websocket_reconnect_store_false_recovery,
    websocket_previous_response_not_found,
    websocket_failed_continuation_evicts_cache,
    websocket_compact_new_chain,
    system_prompt,
    tool_calling,
    image_input,
    multi_turn,
    compact_response,
    compact_missing_model,
)
Outcomes = dict[str, BaseException | None]


@pytest.fixture(scope="module", params=["by header", "by setting", "by setting, without eyes"])
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """All 17 at once, as the official runner does it."""

    async def run() -> Outcomes:
        header = VERSION if request.param == "by header" else {}
        config = Config() if header else Config(profile="openresponses", unsupported_images="note")
        model = Capable(supports_images="without eyes" not in request.param)
        async with serving(model, config=config) as url, aiohttp.ClientSession(headers=header) as session:
            suite = Suite(url, session)
            ended = await asyncio.gather(*(test(suite) for test in OFFICIAL), return_exceptions=True)
        return dict(zip((test.__name__ for test in OFFICIAL), ended, strict=True))

    yield asyncio.run(run())


@pytest.mark.parametrize("test", OFFICIAL, ids=lambda test: test.__name__)
def test_the_official_suite(test: Callable[[Suite], Awaitable[None]], outcomes: Outcomes) -> None:
    error = outcomes[test.__name__]
    if error is not None:
        raise error


# --- llm-comply ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "reasons"), [({}, False), (VERSION, True)])
async def test_llm_comply(header: dict[str, str], reasons: bool) -> None:
    async with serving(Capable(reasons=reasons)) as url:
        # A model name under which none of the 13 is skipped.
        config = ComplianceConfig(url, "none", model="gpt-5", extra_headers=header, timeout=30.0)
        suite = await asyncio.to_thread(ComplianceRunner(config, OPEN_RESPONSES_TESTS, SPEC).run_all)
    assert {result.id: result.errors for result in suite.results if result.errors} == {}
    assert (suite.total, suite.passed) == (13, 13)
    assert [result.id for result in suite.results if result.warnings] == []


# --- what the profile renames, and what it leaves --------------------------------------------------------------------


@asynccontextmanager
async def session_of(model: ScriptedModel, **headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(model) as url, aiohttp.ClientSession(url + "/", headers=headers) as session:
        yield session


async def events_of(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    body = {"model": "m", "input": "x", "stream": True, "store": False}
    async with session.post("responses", json=body) as answer:
        lines = (await answer.text()).splitlines()
    return [json.loads(line[len("data: ") :]) for line in lines if line.startswith("data: {")]


async def test_only_the_names_differ() -> None:
    script = [Reasoning("hm"), "Hello", DONE]
    streams = []
    for headers in ({}, VERSION):
        async with session_of(ScriptedModel(script), **headers) as session:
            streams.append(await events_of(session))
    official, open_responses = ([event["type"] for event in events] for events in streams)
    assert [name.replace("reasoning_text", "reasoning") for name in official] == open_responses
    assert [name for name in official if "reasoning" in name] == [
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
    ]
    deltas = [event for event in streams[1] if event["type"].endswith(".delta")]
    assert {len(json.dumps(event, separators=(",", ":"))) % 32 for event in deltas} == {0}


@pytest.mark.parametrize(
    ("failure", "official", "open_responses"),
    [
        (RateLimited("slow down"), "rate_limit_error", "too_many_requests"),
        (UpstreamError("odd"), "server_error", "model_error"),
        (UpstreamTimeout("late"), "server_error", "model_error"),
        (Unavailable("down"), "server_error", "server_error"),
        (ZeroDivisionError(), "server_error", "server_error"),
    ],
)
async def test_error_types(failure: Exception, official: str, open_responses: str) -> None:
    for headers, type in (({}, official), (VERSION, open_responses)):
        async with session_of(ScriptedModel([failure], ["Hel", failure]), **headers) as session:
            async with session.post("responses", json={"model": "m", "input": "x"}) as answer:
                whole_answer = await answer.json()
            *_, error, failed = await events_of(session)
        assert whole_answer["error"]["type"] == type
        assert (error["type"], error["error"]["type"]) == ("error", type)
        assert failed["type"] == "response.failed"


async def test_refusals() -> None:
    for headers, wrong, missing in (
        ({}, "invalid_request_error", "invalid_request_error"),
        (VERSION, "invalid_request", "not_found"),
    ):
        async with session_of(ScriptedModel(), **headers) as session:
            async with session.post("responses", json={}) as answer:
                assert (await answer.json())["error"]["type"] == wrong
            async with session.get("responses/resp_none") as answer:
                assert (await answer.json())["error"]["type"] == missing


@pytest.mark.parametrize("member", [{"stream": True}, {"stream_options": {}}, {"background": True}])
async def test_transport_members_are_refused_on_a_socket(member: dict[str, Any]) -> None:
    async with (
        session_of(ScriptedModel(), **VERSION) as session,
        session.ws_connect("responses") as raw,
    ):
        await raw.send_json({"type": "response.create", "model": "m", "input": "x", **member})
        frame = await raw.receive_json(timeout=20)
    assert (frame["status"], frame["error"]["type"]) == (400, "invalid_request")
    assert frame["error"]["param"] == next(iter(member))
