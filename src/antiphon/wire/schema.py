"""Whether a JSON value keeps to a JSON schema. Compiled once per schema; its links to the outside are not followed."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from antiphon.wire import Json

_COMPILED_MAX = 256
_MESSAGE_CHARS_MAX = 300


LEVELS_MAX = 100
"""How deep a schema may be nested: everything that reads one, here or in a model's server, can follow that far."""


def deeper(value: Any, levels_max: int) -> bool:
    """Whether arrays and objects stand in each other more than ``levels_max`` deep."""
    level = [value]
    for _ in range(levels_max):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return cast(Json, node).values()
    return cast("list[Any]", node) if isinstance(node, list) else ()


def violation(schema: Json, value: Any) -> str | None:
    """What is wrong with ``value``, in a few words; None when it keeps to ``schema``.

    A schema that cannot be compiled, or that points outside itself, is kept by everything: the caller wrote it for a
    model, and a model did read it.
    """
    validator = _validator(msgspec.json.encode(schema))
    error = None if validator is None else next(validator.iter_errors(value), None)
    return None if error is None else str(error.message)[:_MESSAGE_CHARS_MAX]


@functools.lru_cache(maxsize=_COMPILED_MAX)
def _validator(schema: bytes) -> Any | None:
    import jsonschema_rs  # a few milliseconds, and only for those who send schemas

    try:
        return jsonschema_rs.validator_for(schema.decode(), retriever=_nothing_outside)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None


def _nothing_outside(uri: str) -> Any:
    """A schema comes from a caller: following its links would let the caller send this server anywhere."""
    raise ValueError(f"not followed: {uri}")
