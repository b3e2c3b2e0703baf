"""What answers a call: the interface of runners, and the item that carries their answer back.

A runner has a ``kind`` and a ``run``. A Python function is made into one; runners for patches, shells and computers
are others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from pydantic_core import to_json

from antiphon.client.runs.function_tool import ArgumentsRefused, FunctionTool
from antiphon.client.sdk.tool_calls import ToolCall
from antiphon.wire.kinds import KINDS

Item: TypeAlias = dict[str, Any]


@runtime_checkable
class ToolRunner(Protocol):
    """Runs the calls of one tool.

    It may have more attributes. ``tool`` is the entry for a request's ``tools``, a dict; without it the entry is
    ``{"type": kind}``. ``name`` says which function or custom tool it runs; without it, what ``tool["name"]`` says.
    ``in_order`` is true where its calls change what others see: such calls of a turn run one after another.

    Attributes:
        kind: ``function``, ``custom``, ``apply_patch``, ``shell``, ``local_shell`` or ``computer``.
    """

    @property
    def kind(self) -> str:
        """See above."""
        ...

    def run(self, call: ToolCall) -> Any:
        """Does what the call asks for. It runs in a thread of its own, or, as a coroutine function, in the event loop.

        Returns:
            What the model is told, or an awaitable of that. For a function and a custom tool: text, a list of content
            parts, or any value, which is sent as JSON. ``apply_patch``: a log, as text. ``shell``: text, or a list of
            ``{"stdout", "stderr", "outcome"}``. ``computer``: the screenshot, as a data URL. Each kind also takes a
            dict of the output item's own fields; one with a ``type`` is the item itself. ``Answer`` holds any of
            these, and a text besides.

        Raises:
            Exception: it failed; the model is told so, and the run goes on.
        """
        ...


@dataclass(frozen=True)
class Answer:
    """What a runner returns that has more to say than the output item holds.

    Attributes:
        output: what the item is made of, as ``ToolRunner.run`` returns it.
        note: what the model is told besides, in a message behind the outputs of its turn.
    """

    output: Any
    note: str


Tool: TypeAlias = ToolRunner | Callable[..., Any] | Mapping[str, Any]
"""What ``client.run`` takes: a runner, a function, or a tool as the API writes it, which the server runs or the caller
answers."""

_TYPES: Final = {"computer": "computer_use", "computer_use_preview": "computer_use"}
"""A runner's kind, and the type of the calls that it takes, where they differ."""

_OUTPUTS: Final = {KINDS[kind.answers].asks: kind.type for kind in KINDS.values() if kind.answers}
"""The type of a call, and that of the item that answers it."""

_PARTS: Final = frozenset(("input_text", "input_image", "input_file"))


