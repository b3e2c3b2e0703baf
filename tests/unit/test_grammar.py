"""The table of kinds, and what it means as events, against the official SDK's types."""

from typing import Annotated, Any, get_args, get_origin

import pytest
from openai.types.responses import ResponseInputItem, ResponseOutputItem, ResponseStreamEvent

from antiphon.grammar import EVENTS
from antiphon.wire.kinds import KINDS, call_id_of, is_call, is_output


def tags(union: Any) -> set[str]:
    """The ``type`` values of a union's members."""
    members = get_args(get_args(union)[0]) if get_origin(union) is Annotated else get_args(union)
    return {value for member in members for value in get_args(member.model_fields["type"].annotation) if value}


def literal(values: set[Any]) -> set[str]:
    return {value for each in values for value in (get_args(each) or (each,)) if isinstance(value, str)}


def test_every_kind_that_the_sdk_can_read_has_a_row_and_no_other() -> None:
    output, input = literal(tags(ResponseOutputItem)), literal(tags(ResponseInputItem))
    assert {kind.type for kind in KINDS.values() if kind.side != "input"} == output
    assert {kind.type for kind in KINDS.values() if kind.side != "output"} >= input


def test_every_event_that_the_sdk_can_read_has_a_rule() -> None:
    known = {type for type in literal(tags(ResponseStreamEvent)) if "audio" not in type}
    assert set(EVENTS) == known


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.answers], ids=lambda kind: kind.type)
def test_an_output_answers_a_call_of_the_table(kind: Any) -> None:
    assert KINDS[kind.answers].asks
    assert is_output({"type": kind.type})
    assert is_call({"type": kind.answers})


def test_prefixes_tell_kinds_apart() -> None:
    prefixes = [kind.prefix for kind in KINDS.values() if kind.prefix]
    assert len(prefixes) == len(set(prefixes))


def test_what_the_server_ran_asks_nothing_of_the_caller() -> None:
    assert not is_call({"type": "tool_search_call", "execution": "server"})
    assert not is_output({"type": "tool_search_output", "execution": "server"})
    assert call_id_of({"id": "lsh_1"}) == "lsh_1"
    assert call_id_of({"id": "fc_1", "call_id": "call_1"}) == "call_1"
