"""What a model's own file declares: its control tokens, and whether its chat template shows functions.

Source: the GGUF specification. The file is read up to its vocabulary; weights are not touched.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, Final

from antiphon.models.chat.control_tokens import known_among

_MAGIC: Final = b"GGUF"
_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"
_TEMPLATE: Final = "tokenizer.chat_template"
_CONTROL: Final = frozenset((2, 3))
"""Types of token that are read out of a text only as themselves: unknown, and control."""
_FORMATS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_COUNT_MAX: Final = 4_000_000
_BYTES_MAX: Final = 64 * 1024 * 1024


class NoVocabulary(ValueError):
    """The file does not say what its tokens are."""


def control_tokens(model: Path) -> tuple[str, ...]:
    """The texts of the control tokens of a ``.gguf`` file. Blocks for some tenths of a second.

    llama.cpp takes some tokens for control tokens that their files do not declare, because of what they look like;
    those of a known family count too.

    Raises:
        NoVocabulary: it is no such file, or has no vocabulary.
        OSError: it cannot be read.
    """
    with model.open("rb") as file:
        metadata = _read_metadata(file, (_TOKENS, _TYPES))
    tokens, types = metadata.get(_TOKENS), metadata.get(_TYPES)
    if tokens is None or types is None or len(tokens) != len(types):
        raise NoVocabulary(f"{model.name} does not say which of its tokens are control tokens")
    declared = {token for token, kind in zip(tokens, types, strict=True) if kind in _CONTROL}
    return tuple(sorted({token for token in (*declared, *known_among(set(tokens))) if len(token) > 1}))


def shows_functions(model: Path) -> bool:
    """Whether the chat template of a ``.gguf`` file says anything of functions: for others llama.cpp drops them without
    a word. Blocks for some tenths of a second.

    Raises:
        NoVocabulary: it is no such file.
        OSError: it cannot be read.
    """
    with model.open("rb") as file:
        template = _read_metadata(file, (_TEMPLATE,)).get(_TEMPLATE, "")
    return re.search(r"\btools\b", str(template)) is not None


def _read_metadata(file: BinaryIO, wanted: Collection[str]) -> dict[str, Any]:
    """The metadata up to the last that is wanted."""
    if file.read(4) != _MAGIC:
        raise NoVocabulary("it is not a GGUF file")
    found: dict[str, Any] = {}
    try:
        _version, _tensors, count = struct.unpack("<IQQ", file.read(20))
        for _ in range(min(count, _COUNT_MAX)):
            name = _text(file)
            found[name] = _value(file, _number(file, "I"), kept=name in wanted)
            if found.keys() >= set(wanted):
                break
    except struct.error as error:
        raise NoVocabulary("the file ends in the middle of its metadata") from error
    return found


def _value(file: BinaryIO, kind: int, *, kept: bool) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, _format(kind))
    inner, count = _number(file, "I"), _number(file, "Q")
    if count > _COUNT_MAX:
        raise NoVocabulary(f"a list of {count} entries is none of a vocabulary")
    if inner == _STRING:
        texts = [_text(file) for _ in range(count)]
        return texts if kept else None
    data = file.read(count * struct.calcsize(f"<{_format(inner)}"))
    return struct.unpack(f"<{count}{_format(inner)}", data) if kept else None


def _format(kind: int) -> str:
    if kind not in _FORMATS:
        raise NoVocabulary(f"there is no type {kind} in GGUF's metadata")
    return _FORMATS[kind]


def _number(file: BinaryIO, format: str) -> Any:
    return struct.unpack(f"<{format}", file.read(struct.calcsize(f"<{format}")))[0]


def _text(file: BinaryIO) -> str:
    length = _number(file, "Q")
    if length > _BYTES_MAX:
        raise NoVocabulary(f"a text of {length} bytes is none of a vocabulary")
    return file.read(length).decode("utf-8", "replace")
