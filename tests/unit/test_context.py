"""What goes into a prompt, and what is refused before any model sees it."""

from collections.abc import Sequence

import msgspec
import pytest

from antiphon.access.sealing import Purpose, Sealer
from antiphon.compaction import Compaction, digest
from antiphon.context import build, references, resolve
from antiphon.models import Prompt, TextFormat
from antiphon.tools.mcp import McpItems
from antiphon.tools.toolbox import Offers, Toolbox
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest, NotFound

OFFERS = Offers(Toolbox(others=(McpItems(),)))


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def call(id: str) -> Json:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def output(id: str) -> Json:
    return {"type": "function_call_output", "call_id": id, "output": "1"}


def reference(id: str) -> Json:
    return {"type": "item_reference", "id": id}


IMAGE = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}


def test_history_comes_first() -> None:
    prompt = build(Prompt(items=(user("b"),)), [user("a")], OFFERS, supports_images=False)
    assert prompt.items == (user("a"), user("b"))


def test_a_call_of_the_history_is_answered_by_the_request() -> None:
    assert len(build(Prompt(items=(output("c"),)), [user("a"), call("c")], OFFERS, supports_images=False).items) == 3


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([user("a"), call("c")], "No tool output found for function call c."),
        ([output("c")], "No tool call found for function call output with call_id c."),
        ([output("c"), call("c")], "No tool call found for function call output with call_id c."),
    ],
)
def test_unpaired_calls(items: list[Json], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=tuple(items)), [], OFFERS, supports_images=False)
    assert (caught.value.message, caught.value.param) == (message, "input")


def test_images_need_a_model_that_sees() -> None:
    assert build(Prompt(items=(IMAGE,)), [], OFFERS, supports_images=True).items == (IMAGE,)
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(user("a"), IMAGE)), [], OFFERS, supports_images=False)
    assert caught.value.param == "input[1].content[0]"
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(user("a"),)), [IMAGE], OFFERS, supports_images=False)
    assert caught.value.param == "previous_response_id"

    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(user("a"),)), [IMAGE], OFFERS, supports_images=False, source="conversation")
    assert caught.value.param == "conversation"


def test_references_are_looked_up() -> None:
    items = (user("a"), reference("msg_x"), output("c"))
    assert references(items) == ["msg_x"]
    assert resolve(items, {"msg_x": call("c")}) == (user("a"), call("c"), output("c"))


def test_an_image_may_be_noted_instead() -> None:
    seen: Json = {
        "type": "function_call_output",
        "call_id": "c",
        "output": [*IMAGE["content"], user("b")["content"][0]],
    }
    items = (IMAGE, call("c"), seen)
    assert build(Prompt(items=items), [], OFFERS, supports_images=True, note_images=True).items == items
    noted = build(Prompt(items=items[1:]), [IMAGE], OFFERS, supports_images=False, note_images=True).items
    assert [part["type"] for part in noted[0]["content"]] == ["input_text"]
    assert "left out" in noted[0]["content"][0]["text"]
    assert [part["type"] for part in noted[2]["output"]] == ["input_text", "input_text"]
    assert noted[2]["output"][1]["text"] == "b"
    assert IMAGE["content"][0]["type"] == "input_image"


def test_a_reference_to_nothing() -> None:
    with pytest.raises(NotFound, match="Item with id 'msg_x' not found") as caught:
        resolve([reference("msg_x")], {"msg_y": user("a")})
    assert caught.value.param == "input"


def test_an_item_stands_in_a_context_once() -> None:
    there = user("a") | {"id": "msg_x"}
    with pytest.raises(InvalidRequest, match="Duplicate item found with id msg_x"):
        resolve([reference("msg_x"), reference("msg_x")], {"msg_x": there})
    with pytest.raises(InvalidRequest, match="Duplicate item found with id msg_x"):
        build(Prompt(items=(there,)), [there], OFFERS, supports_images=True)


def test_a_call_that_was_cut_off_was_never_made() -> None:
    history = [user("a"), call("c") | {"status": "incomplete"}]
    assert build(Prompt(items=(user("b"),)), history, OFFERS, supports_images=False).items == (user("a"), user("b"))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_image", "file_id": "file_1"},
        {"type": "input_image"},
    ],
)
def test_what_could_only_be_left_out_is_refused(part: Json) -> None:
    asked = {"type": "message", "role": "user", "content": [part]}
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(asked,)), [], OFFERS, supports_images=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "input[0].content[0]")
    answered = output("c") | {"output": [part]}
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(call("c"), answered)), [], OFFERS, supports_images=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "input[1].output[0]")


SEALER = Sealer(["s" * 32])


def unseal(text: str, *, purpose: Purpose) -> Json:
    return SEALER.open(text, "ada", purpose)


def thought(**fields: Json | str) -> Json:
    content = [{"type": "reasoning_text", "text": "hm"}]
    sealed = SEALER.seal({"content": content, "summary": []}, "ada", "reasoning")
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed, **fields}


