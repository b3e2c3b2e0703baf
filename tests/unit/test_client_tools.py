"""What models are shown of tools that the caller runs, what their calls become, and how stored items read."""

import json
import time
from typing import Any

import pytest
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from antiphon.assembly import make_toolbox
from antiphon.models import Function
from antiphon.tools import CallInvalid, ClientOffer, ToolCall, custom, v4a
from antiphon.tools.computer import check_acknowledged
from antiphon.tools.toolbox import Offers
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.kinds import KINDS

TOOLBOX = make_toolbox()
OUTPUT: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
SCREEN = {"type": "computer_use_preview", "display_width": 1024, "display_height": 768, "environment": "browser"}


def offers(*specs: Json, items: list[Json] | None = None) -> Offers:
    return TOOLBOX.offers(specs, items or ())


def made(spec: Json, name: str, arguments: Any) -> Json:
    """The item of a call, which the official SDK can read."""
    (item,) = made_items(spec, name, arguments)
    return item


def made_items(spec: Json, name: str, arguments: Any) -> list[Json]:
    offer = offers(spec).find(name)
    assert isinstance(offer, ClientOffer)
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    items = offer.tool.to_items(ToolCall(name, text, "call_1"), offer.spec)
    for item in items:
        status = {"status": "completed"} if KINDS[item["type"]].status else {}
        OUTPUT.validate_python({"id": "x_1", **status, **item}, strict=False)
    return list(items)


def refused(spec: Json, name: str, arguments: Any) -> str:
    with pytest.raises(CallInvalid) as caught:
        made(spec, name, arguments)
    return str(caught.value)


def lowered(*items: Json) -> list[Json]:
    return list(TOOLBOX.lower(items))


# apply_patch

PATCH = {"type": "apply_patch"}


def test_a_whole_file_becomes_a_diff_that_makes_it() -> None:
    operation = made(PATCH, "create_file", {"path": "a.py", "content": "x = 1\ny = 2\n"})["operation"]
    assert (operation["type"], operation["path"]) == ("create_file", "a.py")
    assert v4a.read_created_text(operation["diff"]) == "x = 1\ny = 2\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"search": "b = 2", "replace": "b = 3"},
        {"diff": "@@\n a = 1\n-b = 2\n+b = 3\n"},
        {"diff": "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n a = 1\n-b = 2\n+b = 3\n"},
        {"patch": "*** Begin Patch\n*** Update File: a.py\n@@\n-b = 2\n+b = 3\n*** End Patch"},
        {"diff": "<<<<<<< SEARCH\nb = 2\n=======\nb = 3\n>>>>>>> REPLACE"},
    ],
)
def test_every_form_of_an_edit_becomes_a_diff_that_makes_it(arguments: Json) -> None:
    operation = made(PATCH, "update_file", {"path": "a.py", **arguments})["operation"]
    assert v4a.apply("a = 1\nb = 2\n", operation["diff"]) == "a = 1\nb = 3\n"


def test_a_model_that_was_trained_on_another_apply_patch_may_write_its_patch() -> None:
    patch = "*** Begin Patch\n*** Update File: a.py\n@@\n-x = 1\n+x = 2\n*** End Patch"
    for member in ("input", "patch", "diff"):
        item = made(PATCH, "apply_patch", {member: patch})
        assert item["type"] == "apply_patch_call"
        assert item["operation"]["type"] == "update_file"
        assert item["operation"]["path"] == "a.py"
        assert v4a.apply("x = 1\n", item["operation"]["diff"]) == "x = 2\n"
    gone = made(PATCH, "apply_patch", {"input": "*** Begin Patch\n*** Delete File: b\n*** End Patch"})
    assert gone["operation"] == {"type": "delete_file", "path": "b"}
    for wrong in ("", "hello"):
        assert "cannot be applied" in refused(PATCH, "apply_patch", {"input": wrong})


SEVERAL = "*** Begin Patch\n*** Add File: a\n+1\n*** Update File: b\n@@\n-x\n+y\n*** Delete File: c\n*** End Patch"


@pytest.mark.parametrize(
    ("name", "arguments"), [("apply_patch", {"input": SEVERAL}), ("update_file", {"path": "b", "diff": SEVERAL})]
)
def test_a_patch_of_several_files_is_a_call_for_each(name: str, arguments: Json) -> None:
    operations = [item["operation"] for item in made_items(PATCH, name, arguments)]
    kinds = [(operation["type"], operation["path"]) for operation in operations]
    assert kinds == [("create_file", "a"), ("update_file", "b"), ("delete_file", "c")]


