"""Which items a model's deltas become, and which calls are held."""

from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.assembler import Assembler
from antiphon.models import Call, Delta, Finish, Function, Reasoning, Text
from antiphon.testing import CountingIds
from antiphon.tools import CallInvalid, Deferred, HostedTool, Outcome, Scope, ToolCall, call_item, output_item
from antiphon.tools.sampled import CallRules
from antiphon.tools.toolbox import Toolbox
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.response import Response
from antiphon.writer import Item, Writer


class Even:
    """A client tool that takes even numbers, whole."""

    kinds = ("even",)
    items = ("shell_call", "shell_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("even")]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        if int(call.arguments) % 2:
            raise CallInvalid(f"{call.arguments} is odd.")
        return [{"type": "shell_call", "call_id": call.call_id, "action": {"commands": [call.arguments]}}]

    def lower(self, item: Json) -> Sequence[Json]:
        if item["type"] == "shell_call":
            return [call_item(item["call_id"], "even", item["action"]["commands"][0])]
        return [output_item(item["call_id"], "Done.")]


class Hand(HostedTool):
    """A hosted tool."""

    kinds = ("hand",)
    items = ("mcp_call", "mcp_approval_request")

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("wave")]

    def lower(self, item: Json) -> Sequence[Json]:
        return ()

    def begin(self, call: ToolCall, spec: Json) -> Json | Deferred:
        return {"type": "mcp_call", "name": call.name}

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        return Outcome({})

    def fail(self, reason: str) -> Outcome:
        return Outcome({}, failed=True)


OFFERS = Toolbox([Hand()], [Even()]).offers([{"type": "even"}, {"type": "hand"}, {"type": "function", "name": "f"}])
STOP = Finish()


def assemble(*deltas: Delta, **rules: Any) -> tuple[Assembler, list[Json], list[str]]:
    events: list[Json] = []
    writer = Writer(events.append, CountingIds())
    writer.start(Response(id="resp_1", created_at=1, model="m"))
    assembler = Assembler(writer, CountingIds(), CallRules(offers=OFFERS, **rules))
    assembler.feed(deltas)
    assembler.end()
    return assembler, writer.state.output, [event["type"] for event in events[2:]]


def test_reasoning_is_closed_when_the_answer_begins() -> None:
    _, output, _ = assemble(Reasoning("hm"), Text("So"), Text("."), STOP)
    assert [(item["type"], item["status"]) for item in output] == [("reasoning", "completed"), ("message", "completed")]
    assert output[1]["content"][0]["text"] == "So."


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    _, output, _ = assemble(STOP)
    assert [part["text"] for part in output[0]["content"]] == [""]


def test_calls_interleave_and_grow_where_they_belong() -> None:
    _, output, _ = assemble(Call(0, "f", '{"a"'), Call(1, "f", "{}"), Call(0, arguments=":1}"), STOP)
    assert [item["arguments"] for item in output] == ['{"a":1}', "{}"]
    assert [item["call_id"] for item in output] == ["call_1", "call_2"]


def test_a_held_call_is_one_item_that_was_never_half_there() -> None:
    _, output, events = assemble(Call(0, "even", "4"), Call(0, arguments="2", call_id=""), STOP)
    assert output[0]["action"] == {"commands": ["42"]}
    told = [f"response.shell_call_command.{step}" for step in ("added", "delta", "done")]
    assert events == ["response.output_item.added", *told, "response.output_item.done"]


def test_of_calls_that_are_no_good_nothing_is_shown() -> None:
    assembler, output, events = assemble(Call(0, "even", "1"), Call(1, "even", "2"), STOP)
    assert (output, events) == ([], [])
    assert [(call.arguments, str(fault)) for call, fault in assembler.calls.invalid] == [("1", "1 is odd.")]
    assert [call.arguments for call in assembler.calls.held] == ["1", "2"]


def test_a_held_call_that_was_cut_is_none() -> None:
    assembler, output, _ = assemble(Text("Well"), Call(0, "even", "1"), Finish("length"))
    assert [item["type"] for item in output] == ["message"]
    assert not assembler.calls.invalid


def test_functions_can_be_held_too() -> None:
    _, output, events = assemble(Call(0, "f", "{"), Call(0, arguments="}"), STOP, whole=True)
    assert output[0]["arguments"] == "{}"
    assert events.count("response.function_call_arguments.delta") == 1


def test_hosted_calls_are_kept_and_calls_beyond_the_bound_left_out() -> None:
    assembler, output, _ = assemble(Call(0, "wave", "{}"), Call(1, "f", "{}"), Call(2, "f", "{}"), STOP, calls_max=2)
    assert [call.name for _, call in assembler.calls.hosted] == ["wave"]
    assert [item["name"] for item in output] == ["f"]


def test_a_call_needs_a_name() -> None:
    with pytest.raises(UpstreamError) as caught:
        assemble(Call(0, "", "{}"))
    assert caught.value.code == "invalid_tool_call"
