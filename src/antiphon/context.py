"""Plan + stored items -> Prompt: the whole context in order, checked for what a model cannot be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from antiphon import compaction
from antiphon.access.sealing import Purpose, Unsealable
from antiphon.compaction import Compaction
from antiphon.models import Prompt, TextFormat
from antiphon.tools.computer import check_acknowledged
from antiphon.tools.toolbox import Offers
from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest, NotFound
from antiphon.wire.items import content_member, content_parts, refuse_duplicates
from antiphon.wire.kinds import KINDS, call_id_of, is_call, is_output
from antiphon.wire.pairing import pair_calls
from antiphon.wire.schema import refuse_unusable

_IMAGE_OMITTED = "[An image stood here. It was left out, because this model cannot see images.]"


class Unseal(Protocol):
    """Opens what was sealed for the caller.

    Raises:
        Unsealable: it was not.
    """

    def __call__(self, text: str, *, purpose: Purpose) -> Json: ...


def refuse_sealed(text: str, *, purpose: Purpose) -> Json:
    """Of somebody who seals nothing."""
    raise Unsealable


def references(items: Sequence[Json]) -> list[Id]:
    """The ids of the items that are only referred to."""
    return [item["id"] for item in items if item["type"] == "item_reference"]


def resolve(items: Sequence[Json], found: Mapping[Id, Json], *, member: str = "input") -> tuple[Json, ...]:
    """The items with what was ``found`` in place of the references.

    Raises:
        NotFound: a reference to an item that is not there.
        InvalidRequest: one item twice.
    """
    whole = tuple(_replace_references(items, found, member))
    refuse_duplicates(whole, member)
    return whole


def _replace_references(items: Sequence[Json], found: Mapping[Id, Json], member: str) -> Iterator[Json]:
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
    offers: Offers,
    *,
    supports_images: bool,
    note_images: bool = False,
    source: str = "previous_response_id",
    unseal: Unseal = refuse_sealed,
) -> Prompt:
    """Put the history in front of the request's own items, and lower all of them to what ``models`` knows.

    Args:
        offers: what the model may call in that context, and how the items of tools are lowered.
        supports_images: whether the model accepts images.
        note_images: whether a model that does not is told in words that there was one; else the request is refused.
        source: the member of the request that brought the history.
        unseal: opens reasoning and compactions that the caller, or the history, carries.

    Raises:
        InvalidRequest: an output without its call, a call without its output, an item that is in the history
            already, an image or a file that the model cannot be shown; ``invalid_encrypted_content``.
    """
    # A call that was cut off was never made: nobody can answer it.
    history = [item for item in history if not is_call(item) or item.get("status") != "incomplete"]
    refuse_duplicates(prompt.items, "input", before=history)
    _refuse_misplaced(prompt.items)
    prompt = _apply_configuration(prompt, history, source)
    own = [
        _unseal_reasoning(item, i, unseal)
        for i, item in enumerate(prompt.items)
        if item["type"] != "compaction_trigger"
    ]
    notes_images = not supports_images and note_images
    whole = [*history, *own]
    # A compaction knows messages again as the model was shown them.
    items = apply_compaction(
        replace_images(whole) if notes_images else whole,
        unseal,
        lambda at: _member_at(at - len(history), source),
        stored=len(history),
    )
    _check_calls(items)
    _check_safety(items)
    if notes_images:
        items = replace_images(items)
    # What a compaction took the place of stood in front of all that is left.
    _refuse_unshowable(items, len(items) - len(own), supports_images, source)
    lowered = tuple(offers.toolbox.lower(items))
    return msgspec.structs.replace(prompt, items=lowered, functions=offers.functions or prompt.functions)


def _check_calls(items: Sequence[Json]) -> None:
    """Every call needs an output, every output its call, in that order (texts as the official API words them). A second
    output of one call is passed over: agents send one again.
    """
    answers = pair_calls(items)
    called: set[str | None] = set()
    for i, item in enumerate(items):
        if is_call(item):
            called.add(call_id_of(item))
        elif is_output(item) and i not in answers and call_id_of(item) not in called:
            name = str(KINDS[item["type"]].answers).replace("_", " ")
            text = f"No tool call found for {name} output with call_id {call_id_of(item)}."
            raise InvalidRequest(text, param="input")
    answered = set(answers.values())
    for i, item in enumerate(items):
        if is_call(item) and i not in answered:
            text = f"No tool output found for {item['type'].replace('_', ' ')} {call_id_of(item)}."
            raise InvalidRequest(text, param="input")


def _check_safety(items: Sequence[Json]) -> None:
    fault = check_acknowledged(items)
    if fault is not None:
        raise InvalidRequest(fault, code="invalid_value", param="input")


def _refuse_unshowable(items: Sequence[Json], offset: int, supports_images: bool, source: str) -> None:
    for i, item in enumerate(items):
        for j, part in enumerate(content_parts(item)):
            why = _unshowable(part, supports_images)
            if why is not None:
                param = f"input[{i - offset}].{content_member(item)}[{j}]" if i >= offset else source
                raise InvalidRequest(why, code="unsupported_value", param=param)


def _refuse_misplaced(items: Sequence[Json]) -> None:
    for i, item in enumerate(items[:-1]):
        if item["type"] == "compaction_trigger":
            text = "Invalid value: 'compaction_trigger'. It is the last item of the input, or it is not there."
            raise InvalidRequest(text, code="invalid_value", param=f"input[{i}]")


def _apply_configuration(prompt: Prompt, history: Sequence[Json], source: str) -> Prompt:
    """The prompt as the updates in its context have it: the latest one of a setting counts, and counts before what the
    request itself says.
    """
    for index, item in enumerate((*history, *prompt.items), -len(history)):
        if item["type"] != "configuration_update":
            continue
        reasoning: Json = item.get("reasoning") or {}
        if reasoning.get("effort") is not None:
            prompt = msgspec.structs.replace(prompt, effort=reasoning["effort"])
        if item.get("text") is not None:
            param = f"input[{index}].text.format.schema" if index >= 0 else source
            prompt = msgspec.structs.replace(prompt, format=_format(item["text"]["format"], param))
    return prompt


def _format(given: Json, param: str) -> TextFormat:
    if given["type"] == "text":
        return TextFormat()
    name, schema, strict = given["name"], given["schema"], bool(given.get("strict"))
    refuse_unusable(name, schema, strict=strict, param=param)
    return TextFormat(given["type"], name, schema, strict)


def sealed_reasoning(item: Json) -> Json:
    """What of a reasoning item is sealed for callers that carry it."""
    return {"content": item.get("content") or [], "summary": item.get("summary") or []}


def _unseal_reasoning(item: Json, index: int, unseal: Unseal) -> Json:
    """A reasoning item with what its caller carried sealed."""
    sealed = item.get("encrypted_content")
    if item["type"] != "reasoning" or not sealed:
        return item
    thought = _unseal(item, unseal, "reasoning", _member_at(index, ""))
    return {**item, **thought, "encrypted_content": None}


def refuse_foreign(items: Sequence[Json], unseal: Unseal) -> None:
    """See that what is kept for later can be opened then: a compaction that cannot would be the end of what holds it.

    Raises:
        InvalidRequest: ``invalid_encrypted_content``.
    """
    purposes: dict[str, Purpose] = {"reasoning": "reasoning", "compaction": "compaction"}
    for i, item in enumerate(items):
        purpose = purposes.get(item["type"])
        if purpose is not None and (item.get("encrypted_content") or purpose == "compaction"):
            _unseal(item, unseal, purpose, f"items[{i}].encrypted_content")


def apply_compaction(
    items: Sequence[Json], unseal: Unseal, member: Callable[[int], str], stored: int = 0
) -> Sequence[Json]:
    """The items, with what the last compaction among them holds in the place of all that stands before it.

    Args:
        member: of the request, which brought the item at that place.
        stored: how many of the items were kept here.

    Raises:
        InvalidRequest: ``invalid_encrypted_content``.
    """
    at = compaction.latest(items)
    if at is None:
        return items
    held = msgspec.convert(_unseal(items[at], unseal, "compaction", member(at)), Compaction)
    return compaction.expand(items, at, held, stored)


def _member_at(index: int, source: str) -> str:
    return source if index < 0 else f"input[{index}].encrypted_content"


def _unseal(item: Json, unseal: Unseal, purpose: Purpose, param: str) -> Json:
    try:
        return unseal(item["encrypted_content"], purpose=purpose)
    except Unsealable:
        named = f" for item {item['id']}" if item.get("id") else ""
        why = "it was not made by this server for you, or was changed since"
        text = f"The encrypted content{named} could not be verified: {why}."
        raise InvalidRequest(text, code="invalid_encrypted_content", param=param) from None


def _unshowable(part: Json, supports_images: bool) -> str | None:
    match part.get("type"):
        case "input_image" if not supports_images:
            return "This model does not accept images. Remove the image, or choose a model that supports images."
        case "input_image" if not part.get("image_url"):
            return "Give an image in one of 'image_url' and 'file_id'."
        case "input_file":
            return "Models are shown the text of a file, and this file has none."
        case _:
            return None


def replace_images(items: Sequence[Json]) -> list[Json]:
    """The items with a text in the place of each image, for a model that cannot see."""
    return [_replace_images_of(item) for item in items]


def _replace_images_of(item: Json) -> Json:
    """The item with a text in the place of each image."""
    if not any(part.get("type") == "input_image" for part in content_parts(item)):
        return item
    note = {"type": "input_text", "text": _IMAGE_OMITTED}
    parts = [note if part.get("type") == "input_image" else part for part in content_parts(item)]
    return item | {content_member(item): parts}