def test_a_tool_may_be_called_by_its_type() -> None:
    assert made(SCREEN, "computer_use_preview", {"type": "wait"})["action"] == {"type": "wait"}
    assert offers({"type": "custom", "name": "c"}).find("custom").spec["type"] == "function"
    own = offers(PATCH, {"type": "function", "name": "apply_patch"}).find("apply_patch")
    assert own.spec["type"] == "function", "the caller's own goes first"


def test_a_file_is_deleted_without_a_diff() -> None:
    assert made(PATCH, "delete_file", {"path": "a.py"})["operation"] == {"type": "delete_file", "path": "a.py"}


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("update_file", {"path": "a.py"}, "`search` is missing"),
        ("update_file", {"path": "a.py", "search": "x", "replace": "x"}, "are the same"),
        ("update_file", {"path": "a.py", "diff": "@@\n nothing changes"}, "a.py cannot be made"),
        ("create_file", {"path": "a.py"}, "`content` is missing"),
        ("create_file", {"path": " ", "content": ""}, "`path` must name a file"),
        ("create_file", {"content": ""}, "missing required field `path`"),
        ("create_file", "no json", "must be a JSON object"),
        ("create_file", "[]", "Expected `object`, got `array`"),
        ("create_file", '{"x":' + "[" * 100_000, "must be a JSON object"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused_in_words(name: str, arguments: Any, told: str) -> None:
    assert told in refused(PATCH, name, arguments)


def test_a_stored_patch_reads_as_the_model_wrote_it() -> None:
    item = made(PATCH, "update_file", {"path": "a.py", "search": "b = 2\nc = 3", "replace": "b = 3\nc = 3"})
    call, output = lowered(
        item, {"type": "apply_patch_call_output", "call_id": "call_1", "status": "failed", "output": "no such file"}
    )
    assert call["name"] == "update_file"
    assert json.loads(call["arguments"]) == {"path": "a.py", "search": "b = 2\nc = 3", "replace": "b = 3\nc = 3"}
    assert output["output"] == "Error: no such file"


# shell


def test_commands_and_limits() -> None:
    item = made({"type": "shell"}, "shell", {"commands": ["ls", "pwd"], "timeout_ms": 100})
    assert item["action"] == {"commands": ["ls", "pwd"], "timeout_ms": 100, "max_output_length": None}
    assert made({"type": "shell"}, "shell", {"commands": "ls"})["action"]["commands"] == ["ls"]
    for none in (0, -1):
        action = made({"type": "shell"}, "shell", {"commands": "ls", "timeout_ms": none, "max_output_length": none})
        assert (action["action"]["timeout_ms"], action["action"]["max_output_length"]) == (None, None)
        local = made({"type": "local_shell"}, "local_shell", {"command": "ls", "timeout_ms": none})
        assert local["action"]["timeout_ms"] is None
    assert "needs a command" in refused({"type": "shell"}, "shell", {"commands": [""]})
    results: list[Json] = [
        {"stdout": "a\n", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
        {"stdout": "", "stderr": "no", "outcome": {"type": "exit", "exit_code": 2}},
        {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
    ]
    _, output = lowered(item, {"type": "shell_call_output", "call_id": "call_1", "output": results})
    assert output["output"] == "a\n\nno\n[exit code 2]\n[It was stopped: its time was over.]"


def test_items_that_hold_nonsense_are_still_read() -> None:
    results: list[Any] = [{"outcome": "gone"}, {"stdout": 1, "outcome": {"exit_code": None}}]
    assert lowered({"type": "shell_call_output", "call_id": "c", "output": results})
    for type in ("shell_call", "local_shell_call"):
        assert lowered({"type": type, "call_id": "c", "action": {}})
    assert lowered({"type": "apply_patch_call", "call_id": "c", "operation": {"diff": 1}})
    found: Json = {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "namespace", "tools": [None, "x"]}]}
    assert lowered(found)
    assert offers(items=[found]).functions == ()


def test_a_shell_in_a_container_is_not_the_callers() -> None:
    assert not offers({"type": "shell", "environment": {"type": "container_auto"}}).by_name


def test_the_local_shell_runs_a_program() -> None:
    item = made({"type": "local_shell"}, "local_shell", {"command": ["ls", "-l"], "working_directory": "/tmp"})
    assert item["action"]["command"] == ["ls", "-l"]
    line = made({"type": "local_shell"}, "local_shell", {"command": "ls -l | wc"})
    assert line["action"]["command"] == ["sh", "-c", "ls -l | wc"]
    call, output = lowered(item, {"type": "local_shell_call_output", "id": "call_1", "output": '{"output": "x"}'})
    assert (call["call_id"], output["call_id"]) == ("call_1", "call_1")


# computer


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ({"type": "click", "x": 1, "y": 2.4}, {"type": "click", "button": "left", "x": 1, "y": 2}),
        ({"type": "double_click", "x": 1, "y": 2}, {"type": "double_click", "x": 1, "y": 2}),
        (
            {"type": "click", "x": 1, "y": 2, "keys": ["CTRL"]},
            {"type": "click", "button": "left", "x": 1, "y": 2, "keys": ["CTRL"]},
        ),
        ({"type": "move", "x": 1, "y": 2, "keys": "SHIFT"}, {"type": "move", "x": 1, "y": 2, "keys": ["SHIFT"]}),
        ({"type": "move", "x": "1", "y": "2"}, {"type": "move", "x": 1, "y": 2}),
        (
            {"type": "scroll", "x": 1, "y": 2, "scroll_y": 9},
            {"type": "scroll", "x": 1, "y": 2, "scroll_x": 0, "scroll_y": 9},
        ),
        (
            {"type": "drag", "path": [{"x": 1, "y": 1}, {"x": 5, "y": 5}]},
            {"type": "drag", "path": [{"x": 1, "y": 1}, {"x": 5, "y": 5}]},
        ),
        ({"type": "type", "text": "hi"}, {"type": "type", "text": "hi"}),
        ({"type": "keypress", "keys": "ENTER"}, {"type": "keypress", "keys": ["ENTER"]}),
        ({"type": "screenshot", "x": None}, {"type": "screenshot"}),
        ({"type": "wait"}, {"type": "wait"}),
    ],
)
def test_all_nine_actions_in_both_forms_of_the_tool(given: Json, action: Json) -> None:
    assert made(SCREEN, "computer", given)["action"] == action
    assert made({"type": "computer"}, "computer", {"actions": [given, given]})["actions"] == [action, action]
    assert made({"type": "computer"}, "computer", given)["actions"] == [action]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "click", "x": 1024, "y": 0}, "outside the display: x and y are 0 to 1023 and 0 to 767"),
        ({"type": "drag", "path": [{"x": 0, "y": 0}, {"x": -1, "y": 0}]}, "outside the display"),
        ({"type": "drag", "path": [{"x": 0, "y": 0}]}, "drag needs `path` of two points or more"),
        ({"type": "click", "x": 1}, "click needs `y`"),
        ({"type": "type"}, "type needs `text`"),
        ({"type": "keypress", "keys": []}, "keypress needs `keys`"),
        ({"type": "jump"}, "Invalid enum value 'jump'"),
    ],
)
def test_actions_that_make_no_sense(given: Json, told: str) -> None:
    assert told in refused(SCREEN, "computer", given)


