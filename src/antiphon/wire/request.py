"""The body of ``POST /responses``, and the queries of what reads responses: every bound that types can express.

Source: the official SDK's parameter types (openai 3.54) with the bounds of the OpenAPI document. Every optional member
may be null, because clients rely on it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.input_items import InputItem
from antiphon.wire.tool_specs import ChoiceMode, ToolChoiceSpec, ToolSpec
from antiphon.wire.values import (
    INT_MAX,
    TOOLS_MAX,
    Effort,
    Include,
    ItemId,
    JsonObjectFormat,
    JsonSchemaFormat,
    LongText,
    Metadata,
    Penalty,
    PlainFormat,
    Positive,
    StrictStruct,
    Summary,
    Tier,
    Verbosity,
)


class TextOptions(StrictStruct, kw_only=True):
    format: PlainFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Verbosity | None = None


class ReasoningOptions(StrictStruct, kw_only=True):
    """``generate_summary`` is the old name of ``summary``."""

    effort: Effort | None = None
    summary: Summary | None = None
    mode: str | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    generate_summary: Summary | None = None


class StreamOptions(StrictStruct, kw_only=True):
    include_obfuscation: bool | None = None


class BackgroundOptions(StrictStruct, kw_only=True):
    completion_window: Literal["soonest", "2h", "8h"] | None = None
    continuation_id: str | None = None


class ContextManagement(StrictStruct, kw_only=True):
    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1000, le=INT_MAX)] | None = None


class ConversationRef(StrictStruct, kw_only=True):
    id: ItemId


class PromptCacheOptions(StrictStruct, kw_only=True):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    prewarm: Any = None
    comparison_response_id: str | None = None


class Moderation(StrictStruct, kw_only=True):
    model: str
    policy: Json | None = None


class ImageOptions(StrictStruct, kw_only=True):
    context_compression: Literal["auto", "enabled", "disabled"] | None = None


class AccessPrograms(StrictStruct, kw_only=True):
    cyber: Literal["standard", "daybreak_blue", "daybreak_red"]


class CreateRequest(StrictStruct, kw_only=True):
    """The whole body, in the order in which its members are checked (API semantics: third-party probe of the order).

    ``reasoning_effort`` and top-level ``verbosity`` are aliases. ``prompt`` and ``multi_agent`` are typed loosely
    because they are refused anyway.
    """

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    input: str | list[InputItem] = ""
    previous_response_id: ItemId | None = None
    conversation: ItemId | ConversationRef | None = None
    prompt: Json | None = None
    moderation: Moderation | None = None
    include: list[Include] | None = None
    tools: Annotated[list[ToolSpec], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: ChoiceMode | ToolChoiceSpec | None = None
    metadata: Metadata | None = None
    text: TextOptions | None = None
    verbosity: Verbosity | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    background_options: BackgroundOptions | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    max_tool_calls: Positive | None = None
    reasoning: ReasoningOptions | None = None
    reasoning_effort: Effort | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h", "in-memory"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    instructions: LongText | None = None
    store: bool | None = None
    service_tier: Tier | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    context_management: Annotated[list[ContextManagement], Meta(min_length=1)] | None = None
    image: ImageOptions | None = None
    access_programs: AccessPrograms | None = None
    multi_agent: Json | None = None


def conversation_id(request: CreateRequest) -> str | None:
    """The id of the conversation, in whichever of its two forms it came.

    Raises:
        InvalidRequest: it is no conversation's id.
    """
    given = request.conversation
    id, param = (given.id, "conversation.id") if isinstance(given, ConversationRef) else (given, "conversation")
    if id is not None and not id.startswith("conv_"):
        text = f"Invalid '{param}': '{id}'. Expected an ID that begins with 'conv_'."
        raise InvalidRequest(text, code="invalid_value", param=param)
    return id
