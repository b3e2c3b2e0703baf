"""However a model's text is cut, it means the same."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from antiphon.models import Call, Delta, Function, Reasoning, Text
from antiphon.models.chat.dialect import Dialect

CITY = Function(
    name="f", parameters={"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
)
PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "</thinking>",
        "<tool_call>",
        "</tool_call>",
        "<|tool_call|>",
        "[TOOL_CALLS]",
        "```",
        "```json\n",
        '{"name": "f", "arguments": {"a": "b\\"}"}}',
        '{"name": "f"}',
        '{"name": "g"}',
        '{"a": 1}',
        "[",
        "]",
        "{",
        "}",
        ",",
        " ",
        "\n",
        '"',
        "\\",
        "<",
        "`",
        "word",
        "é",
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)
CUTS = st.lists(st.integers(1, 12), min_size=1, max_size=40)
THINKS = st.sampled_from(["never", "tags", "opened"])


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces: list[str] = []
    while text:
        for size in sizes:
            pieces.append(text[:size])
            text = text[size:]
    return [piece for piece in pieces if piece]


def joined(deltas: list[Delta]) -> list[object]:
    """Neighbours of one kind made one."""
    out: list[object] = []
    for kind, group in groupby(deltas, type):
        if kind is Call:
            out += group
        else:
            out.append((kind, "".join(delta.text for delta in group)))
    return out


def read(pieces: list[str], **options) -> list[Delta]:
    dialect = Dialect(**options)
    return [delta for piece in pieces for delta in dialect.feed(piece)] + dialect.end()


@given(TEXTS, CUTS, THINKS, st.booleans(), st.booleans())
def test_any_cut_gives_the_same(text: str, sizes: list[int], reasoning_format: str, whole: bool, begun: bool) -> None:
    options = {"reasoning_format": reasoning_format, "functions": [CITY], "whole": whole, "begun": begun}
    assert joined(read(cut(text, sizes), **options)) == joined(read([text] if text else [], **options))


@given(TEXTS, CUTS, THINKS, st.booleans())
def test_any_cut_gives_the_same_without_functions(
    text: str, sizes: list[int], reasoning_format: str, begun: bool
) -> None:
    options = {"reasoning_format": reasoning_format, "begun": begun}
    assert joined(read(cut(text, sizes), **options)) == joined(read([text] if text else [], **options))


@given(TEXTS, CUTS)
def test_without_calls_and_tags_every_character_comes_through(text: str, sizes: list[int]) -> None:
    other = Function(name="other")
    deltas = read(cut(text, sizes), reasoning_format="never", functions=[other])
    assert "".join(delta.text for delta in deltas if isinstance(delta, Text)) == text
    assert all(isinstance(delta, Text) for delta in deltas)


@given(st.text(st.characters(exclude_characters="<`[{")), CUTS)
def test_text_without_markers_is_never_held(text: str, sizes: list[int]) -> None:
    dialect = Dialect(functions=[CITY])
    fed = out = ""
    for piece in cut(text, sizes):
        fed += piece
        out += "".join(delta.text for delta in dialect.feed(piece) if isinstance(delta, Text))
        assert out == (fed if fed.strip() else "")


@given(st.text(), CUTS)
def test_with_nothing_to_look_for_nothing_is_held(text: str, sizes: list[int]) -> None:
    dialect = Dialect(reasoning_format="never")
    for piece in cut(text, sizes):
        assert dialect.feed(piece) == [Text(piece)]
    assert dialect.end() == []


@given(TEXTS, CUTS)
def test_reasoning_holds_no_tag(text: str, sizes: list[int]) -> None:
    deltas = read(cut(f"<think>{text}</think>answer", sizes))
    thought = "".join(delta.text for delta in deltas if isinstance(delta, Reasoning))
    assert "</think>" not in thought
    blocks, rest = "", f"<think>{text}</think>answer"
    while rest.lstrip().startswith("<think>"):
        block, _, rest = rest.lstrip().removeprefix("<think>").partition("</think>")
        blocks += block.lstrip()
    assert thought == blocks
