"""What comes back: the official types, with more to ask of them.

``extend`` is the one place where an official object becomes ours. It runs where the SDK has just built the object, so
that every way to it (create, retrieve, a stream's events, ``with_raw_response`` …) leads through here. An object
changes its class, never its data: what it dumps, compares, copies and pickles stays what the official SDK says.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, TypeAlias, TypeVar, cast

import openai.types.responses as official
from openai import BaseModel
from openai.types.responses.parsed_response import ContentType

from antiphon.client.sdk import display
from antiphon.client.sdk.content import AnswerDelta, Content, Delta
from antiphon.client.sdk.tool_calls import ToolCall, tool_calls

T = TypeVar("T")
Extension: TypeAlias = Callable[[Any], None]


class _Extended:
    """Compares and pickles as the official object that it is, and is extended again when it is unpickled."""

    def __eq__(self, other: object) -> bool:
        return _as_official(self) == _as_official(other) if isinstance(other, BaseModel) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as the official types'

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (_official_class(type(self)), cast(Any, self).__getstate__())


def _official_class(kind: type[Any]) -> type[BaseModel]:
    bases = cast("tuple[type[BaseModel], ...]", kind.__mro__)
    return next(base for base in bases if not issubclass(base, _Extended))


def _as_official(value: Any) -> Any:
    """A view of the value as the official object, sharing its data."""
    if not isinstance(value, _Extended):
        return value
    kind = _official_class(type(value))
    view = kind.__new__(kind)
    view.__setstate__(cast(Any, value).__getstate__())
    return view


def _unpickle(kind: type[BaseModel], state: dict[Any, Any]) -> BaseModel:
    made = kind.__new__(kind)
    made.__setstate__(state)
    return extend(made)


class ResponseMembers(_Extended):
    """What both a ``Response`` and a ``ParsedResponse`` can be asked."""

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        """The calls that wait for their caller's output, in order; None when there are none.

        Hosted tools' calls are left out: the server has answered them. They are in ``output``.
        """
        return tool_calls(cast(Any, self).output or ()) or None

    @property
    def refusal(self) -> str | None:
        """The words of a refusal, if the model refused; else None."""
        parts = [part for item in cast(Any, self).output if item.type == "message" for part in item.content]
        return "".join(part.refusal for part in parts if part.type == "refusal") or None

    @property
    def duration_s(self) -> float | None:
        """Seconds from its creation to its completion, in the server's whole seconds; None before that."""
        response = cast(Any, self)
        return None if response.completed_at is None else response.completed_at - response.created_at

    def __str__(self) -> str:
        return display.to_text(cast(Any, self))

    def __rich__(self) -> Any:
        return display.to_rich(cast(Any, self))

    def _repr_html_(self) -> str:
        return display.to_html(cast(Any, self))


class Response(ResponseMembers, official.Response):
    """The official ``openai.types.responses.Response``, and more.

    Besides what is below: a message's ``content`` is the official list and prints, formats and compares as its text;
    ``print(response)`` is for reading; notebooks and Rich show items, usage and time. ``repr``, ``model_dump``,
    ``to_dict``, ``to_json``, equality, copies and pickles are the official ones.
    """


class ParsedResponse(ResponseMembers, official.ParsedResponse[ContentType], Generic[ContentType]):
    """The official ``ParsedResponse``, and what ``Response`` has, and why there may be no ``output_parsed``."""

    @property
    def output_parsed(self) -> ContentType | None:
        """The answer in its shape; None as ``output_parsed_reason`` says. Also where it is empty, 0 or False, for which
        the official property has None.
        """
        messages = (item for item in self.output if item.type == "message")
        parts = (part for message in messages for part in message.content if part.type == "output_text")
        return next((part.parsed for part in parts if part.parsed is not None), None)

    @property
    def output_parsed_reason(self) -> str | None:
        """Why ``output_parsed`` is None; None when it is not, or when nothing was asked for but text.

        ``refusal: …`` with the model's words; ``incomplete: max_output_tokens`` (or ``content_filter`` …) for a cut
        answer; ``failed: …`` and ``cancelled`` for those; ``no answer`` where the output holds no text, only calls
        perhaps.
        """
        if self.output_parsed is not None:
            return None
        if self.refusal is not None:
            return f"refusal: {self.refusal}"
        match self.status:
            case "incomplete":
                return f"incomplete: {self.incomplete_details and self.incomplete_details.reason}"
            case "failed":
                return f"failed: {self.error and self.error.message}"
            case "completed":
                return None if self.output_text else "no answer"
            case status:
                return status or "no answer"


