"""Texts that a model's tokenizer would take for its control tokens, made harmless.

A chat template is one text, in which ``<|im_start|>`` opens a turn, whoever wrote it: the output of a tool could speak
as the system. So each such text that is not the template's own gets a zero-width space behind its first character. It
reads the same and is no token any more. Only what is sent is changed, never what is stored.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import msgspec

from antiphon.wire import Json

BREAK: Final = "\u200b"
"""What is put into a text, so that it is no token: a zero-width space."""

Choice: TypeAlias = Literal["auto", "off"] | tuple[str, ...]
"""Which texts are made harmless: those of the ``auto``matically chosen family, none, or just these."""


class Family(NamedTuple):
    """Models of one tokenizer: what their names contain, and their control tokens."""

    names: tuple[str, ...]
    tokens: tuple[str, ...]


@cache
def families() -> Mapping[str, Family]:
    """The families by name: the data is ``control_tokens.toml``."""
    text = files("antiphon.models.chat").joinpath("control_tokens.toml").read_text("utf-8")
    return {
        name: Family(tuple(row["names"]), tuple(row["tokens"].split())) for name, row in tomllib.loads(text).items()
    }


@cache
def _every() -> tuple[str, ...]:
    return tuple(sorted({token for family in families().values() for token in family.tokens}))


@lru_cache(maxsize=256)
def tokens_for(model: str, choice: Choice = "auto") -> tuple[str, ...]:
    """The control tokens to look for in what the model called ``model`` is sent: those of its family, or of all
    families when its name tells none.
    """
    if choice == "off":
        return ()
    if isinstance(choice, tuple):
        return choice
    name = model.lower()
    found = [family for family in families().values() if any(part in name for part in family.names)]
    # Names such as "deepseek-r1-distill-qwen" are of two families, and may have the tokens of either.
    return tuple(sorted({token for family in found for token in family.tokens})) if found else _every()


def find_known(vocabulary: Collection[str]) -> tuple[str, ...]:
    """The texts of all families that are in a model's vocabulary."""
    return tuple(token for token in _every() if token in vocabulary)


def neutralize(value: Any, tokens: tuple[str, ...]) -> Any:
    """``value``, JSON, with no text in it that is one of ``tokens``. What holds none is returned as it is; pictures are
    not looked at.
    """
    return _neutral(value, _pattern(tokens)) if tokens else value


def _neutral(value: Any, pattern: re.Pattern[str]) -> Any:
    match value:
        case str():
            return pattern.sub(_broken, value)
        case dict():
            return {pattern.sub(_broken, key): _member(key, one, pattern) for key, one in cast(Json, value).items()}
        case list():
            return [_neutral(one, pattern) for one in cast("list[Any]", value)]
        case _:
            return value


def _member(key: str, value: Any, pattern: re.Pattern[str]) -> Any:
    match key:
        case "image_url":
            return value
        case "arguments" if isinstance(value, str) and "\\u" in value:
            return _neutral(_unescape(value), pattern)
        case _:
            return _neutral(value, pattern)


def _unescape(arguments: str) -> str:
    """JSON whose characters stand for themselves. Templates decode it, and an escaped token would be one again."""
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments)).decode()
    except (msgspec.DecodeError, RecursionError):
        return arguments


def _broken(match: re.Match[str]) -> str:
    return match[0] + BREAK


@lru_cache(maxsize=64)
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the first character of every occurrence, also of those that overlap."""
    ahead: dict[str, _Tree] = {}
    for token in tokens:
        if len(token) > 1:
            _grow(ahead.setdefault(token[0], {}), token[1:])
    ways = (f"{re.escape(first)}(?={_to_regex(tree)})" for first, tree in sorted(ahead.items()))
    return re.compile("|".join(ways) or r"(?!)")


_Tree: TypeAlias = "dict[str, Any]"
"""Texts by their characters; ``""`` where one ends. Looking at a text then costs its length, however many there are."""


def _grow(tree: _Tree, rest: str) -> None:
    for char in rest:
        tree = tree.setdefault(char, {})
    tree[""] = {}


def _to_regex(tree: _Tree) -> str:
    if "" in tree:
        return ""
    return _either(f"{re.escape(char)}{_to_regex(inner)}" for char, inner in sorted(tree.items()))


def _either(ways: Iterable[str]) -> str:
    found = list(ways)
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"
