"""What a model's own file says of its window, and the contexts that it is given by that."""

import struct
from pathlib import Path
from typing import Any

import pytest

from antiphon.models.embedded import FILE_POOL, pool_of_file
from antiphon.models.embedded.gguf import Attention, attention

SHAPE: dict[str, Any] = {
    "general.architecture": "qwen2",
    "qwen2.context_length": 32768,
    "qwen2.block_count": 28,
    "qwen2.embedding_length": 1536,
    "qwen2.attention.head_count": 12,
    "qwen2.attention.head_count_kv": 2,
}


def gguf(**members: Any) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def value(given: Any) -> bytes:
        match given:
            case str():
                return struct.pack("<I", 8) + text(given)
            case list():
                return struct.pack("<IIQ", 9, 4, len(given)) + struct.pack(f"<{len(given)}I", *given)
            case _:
                return struct.pack("<II", 4, given)

    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(members)) + b"".join(text(k) + value(v) for k, v in members.items())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("members", "bytes_per_token"),
    [
        ({}, 28 * 2 * (128 + 128) * 2),
        ({"qwen2.attention.head_count_kv": [2] * 14 + [0] * 14}, 14 * 2 * (128 + 128) * 2),
        ({"qwen2.attention.key_length": 64, "qwen2.attention.value_length": 32}, 28 * 2 * (64 + 32) * 2),
    ],
    ids=["of every layer", "of some layers", "heads of their own sizes"],
)
def test_a_file_says_what_a_token_of_context_takes(model: Path, members: Any, bytes_per_token: int) -> None:
    model.write_bytes(gguf(**SHAPE | members))
    assert attention(model) == Attention(32768, bytes_per_token)


@pytest.mark.parametrize(
    "data",
    [
        gguf(**{"general.architecture": "mamba", "mamba.context_length": 1}),
        gguf(**SHAPE | {"qwen2.attention.head_count": 0}),
        gguf(**SHAPE | {"qwen2.block_count": "many"}),
        gguf(**SHAPE | {"qwen2.block_count": 0}),
        gguf(**SHAPE)[:-3],
        b"GGUF, but no more than that",
        b"",
    ],
    ids=["another kind", "no heads", "no number", "no layers", "cut off", "broken", "empty"],
)
def test_a_file_that_does_not_say_it_has_a_small_context(model: Path, data: bytes) -> None:
    model.write_bytes(data)
    assert pool_of_file(model, 10**12) == FILE_POOL


def test_the_memory_chooses_here_too_within_bounds(model: Path) -> None:
    model.write_bytes(gguf(**SHAPE | {"qwen2.context_length": 1_000_000}))
    found = [pool_of_file(model, free * 10**9) for free in (12, 2, 1)]
    assert [(pool.window_tokens, pool.tokens, pool.cache) for pool in found] == [
        (32768, 65536, "f16"),
        (32768, 32768, "q8_0"),
        (8192, 8192, "q8_0"),
    ]
