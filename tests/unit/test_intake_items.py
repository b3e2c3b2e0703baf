"""What input items become, and the query of listings."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.intake import Defaults, plan
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.queries import PageQuery, read_query


def items_of(given: object) -> tuple[Json, ...]:
    numbers = count()
    body = {"model": "m", "input": given}
    return plan(body, defaults=Defaults(), ids=lambda prefix: f"{prefix}_{next(numbers)}", now=1).input


def user(*parts: Json, id: str = "msg_1") -> Json:
    return {"type": "message", "role": "user", "content": list(parts), "id": id, "status": "completed"}


def text(value: str) -> Json:
    return {"type": "input_text", "text": value}


@pytest.mark.parametrize(
    "given",
    [
        "hi",
        {"role": "user", "content": "hi"},
        [{"role": "user", "content": "hi"}],
        [{"type": None, "role": "user", "content": "hi"}],
        [{"type": "message", "role": "user", "content": [text("hi")]}],
    ],
)
def test_short_forms(given: object):
    assert items_of(given) == (user(text("hi")),)


@pytest.mark.parametrize("content", ["hi", [text("hi")], [{"type": "output_text", "text": "hi"}]])
def test_an_assistants_text_is_output(content: object):
    (item,) = items_of([{"role": "assistant", "content": content, "phase": "final_answer"}])
    assert item["content"] == [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]
    assert item["phase"] == "final_answer"


def test_what_is_there_is_kept():
    item = {
        "type": "message",
        "id": "msg_x",
        "role": "assistant",
        "status": "incomplete",
        "content": [{"type": "output_text", "text": "hi", "annotations": [{"type": "file_path"}], "logprobs": [{}]}],
    }
    assert items_of([item]) == (item,)


def test_calls_and_outputs():
    call, output = items_of(
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"broken'},
            {"type": "function_call_output", "call_id": "c", "output": "done", "status": None},
        ]
    )
    assert call == {
        "type": "function_call", "call_id": "c", "name": "f", "arguments": '{"broken', "id": "fc_1",
        "status": "completed",
    }  # fmt: skip
    assert (output["id"], output["status"], output["output"]) == ("fco_2", "completed", "done")


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"outcome": {"type": "exit"}}, "missing_required_parameter", "input[0].output[0].outcome.exit_code"),
        ({"outcome": {"type": "boom"}}, "invalid_value", "input[0].output[0].outcome.type"),
        ({"outcome": None}, "invalid_type", "input[0].output[0].outcome"),
        ({"stdout": 1}, "invalid_type", "input[0].output[0].stdout"),
    ],
)
def test_what_came_of_a_command_is_whole(members: Json, code: str, param: str) -> None:
    whole = {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}} | members
    with pytest.raises(InvalidRequest) as caught:
        items_of([{"type": "shell_call_output", "call_id": "c", "output": [whole]}])
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize(
    ("operation", "code", "param"),
    [
        ({"type": "rename", "path": "a"}, "invalid_value", "input[0].operation.type"),
        ({"type": "update_file", "path": "a"}, "missing_required_parameter", "input[0].operation.diff"),
        ({"type": "delete_file"}, "missing_required_parameter", "input[0].operation.path"),
    ],
)
def test_an_operation_on_a_file_is_one_of_three(operation: Json, code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        items_of([{"type": "apply_patch_call", "call_id": "c", "status": "completed", "operation": operation}])
    assert (caught.value.code, caught.value.param) == (code, param)


def test_references_have_a_short_form():
    assert items_of([{"id": "msg_9"}]) == ({"type": "item_reference", "id": "msg_9"},)


def test_images_have_a_detail():
    (item,) = items_of([{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}])
    assert item["content"][0]["detail"] == "auto"
    seen = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "data:,"}]}
    assert items_of([seen])[0]["output"][0]["detail"] == "auto"


ROLES = st.sampled_from(["user", "assistant", "system", "developer"])
PARTS = st.lists(st.builds(text, st.text()) | st.just({"type": "input_image", "file_id": "file_1"}), max_size=3)
MESSAGES = st.fixed_dictionaries({"role": ROLES, "content": st.text() | PARTS})
CALLS = st.fixed_dictionaries(
    {"type": st.just("function_call"), "call_id": st.just("c"), "name": st.just("f"), "arguments": st.text()},
    optional={"caller": st.just({"type": "direct"}), "extra": st.integers()},
)


@given(st.lists(MESSAGES | CALLS, min_size=1, max_size=5))
def test_normal_items_are_a_fixpoint(given: list[Json]):
    once = items_of(given)
    assert items_of(list(once)) == once


SHELL = {"type": "shell_call", "call_id": "c"}
LISTED = {"type": "shell_call_output", "call_id": "c"}
EXEC = {"type": "local_shell_call", "call_id": "c", "status": "completed"}
PATCH = {"type": "apply_patch_call", "call_id": "c", "status": "completed"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (SHELL | {"action": {}}, "action.commands"),
        (SHELL | {"action": {"commands": "ls"}}, "action.commands"),
        (LISTED | {"output": [{"stdout": 5}]}, "output[0].stdout"),
        (LISTED | {"output": [{"stdout": "", "stderr": "", "outcome": {"type": "gone"}}]}, "output[0].outcome.type"),
        (EXEC | {"action": {"type": "exec"}}, "action.command"),
        (PATCH | {"operation": {}}, "operation.type"),
        (PATCH | {"operation": {"type": "create_file", "path": "a"}}, "operation.diff"),
        (PATCH | {"operation": {"type": "delete_file", "path": ""}}, "operation.path"),
        ({"type": "computer_call_output", "call_id": "c", "output": {"type": "picture"}}, "output.type"),
        ({"type": "configuration_update", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"type": "configuration_update", "text": {"format": {"type": "json_object"}}}, "text.format.type"),
    ],
)
def test_what_is_shown_to_a_model_is_checked(item: Json, param: str):
    with pytest.raises(InvalidRequest) as refused:
        items_of([item])
    assert refused.value.param == f"input[0].{param}"


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ([], PageQuery()),
        ([("limit", "100"), ("order", "asc"), ("after", "msg_1")], PageQuery(limit=100, order="asc", after="msg_1")),
        ([("stream", "x"), ("limit", "1")], PageQuery(limit=1)),
    ]
    + [
        (pairs, PageQuery(include=["message.input_image.image_url", "reasoning.encrypted_content"]))
        for pairs in (
            [("include[]", "message.input_image.image_url"), ("include[]", "reasoning.encrypted_content")],
            [("include", "message.input_image.image_url"), ("include", "reasoning.encrypted_content")],
            [("include", "message.input_image.image_url,reasoning.encrypted_content")],
        )
    ],
)
def test_page_query(params: list[tuple[str, str]], query: PageQuery):
    assert read_query(params, PageQuery) == query


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ([("limit", "0")], "integer_below_min_value", "limit"),
        ([("limit", "101")], "integer_above_max_value", "limit"),
        ([("limit", "-5")], "integer_below_min_value", "limit"),
        ([("limit", "many")], "invalid_type", "limit"),
        ([("limit", "")], "invalid_type", "limit"),
        ([("limit", "9" * 5000)], "invalid_type", "limit"),
        ([("order", "up")], "invalid_value", "order"),
        ([("include", "everything")], "invalid_value", "include[0]"),
    ],
)
def test_refused_page_query(params: list[tuple[str, str]], code: str, param: str):
    with pytest.raises(InvalidRequest) as refused:
        read_query(params, PageQuery)
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize("blank", ["", " \n", "null", None])
def test_a_call_in_the_history_without_arguments_has_an_empty_object(blank: str | None) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": blank}
    output = {"type": "function_call_output", "call_id": "c", "output": ""}
    assert items_of([call, output])[0]["arguments"] == "{}"
