"""The official Agents SDK, unchanged, with the tools that run on its user's side: patches, commands, a screen."""

import base64
import json
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import agents
import pytest
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from openai import AsyncOpenAI, BadRequestError

from antiphon.models import Call
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
    )
).decode()


def call(name: str, id: str, key: int = 0, **arguments: Any) -> Call:
    return Call(key, name, json.dumps(arguments), id)


def told(model: ScriptedModel, sample: int) -> list[Any]:
    """What the model was told of its calls, in that sample."""
    items = json.loads(json.dumps(list(model.prompts[sample].items)))
    return [item["output"] for item in items if item["type"] == "function_call_output"]


Run = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def running(request: pytest.FixtureRequest) -> Callable[[ScriptedModel], Any]:
    """Runs an agent of the SDK on a scripted model behind a real socket; gives its final output."""

    @asynccontextmanager
    async def made(model: ScriptedModel) -> AsyncGenerator[Run]:
        async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

            async def run(*tools: Any, model: str = "m", **options: Any) -> Any:
                using = agents.OpenAIResponsesModel(model=model, openai_client=client)
                agent = agents.Agent(name="Agent", tools=list(tools), model=using)
                config = agents.RunConfig(tracing_disabled=True)
                if not request.param:
                    return (await agents.Runner.run(agent, "Do it.", run_config=config, **options)).final_output
                streamed = agents.Runner.run_streamed(agent, "Do it.", run_config=config, **options)
                async for _ in streamed.stream_events():
                    pass
                return streamed.final_output

            yield run

    return made


async def test_its_functions_with_defaults(running: Any) -> None:
    def weather(city: str, unit: str = "c") -> str:
        return f"{city}: 20 {unit}"

    model = ScriptedModel([call("weather", "c1", city="Oslo"), call("weather", "c2", 1, city="Rome", unit="f")], "Ok.")
    async with running(model) as run:
        assert await run(agents.function_tool(weather)) == "Ok."
    assert told(model, 1) == ["Oslo: 20 c", "Rome: 20 f"]


class Editor:
    """The SDK's editor interface on real files, with its own applier."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        (self._root / operation.path).write_text(agents.apply_diff("", operation.diff or "", "create"))
        return ApplyPatchResult("completed", f"Created {operation.path}")

    def update_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        path = self._root / operation.path
        path.write_text(agents.apply_diff(path.read_text(), operation.diff or ""))
        return ApplyPatchResult("completed", f"Updated {operation.path}")

    def delete_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        (self._root / operation.path).unlink()
        return ApplyPatchResult("completed", f"Deleted {operation.path}")


async def test_its_apply_patch_tool(running: Any, tmp_path: Path) -> None:
    (tmp_path / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    model = ScriptedModel(
        [call("update_file", "c1", path="calc.py", search="    return a * b", replace="    return a + b")],
        [
            call("update_file", "c2", path="calc.py", search="    return a - b", replace="    return a + b"),
            call("create_file", "c3", 1, path="new.py", content="print(1)\n"),
        ],
        [call("delete_file", "c4", path="new.py")],
        "Fixed.",
    )
    async with running(model) as run:
        assert await run(agents.ApplyPatchTool(editor=Editor(tmp_path))) == "Fixed."
    assert (tmp_path / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert not (tmp_path / "new.py").exists()
    assert "Invalid Context" in told(model, 1)[0], "its own applier's refusal reaches the model"
    assert told(model, 2)[1:] == ["Updated calc.py", "Created new.py"]
    assert told(model, 3)[-1] == "Deleted new.py"


async def test_its_shell_tool(running: Any, tmp_path: Path) -> None:
    asked: list[Any] = []

    def execute(request: agents.ShellCommandRequest) -> agents.ShellResult:
        action = request.data.action
        asked.append((action.commands, action.timeout_ms))
        outputs: list[agents.ShellCommandOutput] = []
        for command in action.commands:
            ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
            outcome = agents.ShellCallOutcome("exit", ended.returncode)
            outputs.append(agents.ShellCommandOutput(ended.stdout, ended.stderr, outcome, command))
        return agents.ShellResult(outputs)

    model = ScriptedModel([call("shell", "c1", commands=["echo hi > f; cat f", "exit 3"], timeout_ms=5000)], "Done.")
    async with running(model) as run:
        assert await run(agents.ShellTool(executor=execute)) == "Done."
    assert asked == [(["echo hi > f; cat f", "exit 3"], 5000)]
    assert "hi" in told(model, 1)[0]
    assert "[exit code 3]" in told(model, 1)[0]


class Screen(agents.AsyncComputer):
    """The SDK's computer interface; remembers what was done."""

    def __init__(self, *, preview: bool) -> None:
        self.done: list[Any] = []
        self._preview = preview

    @property
    def environment(self) -> Any:
        return "browser" if self._preview else None

    @property
    def dimensions(self) -> Any:
        return (1024, 768) if self._preview else None

    async def screenshot(self) -> str:
        return PNG

    async def click(self, x: int, y: int, button: str, **more: Any) -> None:
        self.done.append(("click", x, y, button))

    async def double_click(self, x: int, y: int, **more: Any) -> None:
        self.done.append(("double_click", x, y))

    async def scroll(self, x: int, y: int, scroll_x: int, scroll_y: int, **more: Any) -> None:
        self.done.append(("scroll", x, y, scroll_x, scroll_y))

    async def type(self, text: str) -> None:
        self.done.append(("type", text))

    async def wait(self) -> None:
        self.done.append(("wait",))

    async def move(self, x: int, y: int, **more: Any) -> None:
        self.done.append(("move", x, y))

    async def keypress(self, keys: list[str]) -> None:
        self.done.append(("keypress", keys))

    async def drag(self, path: list[tuple[int, int]], **more: Any) -> None:
        self.done.append(("drag", path))