class CompactedResponse(_Extended, official.CompactedResponse):
    """The official ``CompactedResponse``, and how much smaller the context has become.

    The server's own counts where it sends them; else what ``usage`` says was read and written.
    """

    @property
    def original_token_count(self) -> int:
        """Tokens of the context before."""
        return int(self._read_extra("original_token_count", self.usage.input_tokens))

    @property
    def token_count(self) -> int:
        """Tokens of the context now."""
        return int(self._read_extra("token_count", self.usage.output_tokens))

    @property
    def reduction_percentage(self) -> float:
        """By how many per cent it shrank, to one decimal; 0 when there was nothing to shrink."""
        before = self.original_token_count
        shrunk = round(100 * (1 - self.token_count / before), 1) if before else 0.0
        return float(self._read_extra("reduction_percentage", shrunk))

    def _read_extra(self, name: str, otherwise: float) -> float:
        return (self.model_extra or {}).get(name, otherwise)


def extend(value: T) -> T:
    """The same object with what this module adds; whatever it does not know, as it is."""
    _extension_for(type(value))(value)
    return value


@cache
def _extension_for(kind: type) -> Extension:
    """What is to be done to an object of that class."""
    if not issubclass(kind, BaseModel) or issubclass(kind, _Extended):
        return _keep
    if issubclass(kind, official.Response):
        return _extend_response(ParsedResponse if issubclass(kind, official.ParsedResponse) else Response)
    if issubclass(kind, official.CompactedResponse):
        return _extend_compacted
    if issubclass(kind, official.ResponseOutputMessage):
        return _extend_message
    return _extend_event(kind) if "sequence_number" in kind.model_fields else _keep


def _keep(value: Any) -> None:
    pass


def _extend_response(kind: type) -> Extension:
    def extend_one(value: Any) -> None:
        _set_class(value, kind)
        _extend_items(value.output)

    return extend_one


def _extend_compacted(value: Any) -> None:
    _set_class(value, CompactedResponse)
    _extend_items(value.output)


def _extend_items(output: Any) -> None:
    for item in output or ():
        if isinstance(item, official.ResponseOutputMessage):
            _extend_message(item)


def _extend_message(value: Any) -> None:
    content = value.content
    if type(content) is list:
        value.__dict__["content"] = Content(cast(Any, content))


def _extend_event(kind: type[BaseModel]) -> Extension:
    if "delta" in kind.model_fields:
        made = AnswerDelta if issubclass(kind, official.ResponseTextDeltaEvent) else Delta
        return lambda value: _extend_delta(value, made)
    extended = _without_delta(kind)
    inner = [name for name in ("response", "item") if name in kind.model_fields]

    def extend_one(value: Any) -> None:
        _set_class(value, extended)
        for name in inner:
            extend(getattr(value, name, None))

    return extend_one


def _extend_delta(value: Any, made: type[Delta]) -> None:
    if isinstance(value.delta, str):
        value.__dict__["delta"] = made(value.delta)
    elif isinstance(value.delta, BaseModel):
        _set_class(value.delta, _with_no_content(type(value.delta)))


@cache
def _without_delta(kind: type[BaseModel]) -> type[BaseModel]:
    """The class of an event that carries no delta, whose ``delta`` is None instead of an ``AttributeError``."""
    members = {"delta": property(lambda self: None), "__module__": kind.__module__, "__doc__": kind.__doc__}
    return cast(Any, type)(kind.__name__, (_Extended, kind), members)


@cache
def _with_no_content(kind: type[BaseModel]) -> type[BaseModel]:
    """The class of a delta that is an object (a shell's output): its ``content`` is empty, as ``Delta``'s."""
    members = {"content": property(lambda self: ""), "__module__": kind.__module__, "__doc__": kind.__doc__}
    return cast(Any, type)(kind.__name__, (_Extended, kind), members)


def _set_class(value: Any, kind: type) -> None:
    object.__setattr__(value, "__class__", kind)
