"""The older form of calls in chat completions, read as tools and told back."""

from typing import Any

import pytest

from antiphon.http.chat_functions import (
    is_in_functions,
    name_in_functions,
    rename_param_to_functions,
    to_functions,
    to_tools,
)
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
        ({"function_call": "none", "tools": [TOOL]}, "function_call"),
        ({"functions": [F], "tool_choice": "auto"}, "functions"),
        ({"function_call": "auto", "tool_choice": "auto"}, "function_call"),
        ({"functions": {"name": "f"}}, "functions"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_tools(body)
    assert caught.value.param == param


MADE: Json = {"name": "f", "arguments": "{}"}
CALL: Json = {"role": "assistant", "content": None, "function_call": MADE}
OUTPUT: Json = {"role": "function", "name": "f", "content": "1"}
USER: Json = {"role": "user", "content": "Hi"}


def paired(*messages: Any) -> list[tuple[str, str]]:
    """What becomes of messages: the id of each call and output, with the call's name or the output's text."""
    found: list[tuple[str, str]] = []
    for message in to_tools({"messages": list(messages)})["messages"]:
        assert "function_call" not in message
        for call in message.get("tool_calls") or ():
            found.append((call["id"], call["function"]["name"]))
        if message["role"] == "tool":
            found.append((message["tool_call_id"], message["content"]))
    return found


def test_outputs_are_of_the_latest_call_of_their_function_that_has_none() -> None:
    (one, first), (one_too, text), (two, second), (two_too, nothing) = paired(
        CALL, OUTPUT, USER, CALL, {**OUTPUT, "content": None}
    )
    assert (one, two) == (one_too, two_too) and one != two
    assert (first, text, second, nothing) == ("f", "1", "f", "")
    changed = to_tools({"messages": [CALL, OUTPUT, "odd"]})["messages"]
    assert changed[0]["tool_calls"] == [{"id": one, "type": "function", "function": MADE}]
    assert changed[2] == "odd"


def test_a_call_need_not_be_answered_and_an_output_needs_no_call() -> None:
    (call, name), (answered, text) = paired(USER, CALL, USER)
    assert (name, call, text) == ("f", answered, "")
    (call, name), (answered, text) = paired(USER, {**OUTPUT, "name": "g"})
    assert (name, call, text) == ("g", answered, "1")
    # Nor is a second output lost: it is none of the call that was answered.
    first, one, second, two = paired(CALL, OUTPUT, {**OUTPUT, "content": "2"})
    assert first[0] == one[0] != second[0] == two[0]
    assert (one[1], two[1]) == ("1", "2")


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


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("tools", "functions"),
        ("tools[1].function.name", "functions[1].name"),
        ("tools[0]", "functions[0]"),
        ("tool_choice.function.name", "function_call.name"),
        ("model", "model"),
        ("messages[1].tool_calls[0].function.name", "messages[1].function_call.name"),
        # A call stands in front of the output that had none, and an output behind the call.
        ("messages[2].content", "messages[1].content"),
        ("messages[3].tool_calls[0].function.name", "messages[2].name"),
        ("messages[5].content", "messages[3].content"),
        ("messages[9].content", "messages[9].content"),
    ],
)
def test_errors_name_what_the_caller_sent(given: str, param: str) -> None:
    body: Json = {"functions": [F], "messages": [USER, CALL, OUTPUT | {"name": "g"}, USER]}
    error = rename_param_to_functions(InvalidRequest(f"Invalid '{given}'.", param=given), body)
    assert (error.param, error.message) == (param, f"Invalid '{param}'.")


def test_only_what_was_sent_in_that_form_is_named_so() -> None:
    for given in ("tools[0].function.name", "messages[0].tool_calls[0].function.name", "tool_choice"):
        assert name_in_functions(given, {"messages": [{"role": "assistant", "tool_calls": []}]}) == given
        assert name_in_functions(given, {"messages": "odd"}) == given


def test_a_request_is_in_that_form_by_its_members() -> None:
    assert is_in_functions({"functions": []}) and is_in_functions({"function_call": "none"})
    assert not is_in_functions({"tools": []})
