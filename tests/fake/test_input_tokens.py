"""``input_tokens`` in front of servers of each kind: what is counted is what the answer reports, whatever was asked."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_keys import MemoryKeys
from openai import AsyncOpenAI
from scripted_upstream import Answer, Asked, Upstream, failure, finish, plain, sse, text, usage

from antiphon.models.chat.upstream import upstream_models
from antiphon.store.keys import Allowance, mint_key
from antiphon.testing.serving import serving
from antiphon.wire import Json

RENDERED = ("messages", "tools", "response_format", "reasoning_effort", "chat_template_kwargs")


def render(body: Json) -> str:
    """A template that shows all that one may show."""
    return msgspec.json.encode([body.get(name) for name in RENDERED]).decode()


def tokens_in(rendered: str) -> list[int]:
    return list(rendered.encode()[::3])


def answer(asked: Asked) -> Answer:
    return sse(text('{"n":1}'), finish(), usage(len(tokens_in(render(asked.json))), 3))


def as_llama_server(upstream: Upstream) -> None:
    upstream.fixed["/apply-template"] = lambda asked: plain({"prompt": render(asked.json)})
    upstream.fixed["/tokenize"] = lambda asked: plain({"tokens": tokens_in(asked.json["content"])})


def as_vllm(upstream: Upstream) -> None:
    def tokenize(asked: Asked) -> Answer:
        tokens = tokens_in(render(asked.json))
        return plain({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})

    upstream.fixed["/tokenize"] = tokenize
    upstream.fixed["/apply-template"] = failure(404, "Not Found")


def as_sglang(upstream: Upstream) -> None:
    def tokenize(asked: Asked) -> Answer:
        if "prompt" not in asked.json:
            return plain({"object": "error", "message": "prompt: Field required"}, 400)
        tokens = tokens_in(asked.json["prompt"])
        return plain({"tokens": tokens, "count": len(tokens), "max_model_len": 4096})

    upstream.fixed["/tokenize"] = tokenize
    upstream.fixed["/apply-template"] = failure(404, "Not Found")


def as_one_with_another_template(upstream: Upstream) -> None:
    """Its endpoint leaves the tools out."""
    upstream.fixed["/tokenize"] = lambda asked: plain({"count": len(asked.json["messages"])})
    upstream.fixed["/apply-template"] = failure(404, "Not Found")


def as_any_other(upstream: Upstream) -> None:
    for path in ("/tokenize", "/apply-template"):
        upstream.fixed[path] = failure(404, "Not Found")


KINDS = [as_llama_server, as_vllm, as_sglang, as_one_with_another_template, as_any_other]

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
SAID = st.builds(
    lambda role, said: [{"role": role, "content": said}],
    st.sampled_from(["user", "assistant", "developer", "system"]),
    TEXTS,
)
FILE = {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
SHOWN = st.builds(
    lambda said, part: [{"role": "user", "content": [{"type": "input_text", "text": said}, part]}],
    TEXTS,
    st.sampled_from([FILE, IMAGE]),
)
CALLED = st.builds(
    lambda at, output: [
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": f'{{"at":{at}}}'},
        {"type": "function_call_output", "call_id": "c", "output": output},
    ],
    st.integers(0, 9),
    TEXTS,
)
CUSTOM = st.builds(
    lambda said: [
        {"type": "custom_tool_call", "call_id": "d", "name": "note", "input": said},
        {"type": "custom_tool_call_output", "call_id": "d", "output": said},
    ],
    TEXTS,
)
THOUGHT = st.builds(
    lambda said: [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": said}]},
        {"role": "assistant", "content": said},
    ],
    TEXTS,
)
INPUTS = st.lists(SAID | SHOWN | CALLED | CUSTOM, max_size=4).map(
    lambda groups: [one for group in groups for one in group]
)
OBJECT: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMATS = st.sampled_from(
    [
        {},
        {"text": {"format": {"type": "json_object"}}},
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": OBJECT, "strict": False}}},
    ]
)
LOOK: Json = {"type": "function", "name": "look", "parameters": OBJECT, "strict": False}
TOOLS = st.lists(
    st.sampled_from([LOOK, {"type": "custom", "name": "note"}, {"type": "apply_patch"}, {"type": "shell"}]),
    max_size=3,
    unique_by=lambda tool: tool["type"],
)
CHOICES = st.sampled_from(["auto", "none"])
PLACES = st.sampled_from(["alone", "chain", "conversation"])


@asynccontextmanager
async def client_of(
    kind: Callable[[Upstream], None], keys: MemoryKeys | None = None, secret: str = "none"
) -> AsyncIterator[AsyncOpenAI]:
    async with Upstream() as upstream:
        upstream.fixed["/v1/chat/completions"] = answer
        kind(upstream)
        upstream.fixed["/v1/models"] = plain({"data": [{"id": "m"}]})
        options = {"supports_images": True}
        roster = upstream_models(upstream.url, key="", only="", aliases={}, connections_max=9, options=options)
        try:
            async with (
                serving(roster=roster, keys=keys) as url,
                AsyncOpenAI(base_url=url, api_key=secret, max_retries=0) as client,
            ):
                yield client
        finally:
            await roster.close()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_the_count_is_what_the_answer_reports(kind: Callable[[Upstream], None], data: st.DataObject) -> None:
    async with client_of(kind) as client:
        for _ in range(3):
            input = [*data.draw(INPUTS | THOUGHT), {"role": "user", "content": data.draw(TEXTS) + " (json)"}]
            asked: Any = {"model": "m", "input": input, **data.draw(FORMATS)}
            asked |= data.draw(st.sampled_from([{}, {"instructions": "Be brief."}, {"reasoning": {"effort": "low"}}]))
            if tools := data.draw(TOOLS):
                asked |= {"tools": tools, "tool_choice": data.draw(CHOICES)}
            match data.draw(PLACES):
                case "chain":
                    asked["previous_response_id"] = (await client.responses.create(model="m", input="before")).id
                case "conversation":
                    items: Any = [{"role": "user", "content": "before"}]
                    asked["conversation"] = (await client.conversations.create(items=items)).id
            counted = await client.responses.input_tokens.with_raw_response.count(**asked)
            response = await client.responses.create(**asked)
            assert response.usage is not None and response.usage.input_tokens == counted.parse().input_tokens
            assert "x-antiphon-estimated" not in counted.headers


async def test_a_server_that_says_nothing_of_its_tokens_is_not_guessed_at() -> None:
    def mute(upstream: Upstream) -> None:
        as_any_other(upstream)
        upstream.fixed["/v1/chat/completions"] = sse(text("x"), finish())

    async with client_of(mute) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_tokens.count(model="m", input="hi")
    assert caught.value.code == "unsupported_operation"


@pytest.mark.parametrize(("kind", "probes"), [(as_any_other, 2), (as_llama_server, 1)])
async def test_what_counting_costs_is_on_the_account_of_the_key(kind: Callable[[Upstream], None], probes: int) -> None:
    """A server that counts nothing is asked for a token each time; one that does, once, to see that it counts right."""
    keys = MemoryKeys()
    key, secret = mint_key("k", "", Allowance(), 1)
    keys.kept.append(key)
    async with client_of(kind, keys, secret) as client:
        counted = [(await client.responses.input_tokens.count(model="m", input="Hello")).input_tokens for _ in range(2)]
        (row,) = (await client.get("/usage", cast_to=dict[str, Any]))["data"]
        assert (row["requests"], row["input_tokens"]) == (probes, sum(counted[:probes]))
