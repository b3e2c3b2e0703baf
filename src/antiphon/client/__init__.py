"""The official clients, over HTTP or with the whole engine in this process; what they give back, and their runs."""

from antiphon.client.inprocess.host import EngineError
from antiphon.client.runs.function_tool import ArgumentsRefused, FunctionTool
from antiphon.client.runs.loop import (
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
from antiphon.client.runs.runners import ToolRunner
from antiphon.client.sdk.clients import (
    Antiphon,
    AsyncAntiphon,
    AsyncOpenAI,
    OpenAI,
)
from antiphon.client.sdk.results import CompactedResponse, ParsedResponse, Response
from antiphon.client.sdk.text_format import WrongShape
from antiphon.client.sdk.tool_calls import ToolCall

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
