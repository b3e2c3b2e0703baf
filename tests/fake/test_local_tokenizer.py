"""Counting by the files of a model: its tokenizer, and its chat template in a sandbox."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from scripted_upstream import Answer, Asked, Upstream, failure, finish, sse, text, usage
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from antiphon.models import Finish, Function, Prompt
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.chat.template import NoTemplate, load_tokenizer
from antiphon.models.chat.upstream import WrongOptions, upstream_models
from antiphon.wire import Json

TEMPLATE = """{{ bos_token }}{% for m in messages %}
    {%- if m.content == "no" %}{{ raise_exception("no") }}{% endif -%}
    <{{ m.role }}>{{ m.content }}
    {%- for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}</>
{%- endfor %}{% if tools %}{{ tools | tojson }}{% endif %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""


def tokens_in(body: Json) -> int:
    """The template again, in Python, and the words of what it shows."""
    shown = "<s>"
    for message in body["messages"]:
        calls = [each["function"] for each in message.get("tool_calls") or ()]
        called = "".join(f"[{each['name']} {json.dumps(json.loads(each['arguments']))}]" for each in calls)
        shown += f"<{message['role']}>{message['content']}{called}</>"
    shown += json.dumps(body["tools"]) if body.get("tools") else ""
    return len(re.findall(r"\w+|[^\w\s]+", shown + "<assistant>"))


@asynccontextmanager
async def model_of(upstream: Upstream, folder: Path) -> AsyncGenerator[ChatModel]:
    """A model that counts by these files; closed once its server has said its last words."""
    model = ChatModel(ChatConfig(base_url=upstream.url, model="m", tokenizer=str(folder)))
    yield model
    for asked in upstream.asked:
        await asked.answered.wait()
    await asyncio.sleep(0.01)
    await model.close()


def answer(asked: Asked) -> Answer:
    return sse(text("x"), finish("length"), usage(tokens_in(asked.json), 1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": TEMPLATE}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def said(*texts: str) -> Prompt:
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":1, "b": "ü"}'}
    output = {"type": "function_call_output", "call_id": "c", "output": "a cat"}
    users = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": each}]} for each in texts]
    return Prompt(items=(*users, call, output), instructions="Be brief.", functions=(Function("look"),))


async def test_what_the_files_count_is_what_the_answer_reports(folder: Path) -> None:
    async with Upstream() as upstream, model_of(upstream, folder) as model:
        upstream.fixed["/v1/chat/completions"] = answer
        for prompt in (said("hi"), said("Grüße", "two, three"), said()):
            counted = await model.count(prompt)
            asked = len(upstream.asked)
            async with model.sample(prompt) as batches:
                reported = [batch async for batch in batches][-1][-1]
            assert isinstance(reported, Finish) and reported.usage is not None
            assert reported.usage.input == counted
        # One answer of one token in all, besides those that were sampled.
        assert asked == 3
        assert await model.count(said("no")) == tokens_in(upstream.asked[-1].json), "what a template refuses is asked"


async def test_files_of_another_model_are_found_out(folder: Path) -> None:
    async with Upstream() as upstream, model_of(upstream, folder) as model:
        upstream.fixed["/v1/chat/completions"] = sse(text("x"), finish("length"), usage(77, 1))
        assert [await model.count(said("hi")) for _ in range(2)] == [77, 77]


async def test_without_a_template_the_server_is_asked(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    async with Upstream() as upstream, model_of(upstream, folder) as model:
        for path in ("/apply-template", "/tokenize"):
            upstream.fixed[path] = failure(404, "Not Found")
        upstream.fixed["/v1/chat/completions"] = answer
        assert await model.count(said("hi")) == tokens_in(upstream.asked[-1].json)


@pytest.mark.parametrize("place", ["missing", "."])
async def test_what_cannot_be_read_is_said_at_the_start(tmp_path: Path, place: str) -> None:
    with pytest.raises(WrongOptions, match="tokenizer"):
        upstream_models(
            "http://a/v1",
            key="",
            only="",
            aliases={},
            connections_max=1,
            options={"tokenizer": str(tmp_path / place)},
        )


def test_a_template_changes_nothing_outside(folder: Path) -> None:
    for evil in ("{{ messages.append(1) }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"):
        (folder / "chat_template.jinja").write_text(evil)
        load_tokenizer.cache_clear()
        with pytest.raises(NoTemplate):
            load_tokenizer(str(folder)).count({"messages": []})
