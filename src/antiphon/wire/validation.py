"""``check``: a JSON object as one of our structs, or the official error for what is wrong with it.

msgspec decides, in C; that is all a good request pays for. Only when it refuses does the walk below run: it follows
the same structs through the value in their declared order and words the first fault as the API does (codes and
message patterns: the API's error reference). So no request is refused by the one and passed by the other, and there
is no second list of rules to keep in step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
from msgspec import inspect

from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

T = TypeVar("T")
Path: TypeAlias = tuple[str | int, ...]

UNKNOWN: Final = "unknown_parameter"
IGNORED_MAX = 64


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a value: where, which code, and the text the caller reads.

    ``siblings`` of an undocumented member are the names that may have been meant; they are compared only when the
    fault is told, because that costs more than all the rest.
    """

    path: Path
    code: str
    message: str
    siblings: frozenset[str] = frozenset()

    def error(self) -> InvalidRequest:
        near = _nearest(str(self.path[-1]), self.siblings) if self.siblings else None
        text = f"{self.message} Did you mean '{near}'?" if near else self.message
        return InvalidRequest(text, code=self.code, param=join_path(self.path))


def check(raw: Json, kind: type[T], *, strict: bool) -> tuple[T, tuple[str, ...]]:
    """``raw`` as a ``kind``, and the paths of its undocumented members (at most ``IGNORED_MAX`` of them are named).

    Raises:
        InvalidRequest: the first fault; undocumented members are faults only when ``strict``.
    """
    try:
        return msgspec.convert(raw, kind), ()
    except msgspec.ValidationError as refusal:
        found = None if strict else _shallow(raw, kind)
        return found or _walk(raw, kind, strict, refusal)


def _shallow(raw: Json, kind: type[T]) -> tuple[T, tuple[str, ...]] | None:
    """The frequent lenient case: clients add members to the body itself. It needs no walk through the input."""
    names = _names(kind)
    ignored = [key for key in raw if key not in names]
    try:
        known = msgspec.convert({key: raw[key] for key in raw if key in names}, kind) if ignored else None
    except msgspec.ValidationError:
        return None
    return (known, _to_paths((key,) for key in ignored)) if known is not None else None


def find_undocumented(raw: Json, kind: type) -> Json:
    """The members of ``raw`` itself that ``kind`` does not have; as many as are named."""
    names = _names(kind)
    return dict(islice(((name, value) for name, value in raw.items() if name not in names), IGNORED_MAX))


def _to_paths(unknown: Iterable[Path]) -> tuple[str, ...]:
    """The paths as plain ASCII, because they are told in a header."""
    return tuple(plain(join_path(path)) for path in islice(unknown, IGNORED_MAX))


def plain(text: str) -> str:
    """A caller's text as it can stand in a header: short, in printable ASCII."""
    return re.sub("[^ -~]", "?", text[:256])


def _walk(raw: Json, kind: type[T], strict: bool, refusal: Exception) -> tuple[T, tuple[str, ...]]:
    unknown: list[Path] = []
    for fault in faults(raw, _shape(kind), ()):
        if strict or fault.code != UNKNOWN:
            raise fault.error() from None
        unknown.append(fault.path)
    try:
        known = msgspec.convert(leave_out(raw, unknown), kind)
    except msgspec.ValidationError as again:  # The walk saw nothing wrong: a gap in it, told plainly.
        raise InvalidRequest(
            f"Invalid request: {again}", code="invalid_value", internal=type(refusal).__name__
        ) from None
    return known, _to_paths(unknown)


@cache
def _shape(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def join_path(path: Path) -> str:
    """``("input", 0, "content")`` as ``input[0].content``; a caller's own keys may make it long, so it is cut."""
    text = "".join(f"[{step}]" if type(step) is int else f".{step}" for step in path)
    return _shorten(text.removeprefix("."), 256)


def leave_out(raw: Json, paths: Iterable[Path]) -> Json:
    """A copy of ``raw`` that lacks ``paths``; what no path touches is shared, and each container is copied once."""
    root = dict(raw)
    copies: dict[Path, Any] = {}
    for path in paths:
        node: Any = root
        for depth in range(1, len(path)):
            child = copies.get(path[:depth])
            if child is None:
                child = copies[path[:depth]] = node[path[depth - 1]].copy()
                node[path[depth - 1]] = child
            node = child
        del node[path[-1]]
    return root


# --- the texts -------------------------------------------------------------------------------------------------------

_NAME_OF: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def join_words(values: Sequence[object], last: str = "and") -> str:
    """``'a'``, ``'a' and 'b'``, or ``'a', 'b', and 'c'``."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return f" {last} ".join(quoted)
    return f"{', '.join(quoted[:-1])}, {last} {quoted[-1]}"


def missing(path: Path) -> Fault:
    return Fault(path, "missing_required_parameter", f"Missing required parameter: '{join_path(path)}'.")


def wrong_type(path: Path, expected: str, value: object) -> Fault:
    got = _NAME_OF.get(type(value), "an unsupported value")
    text = f"Invalid type for '{join_path(path)}': expected {expected}, but got {got} instead."
    return Fault(path, "invalid_type", text)


def wrong_value(path: Path, value: object, supported: Sequence[object]) -> Fault:
    text = f"Invalid value: '{_shorten(value)}'. Supported values are: {join_words(supported)}."
    return Fault(path, "invalid_value", text)


def _shorten(value: object, chars_max: int = 64) -> str:
    # Python refuses to write out an integer of thousands of digits.
    text = "a huge integer" if isinstance(value, int) and value.bit_length() > 256 else str(value)
    return text if len(text) <= chars_max else text[:chars_max] + "…"


def unknown(path: Path, siblings: frozenset[str]) -> Fault:
    """An undocumented member; a sibling at edit distance two or less is offered instead."""
    return Fault(path, UNKNOWN, f"Unknown parameter: '{join_path(path)}'.", siblings)


def _nearest(name: str, names: Iterable[str], distance_max: int = 2) -> str | None:
    near = [other for other in names if abs(len(other) - len(name)) <= distance_max < len(name)]
    ranked = sorted((edit_distance(name, other), other) for other in near)
    return ranked[0][1] if ranked and ranked[0][0] <= distance_max else None


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements that turn ``a`` into ``b``."""
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (char != other))
    return row[-1]


