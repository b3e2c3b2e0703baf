"""The real Codex CLI against the real server: it creates a file, edits it, runs it, and reports."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from codex_machine import Machine, calls, machine, run, says

from antiphon.testing.upstream import Answer
from antiphon.wire.catalogue import INSTRUCTIONS

CREATE = """*** Begin Patch
*** Add File: hello.py
+name = "word"
+print(f"hello, {name}")
*** End Patch
"""
EDIT = """*** Begin Patch
*** Update File: hello.py
@@
-name = "word"
+name = "world"
 print(f"hello, {name}")
*** End Patch
"""
RUN = f"{sys.executable} hello.py"
REPORT = "I made hello.py, and it says hello, world."


async def do_task(at: Machine, model: str, *answers: Answer, catalogue: bool = False) -> str:
    at.upstream.play(*answers, says(REPORT))
    printed = await at.exec(model, "Make hello.py that greets the world, and run it.", catalogue=catalogue)
    assert REPORT in printed
    assert (at.work / "hello.py").read_text() == 'name = "world"\nprint(f"hello, {name}")\n'
    assert "hello, world" in results(at)[-1], printed
    return printed


def results(at: Machine) -> list[str]:
    """What came of the model's calls, as it was told."""
    return [str(message["content"]) for message in at.prompts[-1].json["messages"] if message["role"] == "tool"]


def offered(at: Machine) -> set[str]:
    return {tool["function"]["name"] for tool in at.prompts[0].json["tools"]}


async def test_a_model_that_codex_knows_edits_with_the_custom_tool(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["gpt-5.5"]) as at:
        await do_task(
            at,
            "gpt-5.5",
            calls("apply_patch", "call_1", {"input": CREATE}),
            calls("apply_patch", "call_2", {"input": EDIT}),
            calls("exec_command", "call_3", {"cmd": RUN}),
        )
        assert {"apply_patch", "tool_search", "exec_command"} <= offered(at)
        assert len(results(at)) == 3


async def test_a_model_that_codex_does_not_know_edits_in_the_shell(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["local"]) as at:
        await do_task(
            at,
            "local",
            calls("exec_command", "call_1", {"cmd": f"apply_patch <<'EOF'\n{CREATE}EOF"}),
            calls("exec_command", "call_2", {"cmd": f"apply_patch <<'EOF'\n{EDIT}EOF"}),
            calls("exec_command", "call_3", {"cmd": RUN}),
        )
        assert "exec_command" in offered(at)
        assert any(name.startswith("multi_agent") for name in offered(at))


async def test_a_model_in_code_mode_is_given_the_tools_that_come_as_an_item(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["gpt-6-sol"]) as at:
        await do_task(
            at,
            "gpt-6-sol",
            calls("functions__exec", "call_1", {"input": f"text(await tools.apply_patch({CREATE!r}))"}),
            calls("functions__exec", "call_2", {"input": f"text(await tools.apply_patch({EDIT!r}))"}),
            calls("functions__exec", "call_3", {"input": f"text(await tools.exec_command({{cmd: {RUN!r}}}))"}),
        )
        assert "functions__exec" in offered(at)


async def test_the_catalogue_is_what_codex_expects(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["local"], window=20_000) as at:
        listed = msgspec.json.decode((await at.codex_says("debug", "models", catalogue=True)).splitlines()[-1])
        assert [(model["slug"], model["context_window"]) for model in listed["models"]] == [("local", 20_000)]
        printed = await do_task(
            at,
            "local",
            calls("apply_patch", "call_1", {"input": CREATE}),
            calls("apply_patch", "call_2", {"input": EDIT}),
            calls("exec_command", "call_3", {"cmd": RUN}),
            catalogue=True,
        )
        assert "metadata" not in printed  # it would say that it knows nothing of the model
        assert "apply_patch" in offered(at)
        assert at.prompts[0].json["messages"][0]["content"].startswith(INSTRUCTIONS)


async def test_a_name_that_only_codex_knows_is_answered_by_the_fallback(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["local"], ANTIPHON_MODEL_FALLBACK="local") as at:
        at.upstream.play(says("Hello."))
        assert "Hello." in await at.exec("gpt-5.5", "Say hello.")
        assert at.prompts[0].json["model"] == "local"


async def test_the_command_runs_codex_on_a_server_of_its_own(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["local"], window=20_000) as at:
        at.upstream.play(says("Hello."))
        environ = at.environ | {"PATH": f"{Path(codex).parent}{os.pathsep}{os.environ['PATH']}"}
        flags = ("--data", str(tmp_path / "other"), "--upstream", at.upstream.url)
        args = ("exec", "--skip-git-repo-check", "-C", str(at.work), "Say hello.")
        printed = await run(sys.executable, "-m", "antiphon", "run", *flags, "codex", *args, environ=environ)
        assert "Hello." in printed
        assert at.prompts[0].json["messages"][0]["content"].startswith(INSTRUCTIONS)
