"""Functions in words, for models whose template shows none, or shows them badly. Pure.

Functions are JSON objects on lines of their own, a call is a fenced block of JSON, and earlier calls are written in
that same form. The calls since the user last spoke, and what came of them, stand in the user's turn: a weak model reads
what it is told, and repeats what it finds among its own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Function
from antiphon.models.chat.arguments import compact
from antiphon.models.outcome import outcome_of
from antiphon.wire import Json
from antiphon.wire.items import is_system
from antiphon.wire.pairing import pair_calls

_ANY_OBJECT: Final[Json] = {"type": "object", "properties": {}}
CALL_BEGUN: Final = '```json\n{"name": "'
"""How a call begins."""
IN_WORDS: Final = Function(
    "answer_in_words",
    "For all that no other function does: talk, general knowledge, writing, code, translation.",
    _ANY_OBJECT,
)
_IN_WORDS_BESIDE_SEARCH: Final = Function(IN_WORDS.name, "For greetings and thanks alone.", _ANY_OBJECT)
_MADE: Final = "These calls were already made, with these results:"
_NEXT: Final = {
    "failed": "The last call failed. Correct it by what its result says and make it again, or say why that cannot be.",
    "unfinished": "Make the last call again only if its result is not final. Otherwise answer from the results.",
    "done": "Do not make them again. If another call is needed, make it. Otherwise answer from the results, in words.",
}


def description(functions: Sequence[Function], *, parallel: bool, words: bool = False) -> str:
    """What the model is told of the functions, and of how they are called.

    Args:
        words: whether it is offered a function for what needs none, so that it can be seen what it would call.
    """
    named = {function.name for function in functions}
    in_words = _IN_WORDS_BESIDE_SEARCH if any(function.searches for function in functions) else IN_WORDS
    more = (in_words,) if words and IN_WORDS.name not in named else ()
    block, later = "one such block", ("Make one call at a time.",)
    if parallel:
        block += " for each call"
        later = ("Make a call that needs the result of another one later, when you have been told that result.",)
    return "\n".join(
        (
            "You can call these functions, and no others:",
            *(function_line(function) for function in (*more, *functions)),
            "",
            "If the user asks for something that one of them can find out or do, call it. Then your whole answer is",
            f"{block}:",
            call_block("function_name", {"parameter": "value"}),
            *later,
            "Otherwise answer directly, in plain words.",
        )
    )


def function_line(function: Function) -> str:
    """A function as one line of JSON."""
    described = {"description": function.description} if function.description else {}
    return compact({"name": function.name, **described, "parameters": function.parameters or _ANY_OBJECT})


def call_block(name: str, arguments: Any) -> str:
    """A call as the model is to write it."""
    return f"```json\n{_format_json({'name': name, 'arguments': arguments})}\n```"


def _format_json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


# What was called before.


class _Made(msgspec.Struct):
    """A call, and its output once there is one."""

    call: Json
    output: Json | None = None


def calls_to_messages(items: Sequence[Json]) -> list[Json]:
    """The items with every call and output told in messages: earlier ones in turns of their own, those since the user
    last spoke in the user's turn.
    """
    events = _pair(items)
    from_user = [at for at, event in enumerate(events) if _is_from_user(event)]
    last = from_user[-1] if from_user else -1
    before, since = events[: max(last, 0)], events[last + 1 :]
    out = _in_turns(before)
    asked: Json = {"type": "message", "role": "user", "content": cast("list[Json]", [])}
    if from_user:
        asked = cast(Json, events[last])
    if not any(isinstance(event, _Made) for event in since):
        return [*out, *([asked] if from_user else []), *(cast(Json, event) for event in since)]
    return [*out, _fold_into_question(asked, since), *(cast(Json, event) for event in since if _is_system(event))]


def _pair(items: Sequence[Json]) -> list[Json | _Made]:
    """The items, calls joined with their outputs; an output without a call is told as the user's."""
    call_places = pair_calls(items)
    made = {i: _Made(item) for i, item in enumerate(items) if item.get("type") == "function_call"}
    events: list[Json | _Made] = []
    for i, item in enumerate(items):
        if i in made:
            events.append(made[i])
        elif item.get("type") != "function_call_output":
            events.append(item)
        elif i in call_places:
            made[call_places[i]].output = item
        else:
            events.append(_user("Output of an earlier function call:", item.get("output")))
    return events


def _in_turns(events: Iterable[Json | _Made]) -> list[Json]:
    """Calls as the model would have written them, and their outputs as what it was told then."""
    out: list[Json] = []
    results: list[Any] = []
    blocks: list[str] = []

    def close() -> None:
        if blocks:
            out.append({"type": "message", "role": "assistant", "content": "\n".join(blocks)})
            out.append({"type": "message", "role": "user", "content": [part for one in results for part in one]})
            blocks.clear()
            results.clear()

    for event in events:
        if isinstance(event, _Made):
            blocks.append(_block(event))
            results.append(_result(event, f"Result of {event.call.get('name') or ''}:"))
        else:
            close()
            out.append(event)
    close()
    return out


def _fold_into_question(asked: Json, since: Sequence[Json | _Made]) -> Json:
    """The user's message with all that has been done about it."""
    parts: list[Any] = [*_parts(asked.get("content")), _text_part(f"\n{_MADE}")]
    last = ""
    for event in since:
        if isinstance(event, _Made):
            parts += [_text_part(_block(event)), *_result(event, "Result:")]
            last = _output_text(event)
        elif event.get("type", "message") == "message" and not _is_system(event):
            parts += _parts(event.get("content"))
    return {**asked, "content": [*parts, _text_part(f"\n{_NEXT[outcome_of(last)]}")]}


def _block(made: _Made) -> str:
    written: Any = made.call.get("arguments")
    try:
        arguments: Any = msgspec.json.decode(written) if isinstance(written, str) else written
    except (msgspec.DecodeError, RecursionError):
        arguments = written
    return call_block(made.call.get("name") or "", arguments or {})


def _result(made: _Made, label: str) -> list[Any]:
    parts = _parts(made.output.get("output")) if made.output else [_text_part("none")]
    return [_text_part(label), *(parts or [_text_part("(empty)")])]


def _output_text(made: _Made) -> str:
    parts = _parts(made.output.get("output")) if made.output else []
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _parts(content: Any) -> list[Json]:
    """The parts of some content, as parts of input: an answer's would follow each other without a break."""
    if isinstance(content, str):
        return [_text_part(content)] if content else []
    parts = cast("list[Any]", content) if isinstance(content, list) else []
    return [_as_input(cast(Json, part)) for part in parts if isinstance(part, dict)]


def _as_input(part: Json) -> Json:
    return _text_part(part["text"]) if part.get("type") == "output_text" and "text" in part else part


def _text_part(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _user(label: str, content: Any) -> Json:
    return {"type": "message", "role": "user", "content": [_text_part(label), *_parts(content)]}


def _is_from_user(event: Json | _Made) -> bool:
    if isinstance(event, _Made) or event.get("type", "message") != "message":
        return False
    return event.get("role", "user") == "user"


def _is_system(event: Json | _Made) -> bool:
    return not isinstance(event, _Made) and is_system(event)