class Toolbox:
    """The tools of a run: what the request declares, and who runs what.

    Raises:
        TypeError: something is no tool.
        ValueError: two tools would run the same calls.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self.declared: list[Mapping[str, Any]] = []
        self._runners: dict[tuple[str, str], ToolRunner] = {}
        for tool in tools:
            self._add(tool)

    def _add(self, tool: Any) -> None:
        if isinstance(tool, Mapping):
            self.declared.append(cast("Mapping[str, Any]", tool))
            return
        runner = tool if isinstance(tool, ToolRunner) else _make_function_tool(tool)
        declared: Mapping[str, Any] = getattr(runner, "tool", None) or {"type": runner.kind}
        kind = _TYPES.get(runner.kind, runner.kind)
        key = (kind, str(getattr(runner, "name", None) or declared.get("name") or kind))
        if key in self._runners:
            raise ValueError(f"There are two tools for calls of {key[1]!r}.")
        self._runners[key] = runner
        self.declared.append(declared)

    def runner(self, call: ToolCall) -> ToolRunner | None:
        """Who runs that call: a runner that refuses, if nobody declared the function. None: the caller answers it."""
        found = self._runners.get((call.type, call.name))
        if found is None and call.type == "function" and call.name not in self._names():
            return _UnknownFunction(sorted(self._names()))
        return found

    def _names(self) -> set[str]:
        nested = (tool.get("function") or tool for tool in self.declared if tool.get("type") == "function")
        return {str(tool.get("name")) for tool in nested}


def _make_function_tool(tool: Any) -> FunctionTool:
    if not callable(tool):
        raise TypeError(f"{tool!r} is not a tool: expected a function, a dict, or an object with kind and run")
    return FunctionTool(tool)


def is_in_order(runner: ToolRunner | None) -> bool:
    """Whether calls wait for those before them."""
    return bool(getattr(runner, "in_order", False))


class _UnknownFunction:
    """Answers calls of functions that do not exist."""

    kind = "function"

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def run(self, call: ToolCall) -> Any:
        raise ArgumentsRefused(f"There is no function {call.name!r}. There are: {', '.join(self._names) or 'none'}.")


def output_item(call: ToolCall, returned: Any, chars_max: int) -> Item:
    """The item that answers a call with what its runner returned, cut to ``chars_max`` characters of text."""
    members = dict(cast(Item, returned)) if isinstance(returned, Mapping) else {}
    if str(members.get("type")).endswith("_output"):
        return {"call_id": call.id, **members}
    head: Item = {"type": _OUTPUTS[call.type], "id" if call.type == "local_shell" else "call_id": call.id}
    return head | _MEMBERS.get(call.type, _value)(call, returned, chars_max)


def failure_item(call: ToolCall, message: str, chars_max: int) -> Item | None:
    """The item that says a call failed; None where its kind cannot say so (a computer answers with screenshots)."""
    text = _truncate(message, chars_max)
    match call.type:
        case "computer_use":
            return None
        case "apply_patch":
            return output_item(call, {"status": "failed", "output": text}, chars_max)
        case "shell":
            failed = {"stdout": "", "stderr": text, "outcome": {"type": "exit", "exit_code": 1}}
            return output_item(call, [failed], chars_max)
        case _:
            return output_item(call, text, chars_max)


def _value(call: ToolCall, returned: Any, chars_max: int) -> Item:
    return {"output": _text_or_parts(returned, chars_max)}


def _patch(call: ToolCall, returned: Any, chars_max: int) -> Item:
    if isinstance(returned, Mapping):
        return {"status": "completed", **cast(Item, returned)}
    return {"status": "completed"} | ({"output": _text(returned, chars_max)} if returned else {})


def _shell(call: ToolCall, returned: Any, chars_max: int) -> Item:
    limit = getattr(getattr(call.item, "action", None), "max_output_length", None)
    members: Item = {} if limit is None else {"max_output_length": limit}
    if isinstance(returned, Mapping):
        return members | cast(Item, returned)
    if isinstance(returned, list):
        return members | {"output": cast("list[Any]", returned)}
    ended = {"stdout": _text(returned, chars_max), "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    return members | {"output": [ended]}


def _local_shell(call: ToolCall, returned: Any, chars_max: int) -> Item:
    return {"output": _text(returned, chars_max)}


def _computer(call: ToolCall, returned: Any, chars_max: int) -> Item:
    if isinstance(returned, Mapping) and "output" in returned:
        return cast(Item, returned)
    shot = cast(Item, returned) if isinstance(returned, Mapping) else {"image_url": str(returned)}
    return {"output": {"type": "computer_screenshot", **shot}}


_MEMBERS: Final[dict[str, Callable[[ToolCall, Any, int], Item]]] = {
    "apply_patch": _patch,
    "shell": _shell,
    "local_shell": _local_shell,
    "computer_use": _computer,
}
"""What the item holds besides, by the type of the call, where it is more than an ``output``."""


def _text_or_parts(returned: Any, chars_max: int) -> Any:
    """Content parts as they are, everything else as text."""
    match returned:
        case [{"type": kind}, *_] if kind in _PARTS:
            return returned
        case _:
            return _text(returned, chars_max)


def _text(returned: Any, chars_max: int) -> str:
    text = returned if isinstance(returned, str) else to_json(returned, fallback=str).decode()
    return _truncate(text, chars_max)


def _truncate(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else f"{text[:chars_max]} … (cut: {len(text)} characters in all)"
