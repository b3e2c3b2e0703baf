"""``normal``: input items in the one form that the rest of the system, the store and the listings know.

Every item has an id; content is a list of parts; the members that the output types require are there. What else an
item carries stays as it came. Normal items are a fixpoint: normalising them again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.kinds import KINDS, is_output
from antiphon.wire.validation import Fault, Path, too_long, wrong_value

Ids: TypeAlias = Callable[[str], Id]
"""Makes a fresh id: ``ids("msg")`` is ``msg_…``."""

NO_ARGUMENTS: Final = "{}"
_PARTS_OF_INPUT = ("input_text", "input_image", "input_file")


def expand_short_form(item: Any) -> Any:
    """The item with the ``type`` that the two short forms leave out, a message, told by ``role``, and a reference; and
    with the arguments of a call that has none as the API writes them.
    """
    if not isinstance(item, dict):
        return item
    members = cast(Json, item)
    if members.get("type") is not None:
        return {**members, "arguments": NO_ARGUMENTS} if _has_no_arguments(members) else members
    if "role" in members:
        return {**members, "type": "message"}
    return {**members, "type": "item_reference"} if members.keys() <= {"id", "type"} and members else members


def _has_no_arguments(item: Json) -> bool:
    return item.get("type") == "function_call" and "arguments" in item and is_blank(item["arguments"])


def is_blank(arguments: Any) -> bool:
    """Whether the arguments of a call say nothing, as some clients and models write them for a call without any."""
    return arguments is None or (isinstance(arguments, str) and arguments.strip() in ("", "null"))


def normal(items: Sequence[Json], ids: Ids, *, chars_max: int, member: str = "input") -> tuple[Json, ...]:
    """Normalise items that ``wire.input_items.InputItem`` accepts; ``chars_max`` bounds each text, ``member`` is the
    member of the body that holds them.

    Raises:
        InvalidRequest: a part that the role cannot have, ``phase`` where no assistant speaks, a text too long, or one
            id on two items.
    """
    found = [_normal(item, ids, (member, index), chars_max) for index, item in enumerate(items)]
    if len(found) > 1:
        refuse_duplicates(found, member)
    return tuple(found)


def _normal(item: Json, ids: Ids, path: Path, chars_max: int) -> Json:
    kind: str = item["type"]
    if kind == "item_reference":
        return item
    new = {**item, "id": item.get("id") or ids(KINDS[kind].prefix)}
    new |= {name: value for name, value in KINDS[kind].assumed.items() if new.get(name) is None}
    if kind == "message":
        _normalize_message(new, path, chars_max)
    elif kind == "function_call_output":
        _check_length(new["output"], (*path, "output"), chars_max)
        if isinstance(new["output"], list):
            new["output"] = [_with_detail(part) for part in cast(list[Json], new["output"])]
    return new


def _normalize_message(message: Json, path: Path, chars_max: int) -> None:
    """Bring a message's content to a list of parts, as its role writes them."""
    from_model = message["role"] == "assistant"
    if not from_model and message.get("phase") is not None:
        text = "'phase' is allowed on messages of role 'assistant' only."
        raise Fault((*path, "phase"), "invalid_value", text).error()
    content: str | list[Json] = message["content"]
    path = (*path, "content")
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
        _check_length(content[0]["text"], path, chars_max)
    settle = _output_part if from_model else _input_part
    message["content"] = [settle(part, (*path, i), chars_max) for i, part in enumerate(content)]


def _output_part(part: Json, path: Path, chars_max: int) -> Json:
    """An assistant's text is ``output_text`` in every output type, however the caller labelled it."""
    if part["type"] not in ("input_text", "output_text"):
        return part
    _check_length(part["text"], path, chars_max)
    new: Json = {**part, "type": "output_text"}
    for key in ("annotations", "logprobs"):
        if new.get(key) is None:
            new[key] = []
    return new


def _input_part(part: Json, path: Path, chars_max: int) -> Json:
    kind = part["type"]
    if kind not in _PARTS_OF_INPUT:
        raise wrong_value((*path, "type"), kind, _PARTS_OF_INPUT).error()
    if kind == "input_text":
        _check_length(part["text"], path, chars_max)
    return _with_detail(part)


def _with_detail(part: Json) -> Json:
    """An image says in how much detail it is to be seen."""
    return {**part, "detail": "auto"} if part["type"] == "input_image" and part.get("detail") is None else part


def _check_length(text: object, path: Path, chars_max: int) -> None:
    if isinstance(text, str) and len(text) > chars_max:
        raise too_long(path, len(text), chars_max).error()


def content_member(item: Json) -> str:
    """Where an item has its parts. What else it carries is nobody's, whatever its name."""
    return "content" if item["type"] == "message" else "output"


def content_parts(item: Json) -> Sequence[Json]:
    """The parts of a message, or of a call's output; none where it has no list of them."""
    if item["type"] != "message" and not is_output(item):
        return ()
    content: Any = item.get(content_member(item))
    entries = cast("list[Any]", content) if isinstance(content, list) else ()
    return [cast(Json, part) for part in entries if isinstance(part, dict)]


def content_texts(content: Any) -> Iterator[str]:
    """The texts of some content, which is one or has them in its parts."""
    if isinstance(content, str):
        yield content
    for part in cast("list[Any]", content) if isinstance(content, list) else ():
        text: Any = cast(Json, part).get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text


def is_system(item: Json) -> bool:
    """Whether the item is a message of a system's or a developer's: it instructs, and takes no part in the talk."""
    return item.get("type", "message") == "message" and item.get("role") in ("system", "developer")


def last_user_text(items: Sequence[Json]) -> str:
    """What the user said last; empty where nobody did."""
    for item in reversed(items):
        if item.get("type", "message") == "message" and item.get("role", "user") == "user":
            return "\n".join(content_texts(item.get("content")))
    return ""


def refuse_duplicates(items: Sequence[Json], member: str, before: Iterable[Json] = ()) -> None:
    """Ids name items in the store: none may occur twice among ``items``, or in what stands ``before`` them.

    Raises:
        InvalidRequest: one does.
    """
    seen: set[str | None] = {item.get("id") for item in before}
    seen.discard(None)
    for item in items:
        id = item.get("id")
        if id in seen:
            raise duplicate(str(id), member)
        if id is not None:
            seen.add(id)


def empty_input_error() -> InvalidRequest:
    """The refusal of a request whose whole context is empty."""
    text = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided."
    return InvalidRequest(text, code="missing_required_parameter")


def duplicate(id: Id, member: str) -> InvalidRequest:
    """The refusal of an item that is there already."""
    text = f"Duplicate item found with id {id}. Remove duplicate items from your input and try again."
    return InvalidRequest(text, code="invalid_value", param=member)
