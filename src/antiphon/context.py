"""Plan + stored items -> Prompt: the whole context in order, checked for what a model cannot be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from antiphon.models import Prompt
from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest, NotFound
from antiphon.wire.items import refuse_duplicates
from antiphon.wire.textfile import file_text

_OUTPUTS = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
}
_CALLS = frozenset(_OUTPUTS.values())

_LEFT_OUT = "[An image stood here. It was left out, because this model cannot see images.]"


def references(items: Sequence[Json]) -> list[Id]:
    """The ids of the items that are only referred to."""
    return [item["id"] for item in items if item["type"] == "item_reference"]


def resolved(items: Sequence[Json], found: Mapping[Id, Json], *, member: str = "input") -> tuple[Json, ...]:
    """The items with what was ``found`` in place of the references.

    Raises:
        NotFound: a reference to an item that is not there.
        InvalidRequest: one item twice.
    """
    whole = tuple(_looked_up(items, found, member))
    refuse_duplicates(whole, member)
    return whole


def _looked_up(items: Sequence[Json], found: Mapping[Id, Json], member: str) -> Iterator[Json]:
    for item in items:
        if item["type"] != "item_reference":
            yield item
        elif item["id"] in found:
            yield found[item["id"]]
        else:
            text = (
                f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input."
            )
            raise NotFound(text, param=member)


def build(
    prompt: Prompt,
    history: Sequence[Json],
    *,
    supports_images: bool,
    note_images: bool = False,
    source: str = "previous_response_id",
) -> Prompt:
    """Put the history in front of the request's own items.

    Args:
        sees: whether the model accepts images.
        note_images: whether a model that does not is told in words that there was one; else the request is refused.
        source: the member of the request that brought the history.

    Raises:
        InvalidRequest: an output without its call, a call without its output, an item that is in the history
            already, what only a server that compacts can read, or an image or a file that the model cannot be shown.
    """
    # A call that was cut off was never made: nobody can answer it.
    history = [item for item in history if item["type"] not in _CALLS or item.get("status") != "incomplete"]
    items = prompt.items
    if history:
        items = (*history, *items)
        refuse_duplicates(prompt.items, "input", before=history)
    _check_calls(items)
    _refuse_compaction(prompt.items)
    if not supports_images and note_images:
        items = tuple(_noted(item) for item in items)
    _refuse_unshowable(items, len(history), supports_images, source)
    return prompt if items is prompt.items else msgspec.structs.replace(prompt, items=items)


def shorten(prompt: Prompt, keep: float) -> Prompt | None:
    """Drop the oldest items, down to the share ``keep`` (0–1) of them; None when nothing more can go.

    The last user message and what follows stays. A call and its output go together.
    """
    last = max((i for i, item in enumerate(prompt.items) if item.get("role") == "user"), default=0)
    drop = min(last, max(1, round(len(prompt.items) * (1 - keep))))
    if drop == 0:
        return None
    gone = {item.get("call_id") for item in prompt.items[:drop] if item["type"] in _CALLS}
    rest = [i for i in prompt.items[drop:] if i["type"] not in _OUTPUTS or i["call_id"] not in gone]
    return msgspec.structs.replace(prompt, items=tuple(rest))


def _check_calls(items: Sequence[Json]) -> None:
    """Every call needs one output, every output its call, in that order (texts as the official API words them)."""
    pending: dict[str, str] = {}
    answered: set[str] = set()
    for item in items:
        kind, call_id = item["type"], item.get("call_id")
        if kind in _CALLS and call_id:
            pending[call_id] = kind
        elif kind in _OUTPUTS and call_id not in answered and pending.pop(call_id or "", None) is None:
            name = _OUTPUTS[kind].replace("_", " ")
            raise InvalidRequest(f"No tool call found for {name} output with call_id {call_id}.", param="input")
        if kind in _OUTPUTS and call_id:
            answered.add(call_id)
    for call_id, kind in pending.items():
        raise InvalidRequest(f"No tool output found for {kind.replace('_', ' ')} {call_id}.", param="input")


def _refuse_unshowable(items: Sequence[Json], offset: int, supports_images: bool, source: str) -> None:
    for i, item in enumerate(items):
        for j, part in enumerate(_parts(item)):
            why = _unshowable(part, supports_images)
            if why is not None:
                param = f"input[{i - offset}].{_member(item)}[{j}]" if i >= offset else source
                raise InvalidRequest(why, code="unsupported_value", param=param)


_COMPACTION: Final = {
    "compaction": (
        "invalid_encrypted_content",
        "The encrypted content could not be read: it was not made by this server, which does not compact yet.",
    ),
    "compaction_trigger": ("unsupported_value", "Unsupported value: 'compaction_trigger'. There is no compaction yet."),
}
"""Items whose loss would be noticed: what they stand for is a whole context. Code and text by kind."""


def _refuse_compaction(items: Sequence[Json]) -> None:
    for index, item in enumerate(items):
        if item["type"] in _COMPACTION:
            code, text = _COMPACTION[item["type"]]
            raise InvalidRequest(text, code=code, param=f"input[{index}]")


def _unshowable(part: Json, supports_images: bool) -> str | None:
    match part.get("type"):
        case "input_image" if not supports_images:
            return "This model does not accept images. Remove the image, or choose a model that sees."
        case "input_image" if not part.get("image_url"):
            return "This server can show a model only images that are given in image_url."
        case "input_file" if file_text(part) is None:
            return "This server can show a model only files that are text, given in file_data as a data URL in base64."
        case _:
            return None


def _noted(item: Json) -> Json:
    """The item with a text in the place of each image."""
    if not any(part.get("type") == "input_image" for part in _parts(item)):
        return item
    note = {"type": "input_text", "text": _LEFT_OUT}
    parts = [note if part.get("type") == "input_image" else part for part in _parts(item)]
    return item | {_member(item): parts}


def _member(item: Json) -> str:
    return "content" if item.get("content") else "output"


def _parts(item: Json) -> Sequence[Json]:
    content: str | list[Json] | None = item.get(_member(item))
    return content if isinstance(content, list) else ()
