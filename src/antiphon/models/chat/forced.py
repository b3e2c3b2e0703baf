"""A call that must be made: the model is held to a JSON schema, and the JSON is read back as a call.

``tool_choice: required`` is kept by few servers and by fewer small models; a JSON schema is kept by the
sampler itself. So the answer is constrained to ``{"name": …, "arguments": …}``, or to a list of these where there may
be several, and the functions are described in the system text, because several servers refuse or ignore ``tools``
beside ``response_format``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from antiphon.models import Call, Delta, Function, ToolMeasure
from antiphon.models.chat.arguments import JsonExtent, compact, fits
from antiphon.models.chat.references import rebase
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

_ANY_OBJECT: Final[Json] = {"type": "object"}
_NOT_NESTED: Final = frozenset({"$schema", "$id", "id"})
"""Keywords of a whole document; ``$id`` in the middle of another would turn the references below it."""

CALLS_MAX: Final = 16
"""How many calls a list may hold."""
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')
_TAIL: Final = re.compile(r"\s*\}\s*")
_LIST: Final = re.compile(r"\s*\[")
_LIST_NEXT: Final = re.compile(r"\s*\}\s*,")
_LIST_TAIL: Final = re.compile(r"\s*\}\s*\]\s*")
HELD_CHARS_MAX: Final = 16 * 1024 * 1024


def schema(functions: Sequence[Function], *, several: bool = False) -> Json:
    """The schema that holds an answer to one call of one of ``functions``, or to ``several``."""
    definitions: dict[str, Json] = {}
    calls = [_call_schema(function, f"f{n}", definitions) for n, function in enumerate(functions)]
    root = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if several:
        root = {"type": "array", "items": root, "minItems": 1, "maxItems": CALLS_MAX}
    return {**root, "$defs": definitions} if definitions else root


def _call_schema(function: Function, at: str, definitions: dict[str, Json]) -> Json:
    whole = function.parameters or _ANY_OBJECT
    arguments = {key: value for key, value in whole.items() if key not in _NOT_NESTED}
    if _refers(arguments):
        # References count from the document's root: the whole schema moves to a place of its own below it.
        definitions[at] = rebase(arguments, f"#/$defs/{at}")
        arguments = {"$ref": f"#/$defs/{at}"}
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [function.name]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _refers(arguments: Json) -> bool:
    return '"$ref":' in compact(arguments)


def description(functions: Sequence[Function], *, several: bool = False) -> str:
    """What the model is told of ``functions``, one line each."""
    lines = [
        compact(
            {
                "name": function.name,
                **({"description": function.description} if function.description else {}),
                "parameters": function.parameters or _ANY_OBJECT,
            }
        )
        for function in functions
    ]
    call = '{"name": the function\'s name, "arguments": an object of its parameters}'
    if several:
        asked = "Call the functions that are needed now, each once:"
        form = f"Answer only with a JSON list of objects {call}, one for each call; mostly one is enough."
    else:
        asked, form = "Call one of these functions now:", f"Answer only with a JSON object {call}."
    return "\n".join((asked, *lines, form))


class _Written(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


_WRITTEN: Final = msgspec.json.Decoder(_Written)
_ALL_WRITTEN: Final = msgspec.json.Decoder(list[_Written])


class ForcedCall:
    """Reads the constrained answer. ``arguments`` pieces join to exactly the JSON text that the model wrote.

    The arguments are passed on as they come when the members are in the schema's order, as every sampler
    writes them; else at the end.

    Args:
        several: whether it may be a list of calls.
        helps: where it is noted that it was one.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        keys: Iterator[int],
        *,
        several: bool = False,
        helps: set[ToolMeasure] | None = None,
    ) -> None:
        self._helps: set[ToolMeasure] = helps if helps is not None else set()
        self._functions: Mapping[str, Function] = {function.name: function for function in functions}
        self._keys = keys
        self._several = several
        self._text = ""
        self._at: int | None = None if several else 0
        self._key = -1
        self._name = ""
        self._start = self._sent = 0
        self._extent: JsonExtent | None = None
        self._complete = False

    idle = False

    def feed(self, text: str) -> list[Delta]:
        """The pieces of calls that ``text`` completes; perhaps none."""
        self._text += text
        if len(self._text) > HELD_CHARS_MAX:
            raise _invalid("longer than any call")
        out: list[Delta] = []
        while (deltas := self._step()) is not None:
            out += deltas
        return out

    def _step(self) -> list[Delta] | None:
        """What the next thing that is written gives; None: more text is needed."""
        if self._at is None:
            return self._begin_list()
        if self._extent is None:
            return self._open(self._at)
        if not self._complete:
            return self._arguments(self._extent)
        return self._next(self._extent) if self._several else None

    def _begin_list(self) -> list[Delta] | None:
        text = self._text.lstrip()
        if not text:
            return None
        found = _LIST.match(self._text)
        if found is None:
            self._several = False  # held or not, it is one call
        else:
            self._helps.add("several_required")
        self._at = found.end() if found else 0
        return []

    def _open(self, at: int) -> list[Delta] | None:
        head = _HEAD.match(self._text, at)
        if head is None or head[1] not in self._functions:
            return None
        self._name, self._key = head[1], next(self._keys)
        self._start = self._sent = head.end()
        self._extent, self._complete = JsonExtent(self._start), False
        return [Call(self._key, self._name)]

    def _arguments(self, extent: JsonExtent) -> list[Delta] | None:
        self._complete = extent.scan(self._text)
        # Not complete, ``pos`` may stand before a backslash whose partner is still to come.
        piece, self._sent = self._text[self._sent : extent.pos], extent.pos
        if piece:
            return [Call(self._key, arguments=piece)]
        return [] if self._complete else None

    def _next(self, extent: JsonExtent) -> list[Delta] | None:
        found = _LIST_NEXT.match(self._text, extent.pos)
        if found is None:
            return None
        self._check(self._functions[self._name], self._text[self._start : extent.pos])
        self._at, self._extent = found.end(), None
        return []

    def end(self, cut: bool) -> list[Delta]:
        """The rest of the call at the end of the answer; ``cut`` when the answer was stopped by its length.

        Raises:
            UpstreamError: ``invalid_tool_call``, when the answer is whole and yet no call, or does not fit a
                strict function.
        """
        if self._extent is None:
            return self._whole(cut)
        if cut:
            rest = self._text[self._sent :] if not self._complete else ""
            return [Call(self._key, arguments=rest)] if rest else []
        tail = _LIST_TAIL if self._several else _TAIL
        if not self._complete or not tail.fullmatch(self._text, self._extent.pos):
            raise _invalid("not closed")
        self._check(self._functions[self._name], self._text[self._start : self._extent.pos])
        return []

    def _whole(self, cut: bool) -> list[Delta]:
        """The members came in another order."""
        rest = self._text[self._at or 0 :]
        try:
            written = _ALL_WRITTEN.decode("[" + rest) if self._several and self._at else self._decode(rest)
        except msgspec.DecodeError as error:
            if cut:
                return []
            raise _invalid(str(error)) from None
        return [self._call(one) for one in written]

    def _decode(self, text: str) -> list[_Written]:
        return _ALL_WRITTEN.decode(text) if self._several else [_WRITTEN.decode(text)]

    def _call(self, written: _Written) -> Call:
        function = self._functions.get(written.name)
        if function is None:
            raise _invalid("another function")
        arguments = bytes(written.arguments).decode()
        self._check(function, arguments)
        return Call(next(self._keys), function.name, arguments)

    def _check(self, function: Function, text: str) -> None:
        """Not every sampler knows every keyword of JSON schema; only ``strict`` promises that all are kept."""
        try:
            arguments: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _invalid(str(error)) from None
        if not isinstance(arguments, dict) or (function.strict and not fits(function, arguments)):
            raise _invalid("arguments that do not fit the schema")

    def release(self) -> list[Delta]:
        """The server calls by itself after all: what was written is no answer."""
        return []

    def note_server_reasoning(self) -> None:
        """Reasoning beside the answer changes nothing here."""


def _invalid(why: str) -> UpstreamError:
    return UpstreamError(
        "The model did not write the function call that was required of it.", code="invalid_tool_call", internal=why
    )
