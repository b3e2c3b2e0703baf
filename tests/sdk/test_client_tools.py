"""Tools that the caller runs, through a real server and the official SDK: events, outputs, and the next turn."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from antiphon.cli.check_stream import check_stream
from antiphon.models import Call, Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

DONE = Finish()
SHOT = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}
TOOLS: dict[str, tuple[Any, Call, Any]] = {
    "apply_patch": (
        {"type": "apply_patch"},
        Call(0, "update_file", '{"path":"a.py","search":"x","replace":"y"}', "call_1"),
        {"type": "apply_patch_call_output", "call_id": "call_1", "status": "completed", "output": "ok"},
    ),
    "shell": (
        {"type": "shell"},
        Call(0, "shell", '{"commands":["ls"]}', "call_1"),
        {
            "type": "shell_call_output",
            "call_id": "call_1",
            "output": [{"stdout": "a.py", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
        },
    ),
    "local_shell": (
        {"type": "local_shell"},
        Call(0, "local_shell", '{"command":["ls"]}', "call_1"),
        {"type": "local_shell_call_output", "id": "call_1", "output": "a.py"},
    ),
    "computer": (
        {"type": "computer"},
        Call(0, "computer", '{"actions":[{"type":"screenshot"}]}', "call_1"),
        {"type": "computer_call_output", "call_id": "call_1", "output": SHOT},
    ),
    "computer_use": (
        {"type": "computer_use", "display_width_px": 1920, "display_height_px": 1080, "display_number": 1},
        Call(0, "computer", '{"type":"click","x":5,"y":6}', "call_1"),
        {"type": "computer_call_output", "call_id": "call_1", "output": SHOT},
    ),
    "custom": (
        {"type": "custom", "name": "note"},
        Call(0, "note", '{"input":"milk"}', "call_1"),
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "noted"},
    ),
    "tool_search": (
        {"type": "tool_search", "execution": "client"},
        Call(0, "tool_search", '{"query":"mail"}', "call_1"),
        {
            "type": "tool_search_output",
            "call_id": "call_1",
            "execution": "client",
            "tools": [{"type": "function", "name": "send", "parameters": {"type": "object", "properties": {}}}],
        },
    ),
    "namespace": (
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
        Call(0, "n__f", "{}", "call_1"),
        {"type": "function_call_output", "call_id": "call_1", "output": "1"},
    ),
}
KINDS = {"computer_use": "computer_call", "computer": "computer_call", "custom": "custom_tool_call"}
KINDS |= {"tool_search": "tool_search_call", "namespace": "function_call"}


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@asynccontextmanager
async def client_of(model: ScriptedModel) -> AsyncIterator[AsyncOpenAI]:
    async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", TOOLS)
async def test_a_call_its_stream_its_output_and_the_answer(name: str, background: bool) -> None:
    tool, call, output = TOOLS[name]
    model = ScriptedModel([Text("Well."), call, DONE], [Text("Done."), DONE])
    async with client_of(model) as client:
        stream = await client.responses.create(
            model="m", input="Do it.", tools=[tool], stream=True, background=background
        )
        events = [event async for event in stream]
        asked = events[-1].response  # type: ignore[union-attr]
        assert [item.type for item in asked.output] == ["message", KINDS.get(name, f"{name}_call")]
        # Nothing half written was shown: what was added is what is done.
        raw = await client.responses.with_raw_response.retrieve(asked.id, extra_query={"stream": "true"})
        assert check_stream(raw.content).findings == []
        done = await client.responses.create(model="m", previous_response_id=asked.id, input=[output], tools=[tool])
    assert done.output_text == "Done."
    told = model.prompts[1].items
    assert [item["type"] for item in told[-2:]] == ["function_call", "function_call_output"]
    assert told[-2]["name"] == call.name
    if name == "tool_search":
        assert [function.name for function in model.prompts[1].functions] == ["tool_search", "send"]


@pytest.mark.parametrize("background", [False, True])
async def test_a_patch_of_several_files_is_answered_file_by_file(background: bool) -> None:
    patch = "*** Begin Patch\n*** Add File: a\n+1\n*** Update File: b\n@@\n-x\n+y\n*** Delete File: c\n*** End Patch"
    model = ScriptedModel([Call(0, "apply_patch", json.dumps({"input": patch}), "c1"), DONE], [Text("Done."), DONE])
    async with client_of(model) as client:
        asked: Any = {"model": "m", "tools": [{"type": "apply_patch"}]}
        stream = await client.responses.create(**asked, input="Do it.", stream=True, background=background)
        first = [event async for event in stream][-1].response  # type: ignore[union-attr]
        assert [item.operation.path for item in first.output] == ["a", "b", "c"]
        ids = [item.call_id for item in first.output]
        assert ids[0] == "c1" and len(set(ids)) == 3
        outputs: Any = [
            {"type": "apply_patch_call_output", "call_id": call_id, "status": "completed", "output": f"{n} ok"}
            for n, call_id in enumerate(ids)
        ]
        with pytest.raises(BadRequestError, match="No tool output found"):
            await client.responses.create(**asked, previous_response_id=first.id, input=outputs[:2])
        await client.responses.create(**asked, previous_response_id=first.id, input=outputs)
    told = [item for item in model.prompts[1].items if item["type"].startswith("function_call")]
    assert [item.get("name") for item in told[:3]] == ["create_file", "update_file", "delete_file"]
    assert [item["output"] for item in told[3:]] == ["0 ok", "1 ok", "2 ok"]


async def test_without_parallel_calls_a_patch_of_several_files_is_asked_for_again() -> None:
    patch = "*** Begin Patch\n*** Delete File: a\n*** Delete File: b\n*** End Patch"
    several = Call(0, "apply_patch", json.dumps({"input": patch}), "c1")
    model = ScriptedModel([several, DONE], [Call(0, "delete_file", '{"path":"a"}', "c2"), DONE])
    tools: Any = [{"type": "apply_patch"}]
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input="x", tools=tools, parallel_tool_calls=False)
    assert [item.call_id for item in response.output] == ["c2"]  # type: ignore[union-attr]
    assert "this makes 2 calls at once" in model.prompts[1].items[-1]["output"]


@pytest.mark.parametrize("kept", [False, True])
async def test_commands_are_told_one_by_one(kept: bool) -> None:
    call = Call(0, "shell", '{"commands":["ls","pwd"]}', "c1")
    asked: Any = {"model": "m", "input": "x", "tools": [{"type": "shell"}]}
    async with client_of(ScriptedModel([call, DONE])) as client:
        if kept:  # told again from what is stored
            response = await client.responses.create(**asked)
            stream: Any = await client.responses.retrieve(response.id, stream=True)
        else:
            stream = await client.responses.create(**asked, stream=True)
        events = [event.model_dump() async for event in stream]
    told = [(e["command_index"], e.get("delta"), e.get("command")) for e in events if "shell_call_command" in e["type"]]
    one, other = ("ls", "pwd")
    assert told == [(0, None, ""), (0, one, None), (0, None, one), (1, None, ""), (1, other, None), (1, None, other)]
    added, done = (e["item"]["action"]["commands"] for e in events if "item" in e)
    assert (added, done) == ([], [one, other])
    assert events[-1]["response"]["output"][0]["action"]["commands"] == [one, other]


async def test_several_patches_in_one_answer_and_a_failed_one_is_reported() -> None:
    calls = [
        Call(0, "create_file", '{"path":"a.py","content":"x = 1\\n"}', "c1"),
        Call(1, "delete_file", '{"path":"b.py"}', "c2"),
        DONE,
    ]
    model = ScriptedModel(calls, [Text("Sorry."), DONE])
    async with client_of(model) as client:
        tools: Any = [{"type": "apply_patch"}]
        asked = await client.responses.create(model="m", input="Do it.", tools=tools)
        assert [item.operation.type for item in asked.output] == ["create_file", "delete_file"]  # type: ignore[union-attr]
        outputs: Any = [
            {"type": "apply_patch_call_output", "call_id": "c1", "status": "completed"},
            {"type": "apply_patch_call_output", "call_id": "c2", "status": "failed", "output": "b.py: no such file"},
        ]
        await client.responses.create(model="m", previous_response_id=asked.id, input=outputs, tools=tools)
    read = [item["output"] for item in model.prompts[1].items if item["type"] == "function_call_output"]
    assert read == ["Done.", "Error: b.py: no such file"]


@pytest.mark.parametrize("background", [False, True])
async def test_a_call_that_cannot_be_made_fails_clearly_after_some_tries(background: bool) -> None:
    bad = [Text("Hm."), Call(0, "update_file", '{"path":"a.py"}', "c1"), DONE]
    async with client_of(ScriptedModel(bad, again=True)) as client:
        tools: Any = [{"type": "apply_patch"}]
        asking = client.responses.create(model="m", input="x", tools=tools, stream=True, background=background)
        with pytest.raises(Exception, match="did not make a valid tool call") as caught:
            [event async for event in await asking]
        assert not isinstance(caught.value, AssertionError)


async def test_an_output_is_needed_for_every_kind_of_call() -> None:
    tool, call, _ = TOOLS["shell"]
    async with client_of(ScriptedModel([call, DONE])) as client:
        asked = await client.responses.create(model="m", input="x", tools=[tool])
        with pytest.raises(BadRequestError, match="No tool output found for shell call call_1"):
            await client.responses.create(model="m", previous_response_id=asked.id, input="And?")


async def test_a_pending_safety_check_has_to_be_acknowledged() -> None:
    call: Any = {
        "type": "computer_call",
        "id": "cu_1",
        "call_id": "c1",
        "status": "completed",
        "action": {"type": "screenshot"},
        "pending_safety_checks": [{"id": "s1", "code": "malicious_instructions", "message": "Look."}],
    }
    output: Any = {"type": "computer_call_output", "call_id": "c1", "output": SHOT}
    async with client_of(ScriptedModel([Text("Fine."), DONE])) as client:
        with pytest.raises(BadRequestError, match="'s1'"):
            await client.responses.create(model="m", input=[call, output])
        known = output | {"acknowledged_safety_checks": [{"id": "s1"}]}
        assert (await client.responses.create(model="m", input=[call, known])).output_text == "Fine."


async def test_a_model_that_acts_on_another_page_than_the_task_named_is_looked_at() -> None:
    """The page is what the caller says in ``current_url``, in the request or in those before it."""
    click = Call(0, "computer", '{"actions":[{"type":"click","x":1,"y":2}]}', "c1")
    again = Call(0, "computer", '{"actions":[{"type":"click","x":3,"y":4}]}', "c2")
    tools: Any = [{"type": "computer"}]
    async with client_of(ScriptedModel([click, DONE], [again, DONE], [Text("Done."), DONE])) as client:
        task = "Buy a lamp at https://shop.example."
        first = await client.responses.create(model="m", input=task, tools=tools)
        assert first.output[0].pending_safety_checks == []  # type: ignore[union-attr]
        shot: Any = {"type": "computer_call_output", "output": SHOT, "current_url": "https://evil.example/"}
        second = await client.responses.create(
            model="m", previous_response_id=first.id, input=[{**shot, "call_id": "c1"}], tools=tools
        )
        (check,) = second.output[0].pending_safety_checks  # type: ignore[union-attr]
        assert check.code == "irrelevant_domain"
        assert "https://evil.example" in (check.message or "")
        with pytest.raises(BadRequestError, match="is not acknowledged"):
            await client.responses.create(
                model="m", previous_response_id=second.id, input=[{**shot, "call_id": "c2"}], tools=tools
            )
        known = {**shot, "call_id": "c2", "acknowledged_safety_checks": [check.model_dump()]}
        done = await client.responses.create(model="m", previous_response_id=second.id, input=[known], tools=tools)
        assert done.output_text == "Done."


KIT = ("apply_patch", "shell", "computer", "custom")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("choice", ["none", {"type": "function", "name": "weather"}])
async def test_a_call_that_the_request_does_not_allow_is_never_shown(name: str, choice: Any, streamed: bool) -> None:
    tool, call, _ = TOOLS[name]
    instead = Text("Done.") if choice == "none" else Call(0, "weather", '{"city":"Rome"}', "c2")
    model = ScriptedModel([call, DONE], [instead, DONE])
    asked: Any = {"model": "m", "input": "Do it.", "tools": [tool, WEATHER], "tool_choice": choice}
    async with client_of(model) as client:
        if streamed:
            raw = await client.responses.with_raw_response.create(**asked, stream=True)
            response = [event async for event in raw.parse()][-1].response  # type: ignore[union-attr]
        else:
            response = await client.responses.create(**asked)
    assert [item.type for item in response.output] == ["message" if choice == "none" else "function_call"]
    assert response.output_text == ("Done." if choice == "none" else "")
    assert model.prompts[1].items[-1]["output"].startswith(f"Error: {call.name} was not called")


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "apply_patch"}, ("create_file", "update_file", "delete_file")),
        ({"type": "shell"}, ("shell",)),
        ({"type": "computer_use"}, ("computer",)),
        ({"type": "custom", "name": "note"}, ("note",)),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "shell"}, {"type": "custom", "name": "note"}]},
            ("shell", "note"),
        ),
    ],
)
async def test_a_choice_names_the_functions_of_its_tool(choice: Any, names: tuple[str, ...]) -> None:
    called = next(key for key in KIT if TOOLS[key][1].name in names)
    model = ScriptedModel([TOOLS[called][1], DONE])
    tools = [TOOLS[name][0] for name in KIT]
    async with client_of(model) as client:
        await client.responses.create(model="m", input="x", tools=tools, tool_choice=choice)
    assert model.prompts[0].tool_choice.names == names


async def test_what_nothing_here_can_run_is_left_out_and_named() -> None:
    model = ScriptedModel([Text("Hi."), DONE])
    async with client_of(model) as client:
        tools: Any = [{"type": "web_search"}, {"type": "image_generation"}, {"type": "function", "name": "f"}]
        raw = await client.responses.with_raw_response.create(model="m", input="x", tools=tools)
    assert raw.headers["x-antiphon-ignored"] == "tools[0]:web_search, tools[1]:image_generation"
    assert [tool.type for tool in raw.parse().tools] == ["web_search", "image_generation", "function"]
    assert [function.name for function in model.prompts[0].functions] == ["f"]


async def test_a_bad_grammar_is_refused_with_its_place() -> None:
    tool: Any = {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "regex", "definition": "(["}}
    async with client_of(ScriptedModel()) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.responses.create(model="m", input="x", tools=[tool])
    assert (caught.value.status_code, caught.value.param) == (400, "tools[0].format.definition")


async def test_calls_of_weak_models_are_mended_or_asked_for_again() -> None:
    bad, good = Call(0, "weather", '{"town":"Rome"}', "c1"), Call(0, "weather", '{"city":"Rome","unit":null}', "c2")
    model = ScriptedModel([Text("Let me see."), bad, DONE], [good, DONE], tool_help="repair")
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input="x", tools=[WEATHER])
    _, call = response.output
    assert (call.type, call.arguments) == ("function_call", '{"city":"Rome"}')  # type: ignore[union-attr]
    assert model.prompts[1].tool_choice.names == ("weather",)


async def test_a_function_that_was_never_declared_is_not_called() -> None:
    model = ScriptedModel([Call(0, "fly", "{}", "c1"), DONE], [Text("I cannot fly."), DONE], tool_help="repair")
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input="Fly!", tools=[WEATHER])
    assert [item.type for item in response.output] == ["message"]
    assert model.prompts[1].functions == ()


async def test_nothing_is_mended_unless_that_is_set() -> None:
    async with client_of(ScriptedModel([Call(0, "weather", '{"town":1}', "c1"), DONE])) as client:
        response = await client.responses.create(model="m", input="x", tools=[WEATHER])
    assert response.output[0].arguments == '{"town":1}'  # type: ignore[union-attr]
