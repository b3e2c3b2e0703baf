"""What is answer, what is reasoning and what is a call in a model's text."""

from __future__ import annotations

import json

import pytest

from antiphon.models import Call, Delta, Function, Reasoning, Text, ToolMeasure
from antiphon.models.chat.dialect import HELD_CHARS_MAX, Dialect
from antiphon.models.chat.mending import mend

WEATHER = Function(
    name="weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
NOW = Function(name="now", parameters={"type": "object", "properties": {}})
PARIS = '{"name": "weather", "arguments": {"city": "Paris"}}'
CALL = ("weather", '{"city":"Paris"}')


def read(*pieces: str, **options) -> list[Delta]:
    dialect = Dialect(**options)
    return [delta for piece in pieces for delta in dialect.feed(piece)] + dialect.end()


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


def thought(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Reasoning))


def calls(deltas: list[Delta]) -> list[tuple[str, str]]:
    return [(delta.name, delta.arguments) for delta in deltas if isinstance(delta, Call)]


@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning"])
def test_a_tag_in_front_is_reasoning(tag: str) -> None:
    deltas = read(f"\n<{tag}>\nHm, <b>.\n</{tag}>\n\nYes.")
    assert (thought(deltas), text(deltas)) == ("Hm, <b>.\n", "Yes.")


def test_a_tag_cut_anywhere_is_reasoning() -> None:
    deltas = read(*"<think>Hm.</think> Yes.")
    assert (thought(deltas), text(deltas)) == ("Hm.", "Yes.")


def test_a_tag_later_in_the_answer_is_text() -> None:
    assert read("Write <think>.") == [Text("Write <think>.")]


def test_a_tag_that_is_never_closed_is_reasoning_to_the_end() -> None:
    assert thought(read("<think>Hm", "mm </thi")) == "Hmmm </thi"


def test_the_prompt_may_have_opened_the_tag() -> None:
    deltas = read("Hm.", "</th", "ink>\nYes.", reasoning_format="opened")
    assert (thought(deltas), text(deltas)) == ("Hm.", "Yes.")
    deltas = read("<think>Hm.</think>Yes.", reasoning_format="opened")
    assert (thought(deltas), text(deltas)) == ("Hm.", "Yes.")


def test_a_server_that_separates_reasoning_closes_no_tag() -> None:
    dialect = Dialect(reasoning_format="opened")
    dialect.note_server_reasoning()
    assert dialect.feed("Yes.") == [Text("Yes.")]
    assert dialect.idle


def test_without_tags_and_functions_nothing_is_looked_at() -> None:
    dialect = Dialect(reasoning_format="never")
    assert dialect.idle
    assert dialect.feed("<think>") == [Text("<think>")]


def test_text_begins_at_once_and_then_nothing_is_held() -> None:
    dialect = Dialect()
    assert dialect.feed("Yes") == [Text("Yes")]
    assert dialect.idle


@pytest.mark.parametrize(
    "written",
    [
        f"<tool_call>\n{PARIS}\n</tool_call>",
        f"<tool_call>{PARIS}",
        f"<tool_call>{PARIS}</tool_c",
        f"<tool_call>[{PARIS}]</tool_call>",
        f"<function_call> {PARIS} </function_call>",
        f"<|tool_call|>[{PARIS}]<|/tool_call|>",
        f"<|python_tag|>{PARIS}",
        f"[TOOL_CALLS] [{PARIS}]",
        f"```json\n{PARIS}\n```",
        f"```tool_call\n{PARIS}\n```\n",
        f"```\n{PARIS}\n```",
        PARIS,
        f"\n {PARIS}\n",
        f"[{PARIS}]",
        '{"name": "weather", "parameters": {"city": "Paris"}}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}',
        '{"type": "function", "name": "weather", "parameters": {"city": "Paris"}}',
        '{"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}',
        '{"function": "weather", "arguments": {"city": "Paris"}}',
        '{"tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": {"city": "Paris"}}}]}',
    ],
)
def test_a_call_in_any_writing(written: str) -> None:
    for pieces in ((written,), tuple(written)):
        deltas = read(*pieces, functions=[WEATHER, NOW])
        assert calls(deltas) == [CALL]
        assert text(deltas).strip() in ("", "</tool_c")


