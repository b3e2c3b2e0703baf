"""The two tools of ``docs/how-to/add-a-tool.md``, taken out of the page and put to work."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from antiphon.models import Call, Finish, Text
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "add-a-tool.md").read_text()
DONE = Finish()


def example(name: str) -> dict[str, Any]:
    """A module of the page, run."""
    code = dict(re.findall(r"```python (\w+)\n(.*?)```", PAGE, re.DOTALL))[name]
    assert code.count("\n") <= 60
    module: dict[str, Any] = {}
    exec(compile(code, f"{name}.py", "exec"), module)
    return module


@asynccontextmanager
async def client_of(model: ScriptedModel, **tools: Any) -> AsyncIterator[AsyncOpenAI]:
    async with serving(model, **tools) as url, AsyncOpenAI(base_url=url, api_key="none") as client:
        yield client


@pytest.mark.parametrize("arguments", ['{"sides": 6}', "six"])
async def test_the_hosted_tool(arguments: str) -> None:
    model = ScriptedModel([Call(0, "throw_die", arguments, "c1"), DONE], [Text("There it is."), DONE])
    tools: Any = [{"type": "dice"}]
    async with client_of(model, tools=[example("hosted")["Dice"]()]) as client:
        response = await client.responses.create(model="m", input="Throw a die.", tools=tools)
    call, message = response.output
    assert (call.type, message.type, response.output_text) == ("mcp_call", "message", "There it is.")
    told = model.prompts[1].items[-1]["output"]
    if arguments == "six":
        assert (call.status, told) == ("failed", "Error: The tool failed.")  # type: ignore[union-attr]
    else:
        assert re.fullmatch(r"It shows [1-6]\.", told)


async def test_the_client_tool() -> None:
    calls = [[Call(0, "move_turtle", f'{{"steps": {steps}}}', f"c{steps}"), DONE] for steps in (7, 3)]
    model = ScriptedModel(*calls, [Text("It moved."), DONE])
    tools: Any = [{"type": "turtle", "width": 5}]
    async with client_of(model, client_tools=[example("client")["Turtle"]()]) as client:
        response = await client.responses.create(model="m", input="Forward!", tools=tools)
        (call,) = response.output
        assert (call.type, call.input) == ("custom_tool_call", "forward 3")  # type: ignore[union-attr]
        assert model.prompts[1].items[-1]["output"] == "The field is 5 wide: steps must be 1 to 5."
        output: Any = {"type": "custom_tool_call_output", "call_id": "c3", "output": "ok"}
        done = await client.responses.create(model="m", previous_response_id=response.id, input=[output], tools=tools)
    assert done.output_text == "It moved."
    assert [item["type"] for item in model.prompts[2].items] == ["message", "function_call", "function_call_output"]
    assert model.prompts[2].items[1]["arguments"] == '{"steps": 3}'
