"""The one table of item kinds: everything that is true of a kind of item, in one row.

The grammar of streams, normalisation, the pairing of calls with their outputs, listings, the clients' ``tool_calls``
and the documentation read it; nobody keeps a second list. A new kind of item is one row of ``KINDS``.

Source: the official SDK's item and event types, and their order as recorded from the official API. Prefixes of ids that
no recording shows are those that public fixtures use; clients treat ids as opaque.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from antiphon.wire import Json

Side: TypeAlias = Literal["input", "output", "both"]
"""Where a kind may stand: in a request's input, in a response's output, or in both."""


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
class Listed:
    """Texts in a list of an item, which are told one by one while it is open.

    Attributes:
        member, list: the item's member, and the list in it.
        field: what an event calls one text; ``index``: the event field with its place in the list.
    """

    member: str
    list: str
    field: str
    index: str
    added: str
    delta: str
    done: str


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a listing leaves out unless ``include`` names it.

    Attributes:
        include: what the request calls it.
        member: the item's member that is left out; where ``part`` is set, that member of it alone, also in each
            entry of a list.
    """

    include: str
    member: str
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of item.

    Attributes:
        prefix: of its ids.
        side: where it may stand.
        empty: fields it opens with besides ``id``, ``type`` and ``status``.
        stream: the text that grows on the item itself, if any.
        parts: by part type.
        notes: other events while it is open.
        listed: the texts in it that such events tell.
        status: whether the item carries one.
        assumed: what is assumed of one that comes without.
        answers: the kind of call that it is the output of.
        asks: of a call that its caller answers: what the clients call its type. None for all other items.
        hidden: what ``include`` brings.
        stored: whether it is kept and listed; what only says something about one request is not.
        lists: the item's fields that hold parts.
        opening: all fields it opens with besides ``id``.
    """

    type: str
    prefix: str
    side: Side = "both"
    empty: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stream: Stream | None = None
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    notes: tuple[str, ...] = ()
    listed: Listed | None = None
    status: bool = True
    assumed: Mapping[str, str] = field(default_factory=dict[str, str])
    answers: str | None = None
    asks: str | None = None
    hidden: tuple[Hidden, ...] = ()
    stored: bool = True
    lists: tuple[str, ...] = field(init=False)
    opening: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lists", tuple(dict.fromkeys(part.list for part in self.parts.values())))
        status = {"status": "in_progress"} if self.status else {}
        object.__setattr__(self, "opening", {"type": self.type, **status, **self.empty})


def _part(type: str, stream: Stream, empty: Json) -> Part:
    added, done = "response.content_part.added", "response.content_part.done"
    return Part(type, "content", "content_index", added, done, stream, {"type": type, **empty})


def _stream(name: str, field: str, *, logprobs: bool = False) -> Stream:
    return Stream(f"response.{name}.delta", f"response.{name}.done", field, logprobs)


def _notes(name: str, *phases: str) -> tuple[str, ...]:
    return tuple(f"response.{name}.{phase}" for phase in phases)


OUTPUT_TEXT: Final = _part(
    "output_text",
    _stream("output_text", "text", logprobs=True),
    {"text": "", "annotations": [], "logprobs": []},
)
REFUSAL: Final = _part("refusal", _stream("refusal", "refusal"), {"refusal": ""})
REASONING_TEXT: Final = _part("reasoning_text", _stream("reasoning_text", "text"), {"text": ""})
SUMMARY_TEXT: Final = Part(
    "summary_text",
    "summary",
    "summary_index",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    _stream("reasoning_summary_text", "text"),
    {"type": "summary_text", "text": ""},
)

_COMPLETED: Final = {"status": "completed"}
_BY_CLIENT: Final = {"execution": "client"}

_COMMANDS: Final = Listed(
    "action", "commands", "command", "command_index", *_notes("shell_call_command", "added", "delta", "done")
)

_ROWS: Final = (
    Kind(
        "message",
        "msg",
        empty={"role": "assistant", "content": []},
        parts={"output_text": OUTPUT_TEXT, "refusal": REFUSAL},
        notes=("response.output_text.annotation.added",),
        assumed=_COMPLETED,
        hidden=(Hidden("message.input_image.image_url", "content", "image_url"),),
    ),
    Kind(
        "reasoning",
        "rs",
        empty={"summary": [], "content": []},
        parts={"reasoning_text": REASONING_TEXT, "summary_text": SUMMARY_TEXT},
        hidden=(Hidden("reasoning.encrypted_content", "encrypted_content"),),
    ),
    # Calls that the caller answers, and their outputs
    Kind(
        "function_call",
        "fc",
        empty={"arguments": ""},
        stream=_stream("function_call_arguments", "arguments"),
        assumed=_COMPLETED,
        asks="function",
    ),
    Kind("function_call_output", "fco", assumed=_COMPLETED, answers="function_call"),
    Kind(
        "custom_tool_call",
        "ctc",
        empty={"input": ""},
        stream=_stream("custom_tool_call_input", "input"),
        status=False,
        assumed=_COMPLETED,
        asks="custom",
    ),
    Kind("custom_tool_call_output", "ctco", assumed=_COMPLETED, answers="custom_tool_call"),
    Kind("apply_patch_call", "apc", asks="apply_patch"),
    Kind("apply_patch_call_output", "apco", answers="apply_patch_call"),
    Kind(
        "shell_call",
        "sh",
        notes=_notes("shell_call_command", "added", "delta", "done"),
        listed=_COMMANDS,
        assumed=_COMPLETED,
        asks="shell",
    ),
    Kind(
        "shell_call_output",
        "sho",
        notes=_notes("shell_call_output_content", "delta", "done"),
        assumed=_COMPLETED,
        answers="shell_call",
    ),
    Kind("local_shell_call", "lsh", asks="local_shell"),
    Kind("local_shell_call_output", "lsho", answers="local_shell_call"),
    Kind("computer_call", "cu", asks="computer_use"),
    Kind(
        "computer_call_output",
        "cuo",
        assumed=_COMPLETED,
        answers="computer_call",
        hidden=(Hidden("computer_call_output.output.image_url", "output", "image_url"),),
    ),
    Kind("tool_search_call", "tsc", assumed=_COMPLETED | _BY_CLIENT, asks="tool_search"),
    Kind("tool_search_output", "tso", assumed=_COMPLETED | _BY_CLIENT, answers="tool_search_call"),
    # Calls that the server makes
    Kind(
        "file_search_call",
        "fs",
        notes=_notes("file_search_call", "in_progress", "searching", "completed"),
        hidden=(Hidden("file_search_call.results", "results"),),
    ),
    Kind(
        "web_search_call",
        "ws",
        notes=_notes("web_search_call", "in_progress", "searching", "completed"),
        hidden=(Hidden("web_search_call.action.sources", "action", "sources"),),
    ),
    Kind(
        "code_interpreter_call",
        "ci",
        empty={"code": ""},
        stream=_stream("code_interpreter_call_code", "code"),
        notes=_notes("code_interpreter_call", "in_progress", "interpreting", "completed"),
        hidden=(Hidden("code_interpreter_call.outputs", "outputs"),),
    ),
    Kind(
        "image_generation_call",
        "ig",
        notes=_notes("image_generation_call", "in_progress", "generating", "partial_image", "completed"),
    ),
    Kind(
        "mcp_call",
        "mcp",
        empty={"arguments": ""},
        stream=_stream("mcp_call_arguments", "arguments"),
        notes=_notes("mcp_call", "in_progress", "completed", "failed"),
    ),
    Kind(
        "mcp_list_tools",
        "mcpl",
        notes=_notes("mcp_list_tools", "in_progress", "completed", "failed"),
        status=False,
    ),
    Kind("mcp_approval_request", "mcpr", status=False),
    Kind("mcp_approval_response", "mcpa", status=False),
    Kind("program", "prog", status=False),
    Kind("program_output", "progo"),
    # What says something about the context
    Kind("compaction", "cmp", notes=("response.compaction.compacting",), status=False),
    Kind("compaction_trigger", "cmpt", side="input", status=False, stored=False),
    Kind("additional_tools", "at", status=False),
    Kind("configuration_update", "cfg", side="input", status=False),
    Kind("item_reference", "", side="input", status=False),
)

KINDS: Final[Mapping[str, Kind]] = {kind.type: kind for kind in _ROWS}
"""Every kind of item that the API documents, by its ``type``."""


def call_and_output(asks: str) -> tuple[Kind, Kind]:
    """The kind of call that clients call so, and that of its outputs."""
    call = next(kind for kind in _ROWS if kind.asks == asks)
    return call, next(kind for kind in _ROWS if kind.answers == call.type)


def is_call(item: Json) -> bool:
    """Whether the item asks its caller for an output."""
    return KINDS[item["type"]].asks is not None and item.get("execution") != "server"


def is_output(item: Json) -> bool:
    """Whether the item is the output of a caller's call."""
    return KINDS[item["type"]].answers is not None and item.get("execution") != "server"


def call_id_of(item: Json) -> str | None:
    """What joins a call and its output: ``call_id``; where an item has none, its ``id``, as older SDKs have it."""
    return item.get("call_id") or item.get("id")
