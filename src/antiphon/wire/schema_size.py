"""How much work a JSON schema is: found before it is compiled, and before a value is held against it.

A few lines of references that fan out are millions of subschemas, and whoever checks a value visits them all. So they
are counted along the references, each subschema once: ``excess`` counts what the schema alone can cost, ``work`` what
one value costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from antiphon.wire import Json
from antiphon.wire.pointers import look_up, steps_of

LEVELS_MAX: Final = 100
"""How deep a schema may be nested: everything that reads one, here or in a model's server, can follow that far."""
SCHEMA_CHARS_MAX: Final = 1024 * 1024
SUBSCHEMAS_MAX: Final = 20_000
"""Subschemas, each counted as often as references lead to it."""
PATH_MAX: Final = 300
"""Subschemas on the longest way through the references."""
PATTERN_CHARS_MAX: Final = 2000
PATTERNS_MAX: Final = 200
PATTERN_WORK_CHARS: Final = 256
"""Characters of a text that a pattern reads in the time of a subschema."""
FOREIGN_WORK: Final = 100
"""What a reference to one of the well-known schemas of JSON Schema itself is taken for."""

_LISTS: Final = ("anyOf", "oneOf", "allOf")
_SINGLE: Final = ("not", "if", "then", "else")
_NAMED: Final = ("dependentSchemas", "dependencies")
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_UNEVALUATED: Final = ("unevaluatedProperties", "unevaluatedItems")
_MEMBERS: Final = ("properties", "patternProperties")
_OF_OBJECTS: Final = ("additionalProperties", "propertyNames", "unevaluatedProperties")
_OF_ARRAYS: Final = ("items", "prefixItems", "additionalItems", "contains", "unevaluatedItems")
_IN_PLACE: Final = frozenset((*_LISTS, *_SINGLE, *_NAMED, *_REFERENCES))
"""Keywords that hold the same value against other schemas."""
_PLACES: Final = frozenset((*_MEMBERS, *_OF_OBJECTS, *_OF_ARRAYS))
"""Keywords that hold what is in a value against other schemas."""

Place: TypeAlias = tuple[str | int, ...]


class _Spot(NamedTuple):
    """A subschema, where it stands, and the value that it is held against (None while there is none)."""

    schema: Json
    place: Place
    value: Any = None
    same: bool = False
    """Whether it is held against the same value as the subschema that leads to it."""
    times: int = 1

    @property
    def key(self) -> tuple[int, int]:
        return id(self.schema), id(self.value)


class Excess(Exception):
    """A bound is broken; the text says which, and where."""


def deeper(value: Any, levels_max: int) -> bool:
    """Whether arrays and objects stand in each other more than ``levels_max`` deep."""
    level = [value]
    for _ in range(levels_max):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(cast(Json, node).values())
    return cast("list[Any]", node) if isinstance(node, list) else ()


