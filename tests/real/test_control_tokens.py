"""No text of a caller's becomes a control token of an embedded model: its own tokenizer is the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from antiphon.models import Function, Prompt
from antiphon.models.chat.body import body
from antiphon.models.chat.config import ChatConfig
from antiphon.models.embedded.llamacpp import EmbeddedServer
from antiphon.models.embedded.vocabulary import control_tokens
from antiphon.wire import Json

pytestmark = pytest.mark.real


def context(text: str) -> Prompt:
    """A context with ``text`` in every place that callers and their tools fill."""
    items: tuple[Json, ...] = (
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": msgspec.json.encode({"a": text}).decode()},
        {"type": "function_call_output", "call_id": "c", "output": text},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
    )
    schema: Json = {"type": "object", "properties": {"a": {"type": "string", "description": text}}}
    return Prompt(items=items, instructions=text, functions=(Function("f", text, schema, False),))


async def asked(server: EmbeddedServer, path: str, sent: Json) -> Any:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    url = server.base_url.removesuffix("/v1") + path
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=sent) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def tokens(server: EmbeddedServer, text: str) -> list[int]:
    sent: Json = {"content": text, "parse_special": True, "add_special": False}
    return (await asked(server, "/tokenize", sent))["tokens"]


async def controls(server: EmbeddedServer, config: ChatConfig, text: str, ids: set[int]) -> list[int]:
    """The control tokens of what the model reads, in their order."""
    made = body(context(text), config)
    prompt = (await asked(server, "/apply-template", {"messages": made["messages"], "tools": made["tools"]}))["prompt"]
    return [token for token in await tokens(server, prompt) if token in ids]


async def test_only_the_template_writes_control_tokens(small_server: EmbeddedServer, small_model_path: Path) -> None:
    own = control_tokens(small_model_path)
    ids = {token for text in own for token in await tokens(small_server, text)}
    assert len(ids) == len(own) >= 3  # each of them is one token
    config = ChatConfig(base_url=small_server.base_url, model="m", control_tokens=own)
    harmless = await controls(small_server, config, "harmless", ids)
    assert harmless  # those of the template
    assert await controls(small_server, config, " ".join(own) + "".join(own), ids) == harmless
    unguarded = ChatConfig(base_url=small_server.base_url, model="m", control_tokens="off")
    assert len(await controls(small_server, unguarded, " ".join(own), ids)) > len(harmless)
