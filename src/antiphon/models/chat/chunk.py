"""One chunk of a chat-completions answer, of which only what is needed is read. Pure.

``decode`` is the hot path: one typed decoder, made once. What it does not take (another type than documented, broken
UTF-8, ``NaN``, half a surrogate pair) is read again by ``chunk_of``, field by field, and a field that makes no sense
counts as absent. Texts of the second way may hold halves of surrogate pairs: their partner may be in the next chunk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models.chat.unicode import clean
from antiphon.wire import Json

_NO_LOGPROB: Final = -9999.0
"""What the API says where a token has no probability at all."""
_INT_MAX: Final = 2**53


class FunctionPiece(msgspec.Struct, gc=False):
    """``parameters``: what some servers call the arguments."""

    name: str | None = None
    arguments: str | Json | None = None
    parameters: str | Json | None = None


class CustomPiece(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class CallPiece(msgspec.Struct, gc=False):
    """``name`` and ``arguments``, or ``input``, beside each other, as some servers have it, instead of a ``function``;
    ``custom``: a call whose input is free.
    """

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None
    name: str | None = None
    arguments: str | Json | None = None
    parameters: str | Json | None = None
    input: str | Json | None = None
    custom: CustomPiece | None = None


class Said(msgspec.Struct, gc=False):
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


class Logprobs(msgspec.Struct, gc=False):
    content: list[Any] | None = None


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
        said = (self.prompt_tokens, self.input_tokens, self.prompt_camel, self.input_camel, self.prompt_eval_count)
        return next(filter(None, said), 0)

    @property
    def output(self) -> int:
        """Tokens of the answer; 0 where that is not said."""
        said = (self.completion_tokens, self.output_tokens, self.completion_camel, self.output_camel, self.eval_count)
        return next(filter(None, said), 0)


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
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


def unwrapped(value: Json) -> Json:
    """A chunk, or the one that some servers put into an object around it."""
    if "choices" in value:
        return value
    inner = (value.get(name) for name in _WRAPPERS)
    return next((cast(Json, one) for one in inner if isinstance(one, dict) and "choices" in one), value)


_WRAPPERS: Final = ("data", "result", "response", "output", "chunk")
_PARSER: Final = json.JSONDecoder(strict=False)


def chunk_of(value: Json) -> Chunk:
    """The chunk that a decoded object is, as far as it makes sense."""
    return Chunk(
        choices=[_choice(one) for one in _objects(value.get("choices"), "delta", "message")],
        usage=_counts(value.get("usage")),
        error=value.get("error"),
        x_groq=Aside(_counts(_object(value.get("x_groq")).get("usage"))),
    )


def _choice(value: Json) -> Choice:
    delta, message, logprobs = value.get("delta"), value.get("message"), _object(value.get("logprobs"))
    return Choice(
        index=_int(value.get("index")),
        delta=_said(cast(Json, delta)) if isinstance(delta, dict) else None,
        message=_said(cast(Json, message)) if isinstance(message, dict) else None,
        finish_reason=_reason(value.get("finish_reason")),
        logprobs=Logprobs(_list(logprobs.get("content"))),
        usage=_counts(value.get("usage")),
        error=value.get("error"),
        text=_text(value.get("text")),
    )


def _reason(value: Any) -> str | None:
    if isinstance(value, dict):
        inner = cast(Json, value)
        return _text(inner.get("type")) or _text(inner.get("reason")) or "stop"
    if isinstance(value, str) or not value:
        return _text(value)
    return "stop"


def _said(value: Json) -> Said:
    content: Any = value.get("content")
    if isinstance(content, dict):
        parts = _list(cast(Json, content).get("parts"))
        content = [content] if parts is None else parts
    elif isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    return Said(
        content=cast("str | list[Any]", content) if isinstance(content, str | list) else None,
        reasoning_content=_thought(value.get("reasoning_content")),
        reasoning=_thought(value.get("reasoning")),
        reasoning_text=_thought(value.get("reasoning_text")),
        reasoning_details=list(_parts(value.get("reasoning_details"))),
        thinking=_thought(value.get("thinking")),
        thinking_blocks=list(_parts(value.get("thinking_blocks"))),
        refusal=_text(value.get("refusal")),
        tool_calls=[_call(one) for one in _objects(_decoded(value.get("tool_calls")), "function", "name")],
        function_call=_function(_decoded(value.get("function_call"))),
        text=_text(value.get("text")),
    )


def _thought(value: Any) -> str | None:
    """Reasoning as text, or as blocks of it."""
    return value if isinstance(value, str) else "".join(thought_of(part) for part in _parts(value)) or None


def _call(value: Json) -> CallPiece:
    function = _function(value)
    custom = _object(value.get("custom"))
    return CallPiece(
        index=_int(value.get("index")),
        id=clean(_word(value.get("id"))),
        function=_function(_decoded(value.get("function"))),
        name=function.name if function else None,
        arguments=function.arguments if function else None,
        parameters=function.parameters if function else None,
        input=_arguments(value.get("input")),
        custom=CustomPiece(_text(custom.get("name")), _text(custom.get("input"))) if custom else None,
    )


def _function(value: Any) -> FunctionPiece | None:
    if not isinstance(value, dict):
        return None
    function = cast(Json, value)
    name = clean(_text(function.get("name")) or "")
    return FunctionPiece(name, _arguments(function.get("arguments")), _arguments(function.get("parameters")))


def _arguments(value: Any) -> str | Json | None:
    """The arguments of a call; a list of one object stands for that."""
    listed = _list(value)
    if listed is not None and len(listed) == 1:
        value = listed[0]
    return cast("str | Json", value) if isinstance(value, str | dict) else None


def _decoded(value: Any) -> Any:
    """What a server wrote as JSON in a text."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return parse(value.encode(errors="replace"))
    except ValueError:
        return value


