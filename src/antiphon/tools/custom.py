"""Custom tools: the model writes a text, freely or to a grammar, and the caller does with it what it likes.

A model that was never trained on them is shown a function of one text. What it writes is held against the grammar here;
a text that does not fit is not sent: the model is told where it went wrong, and is held to the grammar by its server
where that can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Final, Literal

import msgspec
from llguidance import LLMatcher, LLTokenizer

from antiphon.models import Function, Grammar
from antiphon.tools import CallInvalid, SpecInvalid, ToolCall, call_item, output_item
from antiphon.tools.arguments import read_arguments
from antiphon.tools.specs import qualified_name
from antiphon.wire import Json

GRAMMAR_CHARS_MAX: Final = 100_000
CHECK_S: Final = 1.0
"""How long a text may be held against its grammar."""
_STEP_BYTES_MAX: Final = 4096
_GRAMMARS_KEPT: Final = 64
_SHOWN_CHARS: Final = 40
_SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


class _Arguments(msgspec.Struct):
    input: str


class CustomTool:
    """See ``ClientTool``."""

    kinds = ("custom",)
    items = ("custom_tool_call", "custom_tool_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """A function of one text, ``input``; the grammar is part of its description.

        Raises:
            SpecInvalid: the grammar cannot be read.
        """
        description = spec.get("description") or ""
        grammar = _grammar(spec)
        if grammar is not None:
            syntax, definition = grammar
            fault = _fault(syntax, definition)
            if fault is not None:
                text = f"Invalid grammar for custom tool '{spec['name']}': {fault}"
                raise SpecInvalid(text, "invalid_value", "format.definition")
            kind = "regular expression" if syntax == "regex" else "Lark grammar"
            description += f"\n`input` must match this {kind}:\n{definition}"
        held = Grammar(*grammar) if grammar else None
        return [Function(qualified_name(spec), description.strip() or None, _SCHEMA, grammar=held)]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The call, with the text alone.

        Raises:
            CallInvalid: no text, or one that the grammar does not allow.
        """
        text = read_arguments(call, _Arguments).input
        grammar = _grammar(spec)
        if grammar is not None:
            _check(text, *grammar)
        doc: Json = {"type": "custom_tool_call", "call_id": call.call_id, "name": spec["name"], "input": text}
        return [{**doc, "namespace": spec["namespace"]} if "namespace" in spec else doc]

    def lower(self, item: Json) -> Sequence[Json]:
        """The function's call, and its output."""
        if item["type"] == "custom_tool_call_output":
            return (output_item(item["call_id"], item["output"]),)
        arguments = msgspec.json.encode({"input": item["input"]}).decode()
        return (call_item(item["call_id"], qualified_name(item), arguments),)


def _grammar(spec: Json) -> tuple[Literal["lark", "regex"], str] | None:
    """Syntax and definition, where the text is not free."""
    format: Any = spec.get("format") or {}
    if format.get("type") != "grammar":
        return None
    syntax, definition = format.get("syntax"), format.get("definition")
    if syntax not in ("lark", "regex") or not isinstance(definition, str):
        text = "Invalid 'format': a grammar has a 'syntax', 'lark' or 'regex', and a 'definition'."
        raise SpecInvalid(text, "invalid_value", "format")
    if len(definition) > GRAMMAR_CHARS_MAX:
        text = f"Invalid 'format.definition': a grammar may have at most {GRAMMAR_CHARS_MAX} characters."
        raise SpecInvalid(text, "string_above_max_length", "format.definition")
    return syntax, definition


@lru_cache(maxsize=1)
def _bytes() -> LLTokenizer:
    """Texts are read byte by byte: no model's tokens matter here."""
    return LLTokenizer("byte")


@lru_cache(maxsize=_GRAMMARS_KEPT)
def _compile(syntax: str, definition: str) -> str:
    read = LLMatcher.grammar_from_regex if syntax == "regex" else LLMatcher.grammar_from_lark
    return read(definition)


@lru_cache(maxsize=_GRAMMARS_KEPT)
def _fault(syntax: str, definition: str) -> str | None:
    return LLMatcher.validate_grammar(_compile(syntax, definition), _bytes()).strip() or None


def _check(text: str, syntax: str, definition: str) -> None:
    data = text.encode("utf-8", "replace")
    matcher = LLMatcher(_bytes(), _compile(syntax, definition), log_level=0)
    read = _consume(matcher, data)
    if read == len(data) and matcher.is_accepting():
        return
    before = data[max(0, read - _SHOWN_CHARS) : read].decode("utf-8", "ignore")
    after = data[read : read + _SHOWN_CHARS].decode("utf-8", "ignore")
    where = f"it cannot go on with {after!r}" if after else "it ends too early"
    raise CallInvalid(f"Error: the input does not match the grammar: behind {before!r} {where}.", "insist")


def _consume(matcher: LLMatcher, data: bytes) -> int:
    """How many bytes the grammar allows, read in steps that grow while they are fast: where a grammar has many readings
    of a text, the next byte may take a thousand times as long as the first.

    Raises:
        CallInvalid: it takes too long.
    """
    until, read, step = monotonic() + CHECK_S, 0, 1
    while read < len(data):
        began = monotonic()
        if began > until:
            raise CallInvalid("Error: the input takes too long to be held against the grammar: write less.", "insist")
        piece = data[read : read + step]
        taken = matcher.try_consume_tokens(list(piece))
        read += taken
        if taken < len(piece):
            break
        step = min(2 * step, _STEP_BYTES_MAX) if monotonic() - began < CHECK_S / 100 else max(1, step // 2)
    return read
