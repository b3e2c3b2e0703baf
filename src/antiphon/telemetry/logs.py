"""The server's own log: a line per event, as text or as JSON, with the id of the request it belongs to.

A line never holds what a caller or a model wrote, nor a key. Of an exception it holds the type
and the stack, not the message: a message may quote whatever the code failed on.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

LogFormat = Literal["text", "json"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that the current task works for."""

_FRAMES_MAX = 30
_CAUSES_MAX = 8
_ROOT = str(Path(__file__).parents[2]) + "/"
_loop = logging.getLogger("antiphon.loop")


def set_up(format: LogFormat, level: str | int, stream: Any = None) -> logging.Handler:
    """Send all loggers' lines from ``level`` on to ``stream`` (standard error), and return the handler. Of libraries,
    nothing below INFO is logged: their debug lines show what goes over the wire.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_is_ours_or_no_detail)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    return handler


def _is_ours_or_no_detail(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.partition(".")[0] == "antiphon"


class JsonLines(logging.Formatter):
    """One JSON object per line: ``time`` (UTC), ``level``, ``logger``, ``message``, ``request_id``, what the line's
    ``fields`` hold, and ``exception`` as the lines of ``describe_exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter.format``."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if id := request_id.get():
            line["request_id"] = id
        line |= record.__dict__.get("fields", {})
        if error := _error(record):
            line["exception"] = describe_exception(error)
        return msgspec.json.encode(line).decode()


class TextLines(logging.Formatter):
    """The same for people: time, level, logger, request and message, then fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter.format``."""
        id = request_id.get() or "-"
        line = f"{_utc(record.created)} {record.levelname} {record.name} {id} {record.getMessage()}"
        fields: dict[str, Any] = record.__dict__.get("fields", {})
        line += "".join(f" {name}={value}" for name, value in fields.items())
        if error := _error(record):
            line += "".join(f"\n  {frame}" for frame in describe_exception(error))
        # A record is one line, or a line and indented ones: no text in it can pass for another record.
        return line.replace("\r", " ").replace("\n", "\n  ") if "\n" in line else line


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def describe_exception(error: BaseException) -> list[str]:
    """The exception and its causes as types and stack frames, innermost call first, without their messages."""
    lines: list[str] = []
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if cause is None:
            break
        lines.append(f"{'caused by ' if lines else ''}{type(cause).__module__}.{type(cause).__qualname__}")
        lines += _frames(cause.__traceback__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return lines


def _frames(trace: TracebackType | None) -> list[str]:
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)][-_FRAMES_MAX:]
    return [f"at {code.co_filename.removeprefix(_ROOT)}:{line} {code.co_qualname}" for code, line in reversed(frames)]


def note_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler. The default one logs the task, and with it the exception's message."""
    _loop.error("%s", context.get("message", "Unhandled error"), exc_info=context.get("exception"))
