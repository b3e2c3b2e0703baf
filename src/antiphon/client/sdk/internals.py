"""The names of the official SDK that are not part of its public interface: all that this package uses, in one place."""

from openai._compat import cached_property
from openai._models import FinalRequestOptions
from openai.lib._parsing._responses import parse_function_tool_arguments, parse_response
from openai.lib._tools import PydanticFunctionTool, ResponsesPydanticFunctionTool
from openai.lib.streaming.responses._responses import (
    AsyncResponseStream,
    AsyncResponseStreamManager,
    ResponseStream,
    ResponseStreamManager,
)

__all__ = [
    "AsyncResponseStream",
    "AsyncResponseStreamManager",
    "FinalRequestOptions",
    "PydanticFunctionTool",
    "ResponseStream",
    "ResponseStreamManager",
    "ResponsesPydanticFunctionTool",
    "cached_property",
    "parse_function_tool_arguments",
    "parse_response",
]
