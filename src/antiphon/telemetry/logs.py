"""The server's own log: a line per event, as text or as JSON, with the id of the request it belongs to.

A line never holds what a caller or a model wrote, nor a key. Exceptions are told by their types and places in the
code, not by their messages: those quote whatever they failed on.
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
    """Send all loggers' lines from ``level`` on to ``stream`` (standard error), and return what does so. Of libraries,
    nothing below INFO is taken: they write out what goes over the wire.
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
    ``fields`` hold, and ``exception`` as a list of places.
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
            line["exception"] = places(error)
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
            line += "".join(f"\n  {place}" for place in places(error))
        # One event is one line, or lines that are seen to belong to it: nobody can write a line of his own.
        return line.replace("\r", " ").replace("\n", "\n  ") if "\n" in line else line


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def places(error: BaseException) -> list[str]:
    """The exception and its causes as types and lines of code, newest call first; no message of any."""
    told: list[str] = []
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if cause is None:
            break
        told.append(f"{'caused by ' if told else ''}{type(cause).__module__}.{type(cause).__qualname__}")
        told += _frames(cause.__traceback__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return told


def _frames(trace: TracebackType | None) -> list[str]:
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)][-_FRAMES_MAX:]
    return [f"at {code.co_filename.removeprefix(_ROOT)}:{line} {code.co_qualname}" for code, line in reversed(frames)]


def note_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler. The usual one writes the task out, the exception's message with it."""
    _loop.error("%s", context.get("message", "Unhandled error"), exc_info=context.get("exception"))
