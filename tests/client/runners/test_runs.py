"""Runners in ``client.run``: a scripted model, the real engine, real files, commands and pages."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client.runners import ApplyPatch, Computer, LocalShell, Shell
from antiphon.client.runners.browser import missing
from antiphon.client.runs.loop import RunResult
from antiphon.models import Call
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import scripted

Run = Callable[..., RunResult[Any]]


def call(name: str, id: str, key: int = 0, **arguments: Any) -> Call:
    return Call(key, name, json.dumps(arguments), id)


def told(model: ScriptedModel, sample: int) -> list[str]:
    """What the model was told of its calls, in that sample."""
    items = json.loads(json.dumps(list(model.prompts[sample].items)))
    return [str(item["output"]) for item in items if item["type"] == "function_call_output"]


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest) -> str:
    """The client to use."""
    return request.param


@pytest.fixture
def running(either: str, tmp_path: Path) -> Callable[[ScriptedModel], Run]:
    """What runs a task on a scripted model in this process, with either client."""

    def made(model: ScriptedModel) -> Run:
        def run(task: str = "Do it.", **options: Any) -> RunResult[Any]:
            if either == "sync":
                with OpenAI(data=tmp_path / "data", engine=scripted(model), max_retries=0) as client:
                    return client.run(task, model="m", **options)

            async def within() -> RunResult[Any]:
                async with AsyncOpenAI(data=tmp_path / "data", engine=scripted(model), max_retries=0) as client:
                    return await client.run(task, model="m", **options)

            return asyncio.run(within())

        return run

    return made


def test_a_bug_is_patched_and_the_fix_is_run(running: Callable[[ScriptedModel], Run], tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "calc.py").write_text("def add(a, b):\r\n    return a - b\r\n", newline="")
    model = ScriptedModel(
        [call("update_file", "c1", path="calc.py", search="    return a * b", replace="    return a + b")],
        [
            call("update_file", "c2", path="calc.py", search="    return a - b", replace="    return a + b"),
            call("create_file", "c3", 1, path="check.py", content="import calc\nprint(calc.add(2, 3))\n"),
            call("shell", "c4", 2, commands=["python3 check.py", "exit 3"]),
        ],
        [call("delete_file", "c5", path="check.py")],
        "Fixed.",
    )
    result = running(model)(tools=[ApplyPatch(root), Shell(root)])
    assert result.output_text == "Fixed."
    assert (root / "calc.py").read_bytes() == b"def add(a, b):\r\n    return a + b\r\n"
    assert not (root / "check.py").exists()
    refused, *done = result.calls
    assert refused.error is not None
    assert refused.output["status"] == "failed"
    assert "return a - b" in refused.output["output"], "the model is told what stands there"
    assert [record.error for record in done] == [None] * 4
    assert "these lines are not to be found" in told(model, 1)[0]
    assert told(model, 2)[-1] == "5\n\n[exit code 3]"


def test_a_single_program_is_run(running: Callable[[ScriptedModel], Run], tmp_path: Path) -> None:
    (tmp_path / "f").write_text("hello")
    model = ScriptedModel([call("local_shell", "c1", command=["cat", "f"])], "Read.")
    running(model)(tools=[LocalShell(tmp_path)])
    assert json.loads(told(model, 1)[0])["stdout"] == "hello"


def test_a_command_that_is_not_allowed_is_reported(running: Callable[[ScriptedModel], Run], tmp_path: Path) -> None:
    model = ScriptedModel([call("shell", "c1", commands=["rm -rf ."])], "I may not.")
    running(model)(tools=[Shell(tmp_path, allow=["ls"])])
    assert "rm may not be run here" in told(model, 1)[0]


@pytest.mark.skipif(missing() is not None, reason=f"no browser here: {missing()}")
@pytest.mark.parametrize(("either", "kind"), [("sync", "computer"), ("async", "computer_use_preview")])
def test_a_page_is_used(running: Callable[[ScriptedModel], Run], kind: Any, site: str) -> None:
    def act(id: str, **action: Any) -> Call:
        return call("computer", id, **({"actions": [action]} if kind == "computer" else action))

    model = ScriptedModel(
        [act("c1", type="screenshot")],
        [act("c2", type="click", x=150, y=120)],
        [act("c3", type="click", x=150, y=210)],
        [act("c4", type="type", text="Ada")],
        [act("c5", type="drag", path=[{"x": 320, "y": 320}, {"x": 550, "y": 350}])],
        [act("c6", type="scroll", x=10, y=10, scroll_y=2700)],
        "Done.",
    )
    with Computer(f"{site}/", kind=kind, width=800, height=600, describe=True) as computer:
        result = running(model)(tools=[computer])
    assert result.output_text == "Done."
    notes = [str(record.note) for record in result.calls]
    assert '- button "Press me" (150, 120)' in notes[0]
    assert "click0@150,120;" in notes[1]
    assert ": Ada" in notes[3]
    assert "dropped;" in notes[4]
    assert "Down there" in notes[5]
    items = json.loads(json.dumps(list(model.prompts[1].items)))
    assert items[-1]["type"] == "message"
    assert '- button "Press me" (150, 120)' in items[-1]["content"][0]["text"]
    assert "data:image/png;base64," in json.dumps(items[-2])
