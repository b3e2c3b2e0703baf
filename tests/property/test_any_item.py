"""Any JSON in any place of any item, tool or message: it is refused in words or it is passed on, also as history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antiphon import compaction, context, intake
from antiphon.assembly import make_toolbox
from antiphon.engine.file_inputs import FileInputs
from antiphon.engine.files import missing
from antiphon.files.blobs import LocalBlobs
from antiphon.http.chat import to_responses
from antiphon.http.listing import apply_include
from antiphon.models import Prompt
from antiphon.models.chat.body import body as chat_body
from antiphon.models.chat.config import ChatConfig
from antiphon.models.fleet import content_key
from antiphon.models.scripted import ScriptedModel
from antiphon.models.tokens import bound_prompt, estimate_prompt, shows_images
from antiphon.tools.computer import situate
from antiphon.tools.repeats import calls_just_made
from antiphon.truncation import drop_oldest
from antiphon.wire import Json
from antiphon.wire.chat import ChatRequest
from antiphon.wire.errors import ApiError
from antiphon.wire.input_items import InputItem
from antiphon.wire.kinds import KINDS
from antiphon.wire.queries import PageQuery
from antiphon.wire.validation import check

IMAGE: Json = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
FILE: Json = {"type": "input_file", "file_data": "data:text/plain;base64,AAAA", "filename": "a"}
TEXT: Json = {"type": "input_text", "text": "json"}
CALL: Json = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
CLICK: Json = {"type": "click", "x": 1, "y": 2, "button": "left"}
PATCH: Json = {"type": "update_file", "path": "a", "diff": "@@\n-a\n+b\n"}
SPEC: Json = {"type": "function", "name": "g", "parameters": {"type": "object", "properties": {}}, "strict": False}
SHELL_OUTPUT: Json = {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
MESSAGES: list[Json] = [
    {"type": "message", "role": "user", "content": [TEXT, IMAGE, FILE]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
    {"type": "message", "role": "system", "content": "json"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}], "content": []},
]
CALLS: list[list[Json]] = [
    [CALL, {"type": "function_call_output", "call_id": "c", "output": [TEXT, IMAGE, FILE]}],
    [
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [TEXT, IMAGE]},
    ],
    [
        {"type": "apply_patch_call", "call_id": "c", "operation": PATCH, "status": "completed"},
        {"type": "apply_patch_call_output", "call_id": "c", "status": "completed", "output": "done"},
    ],
    [
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"], "timeout_ms": 5}},
        {"type": "shell_call_output", "call_id": "c", "output": [SHELL_OUTPUT]},
    ],
    [
        {"type": "local_shell_call", "id": "l", "call_id": "c", "status": "completed"}
        | {"action": {"type": "exec", "command": ["ls"], "env": {}}},
        {"type": "local_shell_call_output", "id": "m", "call_id": "c", "output": "a"},
    ],
    [
        {"type": "computer_call", "call_id": "c", "status": "completed", "action": CLICK, "actions": [CLICK]}
        | {"pending_safety_checks": [{"id": "s", "code": "c", "message": "m"}]},
        {"type": "computer_call_output", "call_id": "c", "acknowledged_safety_checks": [{"id": "s"}]}
        | {"output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"}},
    ],
    [
        {"type": "tool_search_call", "call_id": "c", "arguments": {"query": "x"}, "execution": "client"},
        {"type": "tool_search_output", "call_id": "c", "tools": [SPEC], "execution": "client"},
    ],
]
SERVED: list[Json] = [
    {"type": "file_search_call", "queries": ["a"], "status": "completed", "results": [{"text": "a"}]},
    {"type": "web_search_call", "status": "completed", "action": {"type": "search", "sources": [{"url": "u"}]}},
    {"type": "code_interpreter_call", "container_id": "c", "status": "completed", "code": "1", "outputs": [{}]},
    {"type": "image_generation_call", "status": "completed", "result": "AAAA"},
    {"type": "mcp_list_tools", "server_label": "l", "tools": [{"name": "n", "input_schema": {}}]},
    {"type": "mcp_call", "server_label": "l", "name": "n", "arguments": "{}", "output": "o"},
    {"type": "mcp_approval_request", "server_label": "l", "name": "n", "arguments": "{}", "id": "r"},
    {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
    {"type": "additional_tools", "role": "developer", "tools": [SPEC]},
    {"type": "configuration_update", "reasoning": {"effort": "low"}},
    {"type": "program", "call_id": "p", "code": "x", "fingerprint": "f"},
    {"type": "program_output", "call_id": "p", "result": "x", "status": "completed"},
]
CONTEXTS = [*([each] for each in MESSAGES), *CALLS, *([each] for each in SERVED)]
MEMBERS = sorted({name for kind in get_args(InputItem) for name in kind.__struct_fields__} | {"async", "tool_calls"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(1.5) | st.sampled_from(["", "a", "json", "client", "server"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([*MEMBERS, "text", "image_url"]), inner, max_size=3)
        | st.builds(
            lambda kind, rest: {**rest, "type": kind},
            st.sampled_from([*KINDS, "input_image", "input_file", "input_text", "click", "namespace", "function"]),
            st.dictionaries(st.sampled_from([*MEMBERS, "text", "image_url"]), inner, max_size=2),
        )
    ),
    max_leaves=6,
)
TOOLBOX = make_toolbox()


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in pairs:
        yield from places(child, (*path, key))


def put(node: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = put(copy[path[0]], path[1:], value) if len(path) > 1 else value
    return copy


@st.composite
def bent(draw: st.DrawFn) -> list[Json]:
    """The items of a context, with any JSON in one to three places of theirs."""
    items: Any = draw(st.sampled_from(CONTEXTS))
    for _ in range(draw(st.integers(1, 3))):
        known = [place for place in places(items) if len(place) > 1]
        fresh = [(i, name) for i, item in enumerate(items) if isinstance(item, dict) for name in MEMBERS]
        items = put(items, draw(st.sampled_from([*known, *fresh]) if known else st.sampled_from(fresh)), draw(VALUES))
    return items


class NoFiles:
    async def retrieve(self, project: str, id: str) -> Any:
        raise missing(id)


FILE_INPUTS = FileInputs(NoFiles(), LocalBlobs(Path("none")), bytes_max=100, urls="off")  # type: ignore[arg-type]


def read(items: list[Json], *, images: bool, note: bool) -> tuple[Json, ...]:
    """All that becomes of a request's items on their way to a model, and of stored ones that come back."""
    numbers = count()
    plan = intake.plan(
        {"model": "m", "input": items, "tools": [SPEC | {"name": "h"}]},
        defaults=intake.Defaults(toolbox=TOOLBOX),
        ids=lambda prefix: f"{prefix}_{next(numbers)}",
        now=1,
    )
    for item in plan.input:
        msgspec.json.encode(apply_include(item, PageQuery()))
    estimate_prompt(plan.prompt)
    read_places(plan.input)
    for history in ((), plan.input):
        offers = TOOLBOX.offers(plan.tools, (*history, *plan.input))
        prompt = plan.prompt if not history else msgspec.structs.replace(plan.prompt, items=(text("go on"),))
        before, own = asyncio.run(FILE_INPUTS.shown("", history, prompt.items))
        prompt = msgspec.structs.replace(prompt, items=tuple(own))
        whole = context.build(prompt, before, offers, supports_images=images, note_images=note)
        msgspec.json.encode(chat_body(whole, ChatConfig(base_url="http://model/v1", model="m", supports_images=images)))
        read_prompt(whole)
    return plan.input