@pytest.mark.parametrize(
    "written",
    [
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"town": "Paris"}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city": "Par',
        "<tool_call>weather(Paris)</tool_call>",
        "```python\nprint({})\n```",
        '```json\n{"city": "Paris"}\n```',
        f"```json\n{PARIS}\nand so on```",
        f"{PARIS} is what I would write.",
        '{"name": "weather", "description": "…", "parameters": {"city": "Paris"}}',
        '[{"name": "weather", "arguments": {"city": "Paris"}}, 1]',
        "[1, 2, 3]",
        "[a link](https://example.com)",
        "[TODO] nothing",
        "{}",
        "{",
        "<",
        "   \n",
        "a < b, `x`, ``` and [T",
    ],
)
def test_everything_else_is_text_unchanged(written: str) -> None:
    for pieces in ((written,), tuple(written)):
        deltas = read(*pieces, functions=[WEATHER, NOW])
        assert calls(deltas) == []
        assert text(deltas) == written


def test_text_before_and_after_a_call_stays() -> None:
    deltas = read(f"Let me see.<tool_call>{PARIS}</tool_call>\nDone.", functions=[WEATHER])
    assert deltas == [Text("Let me see."), Call(0, *CALL), Text("Done.")]


def test_a_call_after_reasoning() -> None:
    deltas = read(f"<think>{PARIS}</think>\n{PARIS}", functions=[WEATHER])
    assert (thought(deltas), calls(deltas), text(deltas)) == (PARIS, [CALL], "")


def test_several_calls_in_a_row() -> None:
    now = '<tool_call>{"name": "now"}</tool_call>'
    whole = f"<tool_call>{PARIS}</tool_call>\n{now}"
    assert calls(read(whole, functions=[WEATHER, NOW])) == [CALL, ("now", "{}")]
    assert calls(read(f'{PARIS}; {{"name": "now"}}', functions=[WEATHER, NOW])) == [CALL, ("now", "{}")]
    assert calls(read(whole, functions=[WEATHER, NOW], parallel=False)) == [CALL]


def test_every_call_has_a_key_of_its_own() -> None:
    deltas = read(f"[{PARIS}, {PARIS}]", functions=[WEATHER])
    assert [delta.key for delta in deltas if isinstance(delta, Call)] == [0, 1]


def test_json_that_the_caller_asked_for_is_no_call() -> None:
    assert text(read(PARIS, functions=[WEATHER], whole=False)) == PARIS


def test_what_goes_on_from_an_earlier_text_has_nothing_in_front() -> None:
    assert text(read(f"<think>{PARIS}", functions=[WEATHER], begun=True)) == f"<think>{PARIS}"


def test_json_whose_first_key_is_not_that_of_a_call_is_not_held() -> None:
    dialect = Dialect(functions=[WEATHER])
    assert text(dialect.feed('{"city"')) == '{"city"'
    dialect = Dialect(functions=[WEATHER])
    assert text(dialect.feed('{"name": "Paul"')) == '{"name": "Paul"'


