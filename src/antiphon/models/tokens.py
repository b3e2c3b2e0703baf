"""Tokens by length in UTF-8, for what no model has counted: an answer that was broken off, a prompt that is still to be
sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from antiphon.models import Prompt, Usage
from antiphon.wire import Json
from antiphon.wire.items import content_member, content_parts, content_texts

BYTES_PER_TOKEN = 4
_TOKEN_CHARS_MAX = 64
_NO_TEXT = frozenset({"id", "type", "status", "role", "call_id", "logprobs", "annotations"})
_DATA = frozenset({"image_url", "file_data", "file_url", "encrypted_content"})
_DATA_BYTES = 1000 * BYTES_PER_TOKEN
"""What an image or a file counts for, whatever its size in bytes."""


def estimate_prompt(prompt: Prompt) -> int:
    """About how many tokens the prompt has; one at least."""
    functions = sum(len(f.name) + _bytes(f.description) + _bytes(f.parameters) for f in prompt.functions)
    return _tokens(_bytes(prompt.instructions) + functions + _bytes(prompt.items))


def bound_prompt(prompt: Prompt) -> int:
    """How many tokens the texts of the prompt have at least, in whatever vocabulary: no token reaches over a space, or
    is longer than ``_TOKEN_CHARS_MAX``. Whatever a template may leave out is not counted.
    """
    texts = [prompt.instructions or ""]
    for item in prompt.items:
        match item.get("type", "message"):
            case "message" | "function_call_output":
                texts += content_texts(item.get(content_member(item)))
            case "function_call":
                texts += content_texts(item.get("arguments"))
            case _:
                pass
    return sum(-(-len(word) // _TOKEN_CHARS_MAX) for text in texts for word in text.split())


def shows_images(prompt: Prompt) -> bool:
    """Whether there is an image in the prompt."""
    return any(part.get("type") == "input_image" for item in prompt.items for part in content_parts(item))


def estimate_usage(prompt: Prompt, output: Sequence[Json]) -> Usage:
    """About what a sampling used that said ``output`` for ``prompt``."""
    return Usage(input=estimate_prompt(prompt), output=_tokens(_bytes(output)) if output else 0)


def _tokens(size: int) -> int:
    return max(1, -(-size // BYTES_PER_TOKEN))


def _bytes(value: object) -> int:
    match value:
        case str():
            # Scripts that take more bytes a character have more tokens, too.
            return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        case dict():
            members = cast(dict[str, Any], value).items()
            return sum(_member(name, member) for name, member in members if name not in _NO_TEXT)
        case list() | tuple():
            return sum(_bytes(entry) for entry in cast(Iterable[object], value))
        case _:
            return 0


def _member(name: str, value: object) -> int:
    return _DATA_BYTES if name in _DATA and value else _bytes(value)
