"""The Response object, exactly as it crosses the API.

Source: the official SDK's ``Response`` type plus the keys that the wire always carries (``store``, both penalties).
The five sampling numbers are never null and both usage detail objects are always there: clients generated from the
Open Responses schema reject a response otherwise.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from antiphon.wire import Id, Json

Status: TypeAlias = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputDetails(msgspec.Struct, frozen=True):
    """Of the input tokens: read from, and written to, the model server's prefix cache."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Of the output tokens: spent on reasoning."""

    reasoning_tokens: int = 0


class UsageTotal(msgspec.Struct, frozen=True):
    """Tokens of the whole response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(msgspec.Struct, kw_only=True):
    """A response. ``created_at`` and ``completed_at`` are Unix seconds; ``output`` holds items as JSON objects."""

    id: Id
    object: Literal["response"] = "response"
    created_at: int
    status: Status = "in_progress"
    background: bool = False
    completed_at: int | None = None
    conversation: Json | None = None
    error: Json | None = None
    frequency_penalty: float = 0.0
    incomplete_details: Json | None = None
    instructions: str | list[Json] | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = {}
    model: str
    moderation: Json | None = None
    output: list[Json] = []
    parallel_tool_calls: bool = True
    presence_penalty: float = 0.0
    previous_response_id: Id | None = None
    prompt: Json | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning: Json = {}
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float = 1.0
    text: Json = {}
    tool_choice: str | Json = "auto"
    tools: list[Json] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: Literal["auto", "disabled"] = "disabled"
    usage: UsageTotal | None = None
    user: str | None = None
    # The keys below are sent only when the request asked for what they describe.
    image: Json | msgspec.UnsetType = msgspec.UNSET
    prompt_cache_options: Json | msgspec.UnsetType = msgspec.UNSET
    access_programs: Json | msgspec.UnsetType = msgspec.UNSET
