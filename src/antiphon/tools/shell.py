"""``shell`` and ``local_shell``: commands that run on the caller's machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Function
from antiphon.tools import CallInvalid, ToolCall, call_item, output_item
from antiphon.tools.arguments import read_arguments
from antiphon.wire import Json

_TIMEOUT: Final[Json] = {"type": "integer", "minimum": 1, "description": "milliseconds until it is stopped"}


def _schema(**properties: Json) -> Json:
    required = [name for name in properties if name in ("commands", "command")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXTS: Final[Json] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SHELL: Final = Function(
    "shell",
    "Runs shell commands, one after another, and tells what each printed.",
    _schema(commands=_TEXTS, timeout_ms=_TIMEOUT),
    strict=False,
)
_LOCAL: Final = Function(
    "local_shell",
    "Runs one program with its arguments and tells what it printed.",
    _schema(
        command={**_TEXTS, "description": 'the program and its arguments, such as ["ls", "-l"]'},
        working_directory={"type": "string"},
        timeout_ms=_TIMEOUT,
    ),
    strict=False,
)


class _Commands(msgspec.Struct, kw_only=True):
    commands: list[str] | str
    timeout_ms: int | None = None
    max_output_length: int | None = None


class _Command(msgspec.Struct, kw_only=True):
    command: list[str] | str
    working_directory: str | None = None
    timeout_ms: int | None = None


class ShellTool:
    """See ``ClientTool``. Commands in a container are for a server that has one: they are not offered here."""

    kinds = ("shell",)
    items = ("shell_call", "shell_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """One, where the commands run with the caller."""
        environment: Any = spec.get("environment") or {}
        return (_SHELL,) if environment.get("type", "local") == "local" else ()

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The call and its limits.

        Raises:
            CallInvalid: there is no command.
        """
        given = read_arguments(call, _Commands)
        action = {
            "commands": _read_commands(call, given.commands),
            "timeout_ms": _limit(given.timeout_ms),
            "max_output_length": _limit(given.max_output_length),
        }
        doc: Json = {"type": "shell_call", "call_id": call.call_id, "action": action, "environment": {"type": "local"}}
        return [doc]

    def lower(self, item: Json) -> Sequence[Json]:
        """The function's call, and what its commands printed."""
        if item["type"] == "shell_call_output":
            return (output_item(item["call_id"], "\n".join(_output_text(each) for each in item["output"]) or "Done."),)
        action: Json = item["action"]
        given = {name: action[name] for name in ("commands", "timeout_ms") if action.get(name) is not None}
        return (call_item(item["call_id"], "shell", msgspec.json.encode(given).decode()),)


class LocalShellTool:
    """See ``ClientTool``."""

    kinds = ("local_shell",)
    items = ("local_shell_call", "local_shell_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """One program at a time."""
        return (_LOCAL,)

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The call as the API has it.

        Raises:
            CallInvalid: there is no command.
        """
        given = read_arguments(call, _Command)
        command = ["sh", "-c", given.command] if isinstance(given.command, str) else given.command
        action: Json = {
            "type": "exec",
            "command": _read_commands(call, command),
            "env": {},
            "timeout_ms": _limit(given.timeout_ms),
            "user": None,
            "working_directory": given.working_directory,
        }
        return [{"type": "local_shell_call", "call_id": call.call_id, "action": action}]

    def lower(self, item: Json) -> Sequence[Json]:
        """The function's call, and its output."""
        if item["type"] == "local_shell_call_output":
            return (output_item(item.get("call_id") or item["id"], item["output"]),)
        action = item["action"]
        given = {name: action[name] for name in ("command", "working_directory") if action.get(name) is not None}
        return (call_item(item["call_id"], "local_shell", msgspec.json.encode(given).decode()),)


def _read_commands(call: ToolCall, given: list[str] | str) -> list[str]:
    commands = [given] if isinstance(given, str) else given
    if not any(command.strip() for command in commands):
        raise CallInvalid(f"Error: {call.name} needs a command.")
    return commands


def _limit(given: int | None) -> int | None:
    """A limit that a model wrote. Models write 0 or -1 for none, and the caller would stop the command at once."""
    return given if given is not None and given > 0 else None


def _output_text(result: Any) -> str:
    """What one command printed and how it ended, for the model."""
    given: Any = result.get("outcome")
    outcome = cast(Json, given) if isinstance(given, dict) else {}
    printed = [str(result.get(name)) for name in ("stdout", "stderr") if result.get(name)]
    if outcome.get("type") == "timeout":
        return "\n".join([*printed, "[It was stopped: its time was over.]"])
    code = outcome.get("exit_code", 0)
    return "\n".join([*printed, f"[exit code {code}]"] if code or not printed else printed)
