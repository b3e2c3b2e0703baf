"""Commands: what comes back, what bounds them, what they see, and that nothing of them is left."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from antiphon.client.runners import CommandRefused, LocalShell, SandboxMissing, Shell, sandbox
from antiphon.client.runners.commands import KEPT_BYTES_MAX, PRINTED_BYTES_MAX, perform
from antiphon.client.runs.runners import output_item
from antiphon.client.sdk.tool_calls import ToolCall

Asked = Callable[..., ToolCall]
SANDBOX = pytest.mark.skipif(sandbox.missing() is not None, reason=f"no sandbox here: {sandbox.missing()}")


def run(shell: Shell, asked: Asked, *commands: str, **limits: Any) -> list[dict[str, Any]]:
    limits = {"timeout_ms": None, "max_output_length": None} | limits
    call = asked("shell_call", action={"commands": list(commands), **limits})
    item = output_item(call, shell.run(call), 10**9)
    TypeAdapter(ResponseInputItemParam).validate_python(item)
    return item["output"]


def ended(code: int) -> dict[str, Any]:
    return {"type": "exit", "exit_code": code}


@pytest.fixture(params=[pytest.param(True, marks=SANDBOX, id="sandbox"), pytest.param(False, id="bare")])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    (tmp_path / "root").mkdir()
    return Shell(tmp_path / "root", sandbox=request.param)


def leftovers(mark: str) -> list[str]:
    """Processes whose command line holds a mark."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if mark.encode() in line:
            found.append(line.decode())
    return found