def too_long(path: Path, length: int, length_max: int) -> Fault:
    text = (
        f"Invalid '{join_path(path)}': string too long. Expected a string with maximum length {length_max}, "
        f"but got a string with length {length} instead."
    )
    return Fault(path, "string_above_max_length", text)


def _empty(path: Path, expected: str, length_min: int) -> Fault:
    kind = expected.split()[-1]
    text = (
        f"Invalid '{join_path(path)}': empty {kind}. Expected {expected} with minimum length {length_min}, "
        f"but got an empty {kind} instead."
    )
    return Fault(path, f"empty_{kind}", text)


def too_many(path: Path, count: int, count_max: int) -> Fault:
    text = (
        f"Invalid '{join_path(path)}': array too long. Expected an array with maximum length {count_max}, "
        f"but got an array with length {count} instead."
    )
    return Fault(path, "array_above_max_length", text)


# --- the walk --------------------------------------------------------------------------------------------------------


def faults(value: Any, shape: inspect.Type, path: Path) -> Iterator[Fault]:
    """Everything wrong with ``value``, in the declared order of its members."""
    walk = _WALKS.get(type(shape))
    return walk(value, shape, path) if walk else iter(())


def _null(value: Any, shape: inspect.Type, path: Path) -> Iterator[Fault]:
    if value is not None:
        yield wrong_type(path, "null", value)


def _bool(value: Any, shape: inspect.Type, path: Path) -> Iterator[Fault]:
    if type(value) is not bool:
        yield wrong_type(path, "a boolean", value)


def _str(value: Any, shape: inspect.StrType, path: Path) -> Iterator[Fault]:
    if type(value) is not str:
        yield wrong_type(path, "a string", value)
    elif shape.min_length and len(value) < shape.min_length:
        yield _empty(path, "a string", shape.min_length)
    elif shape.max_length is not None and len(value) > shape.max_length:
        yield too_long(path, len(value), shape.max_length)
    elif shape.pattern is not None and not re.search(shape.pattern, value):
        shown = shape.pattern.removesuffix(r"(?!\n)")
        text = (
            f"Invalid '{join_path(path)}': string does not match pattern. "
            f"Expected a string that matches the pattern '{shown}'."
        )
        yield Fault(path, "invalid_value", text)


def _int(value: Any, shape: inspect.IntType, path: Path) -> Iterator[Fault]:
    if type(value) is not int:
        yield wrong_type(path, "an integer", value)
    else:
        yield from _bounds(value, shape, path, "integer")


def _float(value: Any, shape: inspect.FloatType, path: Path) -> Iterator[Fault]:
    if type(value) not in (int, float):
        yield wrong_type(path, "a decimal", value)
    else:
        yield from _bounds(value, shape, path, "decimal")


def _bounds(value: float, shape: inspect.IntType | inspect.FloatType, path: Path, word: str) -> Iterator[Fault]:
    text = f"Invalid '{join_path(path)}': {word} {{}} value. Expected a value {{}} {{}}, but got {{}} instead."
    shown = _shorten(value)
    if shape.ge is not None and value < shape.ge:
        yield Fault(path, f"{word}_below_min_value", text.format("below minimum", ">=", _plain(shape.ge), shown))
    elif shape.le is not None and value > shape.le:
        yield Fault(path, f"{word}_above_max_value", text.format("above maximum", "<=", _plain(shape.le), shown))


def _plain(bound: float) -> int | float:
    return int(bound) if bound == int(bound) else bound


