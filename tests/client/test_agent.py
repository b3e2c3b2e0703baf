"""``antiphon agent``: what the user sees, is asked, and decides; on a real server with a scripted model."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli import agent, main
from antiphon.cli.command import strip_control
from antiphon.client.runners.browser import missing
from antiphon.models import Call, Usage
from antiphon.models import Finish as Ended
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

USED = Ended("stop", Usage(input=10, output=5))


def call(name: str, id: str, key: int = 0, **arguments: Any) -> Call:
    return Call(key, name, json.dumps(arguments), id)


def told(model: ScriptedModel, sample: int) -> list[str]:
    items = json.loads(json.dumps(list(model.prompts[sample].items)))
    return [str(item["output"]) for item in items if item["type"] == "function_call_output"]


async def run(model: ScriptedModel, *arguments: str) -> int:
    async with serving(model) as url:
        return await asyncio.to_thread(main, ["agent", *arguments, "--base-url", url, "--model", "m"])


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


async def test_a_task_is_done_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "calc.py").write_text("print(2 - 3)\n")
    model = ScriptedModel(
        [
            "Let me see. ",
            call("update_file", "c1", path="calc.py", search="print(2 - 3)", replace="print(2 + 3)"),
            call("shell", "c2", 1, commands=["python3 calc.py", "exit 3"]),
        ],
        [call("delete_file", "c3", path="nowhere")],
        ["It prints 5.", USED],
    )
    assert await run(model, "Fix it.", "--root", str(tmp_path), "--yes") == 0
    shown = capsys.readouterr().out
    for line in (
        "Let me see. ",
        "● apply_patch\n*** Update File: calc.py\n@@\n-print(2 - 3)\n+print(2 + 3)\nUpdated calc.py.\n✓ ",
        "● shell\n$ python3 calc.py\n$ exit 3\n5\nexit code 3\n✓ ",
        "✗ nowhere does not exist.\n",
        "It prints 5.\n3 turns, 3 calls, 15 tokens\n",
    ):
        assert line in shown
    assert (tmp_path / "calc.py").read_text() == "print(2 + 3)\n"
    assert str(tmp_path) in str(model.prompts[0])


async def test_without_a_name_the_first_model_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(ScriptedModel("Hello.")) as url:
        assert await asyncio.to_thread(main, ["agent", "Hi", "--root", str(tmp_path), "--yes", "--base-url", url]) == 0
    assert "Hello." in capsys.readouterr().out


async def test_a_run_without_an_answer_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel([call("shell", "c1", commands=["ls"])], again=True)
    assert await run(model, "Go on.", "--root", str(tmp_path), "--yes", "--turns", "2") == 1
    assert "antiphon: The model has no answer after 2 turns" in capsys.readouterr().out


def test_a_server_that_is_not_there_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["agent", "x", "--root", str(tmp_path), "--yes", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    assert main(arguments) == 1
    assert "antiphon: Connection error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--tools", "telepathy"], "--tools 'telepathy' must be some of apply_patch, shell, computer"),
        (["--tools", ""], "--tools '' must be some of"),
        (["--tools", "computer"], "the tool computer and --url go together"),
        (["--url", "http://127.0.0.1:1/"], "the tool computer and --url go together"),
        (["--root", "/nowhere/at/all"], "No such file or directory"),
    ],
)
def test_what_cannot_be_is_reported(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "x", "--yes", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_where_nobody_can_be_asked_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "x"]) == 2
    assert "nobody can approve calls" in capsys.readouterr().err


# In a terminal


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, descriptor: int, process: asyncio.subprocess.Process) -> None:
        self._descriptor = descriptor
        self.process = process
        self.shown = ""

    async def see(self, text: str) -> None:
        """Waits until that is shown."""
        async with asyncio.timeout(60):
            while text not in self.shown:
                chunk = await asyncio.to_thread(self._read)
                if not chunk:
                    break
                self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", chunk).replace("\r", "")
        assert text in self.shown, self.shown

    def type(self, text: str) -> None:
        self.shown = ""
        os.write(self._descriptor, text.encode())

    def _read(self) -> str:
        try:
            return os.read(self._descriptor, 65536).decode("utf-8", "replace")
        except OSError:  # the other end is closed
            return ""


@asynccontextmanager
async def terminal(url: str, root: Path) -> AsyncGenerator[Terminal]:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "antiphon",
        "agent",
        "Do it.",
        "--root",
        str(root),
        "--base-url",
        url,
        "--model",
        "m",
    ]
    # A terminal's programs hear interrupts, also where this process was started to ignore them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = await asyncio.create_subprocess_exec(*command, stdin=theirs, stdout=theirs, stderr=theirs)
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


async def test_calls_are_approved_refused_and_always_approved(tmp_path: Path) -> None:
    model = ScriptedModel(
        [call("create_file", "c1", path="first", content="1")],
        [call("create_file", "c2", path="second", content="2")],
        [call("shell", "c3", commands=["echo shell > third"])],
        [call("shell", "c4", commands=["echo more >> third"])],
        "That is all.",
    )
    async with serving(model) as url, terminal(url, tmp_path) as user:
        await user.see("[y]es, [n]o, [a]lways")
        assert "*** Add File: first" in user.shown
        user.type("y\n")
        await user.see("[y]es, [n]o, [a]lways")
        assert (tmp_path / "first").read_text() == "1"
        user.type("write it elsewhere\n")
        await user.see("$ echo shell > third")
        await user.see("[y]es, [n]o, [a]lways")
        assert not (tmp_path / "second").exists()
        user.type("a\n")
        await user.see("5 turns, 4 calls")
        assert "[y]es" not in user.shown
        assert await user.process.wait() == 0
    assert (tmp_path / "third").read_text() == "shell\nmore\n"
    assert told(model, 2)[-1].endswith("The user refused this call; it was not done. write it elsewhere")


async def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    model = ScriptedModel([call("create_file", "c1", path="first", content="1")])
    async with serving(model) as url, terminal(url, tmp_path) as user:
        await user.see("[y]es, [n]o, [a]lways")
        user.process.send_signal(2)
        assert await asyncio.wait_for(user.process.wait(), 20) == 130
    assert not (tmp_path / "first").exists()


@pytest.mark.skipif(missing() is not None, reason=f"no browser here: {missing()}")
async def test_a_page_is_used(site: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(
        [call("computer", "c1", type="screenshot")], [call("computer", "c2", type="click", x=150, y=120)], "Clicked."
    )
    assert await run(model, "Click the button.", "--tools", "computer", "--url", f"{site}/", "--yes") == 0
    assert "● computer_use\nclick button=left x=150 y=120\n✓ " in capsys.readouterr().out
    assert '- button "Press me" (150, 120)' in str(model.prompts[0]), "told with the task"
    assert "click0@150,120" in str(model.prompts[2])


# What is shown of what others wrote


def test_nothing_that_is_shown_can_draw_in_the_terminal() -> None:
    assert strip_control("a\x1b[2Jb\rc\u202ed\te\r\nf\x07") == "a�[2Jb�c�d\te\nf�"


def test_commands_are_shown_as_in_a_shell(asked: Callable[..., Any]) -> None:
    assert agent.describe_call(asked("shell_call", action={"commands": ["ls", "pwd"]})) == "$ ls\n$ pwd"
