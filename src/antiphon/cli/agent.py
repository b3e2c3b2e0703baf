"""``antiphon agent``: a small agent in the terminal, whose patches, commands and clicks the user sees and approves."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from antiphon.cli.command import strip_control
from antiphon.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from antiphon.client import CallRecord, OpenAI, RunEvent, RunResult, ToolCall, ToolRunner

TOOLS: Final = ("apply_patch", "shell", "computer")
_SHOWN_LINES_MAX: Final = 40
_SHOWN_CHARS_MAX: Final = 4_000
_ASKED_LINES_MAX: Final = 400
_ASKED_CHARS_MAX: Final = 40_000
_CALL_S: Final = 24 * 3600.0  # a call waits for the user; runners have bounds of their own
_INSTRUCTIONS: Final = (
    "You are an agent that works in the folder {root} of the user's machine with the tools you are given. "
    "Look before you change something, and check what you did. Then say in a few words what you have done."
)

Ask = Callable[[str], str]
"""Asks the user; gives what was typed."""


def add_parser(commands: Any) -> None:
    """Add ``agent`` to the commands of an ``argparse`` parser."""
    agent: argparse.ArgumentParser = commands.add_parser("agent", help="have a model do a task on this machine")
    agent.add_argument("task", help="the task")
    agent.add_argument("--root", type=Path, default=Path(), help="the folder to work in (.)")
    agent.add_argument("--tools", default="apply_patch,shell", help=f"some of {', '.join(TOOLS)} (apply_patch,shell)")
    agent.add_argument("--url", help="computer: where the browser starts, which is also all that it may reach")
    agent.add_argument("--network", action="store_true", help="shell: let commands in the sandbox reach the network")
    agent.add_argument("--yes", action="store_true", help="do not ask before each call")
    agent.add_argument("--turns", type=int, default=30, help="maximum number of turns (30)")
    agent.add_argument("--model", help="the model to ask (the server's first)")
    agent.add_argument("--base-url", help="a server to use, ending in /v1 (OPENAI_BASE_URL; else none is needed)")
    agent.add_argument("--data", type=Path, metavar="DIR", help="folder of the database, without a server")


def run(options: Mapping[str, Any]) -> int:
    """Does the task; returns the exit status: 1 if there is no answer.

    Raises:
        ConfigError: the tools, the folder or the page are none, or nobody can be asked.
    """
    from rich.console import Console

    if not options["yes"] and not sys.stdin.isatty():
        raise ConfigError("agent: the input is not a terminal, so nobody can approve calls; --yes runs them unapproved")
    console = Console(highlight=False, markup=False, emoji=False)
    view = View(console)
    with _runners(options, view.ask) as runners:
        for runner in runners:
            view.introduce(runner)
        return _work(options, [ApprovedRunner(runner, view, asks=not options["yes"]) for runner in runners], view)


def _work(options: Mapping[str, Any], tools: list[ApprovedRunner], view: View) -> int:
    import openai

    from antiphon.client import EngineError, OpenAI, RunBroken, TurnsExceeded

    named: dict[str, Any] = {name: options[name] for name in ("base_url", "data") if options[name]}
    local: dict[str, Any] = {} if options["base_url"] else {"config": {"unsupported_images": "note"}}
    instructions = _INSTRUCTIONS.format(root=Path(options["root"]).resolve())
    try:
        screens = list(_describe_screens(tools))
        first: dict[str, Any] = {"tool_choice": "required"} if screens else {}  # small models talk of clicks instead
        with OpenAI(**named, **local) as client:
            result = client.run(
                "\n\n".join([options["task"], *screens]),
                model=options["model"] or _first_model(client),
                tools=tools,
                instructions=instructions,
                turns_max=options["turns"],
                call_timeout_s=_CALL_S,
                on_event=view.show,
                **first,
            )
    except (openai.OpenAIError, EngineError, RunBroken, TurnsExceeded, *_stop_errors()) as error:
        view.fail(str(error))
        return 1
    finally:
        view.rest()
    view.finish(result)
    return 0


def _describe_screens(tools: list[ApprovedRunner]) -> Iterator[str]:
    """The computer's screen at the beginning, in words."""
    from antiphon.client.runners import Computer

    yield from (tool.runner.look() for tool in tools if isinstance(tool.runner, Computer))


def _first_model(client: OpenAI) -> str:
    """The model to use where none was named; a server without models says so itself."""
    return next((model.id for model in client.models.list()), "default")


def _stop_errors() -> tuple[type[Exception], ...]:
    """What a runner raises to end the run."""
    from antiphon.client.runners import BrowserMissing, ComputerStopped, SafetyCheckPending

    return BrowserMissing, ComputerStopped, SafetyCheckPending


@contextlib.contextmanager
def _runners(options: Mapping[str, Any], ask: Ask) -> Generator[list[ToolRunner]]:
    """The runners that were asked for, closed at the end."""
    from antiphon.client.runners import ApplyPatch, BrowserMissing, Computer, Shell

    names = [name.strip() for name in options["tools"].split(",") if name.strip()]
    if not names or not set(names) <= set(TOOLS):
        raise ConfigError(f"agent: --tools {options['tools']!r} must be some of {', '.join(TOOLS)}")
    if ("computer" in names) != bool(options["url"]):
        raise ConfigError("agent: the tool computer and --url go together")
    with contextlib.ExitStack() as left:
        made: list[ToolRunner] = []
        try:
            if "apply_patch" in names:
                made.append(ApplyPatch(options["root"]))
            if "shell" in names:
                made.append(Shell(options["root"], network=options["network"]))
            if "computer" in names:

                def acknowledge(check: Mapping[str, Any]) -> bool:
                    return ask(f"To check: {check.get('message') or check.get('code')}") in (
                        "y",
                        "a",
                    )

                made.append(left.enter_context(Computer(options["url"], describe=True, acknowledge=acknowledge)))
        except (OSError, ValueError, BrowserMissing) as error:
            raise ConfigError(f"agent: {error}") from error
        yield made


