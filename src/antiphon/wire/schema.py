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

    A schema with a ``flaw`` is kept by everything. Where that must not be, refuse it first.
    """
    validator = _validator(msgspec.json.encode(schema))
    error = None if isinstance(validator, str) else next(validator.iter_errors(value), None)
    return None if error is None else str(error.message)[:_MESSAGE_CHARS_MAX]


def flaw(schema: Json) -> str | None:
    """Why nothing can be held against ``schema``, in a few words: it is nested too deep, is no JSON schema, or points
    outside itself. None when something can.
    """
    if deeper(schema, LEVELS_MAX):
        return f"the schema is nested deeper than {LEVELS_MAX} levels."
    validator = _validator(msgspec.json.encode(schema))
    return validator if isinstance(validator, str) else None


@functools.lru_cache(maxsize=_COMPILED_MAX)
def _validator(schema: bytes) -> Any:
    """The compiled schema, or the text that says why it cannot be compiled."""
    import jsonschema_rs  # a few milliseconds, and only for those who send schemas

    try:
        return jsonschema_rs.validator_for(schema.decode(), retriever=_nothing_outside)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return str(getattr(error, "message", error))[:_MESSAGE_CHARS_MAX]


def _nothing_outside(uri: str) -> Any:
    """A schema comes from a caller: following its links would let the caller send this server anywhere."""
    raise ValueError(f"not followed: {uri}")