def read_prompt(prompt: Prompt) -> None:
    """All else that is asked of a prompt: its size, its images, where it may be shortened, and its text."""
    estimate_prompt(prompt)
    bound_prompt(prompt)
    shows_images(prompt)
    drop_oldest(prompt, 0.5)
    calls_just_made(prompt.items)
    content_key(prompt)
    context.replace_images(prompt.items)
    model = ScriptedModel(*("- Said." for _ in range(100)))
    asyncio.run(compaction.compact(model, prompt))


def read_places(items: tuple[Json, ...]) -> None:
    """What tells where the user's browser is."""
    situate([{"type": "computer"}], items, "Look at http://a.example.")


def text(words: str) -> Json:
    return {"type": "message", "id": "msg_last", "role": "user", "content": [{"type": "input_text", "text": words}]}


@pytest.mark.parametrize("items", CONTEXTS, ids=lambda items: items[0]["type"])
def test_what_is_bent_below_is_taken_as_it_stands(items: list[Json]):
    assert len(read(items, images=True, note=False)) == len(items)


@example([CALLS[-1][0], CALLS[-1][1] | {"output": [None]}], False, True)
@example([CALLS[5][0], CALLS[5][1] | {"acknowledged_safety_checks": [{"id": []}]}], False, False)
@settings(max_examples=400, deadline=None)
@given(items=bent(), images=st.booleans(), note=st.booleans())
def test_any_json_in_any_place_of_any_item_is_refused_or_passed_on(items: list[Json], images: bool, note: bool):
    try:
        read(items, images=images, note=note)
    except ApiError as refused:
        assert 400 <= refused.status < 500
        assert refused.message


