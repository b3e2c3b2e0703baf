"""The real Codex CLI against the real server: it creates a file, edits it, runs it, and reports."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import pytest
from codex_machine import Machine, Provider, calls, machine, run, says
from scripted_upstream import Answer

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


async def do_task(at: Machine, model: str, *answers: Answer, provider: Provider = "ours") -> str:
    at.upstream.play(*answers, says(REPORT))
    printed = await at.exec(model, "Make hello.py that greets the world, and run it.", provider=provider)
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
        listed = msgspec.json.decode(
            (await at.codex_says("debug", "models", provider="with catalogue")).splitlines()[-1]
        )
        assert [(model["slug"], model["context_window"]) for model in listed["models"]] == [("local", 20_000)]
        printed = await do_task(
            at,
            "local",
            calls("apply_patch", "call_1", {"input": CREATE}),
            calls("apply_patch", "call_2", {"input": EDIT}),
            calls("exec_command", "call_3", {"cmd": RUN}),
            provider="with catalogue",
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


async def test_a_session_is_taken_up_again_with_all_that_was_said(codex: str, tmp_path: Path) -> None:
    async with machine(codex, tmp_path, models=["local"]) as at:
        at.upstream.play(says("Noted."), says("It is blue."))
        await at.exec("local", "The door is blue.")
        assert "It is blue." in await at.exec("local", "Which colour has the door?", resume=True)
        said = [message["content"] for message in at.prompts[-1].json["messages"]]
        assert said[-3:] == ["The door is blue.", "Noted.", "Which colour has the door?"]


async def test_its_last_answer_is_held_to_a_schema(codex: str, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string"}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    async with machine(codex, tmp_path, models=["local"]) as at:
        file, last = at.home / "schema.json", at.home / "last.json"
        file.write_bytes(msgspec.json.encode(schema))
        at.upstream.play(says('{"colour": "blue"}'))
        await at.exec("local", "--output-schema", str(file), "-o", str(last), "Which colour?")
        assert msgspec.json.decode(last.read_bytes()) == {"colour": "blue"}
        assert at.prompts[0].json["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize("provider", ["ours", "built in"])
async def test_a_context_that_grows_too_long_is_compacted(codex: str, tmp_path: Path, provider: Provider) -> None:
    """Codex summarises itself on a provider that it knows nothing of, and has OpenAI's compact for it."""
    options = {"ANTIPHON_UPSTREAM_OPTIONS": '{"counter": "estimate"}'}
    async with machine(codex, tmp_path, models=["gpt-5.5"], window=40_000, **options) as at:
        at.upstream.play(
            calls("exec_command", "call_1", {"cmd": "echo hello"}, used=9000), says("It said hello."), says("Done.")
        )
        limit = ("-c", "model_auto_compact_token_limit=8000")
        printed = await at.exec("gpt-5.5", *limit, "Say hello.", provider=provider)
        assert "context compacted" in printed
        assert "Done." in printed
        asked = [str(prompt.json["messages"]) for prompt in at.prompts]
        assert ["You compress conversations" in prompt for prompt in asked] == [False, provider == "built in", False]
        assert "It said hello." in asked[-1]


@pytest.mark.parametrize("provider", ["built in", "with sockets"])
async def test_it_works_over_a_socket(codex: str, tmp_path: Path, provider: Provider) -> None:
    async with machine(codex, tmp_path, models=["gpt-5.5"]) as at:
        at.upstream.play(calls("exec_command", "call_1", {"cmd": "echo hello"}), says("Done."))
        printed = await at.exec("gpt-5.5", "Say hello.", provider=provider)
        assert "Done." in printed
        assert "hello" in results(at)[0]
        assert "Falling back" not in printed
        assert len(at.prompts) == 2
        assert 'method="POST"' not in await at.metrics()


async def test_it_may_take_the_server_for_one_of_open_models(codex: str, tmp_path: Path) -> None:
    """``--oss`` has the model loaded by an empty prompt first."""
    async with machine(codex, tmp_path, models=["local"]) as at:
        at.upstream.play(says("x"), says("Hello."))
        args = ("exec", "--oss", "--local-provider", "lmstudio", "-m", "local", "--skip-git-repo-check", "Say hello.")
        environ = at.environ | {"CODEX_OSS_BASE_URL": at.url}
        assert "Hello." in await run(codex, *args, environ=environ, cwd=at.work)
        probe = at.prompts[0].json
        assert probe["max_tokens"] == 1
        assert probe["messages"] == [{"role": "user", "content": ""}]
