"""``Shell`` and ``LocalShell``: run a model's commands below a folder, with bounds."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from antiphon.client.runners.commands import Printed, perform
from antiphon.client.runners.sandbox import SandboxMissing, missing, wrap_command
from antiphon.client.runs.function_tool import ArgumentsRefused
from antiphon.client.sdk.tool_calls import ToolCall

TIMEOUT_S: Final = 100.0
OUTPUT_CHARS_MAX: Final = 20_000
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "HOME", "TMPDIR")
_QUIET: Final = {"TERM": "dumb", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}
_LOG: Final = logging.getLogger("antiphon.client")


class CommandRefused(ArgumentsRefused):
    """A command that is not run, nor any other of its call. The text is for the model."""


class _Commands:
    """Runs commands below a folder; what ``Shell`` and ``LocalShell`` share."""

    in_order = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        allow: Collection[str] | None = None,
        sandbox: bool | None = None,
        network: bool = False,
        readable: Sequence[str | os.PathLike[str]] = (),
        env: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        output_chars_max: int = OUTPUT_CHARS_MAX,
    ) -> None:
        if timeout_s <= 0 or output_chars_max <= 0:
            raise ValueError("timeout_s and output_chars_max must be above 0.")
        self._root = Path(root).resolve(strict=True)
        if not self._root.is_dir():
            raise NotADirectoryError(f"{self._root} is not a folder.")
        self._allowed = None if allow is None else frozenset(allow)
        self._network = network
        self._readable = [Path(path).resolve() for path in readable]
        self._timeout_s = timeout_s
        self._chars_max = output_chars_max
        self._without = "it was switched off" if sandbox is False else missing()
        if sandbox and self._without:
            raise SandboxMissing(f"Commands cannot be kept in a sandbox: {self._without}.")
        if self._without and sandbox is None:
            _LOG.warning("Commands run without a sandbox: %s.", self._without)
        home = {} if self._without else {"HOME": "/tmp", "TMPDIR": "/tmp"}
        self._env = {name: os.environ[name] for name in _KEPT if name in os.environ} | _QUIET | home | dict(env or {})

    @property
    def root(self) -> str:
        """The folder, as an absolute path."""
        return str(self._root)

    @property
    def isolation(self) -> str:
        """``bubblewrap``, or ``none`` and why."""
        return f"none: {self._without}" if self._without else "bubblewrap"

    def _perform(self, argv: Sequence[str], timeout_s: float, cwd: Path, env: Mapping[str, str]) -> Printed:
        if not self._without:
            argv = wrap_command(argv, self._root, cwd, self._readable, network=self._network)
        try:
            return perform(argv, cwd=cwd, env={**self._env, **env}, timeout_s=timeout_s)
        except FileNotFoundError:
            return Printed("", f"{argv[0]}: command not found", 127)
        except (OSError, ValueError) as error:  # such as a list of arguments that is too long, or with a NUL in it
            return Printed("", f"{argv[0]}: {error}", 126)

    def _check(self, program: str) -> None:
        if self._allowed is not None and program not in self._allowed:
            named = ", ".join(sorted(self._allowed)) or "none"
            raise CommandRefused(f"{program} may not be run here. These programs may: {named}.")


class Shell(_Commands):
    """Runs the calls of ``shell`` below a folder: each command for itself, in order, until one's time is over.

    A command starts in the folder, with little of this process's environment (no keys), with no input, in a process
    group of its own that is killed when it ends: nothing goes on in the background. Where the system has bubblewrap, it
    runs in a sandbox that shows it the system's programs and this Python read-only, the folder, and an empty ``/tmp``;
    ``isolation`` says whether it does, and a warning is logged where it does not.

    Args:
        root: the folder; it must exist.
        allow: the programs that may be run. A command is then a program and its arguments, with no shell: no pipes, no
            redirection, no variables and patterns. Without it everything may.
        sandbox: True to insist on a sandbox, False to do without; by default there is one where the system offers it.
        network: whether commands in the sandbox reach the network.
        readable: what else they may read there.
        env: more environment variables.
        timeout_s: seconds for one call. What the call itself asks for can only be less, and is for each command.
        output_chars_max: characters of all output of a call; what the call itself asks for can only be less.

    Raises:
        OSError: there is no such folder.
        SandboxMissing: a sandbox is insisted on, and there is none.
    """

    kind = "shell"
    tool: Mapping[str, Any] = {"type": "shell", "environment": {"type": "local"}}

    def run(self, call: ToolCall) -> Mapping[str, Any]:
        """Runs the commands of a call.

        Raises:
            CommandRefused: one of them may not be run; none was.
        """
        action = call.item.action
        planned = [self._argv(str(command)) for command in action.commands]
        asked_ms = action.timeout_ms
        deadline = time.monotonic() + self._timeout_s
        printed: list[Printed] = []
        for argv in planned:
            left_s = deadline - time.monotonic()
            timeout_s = left_s if asked_ms is None else min(left_s, asked_ms / 1000)
            printed.append(self._perform(argv, max(timeout_s, 0.0), self._root, {}))
            if printed[-1].exit_code is None:
                break
        asked_chars = action.max_output_length
        chars = self._chars_max if asked_chars is None else min(self._chars_max, max(asked_chars, 0))
        return {"output": shown(printed, chars)}

    def _argv(self, command: str) -> Sequence[str]:
        if self._allowed is None:
            return [shutil.which("bash") or "/bin/sh", "-c", command]
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            words = list(lexer)
        except ValueError as error:
            raise CommandRefused(f"{command!r} cannot be read: {error}.") from error
        if "\n" in command.strip() or any(set(word) <= set("();<>|&") for word in words if word):
            raise CommandRefused(f"{command!r} is more than a program and its arguments, which is all that may be run.")
        if not words:
            raise CommandRefused("There is no command.")
        self._check(words[0])
        return words


class LocalShell(_Commands):
    """Runs the calls of ``local_shell`` below a folder: one program with its arguments. See ``Shell`` for the rest.

    The model may name a folder below the root to start in, and, where all programs may be run, environment variables.
    What it is told is JSON: ``stdout``, ``stderr`` and ``outcome``, as ``shell`` has them.
    """

    kind = "local_shell"

    def run(self, call: ToolCall) -> str:
        """Runs the program of a call.

        Raises:
            CommandRefused: it may not be run, or not there.
        """
        action = call.item.action
        argv = [str(word) for word in action.command]
        if not argv:
            raise CommandRefused("There is no command.")
        self._check(argv[0])
        env: dict[str, str] = dict(action.env or {})
        if env and self._allowed is not None:
            raise CommandRefused("Environment variables may not be set here.")
        asked_ms = action.timeout_ms
        timeout_s = self._timeout_s if asked_ms is None else min(self._timeout_s, asked_ms / 1000)
        printed = self._perform(argv, max(timeout_s, 0.0), self._start(action.working_directory), env)
        return json.dumps(shown([printed], self._chars_max)[0], ensure_ascii=False)

    def _start(self, folder: str | None) -> Path:
        path = (self._root / (folder or "")).resolve()
        if not path.is_relative_to(self._root) or not path.is_dir():
            raise CommandRefused(f"{folder} is not a folder below the one that you work in.")
        return path


def shown(printed: Sequence[Printed], chars_max: int) -> list[dict[str, Any]]:
    """Outputs as the API has them, of no more characters than that together."""
    outputs: list[dict[str, Any]] = []
    for each in printed:
        err = _cut(each.stderr, min(len(each.stderr), max(chars_max - len(each.stdout), chars_max // 2)))
        out = _cut(each.stdout, chars_max - len(err))
        chars_max -= len(out) + len(err)
        code = each.exit_code
        outcome: dict[str, Any] = {"type": "timeout"} if code is None else {"type": "exit", "exit_code": code}
        outputs.append({"stdout": out, "stderr": err, "outcome": outcome})
    return outputs


def _cut(text: str, chars: int) -> str:
    """The beginning and the end of a text, and between them how much is left out."""
    if len(text) <= chars:
        return text
    gap = f"\n[… of {len(text)} characters …]\n"
    if chars <= 2 * len(gap):
        return text[:chars]
    head = (chars - len(gap)) // 2
    return text[:head] + gap + text[len(text) - (chars - len(gap) - head) :]
