"""``ToolCall``: what a response asks its caller to do, one shape for every kind of call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from antiphon.wire.kinds import KINDS

_HEADS: Final = {"create_file": "Add", "update_file": "Update", "delete_file": "Delete"}


class Patch(dict[str, Any]):
    """The operation of an ``apply_patch_call``: ``type``, ``path`` and, unless it deletes, ``diff``.

    Prints as a patch: ``*** Update File: a.py`` and the diff.
    """

    __slots__ = ()

    def __str__(self) -> str:
        head = f"*** {_HEADS.get(str(self.get('type')), 'Change')} File: {self.get('path')}"
        return f"{head}\n{self['diff']}" if self.get("diff") else head

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


@dataclass(frozen=True)
class ToolCall:
    """A call that waits for its caller's output.

    Attributes:
        id: the ``call_id`` that the output must name.
        type: ``function``, ``custom``, ``apply_patch``, ``computer_use``, ``shell``, ``local_shell`` or
            ``tool_search``.
        item: the output item, as the official SDK types it.
    """

    id: str
    type: str
    item: Any

    @property
    def function(self) -> dict[str, Any] | None:
        """Of a function call ``{"name", "arguments"}``, the arguments as JSON text; else None."""
        return {"name": self.item.name, "arguments": self.item.arguments} if self.type == "function" else None

    @property
    def apply_patch(self) -> Patch | None:
        """Of a patch its operation ``{"type", "path", "diff"}``, which prints as a patch; else None."""
        return Patch(self.item.operation.to_dict()) if self.type == "apply_patch" else None

    @property
    def computer_use(self) -> dict[str, Any] | None:
        """Of a computer call what is to be done: ``actions`` or ``action``, ``pending_safety_checks``; else None."""
        if self.type != "computer_use":
            return None
        members = self.item.to_dict(exclude_none=True)
        return {key: members[key] for key in ("action", "actions", "pending_safety_checks") if key in members}

    @property
    def name(self) -> str:
        """The function's or the custom tool's name; of other calls their type."""
        return self.item.name if self.type in ("function", "custom") else self.type

    @property
    def input(self) -> str:
        """What the model wrote for it: JSON arguments, a custom tool's input, a patch, commands, actions."""
        match self.type:
            case "function":
                return str(self.item.arguments)
            case "custom":
                return str(self.item.input)
            case "apply_patch":
                return str(self.apply_patch)
            case _:
                return str(self.item.to_dict(exclude_none=True).get("action") or self.computer_use or "")


def tool_calls(output: Iterable[Any]) -> list[ToolCall]:
    """The calls in a response's output that its caller has to answer, in order.

    Left out are hosted tools' calls, which the server answers itself, and calls whose output is there already.
    """
    items: Sequence[Any] = list(output)
    answered = {getattr(item, "call_id", None) for item in items if item.type.endswith("_output")}
    return [
        ToolCall(_call_id(item), asks, item)
        for item in items
        if (asks := _type_of(item)) is not None and _call_id(item) not in answered
    ]


def _type_of(item: Any) -> str | None:
    """The type of a call that its caller answers; None for all other items, those of newer servers included."""
    kind = KINDS.get(item.type)
    return kind.asks if kind is not None and getattr(item, "execution", "client") == "client" else None


def _call_id(item: Any) -> str:
    return item.call_id or item.id or ""
