"""Chat completions in the form that calls had before there were tools. Pure.

A request with ``functions``, ``function_call`` and messages of the role ``function`` is read as one with tools, of
which one may be called, and what comes of it is told in that form.
Source: the official SDK's types, where they are deprecated and documented.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.items import NO_ARGUMENTS

_FORM: Final = ("functions", "function_call")
_TOOL: Final = re.compile(r"^tools(\[\d+\])?(?:\.function)?")
_CHOICE: Final = re.compile(r"^tool_choice(?:\.function)?")
_MESSAGE: Final = re.compile(r"^messages\[(\d+)\](\.tool_calls\[0\]\.function)?")


def is_in_functions(body: Json) -> bool:
    """Whether the request calls its tools functions."""
    return any(name in body for name in _FORM)


def to_tools(body: Json) -> Json:
    """The request with tools; what is not as documented is left to be refused under its new name.

    Raises:
        InvalidRequest: it has tools too, or ``functions`` is no list.
    """
    changed = {name: value for name, value in body.items() if name not in _FORM}
    if isinstance(body.get("messages"), list):
        changed["messages"] = [message for _, message in _to_calls(body["messages"])]
    if not is_in_functions(body):
        return changed
    for theirs in ("tools", "tool_choice"):
        if theirs in body:
            ours = next(name for name in _FORM if name in body)
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


# The messages


def _to_calls(messages: list[Any]) -> Iterator[tuple[int, Any]]:
    """The messages with calls that have ids, and outputs that name them, each with its place. In this form a call need
    not be answered, nor an output asked for: what lacks its other half is given one.
    """
    outputs = _pair(messages)
    calls = {call: output for output, call in outputs.items()}
    for at, message in enumerate(messages):
        if (made := _call_of(message)) is not None:
            yield at, {**_without(message, "function_call"), "tool_calls": [_tool_call(at, made)]}
            if at not in calls:
                yield at, _tool_message(at, "")
        elif _is_output(message):
            if at not in outputs:
                made = {"name": message.get("name"), "arguments": NO_ARGUMENTS}
                yield at, {"role": "assistant", "tool_calls": [_tool_call(at, made)]}
            content = message.get("content")
            yield at, _tool_message(outputs.get(at, at), "" if content is None else content)
        else:
            yield at, message


def _pair(messages: list[Any]) -> Mapping[int, int]:
    """Where each output's call stands, by the output's own place: the latest call of its function that has no output
    yet.
    """
    waiting: dict[str, list[int]] = {}
    found: dict[int, int] = {}
    for at, message in enumerate(messages):
        if (made := _call_of(message)) is not None:
            waiting.setdefault(str(made.get("name")), []).append(at)
        elif _is_output(message) and (calls := waiting.get(str(message.get("name")))):
            found[at] = calls.pop()
    return found


def _call_of(message: Any) -> Json | None:
    fields = cast(Json, message) if isinstance(message, dict) else {}
    made: Any = fields.get("function_call")
    return cast(Json, made) if isinstance(made, dict) and not fields.get("tool_calls") else None


def _is_output(message: Any) -> bool:
    return isinstance(message, dict) and cast(Json, message).get("role") == "function"


def _tool_call(at: int, function: Json) -> Json:
    return {"id": f"call_{at}", "type": "function", "function": function}


def _tool_message(call_at: int, content: Any) -> Json:
    return {"role": "tool", "tool_call_id": f"call_{call_at}", "content": content}


# The answer


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


# Names


def name_in_functions(path: str, body: Json) -> str:
    """What the caller calls a member of the request, of which ``path`` is the one as tools."""
    if is_in_functions(body):
        path = _CHOICE.sub("function_call", _TOOL.sub(r"functions\1", path))
    found = _MESSAGE.match(path)
    if found is None or not isinstance(body.get("messages"), list):
        return path
    messages = cast("list[Any]", body["messages"])
    # What was added to them moved the others.
    places = [at for at, _ in _to_calls(messages)]
    if int(found[1]) >= len(places):
        return path
    at = places[int(found[1])]
    member = found[2] or ""
    if _is_output(messages[at]):
        member = ""
    elif _call_of(messages[at]) is not None and member:
        member = ".function_call"
    return f"messages[{at}]{member}{path[found.end() :]}"


def rename_param_to_functions(error: ApiError, body: Json) -> ApiError:
    """The error, with the parameter by the name that the caller used."""
    given = error.param or ""
    param = name_in_functions(given, body)
    if param != given:
        error.message, error.param = error.message.replace(f"'{given}'", f"'{param}'"), param
    return error


def _without(fields: Json, name: str) -> Json:
    return {key: value for key, value in fields.items() if key != name}
