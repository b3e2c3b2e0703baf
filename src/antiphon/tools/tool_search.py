"""``tool_search``: the model asks the caller for tools that it was not shown, and is offered what comes back.

A tool with ``defer_loading`` is not shown before it was searched for. What an item brings along, the output of a search
or ``additional_tools``, is offered like a tool of the request from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Function
from antiphon.tools import ToolCall, call_item, output_item
from antiphon.tools.arguments import read_arguments
from antiphon.wire import Json

SEARCH: Final = "tool_search"
_BRINGS: Final = ("tool_search_output", "additional_tools")
_PARAMETERS: Final[Json] = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "what the tool should do"}},
    "required": ["query"],
    "additionalProperties": False,
}


class ToolSearchTool:
    """See ``ClientTool``: the caller searches. A search that the server would have to make is not offered."""

    kinds = (SEARCH,)
    items = ("tool_search_call", *_BRINGS)
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """The search, with the caller's own parameters where it says some."""
        if spec.get("execution") != "client":
            return ()
        given: Any = spec.get("parameters")
        parameters = cast(Json, given) if isinstance(given, dict) else _PARAMETERS
        description = spec.get("description") or "Finds tools that can be called afterwards."
        return [Function(SEARCH, description, parameters, strict=False)]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The search, for the caller to make.

        Raises:
            CallInvalid: the arguments are no JSON object.
        """
        arguments = read_arguments(call, dict[str, Any])
        return [{"type": "tool_search_call", "call_id": call.call_id, "arguments": arguments, "execution": "client"}]

    def lower(self, item: Json) -> Sequence[Json]:
        """The search, and the names of what it found. What came by itself is only offered, not told."""
        call_id = item.get("call_id")
        if item["type"] == "additional_tools" or call_id is None:
            return ()
        if item["type"] == "tool_search_call":
            arguments: Any = item.get("arguments")
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            return (call_item(call_id, SEARCH, text),)
        names = ", ".join(_names(item["tools"]))
        return (output_item(call_id, f"These tools can be called now: {names}." if names else "No tool was found."),)


def brought_tools(items: Iterable[Json]) -> Sequence[Json]:
    """The tools that items of the context brought along, as their callers wrote them, oldest first."""
    return [tool for item in items for _, tool in brought_by(item)]


def brought_by(item: Json) -> Sequence[tuple[int, Json]]:
    """The tools that an item brought along, each with its place among all that it has."""
    if item["type"] not in _BRINGS:
        return ()
    return [(index, tool) for index, tool in enumerate(item["tools"]) if isinstance(tool.get("type"), str)]


def _names(tools: Iterable[Any]) -> Iterator[str]:
    for tool in (cast(Json, tool) for tool in tools if isinstance(tool, dict)):
        inner: Any = tool.get("tools")
        if tool.get("type") == "namespace" and isinstance(inner, list):
            yield from _names(cast("list[Any]", inner))
        elif isinstance(tool.get("name"), str):
            yield tool["name"]
