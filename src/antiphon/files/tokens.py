"""Tokens of a text and where they stand: WordPiece, with the vocabulary of BERT (``wordpiece.txt``, Apache-2.0), which
is also that of the embedding model that runs in the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = Path(__file__).with_name("wordpiece.txt")
SLICE_CHARS = 64 * 1024
WORD_CHARS_MAX = 24
"""A longer token is one that the vocabulary does not know, or that is no word; it counts as many."""
PIECE_CHARS = 4


@cache
def wordpiece() -> Tokenizer:
    """The tokenizer."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece

    words = VOCABULARY.read_text(encoding="utf-8").split("\n")[:-1]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def token_starts(text: str) -> list[int]:
    """Where each token of the text begins, in characters. Some seconds for a large text: to be called in a thread."""
    found: list[int] = []
    for start, piece in _slices(text):
        for first, last in wordpiece().encode(piece, add_special_tokens=False).offsets:
            if last - first <= WORD_CHARS_MAX:
                found.append(start + first)
            else:
                found.extend(range(start + first, start + last, PIECE_CHARS))
    return found


def count_tokens(text: str) -> int:
    """How many tokens the text has."""
    return len(token_starts(text))


def _slices(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    while start < len(text):
        end = min(len(text), start + SLICE_CHARS)
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = cut + 1 if cut > start else end
        yield start, text[start:end]
        start = end
