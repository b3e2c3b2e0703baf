"""The bounded values that bodies share, and the struct whose members are all documented.

Source: the official SDK's parameter types (openai 3.54) with the bounds of the OpenAPI document.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from antiphon.wire import Json

TEXT_CHARS_MAX = 10_485_760
IMAGE_URL_CHARS_MAX = 20_971_520
FILE_DATA_CHARS_MAX = 73_400_320
INT_MAX = 2_147_483_647
TOOLS_MAX = 1024

LongText: TypeAlias = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
CALL_ID_CHARS_MAX: Final = 65_536
"""Model servers make ids far longer than the 64 characters that the API documents: some carry in them what a model
thought, in thousands of characters. What left us is taken back."""
CallId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CALL_ID_CHARS_MAX)]
ItemId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]
Label: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
# The lookahead: Python's ``$`` also matches before a last newline. Both dialects that read this know it.
FunctionName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$(?!\n)")]
FormatName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$(?!\n)")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=INT_MAX)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]
Role: TypeAlias = Literal["user", "assistant", "system", "developer"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Summary: TypeAlias = Literal["auto", "concise", "detailed"]
Verbosity: TypeAlias = Literal["low", "medium", "high"]
Tier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
Execution: TypeAlias = Literal["server", "client"]
Callers: TypeAlias = list[Literal["direct", "programmatic"]]
Include: TypeAlias = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]

Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class StrictStruct(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object all of whose documented members are listed."""


class Format(StrictStruct, tag_field="type"):
    """``text.format``."""


class PlainFormat(Format, tag="text"):
    pass


class JsonObjectFormat(Format, tag="json_object"):
    pass


class JsonSchemaFormat(Format, tag="json_schema", kw_only=True):
    name: FormatName
    schema: Json
    description: str | None = None
    strict: bool | None = None