def test_sealed_reasoning_is_what_the_model_reads() -> None:
    prompt = build(Prompt(items=(thought(), user("a"))), [], OFFERS, supports_images=False, unseal=unseal)
    assert prompt.items[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert prompt.items[0]["encrypted_content"] is None


def test_reasoning_that_another_sealed_is_refused() -> None:
    items = (user("a"), thought(encrypted_content="gAAAAAB"))
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=items), [user("b")], OFFERS, supports_images=False, unseal=unseal)
    assert (caught.value.code, caught.value.param) == ("invalid_encrypted_content", "input[1].encrypted_content")


def test_reasoning_that_is_stored_needs_no_key() -> None:
    stored = thought(encrypted_content="of a key that is gone", content=[{"type": "reasoning_text", "text": "hm"}])
    prompt = build(Prompt(items=(user("a"),)), [stored], OFFERS, supports_images=False, unseal=unseal)
    assert prompt.items[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]


def compaction(*messages: Json, covered: Sequence[str] = ()) -> Json:
    held = Compaction(list(messages), "so far", list(covered), 100, 10)
    sealed = SEALER.seal(msgspec.to_builtins(held), "ada", "compaction")
    return {"type": "compaction", "id": "cmp_1", "encrypted_content": sealed}


def texts(prompt: Prompt) -> list[str]:
    return [item["content"][0]["text"] for item in prompt.items]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_compaction_takes_the_place_of_what_stands_before_it(count: int) -> None:
    items = [call("c"), output("c"), compaction(user("kept")), user("next")]
    prompt = build(Prompt(items=tuple(items[count:])), items[:count], OFFERS, supports_images=False, unseal=unseal)
    assert texts(prompt) == ["kept", "so far", "next"]


def test_the_last_compaction_counts() -> None:
    items = (
        compaction(user("old")) | {"id": "cmp_0"},
        user("between"),
        compaction(user("kept"), covered=[digest(user("between"))]),
    )
    assert texts(build(Prompt(items=items), [], OFFERS, supports_images=False, unseal=unseal)) == ["kept", "so far"]


def test_a_message_that_was_put_before_a_compaction_stays() -> None:
    items = (user("new rules"), user("kept"), compaction(user("kept"), covered=[digest(user("kept"))]))
    prompt = build(Prompt(items=items), [], OFFERS, supports_images=False, unseal=unseal)
    assert texts(prompt) == ["new rules", "kept", "so far"]


@pytest.mark.parametrize(("kept", "shown"), [(1, ["as it was", "so far"]), (0, ["as it is", "as it was", "so far"])])
def test_what_is_kept_here_is_known_by_its_id(kept: int, shown: list[str]) -> None:
    """A caller may have changed a message of its own; of what is kept here only a file can be gone."""
    items = [user("as it is") | {"id": "msg_1"}, compaction(user("as it was"), covered=["msg_1"])]
    prompt = build(Prompt(items=tuple(items[kept:])), items[:kept], OFFERS, supports_images=False, unseal=unseal)
    assert texts(prompt) == shown


def test_a_trigger_is_the_last_item_or_it_is_refused() -> None:
    trigger = {"type": "compaction_trigger"}
    assert build(Prompt(items=(user("a"), trigger)), [], OFFERS, supports_images=False).items == (user("a"),)
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(trigger, user("a"))), [], OFFERS, supports_images=False)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "input[0]")


SCHEMA: Json = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
TO_SCHEMA: Json = {
    "type": "configuration_update",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
}
TO_TEXT: Json = {"type": "configuration_update", "text": {"format": {"type": "text"}}}


def effort(value: str | None) -> Json:
    return {"type": "configuration_update", "reasoning": {"effort": value}}


@pytest.mark.parametrize("split", range(5))
def test_the_last_update_of_a_setting_counts(split: int) -> None:
    items = [user("a"), effort("high"), TO_SCHEMA, effort("low"), user("b")]
    asked = Prompt(items=tuple(items[split:]), effort="max")
    prompt = build(asked, items[:split], OFFERS, supports_images=False)
    assert (prompt.effort, prompt.format) == ("low", TextFormat("json_schema", "n", SCHEMA))
    assert texts(prompt) == ["a", "b"]
    again = build(Prompt(items=(TO_TEXT, effort(None))), items, OFFERS, supports_images=False)
    assert (again.effort, again.format) == ("low", TextFormat())


def test_an_update_to_an_unusable_schema_is_refused() -> None:
    bad = {"type": "json_schema", "name": "n", "schema": SCHEMA | {"additionalProperties": True}, "strict": True}
    update = {"type": "configuration_update", "text": {"format": bad}}
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(user("a"), update)), [user("b")], OFFERS, supports_images=False)
    assert (caught.value.code, caught.value.param) == ("invalid_json_schema", "input[1].text.format.schema")


def test_a_compaction_of_another_project_is_refused() -> None:
    foreign = compaction() | {"encrypted_content": Sealer(["x" * 32]).seal({}, "ada", "compaction")}
    with pytest.raises(InvalidRequest) as caught:
        build(Prompt(items=(user("a"), foreign)), [], OFFERS, supports_images=False, unseal=unseal)
    assert (caught.value.code, caught.value.param) == ("invalid_encrypted_content", "input[1].encrypted_content")
