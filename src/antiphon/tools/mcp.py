"""Calls of tools on MCP servers, as the model reads them. They are not made here yet; agents bring them along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from antiphon.models import Function
from antiphon.tools import call_item, output_item
from antiphon.wire import Json


class McpItems:
    """See ``Tool``."""

    kinds: Sequence[str] = ()
    items = ("mcp_call",)

    def functions(self, spec: Json) -> Sequence[Function]:
        """None: nothing is offered."""
        return ()

    def lower(self, item: Json) -> Sequence[Json]:
        """The call, and what has come of it."""
        return lower_mcp_call(item)


def lower_mcp_call(item: Json) -> Sequence[Json]:
    """An ``mcp_call`` as a call and its output: the item holds both."""
    error = item.get("error")
    text = str(item.get("output") or "") if error is None else _error_text(error)
    return (
        call_item(item["id"], item["name"], item.get("arguments") or ""),
        output_item(item["id"], text or "Done."),
    )


def _error_text(error: Any) -> str:
    """What a model reads of a call that failed; older clients send the error as a text."""
    if not isinstance(error, dict):
        return str(error)
    members = cast(Json, error)
    content: Any = members.get("content")
    if isinstance(content, list):
        parts = [cast(Json, part) for part in cast("list[Any]", content) if isinstance(part, dict)]
        content = "\n".join(str(part.get("text") or "") for part in parts)
    return f"Error: {members.get('message') or content or ''}"
