"""``/v1/chat/completions`` as strict structs: what a request may hold, and what it is answered with.

Source: the official SDK's types. Members of a request that are not listed are ignored and named, as everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.values import (
    INT_MAX,
    CallId,
    Effort,
    FormatName,
    Label,
    LongText,
    Metadata,
    Penalty,
    StrictStruct,
    Verbosity,
)


class Part(StrictStruct, tag_field="type", kw_only=True):
    """A part of a message; where a prefix ends that may be cached is the business of whoever has a cache."""

    prompt_cache_breakpoint: Json | None = None


class TextPart(Part, tag="text", kw_only=True):
    text: LongText


class RefusalText(StrictStruct, tag_field="type", tag="refusal", kw_only=True):
    refusal: LongText


class ImageUrl(StrictStruct, kw_only=True):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Part, tag="image_url", kw_only=True):
    image_url: ImageUrl


class FileRef(StrictStruct, kw_only=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Part, tag="file", kw_only=True):
    file: FileRef


UserPart: TypeAlias = TextPart | ImagePart | FilePart
AssistantPart: TypeAlias = TextPart | RefusalText


class Speech(StrictStruct, tag_field="role", kw_only=True):
    """One message; ``name`` tells speakers of one role apart, which models here are not shown."""

    name: str | None = None


class SystemMessage(Speech, tag="system", kw_only=True):
    content: LongText | list[TextPart]


class DeveloperMessage(Speech, tag="developer", kw_only=True):
    content: LongText | list[TextPart]


class UserMessage(Speech, tag="user", kw_only=True):
    content: LongText | list[UserPart]


class CalledFunction(StrictStruct, kw_only=True):
    name: Label
    arguments: LongText | None = None
    parsed_arguments: Any = None


class CalledCustom(StrictStruct, kw_only=True):
    name: Label
    input: LongText


class Called(StrictStruct, tag_field="type", kw_only=True):
    id: CallId
    index: Any = None


class FunctionCall(Called, tag="function", kw_only=True):
    function: CalledFunction


class CustomCall(Called, tag="custom", kw_only=True):
    custom: CalledCustom


CallMade: TypeAlias = FunctionCall | CustomCall


class AssistantMessage(Speech, tag="assistant", kw_only=True):
    """What a model said before. Clients send back what their SDK made of an answer: ``parsed``, ``parsed_arguments``
    and ``index`` are the SDK's, who reads them is the client itself.
    """

    content: LongText | list[AssistantPart] | None = None
    refusal: LongText | None = None
    tool_calls: list[CallMade] | None = None
    reasoning_content: LongText | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None


class ToolMessage(Speech, tag="tool", kw_only=True):
    """What a function returned: texts in the official API; images and files too from tools of other protocols."""

    tool_call_id: CallId
    content: LongText | list[UserPart] | None = None


Message: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class JsonSchema(StrictStruct, kw_only=True):
    name: FormatName
    schema: Json | None = None
    description: str | None = None
    strict: bool | None = None


class TextFormat(StrictStruct, tag_field="type", tag="text"):
    pass


class ObjectFormat(StrictStruct, tag_field="type", tag="json_object"):
    pass


class SchemaFormat(StrictStruct, tag_field="type", tag="json_schema", kw_only=True):
    json_schema: JsonSchema


class ChatStreamOptions(StrictStruct, kw_only=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(StrictStruct, kw_only=True):
    """The body. Tools and ``tool_choice`` are checked as those of ``/v1/responses``, whose forms include this one; what
    ``/v1/responses`` does not have is the business of the model's server.
    """

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    tools: list[Json] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | ObjectFormat | SchemaFormat | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    reasoning_effort: Effort | None = None
    verbosity: Verbosity | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None
    moderation: Any = None
    service_tier: Any = None
    stop: Any = None
    seed: Any = None
    logit_bias: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None


class ChatUsage(msgspec.Struct, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class Choice(msgspec.Struct, kw_only=True):
    message: Json
    finish_reason: str
    index: int = 0
    logprobs: Json | None = None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """The answer where it is not streamed."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage | None
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: str | None = None
    system_fingerprint: str | None = None
