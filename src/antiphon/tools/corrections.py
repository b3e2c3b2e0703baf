"""Calls that cannot be made: what is mended here, and how a model is asked again. Nobody else sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Function, Prompt, ToolChoice, ToolMeasure
from antiphon.tools import CallInvalid, ToolCall, call_item, output_item
from antiphon.tools.invented import Transcript, drop_invented
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.schema import violation

CORRECTIONS_MAX: Final = 2
"""How often in a row a model is asked again, before the response fails."""
_HELPS: Final[dict[str, ToolMeasure]] = {
    "force": "held_to_schema",
    "answer": "undeclared",
    "result": "repeat_answered",
    "change": "repeat_answered",
}
_FIND: Final = (
    "That cannot be done yet: {}. Call another function if it can tell that. Otherwise ask the user "
    "for it, in one short sentence."
)
_ASK: Final = "That cannot be done yet: {}. Ask the user for it, in one short sentence."
_NOT_MADE: Final = "This call was not made, because another one beside it was invalid. Make it again."

_FREE_TEXT: Final = frozenset(("type", "description", "title"))
"""All that the schema of a text says which may be anything."""
_LITERALS: Final = frozenset(("None", "null", "NULL", "undefined"))
_PLACEHOLDERS: Final = frozenset(
    ("unknown", "unspecified", "n/a", "not specified", "not provided", "not given", "not available", "not known")
)


def repair_call(
    call: ToolCall, function: Function | None, asked: str = "", transcript: Transcript | None = None
) -> ToolCall:
    """A call of a function as it can be made: blank arguments are none; of members that make it misfit, those that say
    nothing, or that the schema does not know, are dropped, and so are optional texts that say that there is none, or
    that nobody said.

    Args:
        function: None where it was never declared.
        asked: what the user said last: its words may be meant.
        transcript: what has been said at all; None where that does not matter.

    Raises:
        CallInvalid: it cannot be mended.
    """
    if function is None:
        raise undeclared(call.name)
    arguments = read_arguments(call)
    schema = function.parameters or {}
    fitting = _make_fit(call, arguments, schema)
    meant = _drop_placeholders(fitting, schema, asked)
    meant = meant if transcript is None else drop_invented(meant, schema, transcript)
    if meant != fitting and violation(schema, meant) is not None:
        meant = fitting  # one of what is optional has to be there
    return call if meant == arguments and call.arguments.strip() not in ("", "null") else _with(call, meant)


def _make_fit(call: ToolCall, arguments: Json, schema: Json) -> Json:
    """The arguments as they fit the schema.

    Raises:
        CallInvalid: they cannot be made to.
    """
    if not schema:
        return arguments
    for mended in (arguments, _drop_empty(arguments, schema), _drop_unknown(arguments, schema)):
        if violation(schema, mended) is None:
            return mended
    reason = violation(schema, arguments)
    raise CallInvalid(f"Error: the arguments of {call.name} do not fit its schema: {reason}.", remedy="force")


def undeclared(name: str) -> CallInvalid:
    """What is wrong with a call of a function that was never declared."""
    return CallInvalid(f"There is no function '{name}'.", remedy="answer")


def read_arguments(call: ToolCall) -> Json:
    """What a function is called with.

    Raises:
        CallInvalid: it is no JSON object.
    """
    try:
        value: Any = msgspec.json.decode(call.arguments.strip() or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        text = f"Error: the arguments of {call.name} are not JSON."
        raise CallInvalid(text, remedy="force") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CallInvalid(f"Error: the arguments of {call.name} must be a JSON object.", remedy="force")
    return cast(Json, value)


def _with(call: ToolCall, arguments: Json) -> ToolCall:
    return msgspec.structs.replace(call, arguments=msgspec.json.encode(arguments).decode())


def _drop_empty(arguments: Json, schema: Json) -> Json:
    """Without optional members that are null or an empty text."""
    required: Any = schema.get("required") or ()
    return {name: value for name, value in arguments.items() if name in required or value not in (None, "")}


def _drop_unknown(arguments: Json, schema: Json) -> Json:
    properties: Any = schema.get("properties") or {}
    return {name: value for name, value in _drop_empty(arguments, schema).items() if name in properties}


def _drop_placeholders(arguments: Json, schema: Json, asked: str) -> Json:
    """Without optional free texts by which small models say that they have none."""
    properties: Any = schema.get("properties")
    required: Any = schema.get("required") or ()
    if not isinstance(properties, dict):
        return arguments
    free = {name for name, spec in cast(Json, properties).items() if name not in required and _is_free_text(spec)}
    return {name: value for name, value in arguments.items() if name not in free or not _is_placeholder(value, asked)}


def _is_free_text(spec: Any) -> bool:
    shape = cast(Json, spec) if isinstance(spec, dict) else {}
    return shape.get("type") == "string" and not shape.keys() - _FREE_TEXT


def _is_placeholder(value: Any, asked: str) -> bool:
    if not isinstance(value, str):
        return False
    word = value.strip(" .<>[]()").casefold()
    return value in _LITERALS or (word in _PLACEHOLDERS and word not in asked.casefold())


class Corrections:
    """What a model is told, or held to, when it is asked again; until it has made calls that can be made."""

    def __init__(self) -> None:
        self.items: tuple[Json, ...] = ()
        self._count = 0
        self._choice: ToolChoice | None = None
        self._silenced = self._is_last_try = False
        self._missing = ""
        self._without: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def finding(self) -> bool:
        """Whether what a call needs is to be found out."""
        return bool(self._missing)

    def learn(self, held: Sequence[ToolCall], invalid: Sequence[tuple[ToolCall, CallInvalid]]) -> list[ToolMeasure]:
        """The model made ``held`` calls, of which some are ``invalid``; or ``invalid`` ones alone. Returns how it is
        helped, as far as that is counted.

        Raises:
            UpstreamError: ``invalid_tool_call``: it has been asked often enough.
        """
        self._count += 1
        call, fault = invalid[0]
        if self._count > CORRECTIONS_MAX:
            raise UpstreamError(f"The model did not make a valid tool call: {fault}", code="invalid_tool_call")
        self._silenced, self._choice = fault.remedy in ("answer", "result"), None
        if fault.remedy in ("find", "change"):
            # The second time it is not asked for calls any more.
            self._silenced, self._is_last_try = self._is_last_try, True
        if fault.remedy == "find":
            self._missing = self._missing or str(fault)
            self._without |= {call.name for call, _ in invalid}
        if fault.remedy in ("force", "insist"):
            self._choice = ToolChoice("required", (call.name,))
        if fault.remedy == "find":
            kept = (item for item in self.items if item["type"] != "message")
            self.items = (*kept, _system((_ASK if self._silenced else _FIND).format(self._missing)))
        if fault.remedy in ("tell", "insist", "change"):
            reasons = {call.call_id: str(fault) for call, fault in invalid}
            shown = held or [call for call, _ in invalid]
            self.items += tuple(call_item(each.call_id, each.name, each.arguments) for each in shown)
            self.items += tuple(output_item(each.call_id, reasons.get(each.call_id, _NOT_MADE)) for each in shown)
        return [_HELPS[fault.remedy]] if fault.remedy in _HELPS else []

    def apply(self, prompt: Prompt) -> Prompt:
        """The prompt as it is asked again."""
        if self._silenced:
            return msgspec.structs.replace(prompt, functions=(), tool_choice=ToolChoice())
        if self._choice is not None:
            return msgspec.structs.replace(prompt, tool_choice=self._choice)
        if not self._without:
            return prompt
        functions = tuple(each for each in prompt.functions if each.name not in self._without)
        return msgspec.structs.replace(prompt, functions=functions, prefers_call=True)


def _system(text: str) -> Json:
    return {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}