def _literal(value: Any, shape: inspect.LiteralType, path: Path) -> Iterator[Fault]:
    if type(value) is not str:
        yield wrong_type(path, _describe_type(shape), value)
    elif value not in shape.values:
        yield wrong_value(path, value, shape.values)


def _list(value: Any, shape: inspect.ListType, path: Path) -> Iterator[Fault]:
    if type(value) is not list:
        yield wrong_type(path, _describe_type(shape), value)
        return
    entries = cast("list[Any]", value)
    if shape.min_length and len(entries) < shape.min_length:
        yield _empty(path, "an array", shape.min_length)
    if shape.max_length is not None and len(entries) > shape.max_length:
        yield too_many(path, len(entries), shape.max_length)
    for index, entry in enumerate(entries):
        yield from faults(entry, shape.item_type, (*path, index))


def _dict(value: Any, shape: inspect.DictType, path: Path) -> Iterator[Fault]:
    if type(value) is not dict:
        yield wrong_type(path, "an object", value)
        return
    entries = cast(Json, value)
    if shape.max_length is not None and len(entries) > shape.max_length:
        text = (
            f"Invalid '{join_path(path)}': too many properties. Expected an object with at most {shape.max_length} "
            f"properties, but got an object with {len(entries)} properties instead."
        )
        yield Fault(path, "object_above_max_properties", text)
    for key, entry in entries.items():
        yield from faults(key, shape.key_type, path)
        yield from faults(entry, shape.value_type, (*path, key))


def _struct(value: Any, shape: inspect.StructType, path: Path) -> Iterator[Fault]:
    if type(value) is not dict:
        yield wrong_type(path, "an object", value)
        return
    members = cast(Json, value)
    for field in shape.fields:
        at = (*path, field.encode_name)
        if field.encode_name in members:
            yield from faults(members[field.encode_name], field.type, at)
        elif field.required:
            yield missing(at)
    names = _names(shape.cls)
    for key in members:
        if key not in names and key != shape.tag_field:
            yield unknown((*path, key), names)


@cache
def _names(cls: type) -> frozenset[str]:
    shape = cast(inspect.StructType, _shape(cls))
    return frozenset(field.encode_name for field in shape.fields)


def _union(value: Any, shape: inspect.UnionType, path: Path) -> Iterator[Fault]:
    fitting = [kind for kind in shape.types if type(value) in _JSON_OF[type(kind)]]
    structs = [kind for kind in fitting if isinstance(kind, inspect.StructType)]
    if not fitting:
        yield wrong_type(path, _describe_type(shape), value)
    elif structs and structs[0].tag_field:
        yield from _tagged_faults(value, structs, path)
    else:
        yield from faults(value, fitting[0], path)


def _tagged_faults(value: Json, structs: list[inspect.StructType], path: Path) -> Iterator[Fault]:
    field = str(structs[0].tag_field)
    tag = value.get(field)
    known = {str(struct.tag): struct for struct in structs}
    if tag is None:
        yield missing((*path, field))
    elif type(tag) is not str:
        yield wrong_type((*path, field), "a string", tag)
    elif tag not in known:
        yield wrong_value((*path, field), tag, list(known))
    else:
        yield from _struct(value, known[tag], path)


def _describe_type(shape: inspect.Type) -> str:
    """What a value of ``shape`` is called in ``invalid_type``."""
    match shape:
        case inspect.UnionType(types=kinds):
            wanted = [_describe_type(kind) for kind in kinds if not isinstance(kind, inspect.NoneType)]
            names = list(dict.fromkeys(name.removeprefix("one of ") for name in wanted))
            if len(wanted) == 1:
                return wanted[0]
            return names[0] if len(names) == 1 else "one of " + " or ".join(names)
        case inspect.LiteralType(values=values):
            return "one of " + join_words(values, "or")
        case inspect.ListType(item_type=inspect.StrType() | inspect.LiteralType()):
            return "an array of strings"
        case inspect.ListType():
            return "an array of objects"
        case _:
            return next(_NAME_OF[kind] for kind in reversed(_JSON_OF[type(shape)]))


# JSON types that a value of each shape may have; the last one names it.
_JSON_OF: dict[type, tuple[type, ...]] = {
    inspect.AnyType: (type(None), bool, int, float, str, list, dict),
    inspect.NoneType: (type(None),),
    inspect.BoolType: (bool,),
    inspect.IntType: (int,),
    inspect.FloatType: (int, float),
    inspect.StrType: (str,),
    inspect.LiteralType: (str,),
    inspect.ListType: (list,),
    inspect.DictType: (dict,),
    inspect.StructType: (dict,),
}

_WALKS: dict[type, Callable[[Any, Any, Path], Iterator[Fault]]] = {
    inspect.NoneType: _null,
    inspect.BoolType: _bool,
    inspect.IntType: _int,
    inspect.FloatType: _float,
    inspect.StrType: _str,
    inspect.LiteralType: _literal,
    inspect.ListType: _list,
    inspect.DictType: _dict,
    inspect.StructType: _struct,
    inspect.UnionType: _union,
}
