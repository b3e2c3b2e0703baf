"""What a model's own file declares: its control tokens, and what its chat template knows of functions and reasoning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from antiphon.models.chat.control_tokens import find_known
from antiphon.models.embedded.gguf import NotReadable, read_metadata

_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"
_TEMPLATE: Final = "tokenizer.chat_template"
_CONTROL: Final = frozenset((2, 3))
"""Types of token that are read out of a text only as themselves: unknown, and control."""


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
    metadata = _read(model, _TOKENS, _TYPES)
    tokens, types = metadata.get(_TOKENS), metadata.get(_TYPES)
    if tokens is None or types is None or len(tokens) != len(types):
        raise NoVocabulary(f"{model.name} does not say which of its tokens are control tokens")
    declared = {token for token, kind in zip(tokens, types, strict=True) if kind in _CONTROL}
    return tuple(sorted({token for token in (*declared, *find_known(set(tokens))) if len(token) > 1}))


def shows_functions(model: Path) -> bool:
    """Whether the chat template of a ``.gguf`` file says anything of functions: for others llama.cpp drops them without
    a word. Blocks for some tenths of a second.

    Raises:
        NoVocabulary: it is no such file.
        OSError: it cannot be read.
    """
    return re.search(r"\btools\b", _template(model)) is not None


def reasons(model: Path) -> bool:
    """Whether the chat template of a ``.gguf`` file has to do with reasoning. Blocks for some tenths of a second.

    Raises:
        NoVocabulary: it is no such file.
        OSError: it cannot be read.
    """
    return re.search(r"think|reason|<\|channel", _template(model)) is not None


def _template(model: Path) -> str:
    return str(_read(model, _TEMPLATE).get(_TEMPLATE, ""))


def _read(model: Path, *wanted: str) -> dict[str, Any]:
    try:
        return read_metadata(model, wanted)
    except NotReadable as error:
        raise NoVocabulary(str(error)) from error
