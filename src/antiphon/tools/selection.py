"""A request's ``tools`` and ``tool_choice``: what the response echoes, and what the model may call.

Every tool type that the API documents is accepted, because agents send their whole kit with each request; only
functions, and the tools that this server runs, reach the model. What would silently not happen is refused instead: the
kinds in ``UNSUPPORTED_TOOLS``, and a choice that forces a tool which this server does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from antiphon.models import ToolChoice
from antiphon.tools.toolbox import Offers, Toolbox
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.tool_specs import (
    AllowedTools,
    CustomChoice,
    FileSearchTool,
    FunctionChoice,
    FunctionTool,
    McpTool,
    ToolChoiceSpec,
    ToolSpec,
)
from antiphon.wire.validation import Fault, missing, wrong_type

UNSUPPORTED_TOOLS: Final = frozenset(("file_search", "computer", "computer_use_preview", "apply_patch"))
"""Tools that somebody has to serve: without them, what was asked for would silently not happen."""


class Toolset(msgspec.Struct, frozen=True):
    """The tools as the response shows them, and those of them that the model is shown."""

    echo: list[Json]
    offers: Offers


def toolset(specs: Sequence[ToolSpec], tools: Sequence[Json], items: Sequence[Json], toolbox: Toolbox) -> Toolset:
    """``specs`` and ``tools`` are the same entries, checked and as sent (already ``flat``); ``items``: of the input.

    Raises:
        InvalidRequest: a tool not run here, a function named twice, or parameters that are no usable schema.
    """
    for index, tool in enumerate(tools):
        _refuse_unsupported(tool["type"], index, toolbox)
    offers = toolbox.offers(tools, items)
    echo = [_echo(spec, tool, offers) for spec, tool in zip(specs, tools, strict=True)]
    return Toolset(echo, offers)


def _echo(spec: ToolSpec, tool: Json, offers: Offers) -> Json:
    """A tool as the response shows it."""
    if spec.__struct_config__.tag != tool["type"]:
        return dict(tool)
    shown = {key: tool[key] for key in ("type", *spec.__struct_encode_fields__) if tool.get(key) is not None}
    match spec:
        case FunctionTool(name=name, description=description, parameters=parameters):
            strict = (offers.deferred.get(name) or offers.by_name[name]).function.strict
            return shown | {"description": description, "parameters": parameters, "strict": strict}
        case FileSearchTool():
            defaults: Json = {"filters": None, "max_num_results": 20, "vector_store_ids": []}
            ranking: Json = {"ranker": "auto", "score_threshold": 0.0} | (shown.get("ranking_options") or {})
            return defaults | shown | {"ranking_options": ranking}
        case McpTool():
            return _mask(shown)
        case _:
            return shown


def _refuse_unsupported(kind: str, index: int, toolbox: Toolbox) -> None:
    if kind in UNSUPPORTED_TOOLS and not toolbox.serves(kind):
        text = f"Unsupported value: the tool '{kind}' is not run by this server yet."
        raise InvalidRequest(text, code="unsupported_value", param=f"tools[{index}].type")


def _mask(tool: Json) -> Json:
    """An MCP tool without its secrets, as the API echoes it: no credentials, and of the address the host alone."""
    shown = {key: value for key, value in tool.items() if key != "authorization"}
    if "server_url" in shown:
        shown["server_url"] = _host_only(shown["server_url"])
    return {"require_approval": "always", **shown, "headers": None}


def _host_only(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}/<redacted>"
    except ValueError:
        return "<redacted>"


_ALIASES: Final = {
    "computer": ("computer", "computer_use_preview"),
    "computer_use": ("computer", "computer_use_preview"),
    "computer_use_preview": ("computer", "computer_use_preview"),
    "web_search": ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"),
}
"""The types of tool that a choice means, where they are not the choice's own type."""


def read_choice(spec: str | ToolChoiceSpec | None, offered: Toolset) -> ToolChoice:
    """Which of the offered functions may, or must, be called.

    Raises:
        InvalidRequest: the choice names a function that is not offered, or asks for a tool that is not run here.
    """
    match spec:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case FunctionChoice(name=name):
            return ToolChoice("required", _require_declared(name, offered))
        case CustomChoice(name=name):
            return ToolChoice("required", _functions_of(offered, "custom", name))
        case AllowedTools():
            return _allow(spec, offered)
        case str():
            return _require_one(offered)
        case _:
            return ToolChoice("required", _functions_of(offered, str(spec.__struct_config__.tag), None))


