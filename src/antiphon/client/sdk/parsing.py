"""Reading structured answers: from a response as a whole, and from the events of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import openai.types.responses as official
import pydantic
from openai import Omit, omit
from openai.lib.streaming.responses import ResponseStreamState

from antiphon.client.sdk.params import Arguments, is_given
from antiphon.client.sdk.results import ParsedResponse, extend
from antiphon.client.sdk.text_format import Shape, TextFormat, make_text_format


class ResponseParser:
    """Reads answers in a form, and the arguments of calls by their tools.

    Only an answer that is whole is read: of one that was cut, refused or failed, ``parsed`` stays None.

    Args:
        form: None to leave texts unread.
        tools: the request's tools; those made of Pydantic models read their arguments, strict ones are read as JSON.
    """

    def __init__(self, format: TextFormat | None, tools: Iterable[Any] | None = None) -> None:
        self._format = format
        self._tools = list(tools or ())
        self._phases: dict[int, str | None] = {}
        self.incomplete: ParsedResponse[Any] | None = None

    def response(self, response: official.Response) -> ParsedResponse[Any]:
        """The response with what was read.

        Raises:
            pydantic.ValidationError: a whole answer does not have the form.
            WrongShape: the same, where the form is a JSON schema.
        """
        tools = self._tools if response.status == "completed" else omit
        return self._parse_items(cast("ParsedResponse[Any]", extend(_to_parsed(response, tools))))

    def _parse_items(self, parsed: ParsedResponse[Any]) -> ParsedResponse[Any]:
        if parsed.status == "completed" and self._format is not None:
            answers = (item for item in parsed.output if item.type == "message" and _is_answer(item.phase))
            for part in (part for item in answers for part in item.content if part.type == "output_text"):
                part.parsed = self._format.read(part.text)
        return parsed

    def event(self, event: Any) -> Any:
        """An event of the official stream helper, extended, with what was parsed.

        Raises:
            pydantic.ValidationError: see ``response``.
        """
        match event.type:
            case "response.output_item.added":
                self._phases[event.output_index] = getattr(event.item, "phase", None)
            case "response.output_text.done":
                event.parsed = self._try_parse(event)
            case "response.completed":
                self._parse_items(extend(event.response))
            case "response.incomplete":
                self.incomplete = self.response(event.response)
            case _:
                pass
        return extend(event)

    def _try_parse(self, event: Any) -> Any:
        """What a text says that may yet turn out to have been cut."""
        if self._format is None or not _is_answer(self._phases.get(event.output_index)):
            return None
        try:
            return self._format.read(event.text)
        except (ValueError, pydantic.ValidationError):
            return None


def _to_parsed(response: official.Response, tools: Iterable[Any] | Omit) -> official.ParsedResponse[Any]:
    """The official parsed response, its calls' arguments read, as the official stream helper makes it at the end: the
    public way to one.
    """
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=tools, text_format=omit)
    empty = official.Response.construct(id=response.id, output=[])
    state.handle_event(official.ResponseCreatedEvent.construct(type="response.created", response=empty))
    completed = official.ResponseCompletedEvent.construct(
        type="response.completed", response=response, sequence_number=0
    )
    return cast(Any, state.handle_event(completed)[0]).response


def _is_answer(phase: str | None) -> bool:
    """Whether a message of that phase is the answer; a comment on the way is not."""
    return phase in (None, "final_answer")


def prepare_parsing(text_format: Shape, parse_as: Shape, params: Arguments) -> tuple[Arguments, ResponseParser]:
    """The request with ``text.format`` for ``text_format``, and who reads its answer: ``parse_as`` if given, else
    ``text_format``.

    Raises:
        TypeError: ``text["format"]`` is given too, no schema can be made, or the input changes the format (a
            ``configuration_update``) and it is not said how to read it.
    """
    format = make_text_format(text_format) if _is_shape_given(text_format) else None
    if format is not None:
        text: Mapping[str, Any] = params.get("text") or {}
        if "format" in text:
            raise TypeError("Cannot mix and match text.format with text_format")
        params = {**params, "text": {**text, "format": format.format}}
    return params, ResponseParser(_choose_format(format, parse_as, params), params.get("tools"))


def _is_shape_given(shape: Shape) -> bool:
    return is_given(shape) and shape is not None


def _choose_format(format: TextFormat | None, parse_as: Shape, params: Arguments) -> TextFormat | None:
    update = _format_update(params.get("input"))
    if update is not None and parse_as is not None:
        if update.get("type") == "text":
            if is_given(parse_as):
                raise TypeError("Cannot use parse_as with a plain-text format update")
            return None
        if format is not None and not is_given(parse_as) and update != format.format:
            raise TypeError("Pass parse_as for the updated output schema, or parse_as=None to read plain output_text")
    if not is_given(parse_as):
        return format
    return make_text_format(parse_as) if parse_as is not None else None


def _format_update(input: Any) -> Mapping[str, Any] | None:
    """The last change of the format among the items, if there is one."""
    for item in reversed(cast("list[Any]", input) if isinstance(input, list) else []):
        match item:
            case {"type": "configuration_update", "text": {"format": Mapping()}}:
                return cast("Mapping[str, Any]", item["text"]["format"])
            case _:
                pass
    return None
