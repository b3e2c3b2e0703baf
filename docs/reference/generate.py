"""Writes ``docs/reference/python.md`` from the docstrings of the client: ``make docs``.

It shows what a docstring says and nothing else, so that the page is as true as the code's own words.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import docstring_parser

from antiphon import client
from antiphon.client import runners
from antiphon.client.runs import runners as runs
from antiphon.client.sdk import (
    content,
    mixin,
    params,
    responses,
    results,
    streams,
    tool_calls,
)

PAGE = Path(__file__).with_name("python.md")

HEAD = """# The Python client

Generated from the docstrings by `make docs`; do not edit it here.

`from antiphon import OpenAI, AsyncOpenAI` (or `Antiphon`, `AsyncAntiphon`) are the official SDK's clients, in all that
is not on this page: its methods and types, timeouts, retries, errors, pages. The names on this page are in
`antiphon.client` (runners in `antiphon.client.runners`), but for `Patch`, `Content`, the deltas and `Stream`, which
come back and are not made.

Everything is there twice: where `OpenAI` has a method, `AsyncOpenAI` has the same one to be awaited, and where it has
an iterator, an asynchronous one.
"""

SECTIONS: dict[str, list[Any]] = {
    "The clients": [client.OpenAI, client.AsyncOpenAI, client.EngineError],
    "Running tools": [
        mixin.ClientMixin.run,
        mixin.ClientMixin.run_events,
        mixin.RunOptions,
        client.RunResult,
        client.CallRecord,
        client.RunUsage,
        client.TurnsExceeded,
        client.RunBroken,
    ],
    "Events of a run": [
        client.TurnStarted,
        client.TextDelta,
        client.TurnFinished,
        client.CallStarted,
        client.CallFinished,
        client.RunFinished,
    ],
    "Tools": [client.FunctionTool, client.ToolRunner, runs.Answer, client.ArgumentsRefused],
    "Runners": [
        runners.ApplyPatch,
        runners.PatchRefused,
        runners.Shell,
        runners.LocalShell,
        runners.CommandRefused,
        runners.SandboxMissing,
        runners.Computer,
        runners.ComputerStopped,
        runners.SafetyCheckPending,
        runners.BrowserMissing,
    ],
    "client.responses": [
        responses.Responses.create,
        responses.Responses.parse,
        responses.Responses.stream,
        responses.Responses.compact,
        responses.Responses.connect,
        responses.TokenCounter.count,
    ],
    "Results": [
        client.Response,
        client.ParsedResponse,
        client.CompactedResponse,
        client.ToolCall,
        tool_calls.Patch,
        content.Content,
        content.AnswerDelta,
        content.Delta,
        streams.Stream,
        client.WrongShape,
    ],
}
"""What the page shows, by its headings."""

PREFIXES = {"ClientMixin": "client", "Responses": "client.responses", "TokenCounter": "client.responses.input_tokens"}
INHERITED = {client.Response: results.ResponseMembers}  # pyright: ignore[reportPrivateUsage]
"""Classes whose members stand in a base of their own."""

LISTS = {"param": "Takes", "attribute": "Has"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, things in SECTIONS.items():
        parts.append(f"## {heading}\n")
        parts += [entry for thing in things for entry in entries(thing)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def entries(thing: Any) -> Iterator[str]:
    """What there is to say of a class or a method, and of the members of a class."""
    if isinstance(thing, FunctionType):
        owner = thing.__qualname__.split(".")[0]
        yield f"### `{PREFIXES[owner]}.{call(thing)}`\n\nGives `{returned(thing)}`. {said(thing)}"
        return
    yield f"### `{thing.__name__}`\n\n{said(thing)}"
    members = {**vars(INHERITED.get(thing, thing)), **vars(thing)}
    shown = [(name, member) for name, member in members.items() if not name.startswith("_") and documented(member)]
    for name, member in shown:
        title = name if isinstance(member, property) else call(member)
        kind = returned(member.fget if isinstance(member, property) else member)
        yield f"**`.{title}`**{f' → `{kind}`' if kind else ''}: {said(member)}"


def documented(member: Any) -> bool:
    said = member.__doc__ if isinstance(member, property | FunctionType) else None
    return bool(said) and not said.startswith("See ")


def call(method: Any) -> str:
    """A call of it, by the names of what it takes."""
    code = method.__code__
    positional = code.co_varnames[1 : code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    told = docstring_parser.parse(method.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE).params
    # What an unpacked ``TypedDict`` holds and the docstring explains is shown like the others.
    more = [one.arg_name for one in told if one.arg_name in types(method) and one.arg_name not in code.co_varnames]
    rest = ["…"] if code.co_flags & inspect.CO_VARKEYWORDS else []
    return f"{method.__name__}({', '.join([*positional, *(f'{name}=…' for name in [*more, *named]), *rest])})"


def said(thing: Any) -> str:
    """A docstring as Markdown."""
    text = inspect.cleandoc(thing.__doc__ or "")
    if dataclasses.is_dataclass(thing) and text.startswith(f"{thing.__name__}("):
        text = ""  # made up by the standard library
    parsed = docstring_parser.parse(text, docstring_parser.DocstringStyle.GOOGLE)
    parts = [part for part in (parsed.short_description, parsed.long_description) if part]
    kinds = types(thing)
    if dataclasses.is_dataclass(thing) and not parsed.params:
        parts.append("Has " + ", ".join(f"`{name}: {kinds[name]}`" for name in kinds) + ".")
    for kind, heading in LISTS.items():
        found = [param for param in parsed.params if param.args[0] == kind]
        if found:
            listed = (f"* {typed(one.arg_name, kinds)}: {flat(one.description)}" for one in found)
            parts.append(f"{heading}:\n\n" + "\n".join(listed))
    if parsed.returns is not None:
        parts.append(f"Returns: {flat(parsed.returns.description)}")
    if parsed.raises:
        raised = (f"* `{one.type_name}`: {flat(one.description)}" for one in parsed.raises)
        parts.append("Raises:\n\n" + "\n".join(raised))
    return "\n\n".join(part.replace("``", "`") for part in parts) + "\n"


def types(thing: Any) -> dict[str, str]:
    """The types of what it takes or has, as the code writes them."""
    of = thing
    if isinstance(thing, type) and not dataclasses.is_dataclass(thing):
        of = thing.__init__ if isinstance(thing.__init__, FunctionType) else thing
    of = of.fget if isinstance(of, property) else of
    found = {name: getattr(kind, "__forward_arg__", kind) for name, kind in getattr(of, "__annotations__", {}).items()}
    kinds = {name: kind for name, kind in found.items() if isinstance(kind, str) and name != "return"}
    unpacked = re.fullmatch(r"Unpack\[(\w+Params)\]", kinds.get("arguments", ""))
    return {**(types(getattr(params, unpacked[1])) if unpacked else {}), **kinds}


def typed(name: str, kinds: dict[str, str]) -> str:
    return f"`{name}: {kinds[name]}`" if name in kinds else f"`{name}`"


def returned(method: Any) -> str:
    kind = method.__annotations__.get("return", "")
    return kind if isinstance(kind, str) else ""


def flat(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page())
