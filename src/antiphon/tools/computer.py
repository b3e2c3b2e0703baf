"""``computer``: a screen, a mouse and a keyboard on the caller's side.

The tool has two forms: ``computer`` takes actions in batches, ``computer_use_preview`` one at a time and says how large
the display is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar, cast

import msgspec

from antiphon.models import Function
from antiphon.tools import CallInvalid, ToolCall, call_item, output_item
from antiphon.tools.arguments import read_arguments
from antiphon.tools.safety import Place, place_of, safety_checks
from antiphon.wire import Json

T = TypeVar("T")

NAME: Final = "computer"
ACTIONS_MAX: Final = 50
_PLACE: Final = " place"
"""Of each computer as it is offered: where it acts. What a caller put there is replaced."""
_TYPES: Final = ("click", "double_click", "drag", "keypress", "move", "screenshot", "scroll", "type", "wait")
_BUTTONS: Final = ("left", "right", "wheel", "back", "forward")
_NUMBER: Final[Json] = {"type": "integer"}
_POINT: Final[Json] = {"type": "object", "properties": {"x": _NUMBER, "y": _NUMBER}, "required": ["x", "y"]}
_ACTION: Final[Json] = {
    "type": {"type": "string", "enum": list(_TYPES), "description": "what to do; begin with screenshot"},
    "x": {"type": "integer", "description": "of click, double_click, move, scroll: pixels from the left"},
    "y": {"type": "integer", "description": "pixels from the top"},
    "button": {"type": "string", "enum": list(_BUTTONS), "description": "of click"},
    "text": {"type": "string", "description": "of type: what to type"},
    "keys": {
        "type": "array",
        "items": {"type": "string"},
        "description": "of keypress: pressed together; of the mouse: held meanwhile",
    },
    "scroll_x": {"type": "integer", "description": "of scroll: pixels to the right"},
    "scroll_y": {"type": "integer", "description": "of scroll: pixels down"},
    "path": {"type": "array", "items": _POINT, "description": "of drag: the points to pass"},
}
_ONE: Final[Json] = {"type": "object", "properties": _ACTION, "required": ["type"], "additionalProperties": False}
_BATCH: Final[Json] = {
    "type": "object",
    "properties": {"actions": {"type": "array", "items": _ONE, "minItems": 1, "maxItems": ACTIONS_MAX}},
    "required": ["actions"],
    "additionalProperties": False,
}


class _Point(msgspec.Struct):
    x: float
    y: float


class _Action(msgspec.Struct, kw_only=True):
    type: Literal["click", "double_click", "drag", "keypress", "move", "screenshot", "scroll", "type", "wait"]
    x: float | None = None
    y: float | None = None
    button: Literal["left", "right", "wheel", "back", "forward"] = "left"
    text: str | None = None
    keys: list[str] | str | None = None
    scroll_x: float = 0
    scroll_y: float = 0
    path: list[_Point] | None = None


class _Actions(msgspec.Struct, kw_only=True):
    actions: list[_Action]


class ComputerTool:
    """See ``ClientTool``."""

    kinds = ("computer", "computer_use_preview")
    items = ("computer_call", "computer_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """One action, or some; the model is told how large the display is, where that is known."""
        size = _size(spec)
        display = f" of {size[0]} by {size[1]} pixels" if size else ""
        text = f"Works with a screen{display}, a mouse and a keyboard. The result is a picture of the screen."
        return [Function(NAME, text, _BATCH if spec["type"] == NAME else _ONE, strict=False)]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The call, with its actions as the API has them.

        Raises:
            CallInvalid: an action lacks something, or is outside the display.
        """
        size = _size(spec)
        if spec["type"] != NAME:
            action = _action(read_arguments(call, _Action), size)
            return [{**_call(call, [action], spec), "action": action}]
        given = _batch(call)
        if not 0 < len(given) <= ACTIONS_MAX:
            raise CallInvalid(f"Error: `actions` must be 1 to {ACTIONS_MAX} actions.")
        actions = [_action(each, size) for each in given]
        return [{**_call(call, actions, spec), "actions": actions}]

    def lower(self, item: Json) -> Sequence[Json]:
        """The function's call, and the picture."""
        if item["type"] == "computer_call_output":
            return (output_item(item["call_id"], _picture(item["output"])),)
        actions: Any = item.get("actions")
        arguments: Json = {"actions": actions} if actions else item.get("action") or {}
        return (call_item(item["call_id"], NAME, msgspec.json.encode(arguments).decode()),)


