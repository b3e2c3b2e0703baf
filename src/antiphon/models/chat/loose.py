"""A chunk that is not as documented, read field by field under whatever names and types its server has. Pure.

A field that makes no sense counts as absent. Texts may hold halves of surrogate pairs: their partner may be in the next
chunk.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, cast

from antiphon.models.chat.chunk import (
    CallPiece,
    Choice,
    Chunk,
    Counts,
    CustomPiece,
    FunctionPiece,
    InputDetails,
    Message,
    OutputDetails,
    parse,
)
from antiphon.models.chat.unicode import clean
from antiphon.wire import Json

_NO_LOGPROB: Final = -9999.0
"""What the API says where a token has no probability at all."""
_INT_MAX: Final = 2**53
_WRAPPERS_MAX: Final = 3
"""How many objects may stand around a chunk."""
_BLOCKS_MAX: Final = 6
"""How deep the text of a block may stand in lists and objects."""


def unwrap(value: Json, depth: int = _WRAPPERS_MAX) -> Json:
    """A chunk, or the one that some servers put into an object around it, or into a text of that; what stands beside it
    is kept.
    """
    if "choices" in value or not depth:
        return value
    for inner in map(_decode, value.values()):
        found = unwrap(cast(Json, inner), depth - 1) if isinstance(inner, dict) else {}
        if "choices" in found:
            return {**{name: value[name] for name in ("usage", "error") if name in value}, **found}
    return value


def chunk_of(value: Json) -> Chunk:
    """The chunk that a decoded object is, as far as it makes sense, under whatever names its server has."""
    choices = _objects(_decode(value.get("choices")), "delta", "message")
    if not choices and _reason_in(value):
        choices = [{"finish_reason": _reason_in(value)}]
    return Chunk(choices=[_choice(one) for one in choices], usage=usage_in(value), error=value.get("error"))


def _choice(value: Json) -> Choice:
    delta, message = _speech(value.get("delta")), value.get("message")
    if isinstance(message, str):
        message = {"content": message}
    if delta is None and not isinstance(message, dict) and not _OF_A_DELTA.isdisjoint(value):
        delta = value
    return Choice(
        index=_int(value.get("index")),
        delta=None if delta is None else _read_message(delta),
        message=_read_message(cast(Json, message)) if isinstance(message, dict) else None,
        finish_reason=_reason_in(value) or _reason_in(delta or {}),
        logprobs=value.get("logprobs"),
        usage=_counts(value.get("usage")),
        error=value.get("error"),
        text=text_of(value.get("text")) or None,
    )


def _speech(delta: Any) -> Json | None:
    """What a choice says, of which some servers make a list."""
    listed = _list(delta)
    found = listed[0] if listed else delta
    return cast(Json, found) if isinstance(found, dict) else None


_OF_A_DELTA: Final = frozenset({"content", "reasoning_content", "tool_calls"})
_REASONS: Final = ("finish_reason", "finishReason", "stop_reason", "finish_details")


def _reason_in(value: Json) -> str | None:
    """Why it ends, under the first name that says so."""
    return next((reason for name in _REASONS if (reason := _reason(value.get(name)))), None)


def _reason(value: Any) -> str | None:
    listed = _list(value)
    if listed:
        value = listed[0]
    if isinstance(value, dict):
        inner = cast(Json, value)
        return _text(inner.get("type")) or _text(inner.get("reason")) or "stop"
    if isinstance(value, str) or not value:
        return _text(value)
    return "stop"


def _read_message(value: Json) -> Message:
    content: Any = value.get("content")
    if isinstance(content, dict):
        parts = _list(cast(Json, content).get("parts"))
        content = [content] if parts is None else parts
    elif isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    calls = next((found for name in _CALLED if (found := _decode(value.get(name)))), None)
    return Message(
        content=cast("str | list[Any]", content) if isinstance(content, str | list) else None,
        reasoning_content=_thought_in(value),
        reasoning_details=_list(value.get("reasoning_details")),
        refusal=_text(value.get("refusal")),
        tool_calls=[_call(one) for one in _objects(calls, "function", "name")],
        function_call=_function(_decode(value.get("function_call"))),
        text=_text(value.get("text")),
    )


_CALLED: Final = ("tool_calls", "tool_call", "toolCalls")
_THOUGHTS: Final = (
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "reasoning_details",
    "thinking_blocks",
    "reasoningContent",
    "reasoning_summary",
    "thought",
    "thoughts",
)


def _thought_in(value: Json) -> str | None:
    """Reasoning, under the first name that has some; some gateways put it among what only one provider knows."""
    aside = _object(value.get("provider_specific_fields"))
    thoughts = (_thought(one.get(name)) for one in (value, aside) for name in _THOUGHTS)
    return next(filter(None, thoughts), None)


def _thought(value: Any) -> str | None:
    """Reasoning as text, or as blocks of it."""
    return value if isinstance(value, str) else "".join(thought_of(part) for part in _parts(value)) or None


def _call(value: Json) -> CallPiece:
    inner = _speech(_decode(value.get("function")))
    function, beside = _function(inner), _function(value)
    if inner is None and isinstance(value.get("function"), str):
        value = {"name": value["function"], **value}
        beside = _function(value)
    custom = _object(value.get("custom"))
    return CallPiece(
        index=_int(value.get("index")),
        id=clean(_word(value.get("id"))),
        function=function,
        name=beside.name if beside else None,
        arguments=beside.arguments if beside else None,
        parameters=beside.parameters if beside else None,
        input=beside.input if beside else None,
        custom=CustomPiece(_text(custom.get("name")), _text(custom.get("input"))) if custom else None,
        extra_content=_object(value.get("extra_content")) or None,
    )


def _function(value: Any) -> FunctionPiece | None:
    if not isinstance(value, dict):
        return None
    function = cast(Json, value)
    name = clean(_text(function.get("name")) or _text(function.get("tool_name")) or "")
    written = {field: _arguments(function.get(field)) for field in ("arguments", "parameters", "args")}
    given = _arguments(function.get("input")), _arguments(function.get("tool_input"))
    return FunctionPiece(name, **written, input=given[1] if given[0] is None else given[0])


def _arguments(value: Any) -> str | Json | None:
    """The arguments of a call; a list of one object stands for that."""
    listed = _list(value)
    if listed is not None and len(listed) == 1:
        value = listed[0]
    return cast("str | Json", value) if isinstance(value, str | dict) else None


def _decode(value: Any) -> Any:
    """What a server wrote as JSON in a text."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return parse(value.encode(errors="replace"))
    except ValueError:
        return value