ACTIONS: list[dict[str, Any]] = [
    {"type": "screenshot"},
    {"type": "click", "x": 10, "y": 20, "button": "right"},
    {"type": "double_click", "x": 11, "y": 21},
    {"type": "scroll", "x": 12, "y": 22, "scroll_y": 300},
    {"type": "type", "text": "Ada"},
    {"type": "wait"},
    {"type": "move", "x": 13, "y": 23},
    {"type": "keypress", "keys": ["CTRL", "A"]},
    {"type": "drag", "path": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]},
]
DONE = [
    ("click", 10, 20, "right"),
    ("double_click", 11, 21),
    ("scroll", 12, 22, 0, 300),
    ("type", "Ada"),
    ("wait",),
    ("move", 13, 23),
    ("keypress", ["CTRL", "A"]),
    ("drag", [(1, 2), (3, 4)]),
]


async def test_its_computer_tool_in_batches(running: Any) -> None:
    screen = Screen(preview=False)
    model = ScriptedModel([call("computer", "c1", actions=ACTIONS)], "Done.")
    async with running(model) as run:
        assert await run(agents.ComputerTool(screen)) == "Done."
    assert screen.done == DONE
    assert PNG in json.dumps(told(model, 1))


async def test_its_computer_tool_one_action_at_a_time(running: Any) -> None:
    screen = Screen(preview=True)
    turns = [[call("computer", f"c{at}", **action)] for at, action in enumerate(ACTIONS)]
    model = ScriptedModel(*turns, "Done.")
    async with running(model) as run:
        settled = await run(agents.ComputerTool(screen), model="computer-use-preview", max_turns=20)
    assert settled == "Done."
    assert screen.done == DONE


async def test_all_of_them_together_with_a_function(running: Any, tmp_path: Path) -> None:
    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather."""
        return f"Sunny in {city}."

    screen = Screen(preview=False)
    model = ScriptedModel(
        [
            call("get_weather", "c1", city="Paris"),
            call("create_file", "c2", 1, path="f", content="x"),
            call("computer", "c3", 2, actions=[{"type": "click", "x": 1, "y": 1}]),
        ],
        "Done.",
    )
    async with running(model) as run:
        settled = await run(get_weather, agents.ApplyPatchTool(editor=Editor(tmp_path)), agents.ComputerTool(screen))
    assert settled == "Done."
    assert (tmp_path / "f").read_text() == "x"
    assert screen.done == [("click", 1, 1, "left")]
    assert "Sunny in Paris." in told(model, 1)


CARD = [{"type": "click", "x": 10, "y": 20}, {"type": "type", "text": "4111 1111 1111 1111"}]


async def test_its_safety_checks(running: Any) -> None:
    asked: list[str] = []

    def look(data: Any) -> bool:
        asked.append(data.safety_check.message)
        return True

    screen = Screen(preview=False)
    async with running(ScriptedModel([call("computer", "c1", actions=CARD)], "Paid.")) as run:
        assert await run(agents.ComputerTool(screen, on_safety_check=look)) == "Paid."
    assert asked == ["The model wants to type what looks like a card number."]
    assert screen.done == [("click", 10, 20, "left"), ("type", "4111 1111 1111 1111")]


async def test_a_safety_check_that_was_not_acknowledged_is_refused() -> None:
    model = ScriptedModel([call("computer", "call_1", actions=CARD)], "Paid.")
    async with serving(model) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        first = await client.responses.create(model="m", input="Pay.", tools=[{"type": "computer"}])
        (item,) = first.output
        assert item.type == "computer_call"
        assert [check.code for check in item.pending_safety_checks] == ["sensitive_input"]
        output: Any = {
            "type": "computer_call_output",
            "call_id": item.call_id,
            "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"},
        }
        asked: Any = {"model": "m", "previous_response_id": first.id, "tools": [{"type": "computer"}]}
        with pytest.raises(BadRequestError, match="is not acknowledged"):
            await client.responses.create(input=[output], **asked)
        output["acknowledged_safety_checks"] = [check.to_dict() for check in item.pending_safety_checks]
        settled = await client.responses.create(input=[output], **asked)
        assert settled.output_text == "Paid."
