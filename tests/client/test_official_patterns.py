"""What the official SDK tests of its own responses resource, with our clients and our server.

Each method plain, with all parameters, as a raw and as a streaming response, and without the id that its path needs.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import openai.resources.responses as official
import pytest
from openai import APIResponse, AsyncAPIResponse
from openai._legacy_response import LegacyAPIResponse
from openai.pagination import AsyncCursorPage, SyncCursorPage
from openai.types.responses import Response as OfficialResponse
from openai.types.responses.input_token_count_response import InputTokenCountResponse

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client import CompactedResponse, ParsedResponse, Response
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import scripted

EVERYTHING: dict[str, Any] = {
    "model": "m",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    "include": ["reasoning.encrypted_content"],
    "instructions": "Be brief.",
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low"},
    "safety_identifier": "s",
    "service_tier": "auto",
    "store": True,
    "temperature": 0.5,
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "tool_choice": "none",
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}],
    "top_logprobs": 0,
    "top_p": 0.9,
    "truncation": "disabled",
    "user": "u",
    "extra_headers": {"x-extra": "1"},
    "extra_query": {"extra": "1"},
    "extra_body": {"background": False},
    "timeout": 60,
}


@dataclass(frozen=True)
class Case:
    """A method and what it is called with; ``{id}`` stands for a stored response."""

    name: str
    kind: type[Any] | None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    positional: tuple[str, ...] = ()

    def method(self, responses: Any) -> Callable[..., Any]:
        for part in self.name.split("."):
            responses = getattr(responses, part)
        return responses


STORED = ("{id}",)
CASES = [
    Case("create", Response, {"model": "m", "input": "hi"}),
    Case("create", Response, EVERYTHING),
    Case("parse", ParsedResponse, {"model": "m", "input": "hi"}),
    Case("retrieve", Response, {}, STORED),
    Case("retrieve", Response, {"include": ["reasoning.encrypted_content"], "stream": False}, STORED),
    Case("input_items.list", SyncCursorPage, {}, STORED),
    Case("input_items.list", SyncCursorPage, {"after": None, "limit": 1, "order": "asc", "include": []}, STORED),
    Case("delete", None, {}, STORED),
]
STREAMING = [case for case in CASES if case.name != "parse"]


class Kind:
    """A client of either kind, whose methods are called alike."""

    def __init__(self, client: Any, *, awaits: bool) -> None:
        self.client = client
        self.awaits = awaits

    def stored(self, case: Case) -> list[str]:
        """The positional arguments, with a response that there is."""
        if not case.positional:
            return []
        made = self.client.responses.create(model="m", input="hi")
        return [self.done(made).id]

    def done(self, result: Any) -> Any:
        return self.client.loop.run_until_complete(result) if inspect.isawaitable(result) else result


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    engine = scripted(ScriptedModel("Hello", again=True))
    if request.param == "sync":
        with OpenAI(data=tmp_path, engine=engine, max_retries=0) as client:
            yield Kind(client, awaits=False)
        return
    with asyncio.Runner() as runner:
        client: Any = AsyncOpenAI(data=tmp_path, engine=engine, max_retries=0)
        client.loop = runner.get_loop()
        yield Kind(client, awaits=True)
        runner.run(client.close())


def is_a(value: Any, kind: type[Any] | None) -> bool:
    """As the SDK's ``assert_matches_type``; a page is one of either client's."""
    if kind is SyncCursorPage:
        return isinstance(value, SyncCursorPage | AsyncCursorPage)
    return value is None if kind is None else isinstance(value, kind) and isinstance(value, official_of(kind))


def official_of(kind: type[Any]) -> type[Any]:
    return OfficialResponse if issubclass(kind, OfficialResponse) else kind


def named(case: Case) -> str:
    return f"{case.name}-{len(case.arguments)}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_method(kind: Kind, case: Case) -> None:
    method = case.method(kind.client.responses)
    result = kind.done(method(*kind.stored(case), **case.arguments))
    assert is_a(result, case.kind)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_raw_response(kind: Kind, case: Case) -> None:
    method = case.method(kind.client.responses.with_raw_response)
    raw = kind.done(method(*kind.stored(case), **case.arguments))
    assert isinstance(raw, LegacyAPIResponse)
    assert raw.is_closed is True
    assert raw.http_request.headers.get("X-Stainless-Lang") == "python"
    assert raw.request_id
    assert is_a(raw.parse(), case.kind)


@pytest.mark.parametrize("case", STREAMING, ids=named)
def test_streaming_response(kind: Kind, case: Case) -> None:
    method = case.method(kind.client.responses.with_streaming_response)
    given = kind.stored(case)
    if not kind.awaits:
        with method(*given, **case.arguments) as answer:
            assert isinstance(answer, APIResponse)
            assert answer.is_closed is False
            assert is_a(answer.parse(), case.kind)
        assert answer.is_closed is True
        return

    async def within() -> None:
        async with method(*given, **case.arguments) as answer:
            assert isinstance(answer, AsyncAPIResponse)
            assert answer.is_closed is False
            assert is_a(await answer.parse(), case.kind)
        assert answer.is_closed is True

    kind.done(within())


@pytest.mark.parametrize("name", ["retrieve", "delete", "cancel", "input_items.list"])
@pytest.mark.parametrize("way", ["", "with_raw_response"])
def test_path_params(kind: Kind, name: str, way: str) -> None:
    responses = getattr(kind.client.responses, way) if way else kind.client.responses
    with pytest.raises(ValueError, match="Expected a non-empty value for `response_id` but received ''"):
        kind.done(Case(name, None).method(responses)(""))


def test_cancel(kind: Kind) -> None:
    made = kind.done(kind.client.responses.create(model="m", input="hi", background=True))
    for responses in (kind.client.responses, kind.client.responses.with_raw_response):
        answer = kind.done(responses.cancel(made.id))
        result = answer.parse() if isinstance(answer, LegacyAPIResponse) else answer
        assert type(result) is Response
        assert result.status in ("cancelled", "completed")
    synchronous = kind.done(kind.client.responses.create(model="m", input="hi"))
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        kind.done(kind.client.responses.cancel(synchronous.id))


def test_stream_overload(kind: Kind) -> None:
    stream = kind.done(kind.client.responses.create(**EVERYTHING, stream=True))
    kind.done(stream.response.aclose()) if kind.awaits else stream.response.close()
    raw = kind.done(kind.client.responses.with_raw_response.create(**EVERYTHING, stream=True))
    assert raw.http_request.headers.get("X-Stainless-Lang") == "python"
    kind.done(raw.parse().close())


def test_pages_go_on(kind: Kind) -> None:
    said = [{"role": "user", "content": str(n)} for n in range(3)]
    made = kind.done(kind.client.responses.create(model="m", input=said))

    async def paged() -> list[Any]:
        return [item async for item in kind.client.responses.input_items.list(made.id, limit=1, order="asc")]

    listed = kind.client.responses.input_items.list
    found = kind.done(paged()) if kind.awaits else list(listed(made.id, limit=1, order="asc"))
    assert [item.content[0].text for item in found] == ["0", "1", "2"]


USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 120,
}
COMPACTED = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": USAGE}
COUNTED = {"object": "response.input_tokens", "input_tokens": 7}


def recorded(answer: Any, seen: list[Any]) -> httpx2.MockTransport:
    """A server that gives one answer and keeps what it was asked."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.path, json.loads(request.content)))
        return httpx2.Response(200, json=answer)

    return httpx2.MockTransport(reply)