def _counts(value: Any) -> Counts | None:
    if not isinstance(value, dict):
        return None
    usage = cast(Json, value)
    names = zip(Counts.__struct_fields__, Counts.__struct_encode_fields__, strict=True)
    fields: dict[str, Any] = {name: _int(usage.get(theirs)) for name, theirs in names}
    for name in ("prompt_tokens_details", "input_tokens_details"):
        fields[name] = InputDetails(_int(_object(usage.get(name)).get("cached_tokens")))
    for name in ("completion_tokens_details", "output_tokens_details"):
        fields[name] = OutputDetails(_int(_object(usage.get(name)).get("reasoning_tokens")))
    return Counts(**fields)


# What a value is, where it is of the type that is looked for.


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _word(value: Any) -> str:
    """An id, which some servers write as a number."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _int(value: Any) -> int | None:
    """A number from 0 on, which some servers write as a text or with a point."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) and 0 <= number <= _INT_MAX else None


def _object(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any] | None:
    return cast("list[Any]", value) if isinstance(value, list) else None


def _objects(value: Any, *marks: str) -> list[Json]:
    """The objects of a list; an object that has one of the marks stands for a list of itself."""
    if isinstance(value, dict):
        one = cast(Json, value)
        value = [one] if any(mark in one for mark in marks) else list(one.values())
    return [cast(Json, one) for one in _list(value) or () if isinstance(one, dict)]


# Blocks of content.


def _parts(value: Any) -> Sequence[Any]:
    return _list(value) or (() if value is None else (value,))


def thought_of(part: Any) -> str:
    """The text of a block of reasoning, whatever it is called there."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    block = cast(Json, part)
    for name in ("text", "thinking", "summary", "reasoning", "content"):
        if text := "".join(thought_of(inner) for inner in _parts(block.get(name))):
            return text
    return ""


def blocks_of(content: Sequence[Any]) -> list[tuple[str, str]]:
    """Content as a list of blocks, as some servers write it: kind (``text``, ``thought`` or ``refusal``) and text."""
    return [found for part in content if (found := _block(part))[1]]


def _block(part: Any) -> tuple[str, str]:
    if isinstance(part, str):
        return "text", part
    block = _object(part)
    kind = _text(block.get("type")) or ""
    if "think" in kind or "reason" in kind:
        return "thought", thought_of(block)
    if kind == "refusal":
        return "refusal", _text(block.get("refusal")) or ""
    text: Any = block.get("text")
    return "text", _text(_object(text).get("value") if isinstance(text, dict) else text) or ""


# Logprobs.


def logprob_of(entry: Any, top_max: int) -> Json | None:
    """One entry of ``logprobs.content`` in full, with so many alternatives; None for what is none."""
    token = _token(entry)
    if token is None:
        return None
    listed = (_list(_object(entry).get("top_logprobs")) or [])[:top_max]
    alternatives = (_token(one) for one in listed)
    return {**token, "top_logprobs": [one for one in alternatives if one is not None]}


def _token(value: Any) -> Json | None:
    if not isinstance(value, dict):
        return None
    entry = cast(Json, value)
    token = clean(_text(entry.get("token")) or "")
    raw, logprob = _list(entry.get("bytes")), entry.get("logprob")
    is_number = isinstance(logprob, int | float) and not isinstance(logprob, bool) and math.isfinite(logprob)
    return {
        "token": token,
        "logprob": logprob if is_number else _NO_LOGPROB,
        "bytes": raw if raw is not None and all(_is_byte(one) for one in raw) else list(token.encode()),
    }


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