def test_there_are_not_too_many_actions() -> None:
    wait = {"type": "wait"}
    assert "1 to 50" in refused({"type": "computer"}, "computer", {"actions": []})
    assert "1 to 50" in refused({"type": "computer"}, "computer", {"actions": [wait] * 51})


def test_a_screenshot_is_shown_with_a_word() -> None:
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA=="}
    item = made(SCREEN, "computer", {"type": "screenshot"})
    call, output = lowered(item, {"type": "computer_call_output", "call_id": "call_1", "output": shot})
    assert json.loads(call["arguments"]) == {"type": "screenshot"}
    assert [part["type"] for part in output["output"]] == ["input_text", "input_image"]


def test_safety_checks_have_to_be_acknowledged() -> None:
    call = {"type": "computer_call", "call_id": "c", "pending_safety_checks": [{"id": "s1"}, {"id": "s2"}]}
    output: Json = {"type": "computer_call_output", "call_id": "c", "output": {}}
    some = output | {"acknowledged_safety_checks": [{"id": "s1"}]}
    every = output | {"acknowledged_safety_checks": [{"id": "s2"}, {"id": "s1"}]}
    assert "'s1'" in str(check_acknowledged([call, output]))
    assert "'s2'" in str(check_acknowledged([call, some]))
    assert check_acknowledged([call, every]) is None


# custom


def grammar(syntax: str, definition: str) -> Json:
    format = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "name": "c", "format": format}