@pytest.mark.parametrize("way", ["", "with_raw_response"])
def test_compact_and_count_with_a_server_that_has_them(way: str) -> None:
    seen: list[Any] = []
    for answer, name, kind in (
        (COMPACTED, "compact", CompactedResponse),
        (COUNTED, "input_tokens.count", InputTokenCountResponse),
    ):
        http = httpx2.Client(transport=recorded(answer, seen))
        with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", http_client=http) as client:
            responses = getattr(client.responses, way) if way else client.responses
            nested = {"tools": [{"type": "function", "function": {"name": "f"}}]} if "count" in name else {}
            result = Case(name, kind).method(responses)(model="m", input={"role": "user", "content": "hi"}, **nested)
            assert is_a(result.parse() if way else result, kind)
    assert [path for path, _ in seen] == ["/v1/responses/compact", "/v1/responses/input_tokens"]
    assert all(body["input"] == [{"role": "user", "content": "hi"}] for _, body in seen)
    assert seen[1][1]["tools"] == [{"type": "function", "name": "f"}]


@pytest.mark.parametrize("name", ["create", "retrieve", "delete", "cancel", "compact", "parse", "stream", "connect"])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(OpenAI, official.Responses), (AsyncOpenAI, official.AsyncResponses)], ids=["sync", "async"]
)
def test_signatures_are_in_sync(name: str, ours: type[Any], theirs: type[Any]) -> None:
    """Nothing of the official signature is missing, and what a parameter's default is has not changed."""
    method = getattr(ours(base_url="http://127.0.0.1:1/v1", api_key="none").responses, name)
    expected = [p for p in inspect.signature(getattr(theirs, name)).parameters.values() if p.name != "self"]
    inspect.signature(method).bind(**{parameter.name: None for parameter in expected})
    taken = inspect.signature(method).parameters
    for parameter in expected if name != "connect" else ():
        assert taken[parameter.name].kind is parameter.kind
        assert repr(taken[parameter.name].default) == repr(parameter.default)


async def test_copies_of_a_client_give_the_same_results(tmp_path: Path) -> None:
    async with AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello", again=True))) as client:
        for other in (client.with_options(timeout=30), client.copy(max_retries=1)):
            response = await other.responses.create(model="m", input={"role": "user", "content": "hi"})
            assert type(response) is Response
