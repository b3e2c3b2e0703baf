"""Tools that no document knows, or that nobody here serves: accepted and named, unless the server is strict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from antiphon.tools.specs import flat, is_nested, usable
from antiphon.tools.tool_search import brought_by
from antiphon.tools.toolbox import Toolbox
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.tool_specs import TOOL_TYPES, ToolSpec
from antiphon.wire.validation import check
from antiphon.wire.values import StrictStruct

_NESTED_STAND_IN: Final[Json] = {"type": "custom", "name": "unknown"}
_STAND_IN: Final[Json] = {"type": "local_shell"}
"""What a tool of a type that no document knows is checked as: one without members."""


class _Bringing(StrictStruct):
    """Of an item, the tools that it brings along."""

    tools: list[ToolSpec]


class _Input(StrictStruct):
    """The items of a request by their places, so that what is wrong with a tool is named by its own."""

    input: list[_Bringing]


def checkable(tools: Sequence[Any], toolbox: Toolbox, *, strict: bool) -> list[Any]:
    """Tools as they are checked. One of a type of its own is the business of whoever serves it; one that nobody serves
    is accepted and ignored, unless ``strict``.
    """
    return [_STAND_IN if _is_custom_type(tool, toolbox, strict) else _known(tool, strict) for tool in tools]


def find_ignored(tools: Sequence[Json], toolbox: Toolbox) -> Iterator[str]:
    """Those of a request's tools that no model is offered, by place and type."""
    for index, tool in enumerate(tools):
        if not toolbox.offers([tool]).by_name:
            yield f"tools[{index}]:{tool['type']}"
    for index, tool in enumerate(tools):
        yield from _find_ignored_nested(tool, f"tools[{index}]")


def find_ignored_of_items(items: Sequence[Json], toolbox: Toolbox, *, strict: bool) -> Iterator[str]:
    """The same of the tools that items brought along, and their undocumented members. One that is not as documented is
    passed over, unless ``strict``.

    Raises:
        InvalidRequest: one is not, and ``strict``.
    """
    brought = [dict(brought_by(item)) for item in items]
    if not any(brought):
        return
    yield from _find_undocumented(brought, toolbox, strict)
    for place, tools in enumerate(brought):
        for index, tool in tools.items():
            path = f"input[{place}].tools[{index}]"
            if not toolbox.serves(tool["type"]) or not any(usable([tool])):
                yield f"{path}:{tool['type']}"
            yield from _find_ignored_nested(tool, path)


def _find_undocumented(brought: Sequence[Mapping[int, Json]], toolbox: Toolbox, strict: bool) -> Sequence[str]:
    def as_checked(tools: Mapping[int, Json]) -> list[Any]:
        all_of = [tools.get(index) for index in range(max(tools, default=-1) + 1)]
        given = [_STAND_IN if tool is None else flat(tool) if strict else _without_faults(tool) for tool in all_of]
        return checkable(given, toolbox, strict=strict)

    body: Json = {"input": [{"tools": as_checked(tools)} for tools in brought]}
    try:
        return check(body, _Input, strict=strict)[1]
    except InvalidRequest:
        if strict:
            raise
        return ()


def _without_faults(tool: Json) -> Json:
    """A tool that is passed over, or one in a namespace, by a stand-in: nothing else is wrong with its neighbours."""
    if not any(usable([tool])):
        return _STAND_IN
    match flat(tool):
        case {"type": "namespace", "tools": [*tools]} as space:
            return {**space, "tools": [each if any(usable([each])) else _NESTED_STAND_IN for each in tools]}
        case found:
            return found


def _find_ignored_nested(tool: Json, path: str) -> Iterator[str]:
    nested: Any = tool.get("tools") if tool["type"] == "namespace" else None
    for index, each in enumerate(cast("list[Any]", nested) if isinstance(nested, list) else ()):
        if _is_typed(each) and not is_nested(each):
            yield f"{path}.tools[{index}]:{each['type']}"


def _known(tool: Any, strict: bool) -> Any:
    """A tool as it is checked; of a namespace only what may stand in one, unless ``strict``."""
    match tool:
        case {"type": "namespace", "tools": [*tools]} if not strict:
            kept = [_NESTED_STAND_IN if _is_typed(each) and not is_nested(each) else each for each in tools]
            return {**cast(Json, tool), "tools": kept}
        case _:
            return tool


def _is_typed(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(cast(Json, tool).get("type"), str)


def _is_custom_type(tool: Any, toolbox: Toolbox, strict: bool) -> bool:
    kind: Any = cast(Json, tool).get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str) or kind in TOOL_TYPES:
        return False
    return not strict or toolbox.serves(kind)