class ApprovedRunner:
    """A runner whose calls the user sees and approves. An answer other than yes or no is passed on to the model."""

    in_order = True

    def __init__(self, runner: ToolRunner, view: View, *, asks: bool) -> None:
        self.runner: Final = runner
        self._view = view
        self._asks = asks
        self.kind = runner.kind
        self.tool: Mapping[str, Any] = getattr(runner, "tool", None) or {"type": runner.kind}

    def run(self, call: ToolCall) -> Any:
        """Shows it, asks, and runs it.

        Raises:
            ArgumentsRefused: the user said no.
        """
        from antiphon.client import ArgumentsRefused

        self._view.call(call)
        answer = self._view.ask("Do it?") if self._asks else "y"
        self._asks = self._asks and answer != "a"
        if answer in ("y", "a"):
            self._view.wait("running")
            return self.runner.run(call)
        if self.kind.startswith("computer"):
            from antiphon.client.runners import ComputerStopped

            raise ComputerStopped("The user stopped the computer.")
        why = f" {answer}" if answer not in ("", "n") else ""
        raise ArgumentsRefused(f"The user refused this call; it was not done.{why}")


class View:
    """What the user sees of a run: the answer as it grows, calls, what came of them, and questions."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._in_text = False

    def introduce(self, runner: ToolRunner) -> None:
        """Says what a tool may do."""
        isolation = getattr(runner, "isolation", None)
        if isolation and isolation != "bubblewrap":
            self._say(f"Commands are not kept in a sandbox ({isolation.removeprefix('none: ')}).", "bold yellow")

    def show(self, event: RunEvent) -> None:
        """Shows an event of the run."""
        from antiphon import client

        match event:
            case client.TurnStarted():
                self.wait("thinking")
            case client.TextDelta():
                self.rest(end_text=False)
                self._in_text = True
                self._console.print(strip_control(event.delta), end="", soft_wrap=True)
            case client.CallStarted():
                pass  # its thread shows it, and may ask about it already
            case client.CallFinished():
                self._record(event.record)
            case _:
                self.rest()

    def call(self, call: ToolCall) -> None:
        """Shows what a call would do, before anybody is asked about it."""
        self._say(f"● {call.name}", "bold cyan")
        self._say(_shorten(describe_call(call), _ASKED_LINES_MAX, _ASKED_CHARS_MAX))

    def ask(self, question: str) -> str:
        """Asks the user: ``y``, ``n``, ``a`` for always, or why not."""
        self._say(question, "bold")
        return self._console.input("[y]es, [n]o, [a]lways, or what to do instead: ", markup=False).strip()

    def finish(self, result: RunResult[Any]) -> None:
        """Shows turns, calls and tokens."""
        used = result.usage.total_tokens
        self._say(f"{result.turns} turns, {len(result.calls)} calls, {used:,} tokens", "dim")

    def fail(self, why: str) -> None:
        """Says why there is no answer."""
        self.rest()
        self._say(f"antiphon: {why}", "bold red")

    def rest(self, *, end_text: bool = True) -> None:
        """Stops waiting; ends a line of the answer."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if end_text and self._in_text:
            self._in_text = False
            self._console.print()

    def wait(self, doing: str) -> None:
        """Shows a spinner until something else is shown."""
        self.rest()
        if self._console.is_terminal:
            self._status = self._console.status(doing)
            self._status.start()

    def _record(self, record: CallRecord) -> None:
        if record.error is not None:
            self._say(_shorten(f"✗ {record.error}"), "red")
            return
        for output in _output_texts(record.output):
            self._say(_shorten(output), "dim")
        self._say(f"✓ {record.duration_s:.1f} s", "green")

    def _say(self, text: str, style: str | None = None) -> None:
        self.rest()
        self._console.print(strip_control(text), style=style, soft_wrap=True)


def describe_call(call: ToolCall) -> str:
    """A call as text, for whoever decides about it."""
    match call.type:
        case "shell":
            return "\n".join(f"$ {command}" for command in call.item.action.commands)
        case "computer_use":
            asked = call.computer_use or {}
            actions: list[dict[str, Any]] = asked.get("actions") or [asked.get("action") or {}]
            return "\n".join(_action(action) for action in actions)
        case _:
            return call.input


def _action(action: Mapping[str, Any]) -> str:
    return " ".join([str(action.get("type")), *(f"{name}={value}" for name, value in action.items() if name != "type")])


def _output_texts(item: Mapping[str, Any]) -> Iterator[str]:
    """The readable outputs of an output item."""
    match item.get("output"):
        case str(log):
            yield log
        case [*results]:
            yield from map(_result, results)
        case _:
            pass


def _result(printed: Any) -> str:
    """What a command printed and how it ended."""
    code = printed["outcome"].get("exit_code")
    ended = "timed out" if code is None else f"exit code {code}" if code else ""
    return "\n".join(filter(None, [printed["stdout"].rstrip(), printed["stderr"].rstrip(), ended]))


def _shorten(text: str, lines_max: int = _SHOWN_LINES_MAX, chars_max: int = _SHOWN_CHARS_MAX) -> str:
    lines = text.split("\n")
    more = f"\n… {len(lines) - lines_max} more lines" if len(lines) > lines_max else ""
    shown = "\n".join(lines[:lines_max])
    return (
        shown if len(shown) <= chars_max else f"{shown[:chars_max]}… {len(shown) - chars_max} more characters"
    ) + more