def _functions_of(offered: Toolset, kind: str, name: str | None) -> tuple[str, ...]:
    """The functions of a tool that must be used.

    Raises:
        InvalidRequest: the request does not have it, or nobody here serves it.
    """
    kinds = _ALIASES.get(kind, (kind,))
    names = offered.offers.names(kinds, name)
    if not names and offered.offers.names((kind,)):
        raise _not_found(f"custom' with the name '{name}")
    if not names and not any(tool["type"] in kinds for tool in offered.echo):
        raise _not_found(kind)
    if not names:
        raise _unsupported_error(f"Unsupported value: the tool '{kind}' is not run by this server.")
    return tuple(names)


def _require_one(offered: Toolset) -> ToolChoice:
    if not offered.echo and not offered.offers.by_name:
        text = "Tool choice 'required' must be specified with 'tools' parameter."
        raise InvalidRequest(text, code="invalid_value", param="tool_choice")
    if not offered.offers.by_name:
        raise _unsupported_error("Unsupported value: 'required'. None of the given tools is run by this server.")
    return ToolChoice("required")


def _allow(spec: AllowedTools, offered: Toolset) -> ToolChoice:
    names = tuple(name for index, tool in enumerate(spec.tools) for name in _allowed_names(tool, index, offered))
    if not names and spec.mode == "required":
        raise _unsupported_error("Unsupported value: none of the allowed tools is run by this server.")
    # Without names, ``auto`` would allow every function, the opposite of what was asked.
    return ToolChoice(spec.mode, tuple(dict.fromkeys(names))) if names else ToolChoice("none")


def _allowed_names(tool: Json, index: int, offered: Toolset) -> Sequence[str]:
    """The functions of an allowed tool, those whose loading is deferred among them.

    Raises:
        InvalidRequest: it is a function that the request does not have.
    """
    kind: Any = tool.get("type")
    name: Any = _name_of(tool, index) if kind == "function" else tool.get("name")
    if kind == "namespace":
        return _names_of_namespace(name, offered)
    if kind in ("function", "custom") and tool.get("namespace") is not None:
        found = _names_of_namespace(tool["namespace"], offered, {"type": kind, "name": name})
        if kind == "function" and not found:
            raise _not_found("function")
        return found
    if kind == "function":
        return (name,) if name in offered.offers.deferred else _require_declared(name, offered)
    return offered.offers.names(_ALIASES.get(str(kind), (str(kind),)), name if isinstance(name, str) else None)


def _names_of_namespace(namespace: Any, offered: Toolset, members: Json | None = None) -> Sequence[str]:
    """The functions of a namespace; of those of its tools alone that have some ``members``."""
    wanted = {"namespace": namespace, **(members or {})}
    every = {**offered.offers.deferred, **offered.offers.by_name}
    specs = {each: offer.spec for each, offer in every.items() if offer.spec.get("namespace") is not None}
    return [each for each, spec in specs.items() if all(spec.get(key) == value for key, value in wanted.items())]


def _name_of(tool: Json, index: int) -> str:
    path = ("tool_choice", "tools", index, "name")
    name = tool.get("name")
    if name is None:
        raise missing(path).error()
    if not isinstance(name, str):
        raise wrong_type(path, "a string", name).error()
    return name


def _require_declared(name: str, offered: Toolset) -> tuple[str, ...]:
    """The function of that name; else those of namespaces that are called so there."""
    found = (name,) if name in offered.offers.by_name else tuple(offered.offers.names(("function",), name))
    if not found:
        raise _not_found("function")
    return found


def _not_found(kind: str) -> InvalidRequest:
    return Fault(("tool_choice",), "invalid_value", f"Tool choice '{kind}' not found in 'tools' parameter.").error()


def _unsupported_error(text: str) -> InvalidRequest:
    return InvalidRequest(text, code="unsupported_value", param="tool_choice")
