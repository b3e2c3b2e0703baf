"""``/v1/embeddings`` as it crosses the API. Source: the official SDK's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.wire.values import StrictStruct

INPUTS_MAX = 2048
INPUT_CHARS_MAX = 200_000


class EmbeddingRequest(StrictStruct, kw_only=True):
    """The body. Inputs are texts; tokens of another model's vocabulary mean nothing here."""

    input: (
        Annotated[str, Meta(min_length=1, max_length=INPUT_CHARS_MAX)]
        | Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=INPUT_CHARS_MAX)]],
            Meta(min_length=1, max_length=INPUTS_MAX),
        ]
    )
    model: str
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """A vector: numbers, or float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Sequence[float] | str


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    object: Literal["list"] = "list"
    data: Sequence[Embedding]
    model: str
    usage: EmbeddingUsage
