"""A call whose text is held to a grammar by the model's server."""

import json
from typing import Any

import pytest
from scripted_upstream import finish, frames, text

from antiphon.models import Call, Function, Grammar, Prompt, TextFormat, ToolChoice
from antiphon.models.chat.body import body
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.stream import ChatStream

LARK = Grammar("lark", 'start: "go " WORD\nWORD: /[a-z]+/')
REGEX = Grammar("regex", r"a/b\/\d+")


def prompt(grammar: Grammar | None, **fields: Any) -> Prompt:
    function = Function("note", "Notes it.", {"type": "object"}, grammar=grammar)
    choice = ToolChoice("required", ("note",))
    return Prompt(**{"items": (), "functions": (function, Function("f")), "tool_choice": choice} | fields)


def config(grammars: Any, **fields: Any) -> ChatConfig:
    return ChatConfig(base_url="http://model/v1", model="m", grammars=grammars, **fields)


@pytest.mark.parametrize(
    ("grammars", "grammar", "sent"),
    [
        ("llamacpp", LARK, {"grammar": f"%llguidance {{}}\n{LARK.definition}"}),
        ("llamacpp", REGEX, {"grammar": r"%llguidance {}" + "\n" + r"start: /a\/b\/\d+/"}),
        ("vllm", LARK, {"structured_outputs": {"grammar": LARK.definition}}),
        ("vllm", REGEX, {"structured_outputs": {"regex": REGEX.definition}}),
        ("guided", LARK, {"guided_grammar": LARK.definition}),
        ("guided", REGEX, {"guided_regex": REGEX.definition}),
    ],
)
def test_each_server_is_told_in_its_own_words(grammars: str, grammar: Grammar, sent: Any) -> None:
    whole = body(prompt(grammar), config(grammars))
    assert whole | sent == whole
    assert not {"tools", "response_format"} & whole.keys()
    assert "Call note now. Notes it." in whole["messages"][0]["content"]


@pytest.mark.parametrize(
    ("grammars", "asked"),
    [
        (None, prompt(LARK)),
        ("vllm", prompt(None)),
        ("vllm", prompt(LARK, tool_choice=ToolChoice("required"))),
        ("vllm", prompt(LARK, tool_choice=ToolChoice("auto", ("note",)))),
    ],
    ids=["no such server", "no grammar", "one of several", "not required"],
)
def test_every_other_call_is_had_as_before(grammars: Any, asked: Prompt) -> None:
    assert not {"grammar", "structured_outputs"} & body(asked, config(grammars)).keys()


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("asked", "schema"),
    [
        ({"format": TextFormat("json_schema", "answer", SCHEMA)}, SCHEMA),
        ({"format": TextFormat("json_object")}, {"type": "object"}),
    ],
)
def test_a_server_that_knows_guided_json_alone_is_told_the_schema_by_it(asked: Any, schema: Any) -> None:
    sent = body(Prompt(items=(), **asked), config(None, schemas="guided_json"))
    assert sent["guided_json"] == schema
    assert "response_format" not in sent


def test_a_required_call_is_had_by_guided_json_too() -> None:
    sent = body(prompt(None), config("guided", schemas="guided_json"))
    assert sent["guided_json"]["properties"]["name"]["enum"] == ["note"]
    assert not {"response_format", "tools", "structured_outputs"} & sent.keys()


def read(answer: bytes, **fields: Any) -> list[Any]:
    stream = ChatStream(prompt(LARK), config("llamacpp", **fields), forced=True)
    return [*stream.feed(answer), *stream.end()]


@pytest.mark.parametrize("style", ["tags", "opened"])
def test_the_whole_answer_is_the_text(style: str) -> None:
    pieces = ("<think>go", ' "home"\n', "\\now 😀")
    deltas = read(frames(*(text(piece) for piece in pieces), finish()), reasoning_format=style)
    calls = [delta for delta in deltas if isinstance(delta, Call)]
    assert [call.name for call in calls if call.name] == ["note"]
    assert json.loads("".join(call.arguments for call in calls)) == {"input": "".join(pieces)}


def test_an_empty_answer_is_an_empty_text() -> None:
    calls = [delta for delta in read(frames(finish())) if isinstance(delta, Call)]
    assert "".join(call.arguments for call in calls) == '{"input":""}'


def test_one_that_was_cut_off_is_not_closed() -> None:
    calls = [delta for delta in read(frames(text("go h"), finish("length"))) if isinstance(delta, Call)]
    assert "".join(call.arguments for call in calls) == '{"input":"go h'
