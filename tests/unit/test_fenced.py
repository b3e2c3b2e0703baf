"""How functions and calls are told in words, and that what is told is read back."""

from typing import Any

import msgspec
from scripted_upstream import finish, frames, text

from antiphon.models import Call, Function, Prompt, TextFormat, ToolChoice
from antiphon.models.chat.body import body, messages
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.dialect import Dialect
from antiphon.models.chat.fenced import IN_WORDS, call_block, calls_to_messages, description
from antiphon.models.chat.stream import ChatStream

CONFIG = ChatConfig(base_url="http://model/v1", model="m", tool_format="fenced")
F = Function("f", "Does f.", {"type": "object", "properties": {"a": {"type": "string"}}})


def say(role: str, said: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": said}


def call(call_id: str, arguments: str = '{"a":"x"}') -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": arguments}


def output(call_id: str, said: Any = "ok") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def sent(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return body(Prompt(items=items, functions=(F,), **fields), CONFIG)


def test_functions_are_told_in_the_system_text_and_not_as_tools() -> None:
    whole = sent(say("user", "Go."), instructions="Be kind.")
    system = whole["messages"][0]["content"]
    assert "tools" not in whole
    assert system.startswith("Be kind.\n\n")
    assert '{"name":"f","description":"Does f.","parameters":' in system


def test_a_call_as_it_is_told_is_read_as_that_call() -> None:
    dialect = Dialect(functions=(F,))
    deltas = [*dialect.feed(call_block("f", {"a": "{é}"})), *dialect.end()]
    assert [(one.name, one.arguments) for one in deltas if isinstance(one, Call)] == [("f", '{"a":"{é}"}')]


def test_calls_since_the_user_spoke_stand_in_the_users_turn() -> None:
    messages = sent(say("user", "Go."), call("c"), output("c", "42"))["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"].startswith("Go.\n")
    assert call_block("f", {"a": "x"}) + "\nResult:\n42\n" in messages[1]["content"]


def test_earlier_calls_stand_in_turns_of_their_own() -> None:
    told = calls_to_messages(
        [say("user", "Go."), call("c"), call("d"), output("c", "1"), output("d", "2"), say("user", "And?")]
    )
    assert [item["role"] for item in told] == ["user", "assistant", "user", "user"]
    assert told[1]["content"] == "\n".join([call_block("f", {"a": "x"})] * 2)
    assert [part["text"] for part in told[2]["content"]] == ["Result of f:", "1", "Result of f:", "2"]


def test_an_id_that_is_used_again_is_of_the_latest_call() -> None:
    told = calls_to_messages(
        [say("user", "Go."), call("c", '{"a":"1"}'), output("c", "one"), call("c", '{"a":"2"}'), output("c", "two")]
    )
    texts = [part["text"] for part in told[0]["content"]]
    assert texts.index("one") < texts.index(call_block("f", {"a": "2"})) < texts.index("two")


def test_a_failed_call_is_told_otherwise_than_one_that_was_made() -> None:
    lasts = {
        said: calls_to_messages([say("user", "Go."), call("c"), output("c", said)])[0]["content"][-1]["text"]
        for said in ("fine", "Error: no such file", '{"status":"running"}')
    }
    assert len(set(lasts.values())) == 3


def test_pictures_in_an_output_are_kept() -> None:
    picture = {"type": "input_image", "image_url": "data:,x"}
    assert picture in calls_to_messages([say("user", "Go."), call("c"), output("c", [picture])])[0]["content"]


def test_what_was_said_between_calls_is_kept() -> None:
    told = calls_to_messages(
        [say("user", "Go."), say("assistant", "I look."), call("c"), output("c"), say("system", "Late.")]
    )
    assert "I look." in [part["text"] for part in told[0]["content"]]
    assert told[1] == say("system", "Late.")


def test_calls_without_a_user_and_outputs_without_a_call() -> None:
    assert [item["role"] for item in calls_to_messages([call("c"), output("c")])] == ["user"]
    assert "ok" in calls_to_messages([output("lost")])[0]["content"][1]["text"]
    assert "Result:" in [part["text"] for part in calls_to_messages([call("c", "no JSON")])[0]["content"]]


def test_a_required_call_is_held_to_its_schema_as_ever() -> None:
    whole = sent(say("user", "Go."), tool_choice=ToolChoice("required"))
    assert whole["response_format"]["json_schema"]["name"] == "call"


def test_beside_a_format_functions_are_shown_as_tools() -> None:
    """Held to the format, the model could not write a block."""
    assert "tools" in sent(say("user", "Go."), format=TextFormat("json_object"))


def test_one_call_is_asked_for_where_only_one_is_allowed() -> None:
    assert description((F,), parallel=True) != description((F,), parallel=False)


def test_where_choices_are_looked_at_words_are_offered_as_a_function_too() -> None:
    def told(*functions: Function, odds: float | None = 0.1) -> str:
        config = msgspec.structs.replace(CONFIG, call_odds=odds, tool_help="repair")
        return messages(Prompt(items=(), functions=functions), config)[0]["content"]

    assert told(F).count(IN_WORDS.name) == 1
    assert IN_WORDS.name not in told(F, odds=None)
    # What a search would find is not known, so general knowledge is no reason to answer.
    assert "general knowledge" in told(F) and "general knowledge" not in told(F, Function("look", searches=True))
    assert told(F, Function(IN_WORDS.name)).count(IN_WORDS.name) == 1


def test_the_finish_says_what_helped() -> None:
    stream = ChatStream(Prompt(items=(), functions=(F,)), CONFIG)
    deltas = stream.feed(frames(text(call_block("f", {"a": "x"})), finish()))
    assert (deltas + stream.end())[-1].helps == ("read_from_text", "shown_in_words")  # type: ignore[union-attr]
