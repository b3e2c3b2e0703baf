"""The official clients, over HTTP or with the whole engine in this process; what they give back, and their runs."""

from antiphon.client.clients import Antiphon, AsyncAntiphon, AsyncOpenAI, OpenAI
from antiphon.client.form import WrongShape
from antiphon.client.host import EngineError
from antiphon.client.results import CompactedResponse, ParsedResponse, Response
from antiphon.client.runners import ToolRunner
from antiphon.client.running import (
    CallFinished,
    CallRecord,
    CallStarted,
    RunBroken,
    RunEvent,
    RunFinished,
    RunResult,
    RunUsage,
    TextDelta,
    TurnFinished,
    TurnsExceeded,
    TurnStarted,
)
from antiphon.client.schema import ArgumentsRefused, FunctionTool
from antiphon.client.tool_calls import ToolCall

__all__ = [
    "Antiphon",
    "ArgumentsRefused",
    "AsyncAntiphon",
    "AsyncOpenAI",
    "CallFinished",
    "CallRecord",
    "CallStarted",
    "CompactedResponse",
    "EngineError",
    "FunctionTool",
    "OpenAI",
    "ParsedResponse",
    "Response",
    "RunBroken",
    "RunEvent",
    "RunFinished",
    "RunResult",
    "RunUsage",
    "TextDelta",
    "ToolCall",
    "ToolRunner",
    "TurnFinished",
    "TurnStarted",
    "TurnsExceeded",
    "WrongShape",
]