def test_a_custom_tool_takes_text() -> None:
    spec = {"type": "custom", "name": "c", "description": "Writes."}
    item = made(spec, "c", {"input": "any\ntext"})
    assert (item["name"], item["input"]) == ("c", "any\ntext")
    call, output = lowered(item, {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"})
    assert (json.loads(call["arguments"]), output["output"]) == ({"input": "any\ntext"}, "ok")


@pytest.mark.parametrize(
    ("spec", "good", "bad", "told"),
    [
        (grammar("regex", r"[a-z]+\d{2}"), "abc12", "abc1", "behind 'abc1' it ends too early"),
        (grammar("regex", r"[a-z]+"), "é".replace("é", "e"), "e!", "behind 'e' it cannot go on with '!'"),
        (grammar("lark", 'start: "go " ("left" | "right")'), "go left", "go up", "behind 'go '"),
        (grammar("lark", "start: line+\nline: /(.*)/ LF\n%import common.LF"), "a\n\n", "a", "too early"),
    ],
)
def test_a_grammar_is_kept_to(spec: Json, good: str, bad: str, told: str) -> None:
    assert made(spec, "c", {"input": good})["input"] == good
    assert told in refused(spec, "c", {"input": bad})


@pytest.mark.parametrize(
    ("spec", "code", "param"),
    [
        (grammar("regex", "(["), "invalid_value", "tools[0].format.definition"),
        (grammar("lark", "start: nowhere"), "invalid_value", "tools[0].format.definition"),
        (grammar("ebnf", "a"), "invalid_value", "tools[0].format"),
        (grammar("regex", "a" * 100_001), "string_above_max_length", "tools[0].format.definition"),
    ],
)
def test_a_grammar_that_cannot_be_read(spec: Json, code: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        offers(spec)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_grammar_of_many_readings_is_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(grammar("regex", "[ab]*"), "c", {"input": "ab" * 2000})["input"] == "ab" * 2000
    monkeypatch.setattr(custom, "CHECK_S", 0.1)
    began = time.monotonic()
    many = grammar("lark", 'start: start start | "a"')
    assert "takes too long" in refused(many, "c", {"input": "a" * 2000})
    assert time.monotonic() - began < 20


def test_the_grammars_of_a_request_have_a_bound_together() -> None:
    tools = [grammar("regex", f"{'a' * 90_000}{n}") | {"name": f"c{n}"} for n in range(3)]
    assert len(offers(*tools[:2]).functions) == 2
    for each in (tools, [{"type": "namespace", "name": "n", "description": "d", "tools": tools}]):
        with pytest.raises(InvalidRequest, match="in all") as caught:
            offers(*each)
        assert caught.value.param == "tools"


# namespaces, searches, and tools that came along

F: Json = {"type": "function", "name": "f", "description": "d"}
SPACE: Json = {"type": "namespace", "name": "n", "description": "d", "tools": [F, {"type": "custom", "name": "c"}]}
SEARCH: Json = {"type": "tool_search", "execution": "client"}


def test_a_namespace_is_flattened_and_mapped_back() -> None:
    assert {function.name for function in offers(SPACE, F).functions} == {"f", "n__f", "n__c"}
    call = made(SPACE, "n__f", {})
    assert (call["name"], call["namespace"]) == ("f", "n")
    assert lowered(call)[0]["name"] == "n__f"
    custom = made(SPACE, "n__c", {"input": "x"})
    assert (custom["name"], custom["namespace"]) == ("c", "n")
    assert lowered(custom)[0]["name"] == "n__c"


def test_deferred_tools_are_found_and_then_offered() -> None:
    deferred = F | {"defer_loading": True}
    assert [function.name for function in offers(deferred).functions] == ["f"]
    assert [function.name for function in offers(deferred, SEARCH).functions] == ["tool_search"]
    item = made(SEARCH, "tool_search", {"query": "weather"})
    assert item["arguments"] == {"query": "weather"}
    found: Json = {"type": "tool_search_output", "call_id": "call_1", "execution": "client", "tools": [deferred, SPACE]}
    names = [function.name for function in offers(deferred, SEARCH, items=[item, found]).functions]
    assert names == ["tool_search", "f", "n__f", "n__c"]
    call, output = lowered(item, found)
    assert json.loads(call["arguments"]) == {"query": "weather"}
    assert output["output"] == "These tools can be called now: f, f, c."


def test_a_search_that_the_server_would_make_is_not_offered() -> None:
    assert not offers({"type": "tool_search"}).by_name


def test_additional_tools_are_offered_and_what_is_no_tool_is_passed_over() -> None:
    item: Json = {"type": "additional_tools", "role": "developer", "tools": [F, {"type": "x"}, {"type": "function"}]}
    assert offers(items=[item]).functions == (Function("f", "d", None, False),)
    assert lowered(item) == []
