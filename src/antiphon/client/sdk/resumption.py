"""Going on with a stream behind an event, without sending again what came before it.

The official helper keeps the state of the response while it reads: each text event has a ``snapshot``. So it must know
what there was when the reader left. It gets that by reading everything again; here it is worked out. The server says
how the response stands now, and up to which event that goes; the events from where the reader left up to there are
taken away from it again, and what remains is told to the helper in as few events as will do, which its reader never
sees.

A server that does not say how far its response goes (``x-antiphon-sequence-number``) is asked for everything, as by
the official helper, unless the response has ended: then it goes to the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import openai.types.responses as official
from openai import OpenAIError

REACHED_HEADER: Final = "x-antiphon-sequence-number"

_ENDED: Final = ("completed", "failed", "incomplete", "cancelled")
_NEVER: Final = float("inf")


class Continued:
    """A stream with events in front of it: what the helper reads in place of the SDK's stream."""

    def __init__(self, stream: Any, first: Sequence[Any], error: OpenAIError | None) -> None:
        self.response = stream.response
        self._stream = stream
        self._first = first
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        yield from self._first
        if self._error is not None:
            raise self._error
        yield from self._stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self._first:
            yield event
        if self._error is not None:
            raise self._error
        async for event in self._stream:
            yield event


def resume(resource: Any, response_id: str, after: int, options: Mapping[str, Any]) -> Any:
    """The events behind number ``after``, with what the helper needs in front of them."""
    raw = resource.with_raw_response.retrieve(response_id, **options)
    response = raw.parse()
    reached = _reached(raw.headers, response)
    if not _can_begin(response, reached, after):
        return resource.retrieve(response_id, stream=True, **options)
    stream = resource.retrieve(response_id, stream=True, starting_after=after, **options)
    later: list[Any] = []
    try:
        while (later[-1].sequence_number if later else after) < reached and (event := next(stream, None)) is not None:
            later.append(event)
    except OpenAIError as error:
        return Continued(stream, [*beginning(response, later, after), *later], error)
    return Continued(stream, [*beginning(response, later, after), *later], None)


async def async_resume(resource: Any, response_id: str, after: int, options: Mapping[str, Any]) -> Any:
    """See ``resume``."""
    raw = await resource.with_raw_response.retrieve(response_id, **options)
    response = raw.parse()
    reached = _reached(raw.headers, response)
    if not _can_begin(response, reached, after):
        return await resource.retrieve(response_id, stream=True, **options)
    stream = await resource.retrieve(response_id, stream=True, starting_after=after, **options)
    later: list[Any] = []
    try:
        while (later[-1].sequence_number if later else after) < reached:
            event = await anext(stream, None)
            if event is None:
                break
            later.append(event)
    except OpenAIError as error:
        return Continued(stream, [*beginning(response, later, after), *later], error)
    return Continued(stream, [*beginning(response, later, after), *later], None)


def _reached(headers: Mapping[str, str], response: official.Response) -> float:
    """The number of the last event that the response holds; -1 if nobody says."""
    if response.status in _ENDED:
        return _NEVER
    return int(headers.get(REACHED_HEADER, -1))


def _can_begin(response: official.Response, reached: float, after: int) -> bool:
    return reached >= after and all(getattr(item, "id", None) for item in response.output)


def beginning(response: official.Response, later: Sequence[Any], after: int) -> list[Any]:
    """Events that fold to the response as it was behind number ``after``, each numbered so.

    Args:
        response: as it stands at the last of ``later``.
        later: all events from ``after`` up to there.
    """
    seen = _Seen(later)
    empty: dict[str, Any] = {**response.to_dict(), "output": [], "status": "in_progress"}
    events: list[Any] = [official.ResponseCreatedEvent.construct(type="response.created", response=empty)]
    place = 0
    for item in seen.before(response.output):
        place = seen.places.get(str(item["id"]), place)
        events += _item(item, place, seen)
        place += 1
    for event in events:
        event.sequence_number = after
    return events


class _Seen:
    """What events have added, which is what there was not before them."""

    def __init__(self, events: Sequence[Any]) -> None:
        self.places: dict[str, int] = {}
        self._added: set[str] = set()
        self._done: dict[str, dict[str, Any]] = {}
        self._parts: set[tuple[str, int]] = set()
        self._said: dict[tuple[str, int], int] = {}
        for event in events:
            self._see(event)

    def _see(self, event: Any) -> None:
        item: Any = getattr(event, "item", None)
        id = getattr(event, "item_id", None) or getattr(item, "id", None)
        if id is None:
            return
        self.places[id] = event.output_index
        index = getattr(event, "content_index", 0)
        match event.type:
            case "response.output_item.added":
                self._added.add(id)
            case "response.output_item.done":
                self._done[id] = item.to_dict()
            case "response.content_part.added":
                self._parts.add((id, index))
            case "response.output_text.delta" | "response.function_call_arguments.delta":
                self._said[id, index] = self._said.get((id, index), 0) + len(event.delta)
            case _:
                pass

    def before(self, output: Sequence[Any]) -> list[dict[str, Any]]:
        """The items that there were: of the output, and of those that were closed and left out of it since."""
        there = {item.id: item.to_dict() for item in output}
        gone = {id: item for id, item in self._done.items() if id not in there}
        found = [item for id, item in [*gone.items(), *there.items()] if id not in self._added]
        return sorted(found, key=lambda item: self.places.get(str(item["id"]), -1))

    def text(self, id: str, index: int, now: str) -> str:
        """A text as it was."""
        return now[: len(now) - self._said.get((id, index), 0)]

    def has(self, id: str, index: int) -> bool:
        """Whether there was that part."""
        return (id, index) not in self._parts


def _item(item: dict[str, Any], place: int, seen: _Seen) -> list[Any]:
    id = item["id"]
    match item["type"]:
        case "message":
            return [_added({**item, "content": []}, place), *_parts(item, place, seen)]
        case "function_call":
            said = seen.text(id, 0, item["arguments"])
            delta = official.ResponseFunctionCallArgumentsDeltaEvent.construct(
                type="response.function_call_arguments.delta", item_id=id, output_index=place, delta=said
            )
            return [_added({**item, "arguments": ""}, place), delta]
        case _:
            return [_added(item, place)]


def _added(item: dict[str, Any], place: int) -> Any:
    return official.ResponseOutputItemAddedEvent.construct(
        type="response.output_item.added", item={**item, "status": "in_progress"}, output_index=place
    )


def _parts(item: dict[str, Any], place: int, seen: _Seen) -> Iterator[Any]:
    for index, part in enumerate(item["content"]):
        if not seen.has(item["id"], index):
            continue
        where: dict[str, Any] = {"item_id": item["id"], "output_index": place, "content_index": index}
        kind = part["type"]
        empty = {**part, "text": ""} if kind == "output_text" else {**part, "refusal": ""}
        yield official.ResponseContentPartAddedEvent.construct(type="response.content_part.added", part=empty, **where)
        if kind == "output_text":
            said = seen.text(item["id"], index, part["text"])
            yield official.ResponseTextDeltaEvent.construct(
                type="response.output_text.delta", delta=said, logprobs=[], **where
            )
