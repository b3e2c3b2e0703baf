"""What a ``.gguf`` file says of its model. Source: the GGUF specification.

The file is read up to what is wanted; weights are not touched.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec

_TOKENS: Final = "tokenizer.ggml.tokens"
_ARCHITECTURE: Final = "general.architecture"
_KV_HEADS: Final = "attention.head_count_kv"
_MAGIC: Final = b"GGUF"
_FORMATS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_COUNT_MAX: Final = 4_000_000
_BYTES_MAX: Final = 64 * 1024 * 1024


class NotReadable(ValueError):
    """It is no such file."""


class Attention(msgspec.Struct, frozen=True):
    """The window that a model was trained for, and what a token in it takes of memory, as f16."""

    context_tokens: int
    f16_bytes_per_token: int


_Count = Annotated[int, msgspec.Meta(gt=0)]


class _Metadata(msgspec.Struct):
    context_length: _Count
    block_count: _Count
    embedding_length: _Count
    heads: _Count = msgspec.field(name="attention.head_count")
    kv_heads: int | tuple[int, ...] | None = msgspec.field(name="attention.head_count_kv", default=None)
    key_length: int | None = msgspec.field(name="attention.key_length", default=None)
    value_length: int | None = msgspec.field(name="attention.value_length", default=None)


def attention(model: Path) -> Attention | None:
    """What the file says of the model's attention; None where that is not said in the usual way.

    Models that keep less than all heads of all layers, such as those with a sliding window, take less than this.

    Raises:
        NotReadable: it is no such file.
        OSError: it cannot be read.
    """
    found = read_metadata(model, (_TOKENS,))
    name = f"{found.get(_ARCHITECTURE)}."
    own = {key.removeprefix(name): value for key, value in found.items() if key.startswith(name)}
    try:
        metadata = msgspec.convert(own, _Metadata)
    except msgspec.ValidationError:
        return None
    width = metadata.embedding_length // metadata.heads
    heads = metadata.kv_heads or metadata.heads
    in_all = sum(heads) if isinstance(heads, tuple) else metadata.block_count * heads
    per_head = (metadata.key_length or width) + (metadata.value_length or width)
    return Attention(metadata.context_length, 2 * in_all * per_head) if in_all * per_head else None


def read_metadata(model: Path, wanted: Collection[str]) -> dict[str, Any]:
    """The metadata up to the last that is wanted. Blocks for some tenths of a second.

    Raises:
        NotReadable: it is no such file.
        OSError: it cannot be read.
    """
    with model.open("rb") as file:
        return _read(file, wanted)


def _read(file: BinaryIO, wanted: Collection[str]) -> dict[str, Any]:
    if file.read(4) != _MAGIC:
        raise NotReadable("it is not a GGUF file")
    found: dict[str, Any] = {}
    try:
        _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
        for _ in range(min(count, _COUNT_MAX)):
            name = _text(file)
            found[name] = _value(file, _number(file, "I"), kept=name in wanted or name.endswith(_KV_HEADS))
            if found.keys() >= set(wanted):
                break
    except struct.error as error:
        raise NotReadable("the file ends in the middle of its metadata") from error
    return found


def _value(file: BinaryIO, kind: int, *, kept: bool) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, _format(kind))
    inner, count = _number(file, "I"), _number(file, "Q")
    if count > _COUNT_MAX:
        raise NotReadable(f"a list of {count} entries is too long for a vocabulary")
    if inner == _STRING:
        texts = [_text(file) for _ in range(count)]
        return texts if kept else None
    data = file.read(count * struct.calcsize(f"<{_format(inner)}"))
    return struct.unpack(f"<{count}{_format(inner)}", data) if kept else None


def _format(kind: int) -> str:
    if kind not in _FORMATS:
        raise NotReadable(f"there is no type {kind} in GGUF's metadata")
    return _FORMATS[kind]


def _number(file: BinaryIO, format: str) -> Any:
    return struct.unpack(f"<{format}", file.read(struct.calcsize(f"<{format}")))[0]


def _text(file: BinaryIO) -> str:
    length = _number(file, "Q")
    if length > _BYTES_MAX:
        raise NotReadable(f"a text of {length} bytes is too long for a vocabulary")
    return file.read(length).decode("utf-8", "replace")