def eventually_nothing_is_left(mark: str) -> None:
    deadline = time.monotonic() + 5
    while leftovers(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not leftovers(mark)


# What comes back


def test_each_command_has_its_output(shell: Shell, asked: Asked) -> None:
    outputs = run(shell, asked, "echo out; echo err >&2; exit 3", "cat f; echo ok > f", "cat f")
    assert outputs[0] == {"stdout": "out\n", "stderr": "err\n", "outcome": ended(3)}
    assert outputs[1]["outcome"] == ended(0)
    assert outputs[2] == {"stdout": "ok\n", "stderr": "", "outcome": ended(0)}
    assert (Path(shell.root) / "f").read_text() == "ok\n"


def test_commands_start_in_the_folder_with_no_input(shell: Shell, asked: Asked) -> None:
    assert run(shell, asked, "pwd; cat")[0] == {"stdout": f"{shell.root}\n", "stderr": "", "outcome": ended(0)}


def test_bytes_that_are_no_text_are_shown_as_such(shell: Shell, asked: Asked) -> None:
    assert run(shell, asked, r"printf '\303\251\377'")[0]["stdout"] == "é\ufffd"


def test_a_signal_is_told_as_shells_tell_it(shell: Shell, asked: Asked) -> None:
    assert run(shell, asked, "kill -9 $$")[0]["outcome"] == ended(137)


def test_a_program_that_is_not_there_is_reported(shell: Shell, asked: Asked) -> None:
    (output,) = run(shell, asked, "no-such-program-here")
    assert output["outcome"] == ended(127)
    assert "not found" in output["stderr"]


def test_what_cannot_be_started_is_reported(tmp_path: Path, asked: Asked) -> None:
    (output,) = run(Shell(tmp_path, sandbox=False), asked, "echo a\0b")
    assert output["outcome"] == ended(126)


# Time


def test_a_command_whose_time_is_over_is_killed_with_all_it_started(shell: Shell, asked: Asked) -> None:
    mark = "31.4159"
    began = time.monotonic()
    outputs = run(shell, asked, f"echo begun; sleep {mark} & sleep {mark}", "echo never", timeout_ms=700)
    assert outputs == [{"stdout": "begun\n", "stderr": "", "outcome": {"type": "timeout"}}]
    assert time.monotonic() - began < 10
    eventually_nothing_is_left(mark)


def test_the_time_of_a_call_is_for_all_its_commands(tmp_path: Path, asked: Asked) -> None:
    shell = Shell(tmp_path, sandbox=False, timeout_s=0.6)
    outputs = run(shell, asked, "sleep 0.4", "sleep 0.4", "echo never", timeout_ms=60_000)
    assert [output["outcome"]["type"] for output in outputs] == ["exit", "timeout"]


def test_nothing_goes_on_in_the_background(shell: Shell, asked: Asked) -> None:
    mark = "27.1828"
    began = time.monotonic()
    assert run(shell, asked, f"sleep {mark} & echo done")[0]["stdout"] == "done\n"
    assert time.monotonic() - began < 10
    eventually_nothing_is_left(mark)


def test_a_program_that_closes_its_output_still_has_its_time(shell: Shell, asked: Asked) -> None:
    assert run(shell, asked, "exec >&- 2>&-; sleep 0.2; exit 4")[0]["outcome"] == ended(4)
    assert run(shell, asked, "exec >&- 2>&-; sleep 20", timeout_ms=400)[0]["outcome"] == {"type": "timeout"}


def test_a_process_that_leaves_its_group_does_not_hold_the_call(tmp_path: Path, asked: Asked) -> None:
    shell = Shell(tmp_path, sandbox=False, timeout_s=20)
    began = time.monotonic()
    assert run(shell, asked, "setsid sleep 3 & echo done")[0]["stdout"] == "done\n"
    assert time.monotonic() - began < 2


@SANDBOX
def test_in_the_sandbox_such_a_process_is_killed(tmp_path: Path, asked: Asked) -> None:
    mark = "16.1803"
    run(Shell(tmp_path, sandbox=True), asked, f"setsid sleep {mark} & echo done")
    eventually_nothing_is_left(mark)


# Output


def test_a_long_output_keeps_its_beginning_and_its_end(shell: Shell, asked: Asked) -> None:
    (output,) = run(shell, asked, "seq 1 100000", max_output_length=200)
    assert len(output["stdout"]) == 200
    assert output["stdout"].startswith("1\n2\n")
    assert output["stdout"].endswith("\n100000\n")
    assert "of 588895 characters" in output["stdout"]


def test_all_outputs_of_a_call_share_the_room(tmp_path: Path, asked: Asked) -> None:
    shell = Shell(tmp_path, sandbox=False, output_chars_max=300)
    outputs = run(shell, asked, "seq 1 90; seq 1 90 >&2", "seq 1 90", "echo more", max_output_length=10_000)
    assert sum(len(output["stdout"]) + len(output["stderr"]) for output in outputs) <= 300
    assert outputs[0]["stderr"].endswith("90\n"), "what went wrong is said at the end of stderr"
    assert [output["outcome"] for output in outputs] == [ended(0)] * 3


def test_no_output_at_all_can_be_asked_for(shell: Shell, asked: Asked) -> None:
    assert run(shell, asked, "echo a", max_output_length=0)[0]["stdout"] == ""


def test_of_a_very_long_output_little_is_kept(tmp_path: Path) -> None:
    printed = perform(["seq", "1", "1000000"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, timeout_s=20)
    assert len(printed.stdout) < KEPT_BYTES_MAX + 100
    assert printed.stdout.startswith("1\n2\n")
    assert printed.stdout.endswith("\n1000000\n")
    assert "bytes …]" in printed.stdout


def test_a_program_that_prints_without_end_is_killed(tmp_path: Path) -> None:
    printed = perform(["yes"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, timeout_s=60)
    assert printed.exit_code == 137
    assert f"printed more than {PRINTED_BYTES_MAX} bytes" in printed.stderr


# What commands see


def test_commands_do_not_see_the_keys_of_this_process(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("ANYTHING_ELSE", "secret")
    for sandboxed in [False] if sandbox.missing() else [False, True]:
        printed = run(Shell(tmp_path, sandbox=sandboxed, env={"GIVEN": "given"}), asked, "env")[0]["stdout"]
        assert "secret" not in printed
        assert "GIVEN=given" in printed
        assert "PATH=" in printed


@SANDBOX
def test_the_sandbox_shows_the_folder_and_the_system_and_nothing_else(tmp_path: Path, asked: Asked) -> None:
    root = tmp_path / "root"
    (root / ".git/hooks").mkdir(parents=True)
    (root / ".git/config").touch()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "shown").write_text("shown")
    shell = Shell(root, sandbox=True, readable=[tmp_path / "shown"])
    assert shell.isolation == "bubblewrap"
    hidden, shown, home, system, hooks, processes = run(
        shell,
        asked,
        f"cat {tmp_path}/secret",
        f"cat {tmp_path}/shown && echo x > {tmp_path}/shown",
        "ls -A ~ && touch ~/f",
        "touch /usr/f",
        "touch .git/hooks/pre-commit; echo x > .git/config; touch .git/index",
        "ls -d /proc/[0-9]* | wc -l",
    )
    assert hidden["outcome"] == ended(1)
    assert (shown["stdout"], shown["outcome"]) == ("shown", ended(1))
    assert home["outcome"] == ended(0)
    assert "Read-only file system" in system["stderr"]
    assert hooks["stderr"].count("Read-only file system") == 2
    assert [path.name for path in (root / ".git").rglob("*") if path.is_file()] in (
        ["config", "index"],
        ["index", "config"],
    )
    assert int(processes["stdout"]) < 10
    assert (tmp_path / "shown").read_text() == "shown"


@SANDBOX
@pytest.mark.skipif(not os.access("/etc/shadow", os.R_OK), reason="only root can read what is hidden here")
def test_the_sandbox_hides_what_only_root_can_read(tmp_path: Path, asked: Asked) -> None:
    assert Path("/etc/shadow").read_text()
    assert run(Shell(tmp_path, sandbox=True), asked, "cat /etc/shadow /etc/gshadow")[0]["stdout"] == ""


@SANDBOX
def test_the_sandbox_has_no_network_unless_it_may(tmp_path: Path, asked: Asked) -> None:
    command = "cat /proc/net/dev | wc -l"
    (without,) = run(Shell(tmp_path, sandbox=True), asked, command)
    (within,) = run(Shell(tmp_path, sandbox=True, network=True), asked, command)
    assert int(without["stdout"]) == 3, "two headings and the loopback"
    with_network = len(Path("/proc/net/dev").read_text().splitlines())
    assert int(within["stdout"]) == with_network


@SANDBOX
def test_python_runs_in_the_sandbox(tmp_path: Path, asked: Asked) -> None:
    assert run(Shell(tmp_path, sandbox=True), asked, "python3 -c 'print(6 * 7)'")[0]["stdout"] == "42\n"


def test_where_there_is_no_sandbox_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.missing.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "antiphon.client"):
            shell = Shell(tmp_path)
        assert shell.isolation == "none: bubblewrap (bwrap) is not installed"
        assert caplog.messages == ["Commands run without a sandbox: bubblewrap (bwrap) is not installed."]
        with pytest.raises(SandboxMissing, match=r"bubblewrap \(bwrap\) is not installed"):
            Shell(tmp_path, sandbox=True)
        (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces >&2\nexit 1\n")
        (tmp_path / "bwrap").chmod(0o755)
        sandbox.missing.cache_clear()
        assert Shell(tmp_path).isolation == "none: bubblewrap does not work here: no namespaces"
    finally:
        sandbox.missing.cache_clear()
    assert Shell(tmp_path, sandbox=False).isolation == "none: it was switched off"


# What may be run


def test_only_what_is_allowed_is_run(tmp_path: Path, asked: Asked) -> None:
    shell = Shell(tmp_path, allow=["echo", "cat"], sandbox=False)
    outputs = run(shell, asked, "echo 'a  b' \"$HOME\" * `id` c\\ d", "cat 'no such'")
    assert outputs[0]["stdout"] == "a  b $HOME * `id` c d\n"
    assert outputs[1]["outcome"] == ended(1)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("rm -rf x", "rm may not be run here. These programs may: echo."),
        ("/bin/echo a", "/bin/echo may not be run"),
        ("echo a; rm x", "more than a program and its arguments"),
        ("echo a;rm x", "more than a program and its arguments"),
        ("echo a && rm x", "more than a program and its arguments"),
        ("echo a | sh", "more than a program and its arguments"),
        ("echo a > x", "more than a program and its arguments"),
        ("echo a\nrm x", "more than a program and its arguments"),
        ("echo $(rm x)", "more than a program and its arguments"),
        ("echo a &", "more than a program and its arguments"),
        ("X=1 echo a", "X=1 may not be run"),
        ("echo 'a", "cannot be read: No closing quotation"),
        (" ", "There is no command"),
    ],
)
def test_nothing_of_a_call_is_run_if_one_command_may_not(tmp_path: Path, asked: Asked, command: str, why: str) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(CommandRefused) as refused:
        run(Shell(tmp_path, allow=["echo"], sandbox=False), asked, "echo first", command)
    assert why in str(refused.value)
    assert (tmp_path / "x").read_text() == "x"


def test_bounds_and_folders_are_checked(tmp_path: Path) -> None:
    for wrong in ({"timeout_s": 0}, {"output_chars_max": 0}):
        with pytest.raises(ValueError, match="must be above 0"):
            Shell(tmp_path, **wrong)
    with pytest.raises(FileNotFoundError):
        Shell(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Shell(tmp_path / "file")


# local_shell


def local(shell: LocalShell, asked: Asked, *command: str, **members: Any) -> dict[str, Any]:
    action = {"type": "exec", "command": list(command), "env": {}, "timeout_ms": None, "working_directory": None}
    call = asked("local_shell_call", action=action | members)
    item = output_item(call, shell.run(call), 10**9)
    assert item["type"] == "local_shell_call_output"
    return json.loads(item["output"])


def test_a_program_of_local_shell_is_run(tmp_path: Path, asked: Asked) -> None:
    (tmp_path / "sub").mkdir()
    shell = LocalShell(tmp_path)
    told = local(shell, asked, "sh", "-c", "pwd; echo $A; exit 2", env={"A": "é"}, working_directory="sub")
    assert told == {"stdout": f"{tmp_path}/sub\né\n", "stderr": "", "outcome": ended(2)}
    assert local(shell, asked, "sleep", "20", timeout_ms=300)["outcome"] == {"type": "timeout"}


def test_what_local_shell_may_not_do_is_refused(tmp_path: Path, asked: Asked) -> None:
    with pytest.raises(CommandRefused, match="is not a folder below"):
        local(LocalShell(tmp_path), asked, "ls", working_directory="..")
    with pytest.raises(CommandRefused, match="There is no command"):
        local(LocalShell(tmp_path), asked)
    allowed = LocalShell(tmp_path, allow=["ls"], sandbox=False)
    with pytest.raises(CommandRefused, match="rm may not be run"):
        local(allowed, asked, "rm", "x")
    with pytest.raises(CommandRefused, match="Environment variables may not be set"):
        local(allowed, asked, "ls", env={"LD_PRELOAD": "x"})
    assert local(LocalShell(tmp_path, sandbox=False), asked, "no-such-program")["outcome"] == ended(127)
