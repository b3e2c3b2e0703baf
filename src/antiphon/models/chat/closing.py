"""The shortest end of an answer that is held to a JSON schema and whose tokens run out. Pure.

What was written is read beside the schema to where it breaks off. What is missing there is the rest of a text, what is
required of each object and list that is open, and their brackets; optional members and further items are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from antiphon.models.chat import bounds
from antiphon.models.chat.arguments import compact
from antiphon.models.chat.json_grammar import Part, Pattern
from antiphon.models.chat.shortest import Endless, Refs, Schemas, Shortest, properties, required, without
from antiphon.wire import Json

_CHARS_MIN: Final = 8
"""No text of an end is held shorter, but by its own schema."""
_CHARS_PER_TOKEN_MAX: Final = 8
_STOP_TOKENS: Final = 2
"""What it takes to say that this is all."""
_SPARE_MIN: Final = 8
"""Fewer tokens than this are not worth another sample."""
_BRACKETS_TOKENS: Final = 24
"""What the brackets take that may be open, and the end of a text."""
_DEPTH_MAX: Final = 64
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])*)("?)(\\(?:u[0-9a-fA-F]{0,3})?)?', re.DOTALL)
"""A text, with its closing quote or with what there is of an escape that breaks off."""
_NUMBER: Final = re.compile(r"-?[0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]*)?")
_CHARACTER: Final = r"[^\"\\\x00-\x1F\x7F]"
_WORDS: Final[Mapping[str, tuple[str, Any]]] = {
    "true": ("boolean", True),
    "false": ("boolean", False),
    "null": ("null", None),
}


class _OtherBranch(Endless):
    """What was written does not fit this branch of the schema."""


def tokens_for_end(schema: Json) -> int:
    """How many tokens are to be kept for the end of an answer, wherever it breaks off.

    Raises:
        Endless: nothing ends an answer to this schema.
    """
    return bounds.least(Shortest(schema, _CHARS_MIN).of(schema)) + _BRACKETS_TOKENS


def find_end(schema: Json, written: str, tokens: int) -> tuple[list[Part], int]:
    """What is missing of an answer, in pieces, none where nothing is; and how many tokens it is to be given now. While
    there is more than the shortest end takes, its texts may be as long as the model likes, and so it may break off
    again.

    Args:
        written: the answer so far.
        tokens: how many are left.

    Raises:
        Endless: it is not known.
    """
    shortest = _find_end(schema, written, _CHARS_MIN)
    spare = tokens - sum(map(_least, shortest)) - _STOP_TOKENS
    if spare >= _SPARE_MIN:
        return _find_end(schema, written, spare * _CHARS_PER_TOKEN_MAX), spare
    texts = sum(map(_count_texts, shortest))
    return _find_end(schema, written, max(_CHARS_MIN, spare // texts)) if texts else shortest, tokens


def _find_end(schema: Json, written: str, chars: int) -> list[Part]:
    try:
        _, missing = _Reader(schema, written, chars).value(schema, 0, frozenset())
    except ValueError as error:  # it is no JSON
        raise Endless from error
    return missing or []


def _least(part: Part) -> int:
    """How many tokens it takes at least."""
    match part:
        case str():
            return 1 + len(part) // 2
        case Pattern():
            return _CHARS_MIN
        case _:
            return bounds.least(part)


def _count_texts(part: Part) -> int:
    match part:
        case str():
            return 0
        case Pattern():
            return 1
        case _:
            return compact(part).count('"maxLength":')


class _Reader(Schemas):
    """Reads what was written beside its schema.

    Each method returns where the value ends, and what is missing of it; None where nothing is.
    """

    def __init__(self, root: Json, written: str, chars: int) -> None:
        super().__init__(root)
        self._shortest = Shortest(root, chars)
        self._chars = chars
        self._text = written
        self._depth = 0

    def value(self, node: Any, at: int, outer: Refs) -> tuple[int, list[Part] | None]:
        """A value, from its first character or a blank on."""
        at = self._skip(at)
        if at == len(self._text):
            return at, [self._shortest.of(node, outer)]
        if self._depth == _DEPTH_MAX:
            raise Endless
        self._depth += 1
        try:
            for branch, refs in self._branches(node, outer):
                with suppress(_OtherBranch):
                    return self._value(branch, at, refs)
        finally:
            self._depth -= 1
        raise _OtherBranch

    def _branches(self, node: Any, outer: Refs) -> Iterator[tuple[Json, Refs]]:
        known, outer = self.follow(node, outer)
        keyword = next((one for one in bounds.BRANCHES if isinstance(known.get(one), list)), None)
        if keyword is None:
            yield known, outer
            return
        beside = without(known, keyword)
        for branch in known[keyword]:
            yield from self._branches({**branch, **beside} if isinstance(branch, dict) else branch, outer)

    def _value(self, node: Json, at: int, outer: Refs) -> tuple[int, list[Part] | None]:
        match self._text[at]:
            case "{":
                _expect(node, "object")
                return self._object(node, at + 1, outer)
            case "[":
                _expect(node, "array")
                return self._list(node, at + 1, outer)
            case '"':
                _expect(node, "string")
                return self._string(node, at)
            case "t" | "f" | "n":
                return self._word(node, at)
            case _:
                _expect(node, "number", "integer")
                return self._numeral(node, at)

    def _skip(self, at: int) -> int:
        found = _BLANKS.match(self._text, at)
        assert found is not None
        return found.end()

    def _word(self, node: Json, at: int) -> tuple[int, list[Part] | None]:
        for word, (kind, value) in _WORDS.items():
            if word.startswith(self._text[at : at + len(word)]):
                _expect(node, kind)
                _see_that_fits(node, value)
                end = min(at + len(word), len(self._text))
                return end, [word[end - at :]] if end - at < len(word) else None
        raise _OtherBranch

    def _numeral(self, node: Json, at: int) -> tuple[int, list[Part] | None]:
        found = _NUMBER.match(self._text, at)
        if found is None or found.end() == at:
            raise _OtherBranch
        end = found.end()
        if end == len(self._text):
            # Its digits go on where the model says so: half a number is another number.
            more = _rest_of_number(node, found[0])
            return end, [Pattern(more)] if more else []
        _see_that_fits(node, json.loads(found[0]))
        return end, None

    def _string(self, node: Json, at: int) -> tuple[int, list[Part] | None]:
        found = _TEXT.match(self._text, at)
        assert found is not None
        options = _options(node)
        if found[2]:
            _see_that_fits(node, json.loads(found[0], strict=False))
            return found.end(), None
        if options is not None:
            return len(self._text), [_rest_of_option(options, self._text[at:])]
        if "pattern" in node or "format" in node:
            raise Endless
        begun = found[3] or ""
        length = len(json.loads(f'"{found[1]}"', strict=False))
        missing = max(0, bounds.number(node, "minLength") - length - bool(begun))
        room = max(0, node["maxLength"] - length - bool(begun)) if "maxLength" in node else self._chars
        more = Pattern(f"{_rest_of_escape(begun)}{_CHARACTER}{{{missing},{max(missing, min(room, self._chars))}}}")
        return len(self._text), [more, '"']

    def _list(self, node: Json, at: int, outer: Refs) -> tuple[int, list[Part] | None]:
        first: Any = node.get("prefixItems") or ()
        count = 0
        while True:
            at = self._skip(at)
            if at == len(self._text) and not count:
                return at, self._end_of_list(node, count, outer)
            if self._text[at : at + 1] == "]":
                return at + 1, None
            item = first[count] if count < len(first) else node.get("items", True)
            at, missing = self.value(item, at, outer)
            count += 1
            at = self._skip(at)
            if missing is not None or at == len(self._text):
                return at, [*(missing or ()), *self._end_of_list(node, count, outer)]
            if self._text[at] == ",":
                at += 1
            elif self._text[at] != "]":
                raise _OtherBranch

    def _end_of_list(self, node: Json, count: int, outer: Refs) -> list[Part]:
        parts: list[Part] = []
        for n in range(count, bounds.number(node, "minItems")):
            first: Any = node.get("prefixItems") or ()
            item = first[n] if n < len(first) else node.get("items", True)
            parts += [*([", "] if n else []), self._shortest.of(item, outer)]
        return [*parts, "]"]

    def _object(self, node: Json, at: int, outer: Refs) -> tuple[int, list[Part] | None]:
        seen: list[str] = []
        while True:
            at = self._skip(at)
            if at == len(self._text):
                return at, self._end_of_object(node, seen, outer, behind_comma=bool(seen))
            if self._text[at] == "}":
                return at + 1, None
            found = _TEXT.match(self._text, at)
            if found is None:
                raise _OtherBranch
            if not found[2]:
                return len(self._text), self._end_of_name(node, seen, self._text[at:], outer)
            name = json.loads(found[0], strict=False)
            member = self._member(node, name)
            seen.append(name)
            at = self._skip(found.end())
            if at == len(self._text):
                return at, [": ", self._shortest.of(member, outer), *self._end_of_object(node, seen, outer)]
            at, missing = self.value(member, at + 1, outer)
            at = self._skip(at)
            if missing is not None or at == len(self._text):
                return at, [*(missing or ()), *self._end_of_object(node, seen, outer)]
            if self._text[at] == ",":
                at += 1
            elif self._text[at] != "}":
                raise _OtherBranch

    def _member(self, node: Json, name: str) -> Any:
        found = properties(node).get(name, node.get("additionalProperties", True))
        if found is False:
            raise _OtherBranch
        return found

    def _end_of_object(self, node: Json, seen: Sequence[str], outer: Refs, *, behind_comma: bool = False) -> list[Part]:
        missing = [name for name in properties(node) if name in required(node) and name not in seen]
        if behind_comma and not missing:
            return self._one_more(node, seen, outer)
        if len(seen) + len(missing) < max(len(required(node)), bounds.number(node, "minProperties")):
            raise Endless
        parts: list[Part] = []
        for n, name in enumerate(missing):
            comma = ", " if n or (seen and not behind_comma) else ""
            value = self._shortest.of(properties(node)[name], outer)
            parts += [f"{comma}{json.dumps(name, ensure_ascii=False)}: ", value]
        return [*parts, "}"]

    def _one_more(self, node: Json, seen: Sequence[str], outer: Refs) -> list[Part]:
        """An optional member, where one was announced by a comma, and the end behind it."""
        for name, schema in properties(node).items():
            if name not in seen:
                value = self._shortest.of(schema, outer)
                return [
                    f"{json.dumps(name, ensure_ascii=False)}: ",
                    value,
                    *self._end_of_object(node, [*seen, name], outer),
                ]
        return ['"', *self._end_of_name(node, seen, '"', outer)]

    def _end_of_name(self, node: Json, seen: Sequence[str], begun: str, outer: Refs) -> list[Part]:
        names = [name for name in properties(node) if name not in seen]
        names.sort(key=lambda name: name not in required(node))
        for name in names:
            quoted = json.dumps(name, ensure_ascii=False)
            if quoted.startswith(begun):
                end = self._end_of_object(node, [*seen, name], outer)
                return [f"{quoted[len(begun) :]}: ", self._shortest.of(properties(node)[name], outer), *end]
        if node.get("additionalProperties", True) is False:
            raise _OtherBranch
        found = _TEXT.match(begun)
        assert found is not None
        rest = Pattern(f"{_rest_of_escape(found[3] or '')}{_CHARACTER}{{0,{_CHARS_MIN}}}")
        value = self._shortest.of(node.get("additionalProperties", True), outer)
        return [rest, '": ', value, *self._end_of_object(node, [*seen, begun], outer)]


def _expect(node: Json, *kinds: str) -> None:
    wanted = bounds.kinds(node)
    if wanted and not any(kind in wanted for kind in kinds):
        raise _OtherBranch


def _see_that_fits(node: Json, value: Any) -> None:
    """See that a whole value, which is no list or object, is one of this branch."""
    options = _options(node)
    if options is not None and value not in options:
        raise _OtherBranch


def _options(node: Json) -> Sequence[Any] | None:
    return [node["const"]] if "const" in node else cast("list[Any] | None", node.get("enum"))


def _rest_of_option(options: Sequence[Any], begun: str) -> str:
    for option in options:
        quoted = json.dumps(option, ensure_ascii=False)
        if quoted.startswith(begun):
            return quoted[len(begun) :]
    raise _OtherBranch


def _rest_of_escape(begun: str) -> str:
    """The regular expression of what is missing of an escape."""
    if not begun:
        return ""
    return r"[\"\\bfnrt]" if begun == "\\" else f"[0-9a-fA-F]{{{6 - len(begun)}}}"


def _rest_of_number(node: Json, begun: str) -> str:
    """The regular expression of what may follow, and must where the last character is no digit."""
    least = 0 if begun[-1].isdigit() else 1
    if "e" in begun.lower():
        digits = len(begun) - begun.lower().index("e") - 1
        return f"[0-9]{{{least},{max(least, 2 - digits)}}}"
    if "." in begun:
        return f"[0-9]{{{least},9}}"
    most = max((abs(node[side]) for side in bounds.SIDES if isinstance(node.get(side), int | float)), default=10**15)
    room = max(0, len(str(int(most))) - len(begun.lstrip("-")))
    digits = "(0|[1-9][0-9]{0,15})" if least else f"[0-9]{{0,{room}}}" if room and begun not in ("0", "-0") else ""
    is_whole = "number" not in (bounds.kinds(node) or ("number",))
    return digits + ("" if is_whole else r"(\.[0-9]{1,9})?")
