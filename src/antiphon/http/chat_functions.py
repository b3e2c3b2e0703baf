"""Chat completions in the form that calls had before there were tools. Pure.

A request with ``functions``, ``function_call`` and messages of the role ``function`` is read as one with tools, of
which one may be called, and what comes of it is told in that form.
Source: the official SDK's types, where they are deprecated and documented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest

_FORM: Final = ("functions", "function_call")
_NESTED: Final = re.compile(r"^tools(\[\d+\])(?:\.function)?")


def is_in_functions(body: Json) -> bool:
    """Whether the request calls its tools functions."""
    return any(name in body for name in _FORM)


def to_tools(body: Json) -> Json:
    """The request with tools; what is not as documented is left to be refused under its new name.

    Raises:
        InvalidRequest: it has tools too, or ``functions`` is no list.
    """
    changed = {name: value for name, value in body.items() if name not in _FORM}
    messages: Any = body.get("messages")
    if isinstance(messages, list):
        changed["messages"] = list(_to_calls(cast("list[Any]", messages)))
    if not is_in_functions(body):
        return changed
    for ours, theirs in (("functions", "tools"), ("function_call", "tool_choice")):
        if theirs in body:
            raise InvalidRequest(f"Invalid '{ours}': it cannot be used with '{theirs}'.", param=ours)
    functions: Any = body.get("functions", [])
    if not isinstance(functions, list):
        raise InvalidRequest("Invalid type for 'functions': expected a list.", code="invalid_type", param="functions")
    if functions:
        tools = [{"type": "function", "function": function} for function in cast("list[Any]", functions)]
        changed |= {"tools": tools, "parallel_tool_calls": False}
    choice: Any = body.get("function_call")
    if choice is not None:
        changed["tool_choice"] = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    return changed


def _to_calls(messages: list[Any]) -> Iterator[Any]:
    """The messages with calls that have ids, and outputs that name them: each is of the latest call of its function."""
    call_ids: dict[Any, str] = {}
    for at, message in enumerate(messages):
        fields = cast(Json, message) if isinstance(message, dict) else {}
        made: Any = fields.get("function_call")
        if isinstance(made, dict) and not fields.get("tool_calls"):
            name = str(cast(Json, made).get("name"))
            call_ids[name] = f"call_{at}"
            calls: list[Json] = [{"id": call_ids[name], "type": "function", "function": made}]
            yield {**_without(fields, "function_call"), "tool_calls": calls}
        elif fields.get("role") == "function":
            call_id = call_ids.get(str(fields.get("name")), f"call_{at}")
            content = fields.get("content")
            yield {"role": "tool", "tool_call_id": call_id, "content": "" if content is None else content}
        else:
            yield message


def to_functions(answer: Json) -> Json:
    """A completion, or a chunk of one, with its call told as ``function_call``."""
    return {**answer, "choices": [_choice(choice) for choice in answer["choices"]]} if "choices" in answer else answer


def _choice(choice: Json) -> Json:
    changed = {name: _with_function_call(choice[name]) for name in ("message", "delta") if name in choice}
    reason = choice["finish_reason"]
    return {**choice, **changed, "finish_reason": "function_call" if reason == "tool_calls" else reason}


def _with_function_call(message: Json) -> Json:
    calls: list[Json] = message.get("tool_calls") or []
    functions = [call["function"] for call in calls if "function" in call]
    kept = _without(message, "tool_calls")
    return {**kept, "function_call": functions[0]} if functions else kept


def rename_param_to_functions(error: ApiError) -> ApiError:
    """The error, with the parameter by the name that the caller used."""
    given = error.param or ""
    param = _NESTED.sub(r"functions\1", given).replace("tool_choice", "function_call")
    if param != given:
        error.message, error.param = error.message.replace(f"'{given}'", f"'{param}'"), param
    return error


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}