TOOLS: list[Json] = [
    SPEC,
    {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "a+"}},
    {"type": "namespace", "name": "n", "description": "d", "tools": [SPEC, {"type": "custom", "name": "c"}]},
    {"type": "apply_patch"},
    {"type": "shell", "environment": {"type": "local", "skills": [{"name": "a", "path": "b", "description": "c"}]}},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 2, "environment": "linux"},
    {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
    {"type": "file_search", "vector_store_ids": ["v"], "filters": {"type": "eq", "key": "a", "value": 1}},
    {
        "type": "mcp",
        "server_label": "a",
        "server_url": "http://x/",
        "require_approval": {"never": {"tool_names": ["a"]}},
    },
    {"type": "web_search", "filters": {"allowed_domains": ["a"]}, "user_location": {"type": "approximate"}},
    {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}},
]
ALLOWED: Json = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
CHOICES: list[Any] = ["auto", "required", {"type": "function", "name": "g"}, {"type": "custom", "name": "c"}, ALLOWED]
FUNCTION: Json = {"name": "g", "parameters": SPEC["parameters"]}
COMPLETION: Json = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "json"}]},
        {"role": "user", "content": [TEXT | {"type": "text"}, {"type": "image_url", "image_url": {"url": "data:,"}}]},
        {
            "role": "user",
            "content": [{"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA", "filename": "a"}}],
        },
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "no"}],
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                {"id": "d", "type": "custom", "custom": {"name": "c", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "sunny"}]},
    ],
    "tools": [{"type": "function", "function": FUNCTION}, {"type": "custom", "custom": {"name": "c"}}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SPEC["parameters"]}},
    "stream_options": {"include_usage": True},
}
TOOL_MEMBERS = sorted({*MEMBERS, "namespace", "name", "function", "custom", "allowed_tools", "format"})


def bend(draw: st.DrawFn, whole: Any) -> Any:
    """It, with any JSON in one to three places."""
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(whole))
        holders = [place for place in [(), *known] if isinstance(at(whole, place), dict)]
        fresh = [(*place, name) for place in holders for name in TOOL_MEMBERS]
        whole = put(whole, draw(st.sampled_from(known) | st.sampled_from(fresh)), draw(VALUES))
    return whole


def at(node: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        node = node[key]
    return node


@st.composite
def bent_tools(draw: st.DrawFn) -> Json:
    """A request with tools and a choice, with any JSON in some of their places."""
    tools = draw(st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3, unique_by=id))
    return {
        "model": "m",
        "input": "json",
        **bend(draw, {"tools": tools, "tool_choice": draw(st.sampled_from(CHOICES))}),
    }


@st.composite
def bent_completions(draw: st.DrawFn) -> Json:
    """A request of the chat dialect, with any JSON in some of its places."""
    return bend(draw, COMPLETION)


def read_request(body: Json) -> None:
    """All that becomes of a request before a model is asked."""
    numbers = count()
    plan = intake.plan(
        body, defaults=intake.Defaults(toolbox=TOOLBOX), ids=lambda prefix: f"{prefix}_{next(numbers)}", now=1
    )
    offers = TOOLBOX.offers(plan.tools, plan.input)
    _, own = asyncio.run(FILE_INPUTS.shown("", (), plan.prompt.items))
    prompt = msgspec.structs.replace(plan.prompt, items=tuple(own))
    whole = context.build(prompt, (), offers, supports_images=True)
    msgspec.json.encode(chat_body(whole, ChatConfig(base_url="http://model/v1", model="m", supports_images=True)))
    read_prompt(whole)


def read_completion(body: Json) -> None:
    """The same in the chat dialect."""
    request, _ = check({name: value for name, value in body.items() if value is not None}, ChatRequest, strict=False)
    read_request(to_responses(request))


def test_the_tools_and_messages_that_are_bent_below_are_taken_as_they_stand():
    for choice in CHOICES:
        read_request(
            {"model": "m", "input": "json", "tools": [t for t in TOOLS if TOOLBOX.serves(t["type"])]}
            | {"tool_choice": choice}
        )
    read_completion(COMPLETION)


@example({"model": "m", "input": "x", "tools": [SPEC | {"namespace": {"a": 1}}]})
@settings(max_examples=400, deadline=None)
@given(body=bent_tools())
def test_any_json_in_any_place_of_a_tool_is_refused_or_passed_on(body: Json):
    try:
        read_request(body)
    except ApiError as refused:
        assert 400 <= refused.status < 500


@example(COMPLETION | {"tools": [{"type": [], "function": FUNCTION}], "tool_choice": "auto"})
@settings(max_examples=400, deadline=None)
@given(body=bent_completions())
def test_any_json_in_any_place_of_a_completion_is_refused_or_passed_on(body: Json):
    try:
        read_completion(body)
    except ApiError as refused:
        assert 400 <= refused.status < 500


NOBODYS: list[Any] = [None, 0, "a", [None], [0], ["a"], [[]], {"a": 1}, [{"type": None}], [{"type": ["input_image"]}]]


@pytest.mark.parametrize("value", NOBODYS, ids=str)
@pytest.mark.parametrize(
    "member", ["content", "output", "summary", "tools", "results", "namespace", "pending_safety_checks"]
)
def test_members_that_nobody_knows_on_an_item_are_passed_over(member: str, value: Any):
    for items in CALLS[:2]:
        for i, item in enumerate(items):
            if member not in item:
                try:
                    read(put(items, (i, member), value), images=False, note=True)
                except ApiError as refused:
                    assert refused.status < 500
