"""Whether a JSON value keeps to a JSON schema. Compiled once per schema; its links to the outside are not followed.

All of it is bounded before it begins. The compiled code cannot be stopped on its way, and holds Python's lock wherever
it runs, so neither a thread nor a deadline would help: what a check can cost is counted first (``wire.schema_size``).
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any, Final

import msgspec

from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.schema_size import Excess, Size, deeper, measure, work
from antiphon.wire.strict import refusal

COMPILED_CHARS_MAX: Final = 4 * 1024 * 1024
"""Characters of the schemas that are kept compiled."""
WORK_MAX: Final = 1_000_000
"""How often a subschema may be held against a value in one check: some 40 ms."""
EXPLAINED_WORK_MAX: Final = 1000
"""Up to here a fault is explained. The explanation of an ``anyOf`` holds those of all its branches."""
VALUE_LEVELS_MAX: Final = 200
_MESSAGE_CHARS_MAX: Final = 300
_BACKTRACKS_MAX: Final = 100_000
_PATTERN_BYTES_MAX: Final = 2 * 1024 * 1024


class _Compiled(msgspec.Struct, frozen=True):
    """A schema that values can be held against; without a ``validator``, ``fault`` says why they cannot."""

    validator: Any = None
    fault: str | None = None
    size: Size = Size(0, False)


def violation(schema: Json, value: Any) -> str | None:
    """What is wrong with ``value``, in a few words; None when it keeps to ``schema``.

    A schema with a ``flaw`` is kept by everything. Where that must not be, refuse it first.
    """
    compiled = _KEPT.find(schema)
    if compiled.validator is None:
        return None
    if deeper(value, VALUE_LEVELS_MAX):
        return f"it is nested deeper than {VALUE_LEVELS_MAX} levels"
    cost = work(schema, compiled.size, value, WORK_MAX)
    if cost is None:
        return "it is too large, for this schema, to be checked"
    if compiled.validator.is_valid(value):
        return None
    error = next(compiled.validator.iter_errors(value), None) if cost <= EXPLAINED_WORK_MAX else None
    return "it does not keep to the schema" if error is None else str(error.message)[:_MESSAGE_CHARS_MAX]


def flaw(schema: Json) -> str | None:
    """Why nothing can be held against ``schema``, in a few words: it is too large, is no JSON schema, or points
    outside itself. None when something can.
    """
    return _KEPT.find(schema).fault


def refuse_unusable(name: str, schema: Json, *, strict: bool, param: str) -> None:
    """The answer will be held against the schema, so that must be possible; ``strict`` asks for the strict subset.

    Raises:
        InvalidRequest: ``invalid_json_schema``, at ``param``.
    """
    fault = (refusal(schema) if strict else None) or flaw(schema)
    if fault:
        text = f"Invalid schema for response_format '{name}': {fault}"
        raise InvalidRequest(text, code="invalid_json_schema", param=param)


def _compile(text: bytes, schema: Json) -> _Compiled:
    import jsonschema_rs  # a few milliseconds, and only for those who send schemas

    try:
        size = measure(schema)
        validator = jsonschema_rs.validator_for(
            text.decode(),
            retriever=_nothing_outside,
            pattern_options=jsonschema_rs.FancyRegexOptions(_BACKTRACKS_MAX, _PATTERN_BYTES_MAX),
        )
    except (Excess, ValueError, jsonschema_rs.ReferencingError) as error:
        return _Compiled(fault=str(getattr(error, "message", error))[:_MESSAGE_CHARS_MAX])
    return _Compiled(validator, size=size)


def _nothing_outside(uri: str) -> Any:
    """A schema comes from a caller: following its links would let the caller send this server anywhere."""
    raise ValueError(f"not followed: {uri}")


class _Cache:
    """Compiled schemas, the last used ones, up to ``chars_max`` characters of their texts."""

    def __init__(self, chars_max: int) -> None:
        self._max = chars_max
        self._chars = 0
        self._kept: OrderedDict[bytes, _Compiled] = OrderedDict()
        self._lock = Lock()

    def find(self, schema: Json) -> _Compiled:
        text = msgspec.json.encode(schema)
        with self._lock:
            found = self._kept.get(text)
            if found is not None:
                self._kept.move_to_end(text)
                return found
        compiled = _compile(text, schema)
        with self._lock:
            self._keep(text, compiled)
        return compiled

    def _keep(self, text: bytes, compiled: _Compiled) -> None:
        if text not in self._kept:
            self._chars += len(text)
        self._kept[text] = compiled
        while self._chars > self._max:
            oldest, _ = self._kept.popitem(last=False)
            self._chars -= len(oldest)


_KEPT: Final = _Cache(COMPILED_CHARS_MAX)
