"""A hosted tool that writes down every call it makes: what a test counts side effects with.

It serves MCP tools of the request, whose names it takes from ``allowed_tools``; a name that begins with ``read`` may be
called again after a crash.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from antiphon.models import Function
from antiphon.tools import HostedTool, Outcome, Scope, ToolCall
from antiphon.tools.mcp import lower_mcp_call
from antiphon.wire import Json
from antiphon.writer import Item


class Recorder(HostedTool):
    """Implements ``antiphon.tools.HostedTool``.

    Args:
        file: where a line is appended for each call that begins and each that ends, ``{"call", "name", "response",
            "event"}``. It is on the disk when the call goes on, so that it outlives the process.
        pause_s: how long a call takes.
        gate: waited for in each call, when given.
    """

    kinds = ("mcp",)
    items = ("mcp_call",)

    def __init__(self, file: Path, *, pause_s: float = 0.0, gate: Callable[[], asyncio.Event] | None = None) -> None:
        self._file = file
        self._pause_s = pause_s
        self._gate = gate

    def functions(self, spec: Json) -> Sequence[Function]:
        """One for each allowed name."""
        return [Function(name, "Records a call.") for name in spec.get("allowed_tools") or ()]

    def repeats(self, name: str) -> bool:
        """Whether the name says that it only reads."""
        return name.startswith("read")

    def lower(self, item: Json) -> Sequence[Json]:
        """The call, and what has come of it."""
        return lower_mcp_call(item)

    def begin(self, call: ToolCall, spec: Json) -> Json:
        """An MCP call as it opens."""
        return {
            "type": "mcp_call",
            "name": call.name,
            "server_label": spec["server_label"],
            "output": None,
            "error": None,
            "approval_request_id": None,
        }

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        """Write down that it began, take its time, write down that it ended."""
        self._record(item.id, call.name, scope.response_id, "begun")
        if self._gate is not None:
            await self._gate().wait()
        await asyncio.sleep(self._pause_s)
        self._record(item.id, call.name, scope.response_id, "ended")
        return Outcome({"output": f"{call.name} was called with {call.arguments}"})

    def fail(self, reason: str) -> Outcome:
        """The reason as a tool's error."""
        content = [{"type": "text", "text": reason}]
        return Outcome({"error": {"type": "mcp_tool_execution_error", "content": content}}, failed=True)

    def _record(self, call: str, name: str, response: str, event: str) -> None:
        line = msgspec.json.encode({"call": call, "name": name, "response": response, "event": event}) + b"\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def calls(self) -> list[Json]:
        """What was written down."""
        return (
            [msgspec.json.decode(line) for line in self._file.read_bytes().splitlines()] if self._file.exists() else []
        )