def usage_in(value: Json) -> Counts | None:
    """What a chunk says that was used, wherever it does; None where it says nothing."""
    found = _counts(value.get("usage"))
    if found is None or not (found.input or found.output):
        others = (_counts(value.get(name)) for name in (*_USAGES, *_ASIDES))
        found = next((one for one in others if one and (one.input or one.output)), found)
    return found


_USAGES: Final = ("usage", "usageMetadata", "usage_metadata", "token_usage")
_ASIDES: Final = ("x_groq", "meta", "metadata", "metrics", "amazon-bedrock-invocationMetrics")
_IN: Final = ("prompttokens", "inputtokens", "prompttokencount", "inputtokencount", "promptevalcount", "tokensin")
_OUT: Final = (
    "completiontokens",
    "outputtokens",
    "generatedtokens",
    "candidatestokencount",
    "completiontokencount",
    "outputtokencount",
    "evalcount",
    "tokensout",
)
_CACHED: Final = (
    "cachedtokens",
    "prompttokensdetails.cachedtokens",
    "inputtokensdetails.cachedtokens",
    "promptcachehittokens",
    "numcachedtokens",
    "cachedcontenttokencount",
    "cachereadinputtokens",
)
_REASONED: Final = (
    "reasoningtokens",
    "completiontokensdetails.reasoningtokens",
    "outputtokensdetails.reasoningtokens",
    "thoughtstokencount",
)
_PLAIN: Final = str.maketrans("", "", "_-")


def _counts(value: Any) -> Counts | None:
    """Counts by whatever names: how they are spelled does not matter, nor what is around them."""
    listed = _list(_decode(value))
    value = listed[0] if listed else _decode(value)
    if not isinstance(value, dict):
        return None
    usage = cast(Json, value)
    counts: Json = {}
    for name, one in usage.items():
        plain = name.translate(_PLAIN).lower()
        inner = _object(one)
        counts |= {plain: one, **{f"{plain}.{key.translate(_PLAIN).lower()}": inner[key] for key in inner}}
    nested = next((found for name in ("usage", "tokens") if (found := _object(usage.get(name)))), None)
    return (
        _counts(nested)
        if nested
        else Counts(
            prompt_tokens=_first_int(counts, _IN),
            completion_tokens=_first_int(counts, _OUT),
            total_tokens=_first_int(counts, ("totaltokens", "totaltokencount")),
            prompt_tokens_details=InputDetails(_first_int(counts, _CACHED)),
            completion_tokens_details=OutputDetails(_first_int(counts, _REASONED)),
        )
    )


