"""The table of what may grow, through which events. Writer, fold and stream checker read it; so do the docs.

A response holds items; an item holds texts that grow, some of them inside numbered parts. Every event of the API is
one of nine operations on that shape, and this table says which. A new kind of item is one row of ``KINDS``.
Source: the official SDK's stream event types, and their order as recorded from the official API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from antiphon.wire import Json

Op: TypeAlias = Literal[
    "envelope",  # the response changes its status
    "open item",  # an item joins the output
    "close item",  # an item is done
    "open part",  # a part joins an item
    "close part",  # a part is done
    "grow",  # a text grows
    "whole",  # a text is done
    "note",  # progress or a remark that belongs to an open item
    "error",  # what went wrong, before the response fails
]
"""What an event does to the response."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A text that grows by ``delta`` events and ends with one ``done`` event.

    Attributes:
        field: where the whole text stands, in the done event and in the item or part.
        logprobs: whether its events carry ``logprobs``.
    """

    delta: str
    done: str
    field: str
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A numbered part of an item.

    Attributes:
        list: the item's field that holds such parts; ``index``: the event field with the part's place in it.
        empty: the part as it opens.
    """

    type: str
    list: str
    index: str
    added: str
    done: str
    stream: Stream
    empty: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of output item.

    Attributes:
        prefix: of its ids.
        empty: fields it opens with besides ``id``, ``type`` and ``status``.
        stream: the text that grows on the item itself, if any.
        parts: by part type.
        notes: other events while it is open.
        status: whether the item carries one.
        lists: the item's fields that hold parts.
        opening: all fields it opens with besides ``id``.
    """

    type: str
    prefix: str
    empty: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stream: Stream | None = None
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    notes: tuple[str, ...] = ()
    status: bool = True
    lists: tuple[str, ...] = field(init=False)
    opening: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lists", tuple(dict.fromkeys(part.list for part in self.parts.values())))
        status = {"status": "in_progress"} if self.status else {}
        object.__setattr__(self, "opening", {"type": self.type, **status, **self.empty})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one event type means. ``part`` is set for the texts of parts, ``status`` for envelopes."""

    op: Op
    stream: Stream | None = None
    part: Part | None = None
    status: str = ""


def _part(type: str, stream: Stream, empty: Json) -> Part:
    added, done = "response.content_part.added", "response.content_part.done"
    return Part(type, "content", "content_index", added, done, stream, {"type": type, **empty})


def _stream(name: str, field: str, *, logprobs: bool = False) -> Stream:
    return Stream(f"response.{name}.delta", f"response.{name}.done", field, logprobs)


OUTPUT_TEXT = _part(
    "output_text",
    _stream("output_text", "text", logprobs=True),
    {"text": "", "annotations": [], "logprobs": []},
)
REFUSAL = _part("refusal", _stream("refusal", "refusal"), {"refusal": ""})
REASONING_TEXT = _part("reasoning_text", _stream("reasoning_text", "text"), {"text": ""})
SUMMARY_TEXT = Part(
    "summary_text",
    "summary",
    "summary_index",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    _stream("reasoning_summary_text", "text"),
    {"type": "summary_text", "text": ""},
)


def _notes(name: str, *phases: str) -> tuple[str, ...]:
    return tuple(f"response.{name}.{phase}" for phase in phases)


KINDS: dict[str, Kind] = {
    kind.type: kind
    for kind in (
        Kind(
            "message",
            "msg",
            {"role": "assistant", "content": []},
            parts={"output_text": OUTPUT_TEXT, "refusal": REFUSAL},
            notes=("response.output_text.annotation.added",),
        ),
        Kind(
            "reasoning",
            "rs",
            {"summary": [], "content": []},
            parts={"reasoning_text": REASONING_TEXT, "summary_text": SUMMARY_TEXT},
        ),
        Kind(
            "function_call",
            "fc",
            {"arguments": ""},
            _stream("function_call_arguments", "arguments"),
        ),
        Kind("custom_tool_call", "ctc", {"input": ""}, _stream("custom_tool_call_input", "input"), status=False),
        Kind(
            "mcp_call",
            "mcp",
            {"arguments": ""},
            _stream("mcp_call_arguments", "arguments"),
            notes=_notes("mcp_call", "in_progress", "completed", "failed"),
        ),
        Kind(
            "mcp_list_tools",
            "mcpl",
            notes=_notes("mcp_list_tools", "in_progress", "completed", "failed"),
            status=False,
        ),
        Kind("mcp_approval_request", "mcpr", status=False),
        Kind("file_search_call", "fs", notes=_notes("file_search_call", "in_progress", "searching", "completed")),
        Kind("web_search_call", "ws", notes=_notes("web_search_call", "in_progress", "searching", "completed")),
        Kind(
            "code_interpreter_call",
            "ci",
            {"code": ""},
            _stream("code_interpreter_call_code", "code"),
            notes=_notes("code_interpreter_call", "in_progress", "interpreting", "completed"),
        ),
        Kind(
            "image_generation_call",
            "ig",
            notes=_notes("image_generation_call", "in_progress", "generating", "partial_image", "completed"),
        ),
        Kind("computer_call", "cu"),
        Kind("computer_call_output", "cuo"),
        Kind("apply_patch_call", "apc"),
        Kind("apply_patch_call_output", "apco"),
        Kind("shell_call", "sh", notes=_notes("shell_call_command", "added", "delta", "done")),
        Kind("shell_call_output", "sho", notes=_notes("shell_call_output_content", "delta", "done")),
        Kind("local_shell_call", "lsh"),
        Kind("local_shell_call_output", "lsho"),
        Kind("function_call_output", "fco"),
        Kind("custom_tool_call_output", "ctco"),
        Kind("tool_search_call", "ts"),
        Kind("tool_search_output", "tso"),
        Kind("additional_tools", "at", status=False),
        Kind("program", "prog", status=False),
        Kind("program_output", "progo"),
        Kind("mcp_approval_response", "mcpa", status=False),
        Kind("compaction", "cmp", notes=("response.compaction.compacting",), status=False),
    )
}

TERMINAL = {"completed", "incomplete", "failed"}


def _envelopes() -> Iterator[tuple[str, Rule]]:
    yield "response.created", Rule("envelope", status="created")
    for status in ("queued", "in_progress", *sorted(TERMINAL)):
        yield f"response.{status}", Rule("envelope", status=status)
    yield "error", Rule("error")
    yield "response.output_item.added", Rule("open item")
    yield "response.output_item.done", Rule("close item")


def _texts(stream: Stream, part: Part | None) -> Iterator[tuple[str, Rule]]:
    yield stream.delta, Rule("grow", stream, part)
    yield stream.done, Rule("whole", stream, part)


def _rules(kind: Kind) -> Iterator[tuple[str, Rule]]:
    if kind.stream:
        yield from _texts(kind.stream, None)
    for part in kind.parts.values():
        yield part.added, Rule("open part")
        yield part.done, Rule("close part")
        yield from _texts(part.stream, part)
    for note in kind.notes:
        yield note, Rule("note")


EVENTS: dict[str, Rule] = dict(_envelopes()) | {type: rule for kind in KINDS.values() for type, rule in _rules(kind)}
"""Every event type of the API (audio, which no Responses model sends, aside) and what it means."""
