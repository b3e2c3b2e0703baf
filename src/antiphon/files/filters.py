"""Filters over a file's attributes, from the API's form to a function.

Types are not made alike: a number is no text, and a boolean is no number. A file without the key fits ``ne`` and
``nin`` alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

from antiphon.store.search import FileFilter

NODES_MAX, DEPTH_MAX, VALUES_MAX = 64, 8, 1000
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_LISTS = ("in", "nin")
_TYPES = ("eq", "ne", *_ORDERS, *_LISTS, "and", "or")


class FilterInvalid(Exception):
    """A filter that means nothing.

    Attributes:
        path: of what is wrong, below the filter, such as ``filters[0].value``; empty for the filter itself.
    """

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


def compile_filter(raw: Any) -> FileFilter:
    """The filter as a function.

    Raises:
        FilterInvalid: it means nothing, or is too large.
    """
    return _Compiler().compile(raw, "", 1)


class _Compiler:
    def __init__(self) -> None:
        self._nodes = 0

    def compile(self, raw: Any, path: str, depth: int) -> FileFilter:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            raise FilterInvalid(path, f"at most {NODES_MAX} conditions, {DEPTH_MAX} deep, can be combined")
        if not isinstance(raw, dict):
            raise FilterInvalid(path, "expected an object")
        node = cast("dict[str, Any]", raw)
        kind = node.get("type")
        if kind not in _TYPES:
            raise FilterInvalid(_below(path, "type"), f"expected one of {', '.join(_TYPES)}")
        if kind in ("and", "or"):
            return self._compile_compound(kind, node.get("filters"), path, depth)
        return _comparison(kind, node, path)

    def _compile_compound(self, kind: str, parts: Any, path: str, depth: int) -> FileFilter:
        where = _below(path, "filters")
        if not isinstance(parts, list) or not parts:
            raise FilterInvalid(where, "expected a list of one or more filters")
        listed = cast("list[Any]", parts)
        found = [self.compile(part, f"{where}[{index}]", depth + 1) for index, part in enumerate(listed)]
        holds = all if kind == "and" else any
        return lambda attributes: holds(part(attributes) for part in found)


def _comparison(kind: str, node: dict[str, Any], path: str) -> FileFilter:
    key, value = node.get("key"), node.get("value")
    if not isinstance(key, str) or not key:
        raise FilterInvalid(_below(path, "key"), "expected a string")
    where = _below(path, "value")
    if kind in _LISTS:
        return _compile_membership(key, _values(value, where), is_in=kind == "in")
    if not _is_scalar(value):
        raise FilterInvalid(where, "expected a string, a number or a boolean")
    if kind in ("eq", "ne"):
        return _compile_membership(key, [value], is_in=kind == "eq")
    if isinstance(value, bool):
        raise FilterInvalid(where, "expected a string or a number")
    compare = _ORDERS[kind]
    return lambda attributes: _is_alike(attributes.get(key), value) and compare(attributes[key], value)


def _values(value: Any, where: str) -> Sequence[Any]:
    values = cast("list[Any]", value) if isinstance(value, list) else []
    if not values or len(values) > VALUES_MAX or not all(map(_is_scalar, values)):
        raise FilterInvalid(where, f"expected a list of 1 to {VALUES_MAX} strings, numbers or booleans")
    return values


def _compile_membership(key: str, values: Sequence[Any], *, is_in: bool) -> FileFilter:
    wanted = {(_kind(value), value) for value in values}

    def admits(attributes: dict[str, Any]) -> bool:
        value = attributes.get(key)
        return ((_kind(value), value) in wanted) is is_in

    return admits


def _kind(value: Any) -> str:
    """Of what type a value is: one for all numbers."""
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _is_alike(value: Any, other: Any) -> bool:
    return value is not None and _kind(value) == _kind(other)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _below(path: str, member: str) -> str:
    return f"{path}.{member}" if path else member
