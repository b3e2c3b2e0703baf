"""What asks for a context to be counted or compacted, and the answers. Source: the official SDK's types.

Both bodies are those of a create request without what is about the answer: they are read as one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from antiphon.wire import Id, Json
from antiphon.wire.response import UsageTotal


class CountRequest(msgspec.Struct, kw_only=True):
    """The body of ``POST /v1/responses/input_tokens``. Any other member of a create request is accepted too."""

    model: str | None = None
    input: Any = None
    instructions: str | None = None
    previous_response_id: Id | None = None
    conversation: Any = None
    parallel_tool_calls: bool | None = None
    personality: Annotated[str, Meta(max_length=64)] | None = None
    reasoning: Json | None = None
    text: Json | None = None
    tool_choice: Any = None
    tools: list[Json] | None = None
    truncation: Literal["auto", "disabled"] | None = None


class InputTokens(msgspec.Struct, kw_only=True):
    """How many tokens a create request of that body would report as ``usage.input_tokens``."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class CompactRequest(msgspec.Struct, kw_only=True):
    """The body of ``POST /v1/responses/compact``."""

    model: str
    input: Any = None
    instructions: str | None = None
    previous_response_id: Id | None = None
    image: Json | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Json | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None


class CompactedResponse(msgspec.Struct, kw_only=True):
    """A compacted context: pass ``output`` on, whole, as the input of what follows.

    Attributes:
        output: the users' messages word for word, and one ``compaction`` item, which also works alone.
        usage: of the compaction itself.
        original_token_count, token_count: of the context before, and of what takes its place.
        reduction_percentage: by how much it shrank, to one decimal.
        counts_estimated: true where nobody could count them; else it is not there.
    """

    id: Id
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Json]
    usage: UsageTotal
    original_token_count: int
    token_count: int
    reduction_percentage: float
    counts_estimated: bool | msgspec.UnsetType = msgspec.UNSET
