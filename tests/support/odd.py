"""What tests of odd model servers share: what is asked, and what the deltas of an answer say."""

from __future__ import annotations

from typing import Any

from scripted_upstream import delta

from antiphon.models import Call, Delta, Finish, Function, Prompt, Reasoning, Text, Usage

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTIONS = tuple(Function(name=name, parameters=CITY) for name in ("get_weather", "get_time", "ping", "get"))
PROMPT = Prompt(items=({"type": "message", "role": "user", "content": "Hi"},), functions=FUNCTIONS)


def said(deltas: list[Delta]) -> str:
    return "".join(one.text for one in deltas if isinstance(one, Text))


def thought(deltas: list[Delta]) -> str:
    return "".join(one.text for one in deltas if isinstance(one, Reasoning))


def used(deltas: list[Delta]) -> Usage | None:
    last = deltas[-1]
    assert isinstance(last, Finish)
    return last.usage


def calls(deltas: list[Delta]) -> list[tuple[str, str]]:
    keys = dict.fromkeys(one.key for one in deltas if isinstance(one, Call))
    pieces = [[one for one in deltas if isinstance(one, Call) and one.key == key] for key in keys]
    return [(each[0].name, "".join(one.arguments for one in each)) for each in pieces]


def tool(index: Any, id: Any, name: Any, arguments: Any) -> Any:
    piece: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "index": index, "id": id}
    piece["function"] = {key: value for key, value in piece["function"].items() if value is not None}
    return delta(tool_calls=[{key: value for key, value in piece.items() if value is not None}])