def situate(specs: Sequence[Json], items: Sequence[Json], instructions: str | None) -> Sequence[Json]:
    """The tools of a request, where each computer knows the place that its context tells."""
    if not any(spec["type"] in ComputerTool.kinds for spec in specs):
        return specs
    place = place_of(items, instructions)
    return [{**spec, _PLACE: place} if spec["type"] in ComputerTool.kinds else spec for spec in specs]


def _call(call: ToolCall, actions: Sequence[Json], spec: Json) -> Json:
    """The call without its actions; what somebody should look at before they are done is pending."""
    checks = safety_checks(call.call_id, actions, spec.get(_PLACE, Place()))
    return {"type": "computer_call", "call_id": call.call_id, "pending_safety_checks": checks}


def _batch(call: ToolCall) -> list[_Action]:
    """The actions; a model may write one alone, as it does where there is one."""
    try:
        return read_arguments(call, _Actions).actions
    except CallInvalid:
        if '"actions"' in call.arguments:
            raise
        return [read_arguments(call, _Action)]


def _size(spec: Json) -> tuple[int, int] | None:
    width, height = spec.get("display_width"), spec.get("display_height")
    return (width, height) if width and height else None


def _action(given: _Action, size: tuple[int, int] | None) -> Json:
    """An action as the API has it."""
    match given.type:
        case "click":
            return {"type": "click", "button": given.button, **_place(given, size), **_held(given)}
        case "double_click" | "move":
            return {"type": given.type, **_place(given, size), **_held(given)}
        case "scroll":
            by = {"scroll_x": round(given.scroll_x), "scroll_y": round(given.scroll_y)}
            return {"type": "scroll", **_place(given, size), **by, **_held(given)}
        case "drag":
            points = _require(given.path if given.path and len(given.path) > 1 else None, given, "path")
            return {"type": "drag", "path": [_within(point.x, point.y, size) for point in points], **_held(given)}
        case "type":
            return {"type": "type", "text": _require(given.text, given, "text")}
        case "keypress":
            _require(given.keys or None, given, "keys")
            return {"type": "keypress", **_held(given)}
        case "screenshot" | "wait":
            return {"type": given.type}


def _held(given: _Action) -> Json:
    """The keys of an action; nothing where there are none."""
    keys = [given.keys] if isinstance(given.keys, str) else given.keys
    return {"keys": keys} if keys else {}


def _place(given: _Action, size: tuple[int, int] | None) -> Json:
    return _within(_require(given.x, given, "x"), _require(given.y, given, "y"), size)


def _require(value: T | None, given: _Action, member: str) -> T:
    if value is None:
        more = " of two points or more" if member == "path" else ""
        raise CallInvalid(f"Error: {given.type} needs `{member}`{more}.")
    return value


def _within(x: float, y: float, size: tuple[int, int] | None) -> Json:
    left, top = round(x), round(y)
    if left < 0 or top < 0 or (size is not None and (left >= size[0] or top >= size[1])):
        extent = f"0 to {size[0] - 1} and 0 to {size[1] - 1}" if size else "0 and more"
        raise CallInvalid(f"Error: ({left}, {top}) is outside the display: x and y are {extent}.")
    return {"x": left, "y": top}


def _picture(output: Json) -> list[Json]:
    """A screenshot as content parts; a model that sees no images reads that there was one."""
    if output["type"] == "input_text":
        return [output]  # What is said where the picture cannot be shown any more.
    members = {name: output[name] for name in ("image_url", "file_id") if output.get(name)}
    image: Json = {"type": "input_image", "detail": output.get("detail") or "auto", **members}
    return [{"type": "input_text", "text": "This is the screen now."}, *([image] if members else [])]


def check_acknowledged(items: Sequence[Json]) -> str | None:
    """What is wrong with the safety checks of some computer calls, in the order of the context: each that was pending
    must be acknowledged by the output of its call. None: nothing is.
    """
    pending: dict[str, list[Json]] = {}
    for item in items:
        if item["type"] == "computer_call":
            pending[item["call_id"]] = item.get("pending_safety_checks") or []
        elif item["type"] == "computer_call_output":
            given = cast("list[Json]", item.get("acknowledged_safety_checks") or [])
            known = {str(check.get("id")) for check in given}
            for check in pending.pop(item["call_id"], []):
                if str(check.get("id")) not in known:
                    return (
                        f"The safety check '{check.get('id')}' of computer call {item['call_id']} is not acknowledged."
                    )
    return None