def _extent(value: Any, extent_max: int) -> int | None:
    """Values in ``value``, a long text counting as several; None for more than ``extent_max``."""
    extent, level = 0, [value]
    while level:
        extent += len(level) + sum(len(node) // PATTERN_WORK_CHARS for node in level if isinstance(node, str))
        if extent > extent_max:
            return None
        level = [child for node in level for child in _children(node)]
    return extent


def excess(schema: Json) -> str | None:
    """The bound that ``schema`` breaks, and the place where it does; None if it breaks none."""
    if _is_plain(schema):
        return None
    try:
        measure(schema)
    except Excess as found:
        return str(found)
    return None


_PLAIN_CHARS_MAX: Final = 2 * SUBSCHEMAS_MAX
_TELLING: Final = (b'"$', b'"pattern', b'"unevaluated', b"\\u")


def _is_plain(schema: Json) -> bool:
    """Whether it can break no bound, as most can: it is short, and no keyword in it expands anything."""
    if deeper(schema, LEVELS_MAX):
        return False
    text = msgspec.json.encode(schema)
    return len(text) <= _PLAIN_CHARS_MAX and not any(word in text for word in _TELLING)


class Size(NamedTuple):
    """``subschemas`` are counted along the references; where some lead back, ``recursive``, a value counts too."""

    subschemas: int
    recursive: bool


def measure(schema: Json) -> Size:
    """How large a schema is.

    Raises:
        Excess: ``schema`` breaks a bound.
    """
    if deeper(schema, LEVELS_MAX):
        raise Excess(f"the schema is nested deeper than {LEVELS_MAX} levels.")
    _check_texts(schema)
    tally = _Tally(Links(schema).anything, SUBSCHEMAS_MAX)
    return Size(tally.count(_Spot(schema, ())), tally.loops)


def work(schema: Json, size: Size, value: Any, work_max: int) -> int | None:
    """At most how often a subschema is held against a value, while ``value`` is held against ``schema``; None for
    more than ``work_max``.
    """
    if not size.recursive:
        least = _extent(value, work_max // size.subschemas)
        if least is not None:
            return least * size.subschemas
    try:
        return _Tally(Links(schema).apply, work_max).count(_Spot(schema, (), value))
    except Excess:
        return None


# --- counting --------------------------------------------------------------------------------------------------------


class _Tally:
    """Counts along a graph, each node once, with a stack of its own: the way may be longer than Python's."""

    def __init__(self, inside: Callable[[_Spot], Iterator[_Spot]], count_max: int) -> None:
        self._inside = inside
        self._max = count_max
        self._totals: dict[tuple[int, int], int] = {}
        self.loops = False

    def count(self, root: _Spot) -> int:
        stack: list[tuple[_Spot, Iterator[_Spot]]] = [(root, self._inside(root))]
        sums, above = [_weight(root)], {root.key}
        while stack:
            spot, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                stack.pop()
                above.discard(spot.key)
                self._totals[spot.key] = sums.pop()
                if sums:
                    self._add(sums, self._totals[spot.key] * spot.times, stack[-1][0])
            elif child.key in above:
                _refuse_loop(child, stack)
                self.loops = True
                self._add(sums, 1, spot)
            elif child.key in self._totals:
                self._add(sums, self._totals[child.key] * child.times, spot)
            else:
                self._enter(child, stack, sums, above)
        return self._totals[root.key]

    def _enter(
        self, child: _Spot, stack: list[tuple[_Spot, Iterator[_Spot]]], sums: list[int], above: set[tuple[int, int]]
    ) -> None:
        if child.value is None and len(stack) >= PATH_MAX:
            raise Excess(f"In context={_describe(child)}, references lead on for more than {PATH_MAX} subschemas.")
        if len(self._totals) > self._max:
            raise Excess(f"In context={_describe(child)}, there are more than {self._max} subschemas.")
        stack.append((child, self._inside(child)))
        sums.append(_weight(child))
        above.add(child.key)

    def _add(self, sums: list[int], count: int, spot: _Spot) -> None:
        sums[-1] += count
        if sums[-1] > self._max:
            raise Excess(f"In context={_describe(spot)}, references expand to more than {self._max} subschemas.")


def _refuse_loop(child: _Spot, stack: Sequence[tuple[_Spot, Iterator[_Spot]]]) -> None:
    """What leads to itself without going into the value can be followed for ever."""
    on_the_way = [spot for spot, _ in stack]
    start = next(i for i, spot in enumerate(on_the_way) if spot.key == child.key)
    if child.same and all(spot.same for spot in on_the_way[start + 1 :]):
        raise Excess(f"In context={_describe(child)}, the schema refers to itself for one and the same value.")


def _weight(spot: _Spot) -> int:
    text: Any = spot.value
    patterned = isinstance(text, str) and ("pattern" in spot.schema or "format" in spot.schema)
    return 1 + (len(text) // PATTERN_WORK_CHARS if patterned else 0)


def _describe(spot: _Spot) -> str:
    return str(tuple(map(str, spot.place)))[:512]


# --- the graph -------------------------------------------------------------------------------------------------------


class Links:
    """Which subschemas lead to which, in one schema."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._id_words = ("$id", "id") if "draft-04" in str(root.get("$schema")) else ("$id",)
        self._anchors: dict[str, list[_Spot]] | None = None

    def anything(self, spot: _Spot) -> Iterator[_Spot]:
        """All that ``spot`` leads to, for whatever value."""
        yield from self._same(spot)
        for word in _PLACES.intersection(spot.schema):
            yield from (_named_members if word in _MEMBERS else _one_or_many)(spot, word)

    def apply(self, spot: _Spot) -> Iterator[_Spot]:
        """What ``spot`` leads to for its value."""
        yield from self._same(spot)
        value: Any = spot.value
        if _PLACES.isdisjoint(spot.schema):
            return
        if isinstance(value, dict):
            for name, member in cast(Json, value).items():
                yield from _of_member(spot, name, member)
        elif isinstance(value, list):
            for entry in cast("list[Any]", value):
                for word in _OF_ARRAYS:
                    yield from (each._replace(value=entry) for each in _one_or_many(spot, word))

    def _same(self, spot: _Spot) -> Iterator[_Spot]:
        if spot.schema is not self._root and not spot.schema.keys().isdisjoint(self._id_words):
            _refuse_new_base([spot.schema.get(word) for word in self._id_words], spot)
        # Whether a member was seen already is found out by looking at all of these once more.
        times = 2 if any(word in spot.schema for word in _UNEVALUATED) else 1
        for word in _IN_PLACE.intersection(spot.schema):
            for each in self._apply_keyword(spot, word):
                yield each._replace(value=spot.value, same=True, times=each.times * times)

    def _apply_keyword(self, spot: _Spot, word: str) -> Iterator[_Spot]:
        if word in _REFERENCES:
            reference: Any = spot.schema[word]
            yield from self._target(spot, reference) if isinstance(reference, str) else ()
        else:
            yield from (_named_members if word in _NAMED else _one_or_many)(spot, word)

    def _target(self, spot: _Spot, reference: str) -> Sequence[_Spot]:
        own: Any = self._root.get("$id")
        local = reference.removeprefix(own) if isinstance(own, str) and own else reference
        if local in ("", "#"):
            return (_Spot(self._root, ()),)
        if not local.startswith("#"):
            return (_Spot({}, (*spot.place, reference[:64]), times=FOREIGN_WORK),)
        return self._follow_pointer(local[1:]) if local.startswith("#/") else self._find_anchor(local[1:])

    def _follow_pointer(self, pointer: str) -> Sequence[_Spot]:
        steps = steps_of(pointer)
        node = look_up(self._root, steps)
        return (_Spot(cast(Json, node), steps),) if isinstance(node, dict) else ()

    def _find_anchor(self, name: str) -> Sequence[_Spot]:
        if self._anchors is None:
            self._anchors = _anchors(self._root)
        return self._anchors.get(name, ())


def _refuse_new_base(names: Sequence[Any], spot: _Spot) -> None:
    """Below an ``$id``, references count from another root; ``#name`` is but an anchor."""
    if any(isinstance(name, str) and not name.startswith("#") for name in names):
        raise Excess(f"In context={_describe(spot)}, '$id' is known at the top of a schema only.")


def _anchors(root: Json) -> dict[str, list[_Spot]]:
    found: dict[str, list[_Spot]] = {}
    stack: list[Any] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            for word in ("$anchor", "$dynamicAnchor", "$id", "id"):
                name: Any = cast(Json, node).get(word)
                if isinstance(name, str):
                    found.setdefault(name.removeprefix("#"), []).append(_Spot(cast(Json, node), (name[:64],)))
        stack.extend(_children(node))
    return found


def _one_or_many(spot: _Spot, word: str) -> Iterator[_Spot]:
    inner: Any = spot.schema.get(word)
    if isinstance(inner, dict):
        yield _Spot(cast(Json, inner), (*spot.place, word))
    elif isinstance(inner, list):
        for index, one in enumerate(cast("list[Any]", inner)):
            if isinstance(one, dict):
                yield _Spot(cast(Json, one), (*spot.place, word, index))


def _named_members(spot: _Spot, word: str) -> Iterator[_Spot]:
    inner: Any = spot.schema.get(word)
    if isinstance(inner, dict):
        for name, one in cast(Json, inner).items():
            if isinstance(one, dict):
                yield _Spot(cast(Json, one), (*spot.place, word, name))


def _of_member(spot: _Spot, name: str, member: Any) -> Iterator[_Spot]:
    """What a member of an object is held against."""
    own: Any = spot.schema.get("properties")
    one: Any = cast(Json, own).get(name) if isinstance(own, dict) else None
    if isinstance(one, dict):
        yield _Spot(cast(Json, one), (*spot.place, "properties", name), member)
    for each in _named_members(spot, "patternProperties"):
        yield each._replace(value=member)
    for word in _OF_OBJECTS:
        for each in _one_or_many(spot, word):
            yield each._replace(value=name if word == "propertyNames" else member)


# --- texts -----------------------------------------------------------------------------------------------------------


def _check_texts(schema: Json) -> None:
    """See that the schema is no longer than it may be, and neither are its patterns.

    Raises:
        Excess: it is, or they are.
    """
    chars = patterns = 0
    stack: list[tuple[Any, Place]] = [(schema, ())]
    while stack:
        node, place = stack.pop()
        if isinstance(node, dict):
            members = cast(Json, node)
            patterns += _check_patterns(members, place)
            chars += sum(map(len, members))
            stack.extend((value, (*place, name)) for name, value in members.items())
        elif isinstance(node, list):
            stack.extend((entry, (*place, i)) for i, entry in enumerate(cast("list[Any]", node)))
        chars += len(node) if isinstance(node, str) else 4
        if chars > SCHEMA_CHARS_MAX:
            raise Excess(f"the schema exceeds the limit of {SCHEMA_CHARS_MAX} characters.")
        if patterns > PATTERNS_MAX:
            raise Excess(f"the schema exceeds the limit of {PATTERNS_MAX} patterns.")


def _check_patterns(schema: Json, place: Place) -> int:
    found = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    named: Any = schema.get("patternProperties")
    found += list(cast(Json, named)) if isinstance(named, dict) else []
    for pattern in found:
        if len(pattern) > PATTERN_CHARS_MAX:
            shown = str(tuple(map(str, place)))[:512]
            raise Excess(f"In context={shown}, a pattern exceeds the limit of {PATTERN_CHARS_MAX} characters.")
    return len(found)
