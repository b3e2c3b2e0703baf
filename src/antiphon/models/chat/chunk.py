"""One chunk of a chat-completions answer, of which only what is needed is read. Pure.

``decode`` is the hot path: one typed decoder, made once. What it does not take (another type than documented, broken
UTF-8, ``NaN``, half a surrogate pair), or what says nothing to it, is read again by ``loose``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

from antiphon.wire import Json


class FunctionPiece(msgspec.Struct, gc=False):
    """``parameters``, ``args`` and ``input``: what some servers call the arguments."""

    name: str | None = None
    arguments: str | Json | None = None
    parameters: str | Json | None = None
    args: str | Json | None = None
    input: str | Json | None = None


class CustomPiece(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class CallPiece(msgspec.Struct, gc=False):
    """``name`` and ``arguments``, or ``input``, beside each other, as some servers have it, instead of a ``function``;
    ``custom``: a call whose input is free; ``extra_content``: what is wanted back with it.
    """

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None
    name: str | None = None
    arguments: str | Json | None = None
    parameters: str | Json | None = None
    input: str | Json | None = None
    custom: CustomPiece | None = None
    extra_content: Json | None = None


class Message(msgspec.Struct, gc=False):
    """``delta`` of a chunk, ``message`` of a whole answer."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    reasoning_details: list[Any] | None = None
    thinking: str | None = None
    thinking_blocks: list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[CallPiece] | None = None
    function_call: FunctionPiece | None = None
    text: str | None = None


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct, gc=False):
    """``usage``, under the names of this API, of the Responses API, or of others."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    input_camel: int | None = msgspec.field(default=None, name="inputTokens")
    output_camel: int | None = msgspec.field(default=None, name="outputTokens")
    prompt_camel: int | None = msgspec.field(default=None, name="promptTokens")
    completion_camel: int | None = msgspec.field(default=None, name="completionTokens")
    prompt_eval_count: int | None = None
    eval_count: int | None = None

    @property
    def input(self) -> int:
        """Tokens of the prompt; 0 where that is not said."""
        counts = (self.prompt_tokens, self.input_tokens, self.prompt_camel, self.input_camel, self.prompt_eval_count)
        return next(filter(None, counts), 0)

    @property
    def output(self) -> int:
        """Tokens of the answer; 0 where that is not said."""
        counts = (self.completion_tokens, self.output_tokens, self.completion_camel, self.output_camel, self.eval_count)
        return next(filter(None, counts), 0)


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    usage: Counts | None = None
    error: Any = None
    text: str | None = None


class Aside(msgspec.Struct, gc=False):
    """What a server says beside the API."""

    usage: Counts | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    x_groq: Aside | None = None


decode: Final[Callable[[bytes], Chunk]] = msgspec.json.Decoder(Chunk).decode
"""Raises ``msgspec.DecodeError``, ``UnicodeDecodeError`` or ``RecursionError`` for what ``parse`` is to look at."""


_PARSER: Final = json.JSONDecoder(strict=False)


def parse(data: bytes) -> Any:
    """Any JSON value, read as leniently as can be; its texts may hold halves of surrogate pairs.

    Raises:
        ValueError: it is no JSON at all.
    """
    try:
        return _PARSER.decode(data.decode(errors="replace").strip())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_row(data: bytes) -> list[Any]:
    """JSON objects and arrays that follow each other; other things behind them are passed over.

    Raises:
        ValueError: the first, or one that has begun behind it, is no JSON.
    """
    text = data.decode(errors="replace").strip()
    values: list[Any] = []
    try:
        while not values or text[:1] in ("{", "["):
            value, end = _PARSER.raw_decode(text)
            values.append(value)
            text = text[end:].lstrip().removeprefix("data:").lstrip()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return values
