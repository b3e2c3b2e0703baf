"""A request's tools in the one form that the rest of the system knows, however they were written or came along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import msgspec

from antiphon.wire import Json
from antiphon.wire.tool_specs import ToolSpec

_COMPUTER_USE: Final = {"display_width_px": "display_width", "display_height_px": "display_height"}
_SEPARATOR: Final = "__"


def flat(tool: Any) -> Any:
    """A tool as this API writes it, from the two other forms in use: chat's nested function, and ``computer_use``."""
    if not isinstance(tool, dict):
        return tool
    members = cast(Json, tool)
    match members:
        case {"type": "function", "function": dict()}:
            return _unnest(members)
        case {"type": "custom", "custom": dict()}:
            return _unnest_custom(members)
        case {"type": "namespace", "tools": [*tools]}:
            return {**members, "tools": [flat(each) for each in tools]}
        case {"type": "computer_use"}:
            renamed = {_COMPUTER_USE.get(key, key): value for key, value in members.items()}
            return {"environment": "browser", **renamed, "type": "computer_use_preview"}
        case _:
            return members


def flat_choice(choice: Any) -> Any:
    """A ``tool_choice`` as this API writes it, from chat's nested form."""
    match choice:
        case {"type": "function", "function": dict()} | {"type": "custom", "custom": dict()}:
            return flat(choice)
        case {"type": "allowed_tools", "tools": [*tools]}:
            return {**cast(Json, choice), "tools": [flat(tool) for tool in tools]}
        case {"type": "allowed_tools", "allowed_tools": dict()}:
            return flat_choice(_unnest(cast(Json, choice), "allowed_tools"))
        case _:
            return choice


def _unnest(nested: Json, member: str = "function") -> Json:
    rest = {key: value for key, value in nested.items() if key != member}
    return {**nested[member], **rest}


def _unnest_custom(nested: Json) -> Json:
    """A custom tool, whose grammar is nested too."""
    tool = _unnest(nested, "custom")
    match tool.get("format"):
        case {"type": "grammar", "grammar": dict()} as format:
            return {**tool, "format": _unnest(cast(Json, format), "grammar")}
        case _:
            return tool


def expand(spec: Json) -> Iterator[tuple[str, Json]]:
    """A tool, or the tools of a namespace, each of which then says which ``namespace`` it is of, and nothing else does;
    and where in the tool it stands, such as ``tools[1].``.
    """
    if spec["type"] != "namespace":
        yield "", {key: value for key, value in spec.items() if key != "namespace"} if "namespace" in spec else spec
        return
    for index, tool in enumerate(spec["tools"]):
        if is_nested(tool) and any(usable([tool])):
            yield f"tools[{index}].", {**flat(tool), "namespace": spec["name"]}


def count_grammar_chars(spec: Json) -> int:
    """How long the grammars of a tool, or of the tools of a namespace, are together."""
    formats = (each.get("format") for _, each in expand(spec))
    definitions = (cast(Json, format).get("definition") for format in formats if isinstance(format, dict))
    return sum(len(definition) for definition in definitions if isinstance(definition, str))


def is_nested(tool: Any) -> bool:
    """Whether a tool is of a type that may stand in a namespace."""
    return isinstance(tool, dict) and cast(Json, tool).get("type") in ("function", "custom")


def qualified_name(item: Json) -> str:
    """The name by which a model calls a tool, or called the tool of an item: one of a namespace bears its name too."""
    namespace = item.get("namespace")
    return f"{namespace}{_SEPARATOR}{item['name']}" if namespace else item["name"]


def usable(tools: Iterable[Any]) -> Iterator[Json]:
    """Those of some tools that the API documents, in their one form. What came along with an item was not checked."""
    for tool in map(flat, tools):
        try:
            msgspec.convert(_read_members(tool), ToolSpec)
        except (msgspec.ValidationError, TypeError):
            continue
        yield cast(Json, tool)


def _read_members(tool: Any) -> Json:
    """A tool without what does no harm, because nobody reads it: members that nobody knows, and what is in a namespace
    and cannot be offered.
    """
    members = {name: tool[name] for name in tool if name in _NAMES}
    match members:
        case {"type": "namespace", "tools": [*tools]}:
            return {**members, "tools": [_read_members(each) for each in usable(filter(is_nested, tools))]}
        case _:
            return members


_NAMES: Final = frozenset(("type", "name", "description", "parameters", "strict", "format", "tools", "defer_loading"))
