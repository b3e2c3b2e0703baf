"""The older form of calls in chat completions, read as tools and told back."""

from typing import Any

import pytest

from antiphon.http.chat_functions import is_in_functions, rename_param_to_functions, to_functions, to_tools
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

F: Json = {"name": "f", "parameters": {"type": "object"}}
TOOL: Json = {"type": "function", "function": F}


def test_functions_are_tools_of_which_one_may_be_called() -> None:
    assert to_tools({"model": "m", "functions": [F]}) == {"model": "m", "tools": [TOOL], "parallel_tool_calls": False}
    assert to_tools({"functions": []}) == {}
    assert to_tools({"model": "m", "tools": [TOOL]}) == {"model": "m", "tools": [TOOL]}


@pytest.mark.parametrize(
    ("choice", "tool_choice"),
    [("auto", "auto"), ("none", "none"), ({"name": "f"}, {"type": "function", "function": {"name": "f"}})],
)
def test_a_choice_of_functions_is_one_of_tools(choice: Any, tool_choice: Any) -> None:
    assert to_tools({"functions": [F], "function_call": choice})["tool_choice"] == tool_choice


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"functions": [F], "tools": [TOOL]}, "functions"),
        ({"function_call": "auto", "tool_choice": "auto"}, "function_call"),
        ({"functions": {"name": "f"}}, "functions"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_tools(body)
    assert caught.value.param == param


def test_outputs_are_of_the_latest_call_of_their_function() -> None:
    made = {"name": "f", "arguments": "{}"}
    output = {"role": "function", "name": "f", "content": "1"}
    call = {"role": "assistant", "content": None, "function_call": made}
    changed = to_tools({"messages": [call, output, call, {**output, "content": None}, {**output, "name": "g"}, "odd"]})
    first, one, second, two, stray, odd = changed["messages"]
    assert first["tool_calls"] == [{"id": one["tool_call_id"], "type": "function", "function": made}]
    assert second["tool_calls"][0]["id"] == two["tool_call_id"] != one["tool_call_id"]
    assert "function_call" not in first
    assert [message["content"] for message in (one, two)] == ["1", ""]
    assert stray["tool_call_id"] not in (one["tool_call_id"], two["tool_call_id"])
    assert odd == "odd"


def test_an_answer_tells_its_call_as_a_function_call() -> None:
    made = {"name": "f", "arguments": "{}"}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": made}]}
    answer = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    (choice,) = to_functions(answer)["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": None, "function_call": made},
        "finish_reason": "function_call",
    }
    said = {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    assert to_functions(said) == said
    assert to_functions({"error": {}}) == {"error": {}}


def test_errors_name_what_the_caller_sent() -> None:
    for given, param in (
        ("tools[1].function.name", "functions[1].name"),
        ("tools[0]", "functions[0]"),
        ("tool_choice", "function_call"),
        ("model", "model"),
    ):
        error = rename_param_to_functions(InvalidRequest(f"Invalid '{given}'.", param=given))
        assert (error.param, error.message) == (param, f"Invalid '{param}'.")


def test_a_request_is_in_that_form_by_its_members() -> None:
    assert is_in_functions({"functions": []}) and is_in_functions({"function_call": "none"})
    assert not is_in_functions({"tools": []})