def test_what_is_held_is_bounded() -> None:
    dialect = Dialect(functions=[WEATHER])
    head = '<tool_call>{"name": "weather", "arguments": {"city": "'
    out = dialect.feed(head)
    assert out == []
    for _ in range(HELD_CHARS_MAX // 64 + 1):
        out += dialect.feed("x" * 64)
    assert text(out).startswith(head)
    assert text(out + dialect.end()) == head + "x" * 64 * (HELD_CHARS_MAX // 64 + 1)


def test_quotes_and_brackets_inside_arguments_are_no_end() -> None:
    city = '}]"\\ ``` </tool_call> {'
    written = json.dumps({"name": "weather", "arguments": {"city": city}})
    found = calls(read(*f"```json\n{written}\n```", functions=[WEATHER]))
    assert [json.loads(arguments) for _, arguments in found] == [{"city": city}]


def test_a_schema_that_cannot_be_compiled_or_points_outside_allows_every_object() -> None:
    for schema in ({"type": "bogus"}, {"$ref": "http://127.0.0.1:1/schema"}):
        function = Function(name="weather", parameters=schema)
        assert calls(read(PARIS, functions=[function])) == [CALL]


def test_spaces_in_front_of_the_servers_own_calls_are_dropped() -> None:
    dialect = Dialect()
    assert dialect.feed("\n\n") == []
    assert dialect.release() == []
    dialect = Dialect(functions=[WEATHER])
    assert dialect.feed("Well <tool") == [Text("Well ")]
    assert dialect.release() == [Text("<tool")]


ODDLY_WRITTEN = [
    '{{"name": "weather", "arguments": {"city": "Paris"}}}',
    '{{"name": "weather", "arguments": {{"city": "Paris"}}}}',
    '{{"name": "weather", "arguments": {"city": "Paris"}}',
    '{"name": "weather", "arguments": {"city": "Paris"}',
    '{"name": "weather", "arguments": {"city": "Paris",}}',
    '{"name": "weather", "parameters": {"city": "Paris"}}',
    '{"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}',
    '{"name": "weather", "arguments": {"city": "Paris"}, "strict": true, "description": "The weather."}',
    '[{"name": "weather", "arguments": {"city": "Paris"}]',
]


@pytest.mark.parametrize("written", ODDLY_WRITTEN)
@pytest.mark.parametrize(
    "form", ["%s", "```json\n%s\n```", "Let me see.\n```\n%s\n```", "<tool_call>\n%s\n</tool_call>"]
)
def test_a_call_is_read_however_it_is_written(form: str, written: str) -> None:
    for pieces in ((form % written,), tuple(form % written)):
        assert calls(read(*pieces, functions=[WEATHER])) == [CALL]


def test_a_missing_brace_takes_nothing_of_what_follows() -> None:
    deltas = read('```json\n{"name": "weather", "arguments": {"city": "Paris"}\n``` Wait.', functions=[WEATHER])
    assert (calls(deltas), text(deltas)) == ([CALL], "Wait.")


def test_what_was_cut_off_is_no_call() -> None:
    written = '{"name": "weather", "arguments": {"city": "Paris"}'
    dialect = Dialect(functions=[WEATHER])
    assert text([*dialect.feed(written), *dialect.end(cut=True)]) == written


def test_several_calls_in_one_fence_or_in_several() -> None:
    twice = [CALL, CALL]
    for written in (
        f"```json\n{PARIS}\n{PARIS}\n```",
        f"```json\n{PARIS}\n```\n```json\n{PARIS}\n```",
        f"{PARIS}\n{PARIS}",
    ):
        assert calls(read(written, functions=[WEATHER])) == twice


@pytest.mark.parametrize(
    "written", ['{"name": "weather", "arguments": {"town": 1}}', '{"name": "fly", "arguments": {}}']
)
def test_calls_that_do_not_fit_are_read_where_they_are_repaired(written: str) -> None:
    fenced = f"```json\n{written}\n```"
    assert calls(read(fenced, functions=[WEATHER])) == []
    assert len(calls(read(fenced, functions=[WEATHER], lenient=True))) == 1


@pytest.mark.parametrize(
    "written", ['{"name": "Ann"}', '{"days": 7}', '{"name": "Ann", "age": 3}', '["a"]', "{{x}}", "{{{"]
)
def test_other_json_stays_text(written: str) -> None:
    for form in ("%s", "```json\n%s\n```"):
        assert text(read(form % written, functions=[WEATHER], lenient=True)) == form % written


@pytest.mark.parametrize("written", ['{"a": "b', "[" * 1000])
def test_what_cannot_be_mended_is_left(written: str) -> None:
    assert mend(written) is None


def test_the_finish_says_that_a_call_was_mended() -> None:
    helps: set[ToolMeasure] = set()
    read(ODDLY_WRITTEN[0], functions=[WEATHER], helps=helps)
    assert helps == {"read_from_text", "text_mended"}