def _first_int(counts: Json, names: Sequence[str]) -> int | None:
    """The first number that is not 0."""
    return next((number for name in names if (number := _int(counts.get(name)))), None)


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
    """The objects of a list, also of lists in it, and those that are written as text; an object that has one of the
    marks stands for a list of itself.
    """
    if isinstance(value, dict):
        one = cast(Json, value)
        value = [one] if any(mark in one for mark in marks) else list(one.values())
    flat = [inner for one in _list(value) or () for inner in _list(one) or (one,)]
    return [cast(Json, one) for one in map(_decode, flat) if isinstance(one, dict)]


# Blocks of content.


def _parts(value: Any) -> Sequence[Any]:
    return _list(value) or (() if value is None else (value,))


def thought_of(part: Any) -> str:
    """The text of a block of reasoning, whatever it is called there."""
    return _words(part, ("text", "thinking", "summary", "reasoning", "reasoningText", "thought", "content"))


def text_of(part: Any) -> str:
    """The text of a block of an answer."""
    return _words(part, ("text", "value", "content", "parts"))


def _words(part: Any, names: Sequence[str], depth: int = _BLOCKS_MAX) -> str:
    """The text under the first of the names that has some, within ``depth``."""
    if isinstance(part, str):
        return part
    if not depth:
        return ""
    if (listed := _list(part)) is not None:
        return "".join(_words(one, names, depth - 1) for one in listed)
    block = _object(part)
    texts = (_words(block[name], names, depth - 1) for name in names if name in block)
    return next(filter(None, texts), "")


def blocks_of(content: Sequence[Any]) -> list[tuple[str, str]]:
    """Content as a list of blocks, as some servers write it: kind (``text``, ``thought`` or ``refusal``) and text."""
    return [found for part in content if (found := _block(part))[1]]


def calls_of(content: Sequence[Any]) -> list[CallPiece]:
    """The calls among such blocks."""
    blocks = [_object(part) for part in content]
    return [_call(block) for block in blocks if block.get("type") in ("tool_use", "tool_call", "function_call")]


def _block(part: Any) -> tuple[str, str]:
    block = _object(part)
    kind = _text(block.get("type")) or ""
    if "think" in kind or "reason" in kind or block.get("thought") is True or "thinking" in block:
        return "thought", thought_of(block)
    if kind == "refusal":
        return "refusal", _text(block.get("refusal")) or ""
    return "text", "" if "call" in kind or "tool" in kind else text_of(part)


# Logprobs.


def logprobs_of(value: Any, top_max: int) -> list[Json]:
    """The entries of a choice's ``logprobs`` in full, each with so many alternatives. Some servers write them as those
    of the older completions: lists beside each other.
    """
    lists = _object(value)
    entries: Any = lists.get("content", value)
    tokens = _list(lists.get("tokens"))
    if tokens is not None:
        numbers, others = (_list(lists.get(name)) or [] for name in ("token_logprobs", "top_logprobs"))
        beside = itertools.zip_longest(tokens, numbers[: len(tokens)], others[: len(tokens)])
        entries = [{"token": one, "logprob": number, "top_logprobs": top} for one, number, top in beside]
    found = [_entry(one, top_max) for one in _parts(entries)]
    return [one for one in found if one is not None]


def _entry(entry: Any, top_max: int) -> Json | None:
    """An entry; None for what is none."""
    token = _token(entry)
    if token is None:
        return None
    given: Any = _object(entry).get("top_logprobs")
    if isinstance(given, dict):
        given = [{"token": name, "logprob": number} for name, number in cast(Json, given).items()]
    alternatives = (_token(one) for one in (_list(given) or [])[:top_max])
    return {**token, "top_logprobs": [one for one in alternatives if one is not None]}


def _token(value: Any) -> Json | None:
    if not isinstance(value, dict) or "token" not in value:
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
