"""Tells the pieces of a server's calls apart, whatever it numbers them by, and mends what is certain. Pure.

Most servers give each call an ``index``; some give all the same or none, and tell them apart by ``id``, by a name, or
by nothing but the end of the arguments. Names may come in pieces, and a call may be said again as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Call, Delta
from antiphon.models.chat.arguments import JsonPieces, JsonScanner, compact
from antiphon.models.chat.carried import Aside, load
from antiphon.models.chat.mending import mend_object
from antiphon.models.chat.unicode import SurrogateJoiner, clean
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.wire.values import CALL_ID_CHARS_MAX

_AROUND: Final = re.compile(r"[.:/]")
_IN_FRONT: Final = " \t\r\n\0\ufeff\u200b"
"""What may stand in front of arguments."""
_NO_ARGUMENTS: Final = frozenset({"", "null", "None", "undefined", '""', "[]"})
_QUOTES: Final = " \t\r\n\"'`"
_FENCED: Final = re.compile(r"```(?:json)?\s*(\{.*\}|\[.*\])\s*```", re.DOTALL)


class _OpenCall(msgspec.Struct):
    """A call that has begun.

    Attributes:
        ids: every id that came with it; the first is the call's own.
        shown: whether its name has been passed on.
        scanner: follows the arguments, where they are an object; None before they began, and where they are not.
        pieces: says what of the object can be passed on.
        passed: how many characters of the arguments have been.
        parts: the arguments so far, without what stands in front of them.
        whole: whether the object is complete; what comes behind it belongs to nothing.
        empty: whether it is ``{}``, which some servers say before the object proper.
        repeats: whether each piece says again what was said before it.
        named_again: whether its name was said once more, behind its arguments.
        aside: what its server wants back with it.
    """

    key: int
    index: int | None
    ids: dict[str, None]
    name: str = ""
    shown: bool = False
    scanner: JsonScanner | None = None
    pieces: JsonPieces = msgspec.field(default_factory=JsonPieces)
    passed: int = 0
    parts: list[str] = msgspec.field(default_factory=list[str])
    held: str = ""
    whole: bool = False
    empty: bool = False
    repeats: bool = False
    named_again: bool = False
    aside: Aside = msgspec.field(default_factory=Aside)
    joiner: SurrogateJoiner = msgspec.field(default_factory=SurrogateJoiner)

    @property
    def arguments(self) -> str:
        return "".join(self.parts)

    @property
    def has_begun(self) -> bool:
        """Whether any of its arguments have come."""
        return bool(self.parts)

    def take(self, piece: str) -> str:
        """Adds to the arguments; what of it can be passed on. What is no object is kept to the end."""
        piece = self._new(self.joiner.feed(piece))
        if not self.parts:
            piece = piece.lstrip(_IN_FRONT)
            if piece[:1] == "{":
                self.scanner = JsonScanner(single=True)
        if self.whole or not piece:
            return ""
        end = self.scanner.feed(piece) if self.scanner else -1
        if end >= 0:
            self.whole, piece = True, piece[:end]
            self.empty = not self.parts and not piece[1:-1].strip()
        self.parts.append(piece)
        free = self.pieces.feed(piece) if self.scanner and not self.empty else ""
        self.passed += len(free)
        return free

    def _new(self, piece: str) -> str:
        """What of a piece has not been said yet."""
        if self.empty and piece.lstrip()[:1] == "{":
            self.whole, self.empty = False, False
            self.parts.clear()
        so_far = self.arguments if piece[:1] == "{" and self.scanner and not self.whole else ""
        if not so_far or not piece.startswith(so_far):
            return piece
        # Behind these an object may begin as the whole did.
        self.repeats = self.repeats or so_far.rstrip()[-1] not in ":[,"
        return piece[len(so_far) :] if self.repeats else piece

    def rest(self, cut: bool) -> str:
        """What is passed on at the end: no arguments are an empty object, a text may hold the object, and what is not
        quite JSON is made that.

        Args:
            cut: whether the answer was stopped in the middle, so that there is nothing to mend.
        """
        text = self.arguments + self.joiner.end()
        if cut:
            return text[self.passed :]
        if self.empty:
            return "{}"
        if self.scanner is None:
            return _as_object(text.strip())
        mended = mend_object(text)
        fits = mended is not None and mended.startswith(text[: self.passed])
        return mended[self.passed :] if mended is not None and fits else text[self.passed :]


def _as_object(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    if fenced:
        text = fenced[1]
    if text in _NO_ARGUMENTS:
        return "{}"
    inner = _decode(text)
    if isinstance(inner, list) and len(cast("list[Any]", inner)) == 1:
        inner = compact(inner[0])
    if text.startswith("null{"):
        inner = text.removeprefix("null")
    return (isinstance(inner, str) and mend_object(inner)) or text


def _write(arguments: Json) -> str:
    """Arguments as text, which may hold what neither JSON nor Unicode has: that is mended like what comes as text."""
    try:
        return compact(arguments)
    except UnicodeEncodeError:
        return clean(json.dumps(arguments, ensure_ascii=False))


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


class Calls:
    """The calls of one answer.

    Args:
        keys: where ``Call.key`` is taken from.
        parallel: whether there may be more than the first call.
        names: of the functions that are declared, by which it is known when a name is complete.
    """

    def __init__(self, keys: Iterator[int], parallel: bool, names: Sequence[str] = ()) -> None:
        self._keys = keys
        self._parallel = parallel
        self._names = frozenset(names)
        self._before = 0
        self._opened: list[_OpenCall] = []
        self._current: dict[int | None, _OpenCall] = {}

    def __bool__(self) -> bool:
        return bool(self._opened)

    def next_chunk(self) -> None:
        """What comes now stands in another chunk than what came so far: within one, nothing is said twice."""
        self._before = len(self._opened)

    def feed(
        self, index: int | None, call_id: str, name: str, arguments: str | Json | None, aside: Aside
    ) -> list[Delta]:
        """The deltas of one piece of a call; ``aside``: what is wanted back with it."""
        piece = arguments if isinstance(arguments, str) else _write(arguments) if arguments is not None else ""
        call = self._find(index, call_id, name, piece)
        if call is None:
            return []
        if call_id:
            call.ids[call_id] = None
        if name:
            self._hear_name(call, name)
        if aside:
            call.aside |= aside
        free = call.take(piece)
        return self._show(call, free) if self._parallel or call is self._opened[0] else []

    # Which call a piece belongs to.

    def _find(self, index: int | None, call_id: str, name: str, piece: str) -> _OpenCall | None:
        """The call; None for a piece that says again what has been said, or nothing."""
        known = self._find_known(index, call_id)
        call = known or self._latest(index, bool(name or call_id))
        if call is None:
            says_nothing = not (name or call_id or piece) or self._is_repeat_in_other_form(index, name, piece)
            return None if says_nothing else self._open(index, call_id)
        if name and self._is_repeat(call, call_id if known is None else "", name, piece):
            return None
        is_same = known is not None and known.empty  # ``{}`` came before the object proper
        if not is_same and self._is_new(call, call_id if known is None else "", name, piece):
            call = self._open(index, call_id, inherited="" if name else call.name)
        self._current[index] = call
        return call

    def _find_known(self, index: int | None, call_id: str) -> _OpenCall | None:
        if not call_id:
            return None
        for call in reversed(self._opened):
            if call_id in call.ids and (index is None or call.index in (None, index)):
                return call
        return None

    def _latest(self, index: int | None, is_named: bool) -> _OpenCall | None:
        """The call that a piece without an id of its own goes on with."""
        last = self._opened[-1] if self._opened else None
        if index is None:
            return last
        if index in self._current:
            return self._current[index]
        return last if last is not None and last.index is None and not is_named else None

    def _open(self, index: int | None, call_id: str, inherited: str = "") -> _OpenCall:
        call = _OpenCall(next(self._keys), index, {call_id: None} if call_id else {}, inherited)
        self._opened.append(call)
        self._current[index] = call
        return call

    def _is_repeat(self, call: _OpenCall, new_id: str, name: str, piece: str) -> bool:
        """Whether a whole call is repeated, as in a last chunk that sums the answer up."""
        if new_id and call.ids:
            return False
        earlier = self._opened[: self._before]
        same = [one for one in earlier if one.whole and one.name == name]
        return bool(piece.strip()) and any(_equal(one.arguments, piece) for one in same)

    def _is_repeat_in_other_form(self, index: int | None, name: str, piece: str) -> bool:
        """Whether a whole call repeats one of ``function_call``, or is one of these and repeats another."""
        earlier = [one for one in self._opened[: self._before] if one.whole and one.name == name]
        return any((one.index == -1) != (index == -1) and _equal(one.arguments, piece) for one in earlier)

    def _is_new(self, call: _OpenCall, new_id: str, name: str, piece: str) -> bool:
        """Whether a piece begins another call than the one that it would go on with.

        Args:
            new_id: its id, where no call has that.
        """
        if not name:
            return call.named_again and bool(piece.strip())
        if not call.name or self._grown(call, name):
            return False
        other_id = bool(new_id and call.ids)
        if name != call.name:
            return True
        if call.whole:
            call.named_again = not piece.strip() and not other_id
            return not call.named_again
        return other_id and (not piece.strip() or (call.has_begun and _is_another(call.arguments, piece)))

    # Names.

    def _hear_name(self, call: _OpenCall, name: str) -> None:
        call.name = self._grown(call, name) or call.name or name

    def _grown(self, call: _OpenCall, name: str) -> str:
        """The call's name with another piece of it; empty where the piece is none."""
        old, joined = call.name, call.name + name
        if not old or call.shown or call.has_begun or (name == old and joined not in self._names):
            return ""
        if any(one.startswith(joined) for one in self._names):
            return joined
        if old in self._names:
            return ""
        if name.startswith(old):
            return name  # it is said anew each time, each time longer
        return joined if call.index is not None and name not in self._names else ""

    def _is_settled(self, call: _OpenCall) -> bool:
        """Whether the name is complete: nothing declared begins with it and goes on."""
        if call.has_begun or not self._names:
            return True
        return call.name in self._names and not any(
            one != call.name and one.startswith(call.name) for one in self._names
        )

    # What is passed on.

    def _show(self, call: _OpenCall, free: str) -> list[Delta]:
        if call.shown:
            return [Call(call.key, arguments=free)] if free else []
        if not call.name or not self._is_settled(call):
            call.held += free
            return []
        return self._first(call, free)

    def _first(self, call: _OpenCall, free: str) -> list[Delta]:
        call.shown = True
        call.name = self._find_declared(call.name)
        held, call.held = call.held + free, ""
        return [Call(call.key, call.name, held, self._id(call))]

    def _find_declared(self, name: str) -> str:
        """The name as it is declared, without what some models write around it: a namespace, quotes, blanks, an opening
        bracket, control tokens, capitals.
        """
        if not self._names or name in self._names:
            return name
        bare = _AROUND.split(name.partition("<|")[0].partition("(")[0].strip(_QUOTES))[-1]
        alike = [one for one in self._names if one.lower() == bare.lower()]
        return bare if bare in self._names else alike[0] if len(alike) == 1 else name

    def _id(self, call: _OpenCall) -> str:
        """The server's id, unless another call of the answer has it too, or nobody could send it back: then one is to
        be made. What is wanted back with the call is in it.
        """
        own = next(iter(call.ids), "")
        before = self._opened[: self._opened.index(call)]
        if len(own) > CALL_ID_CHARS_MAX or any(own in one.ids for one in before):
            own = ""
        return load(own, call.aside, f"call_{call.key}")

    def end(self, cut: bool) -> list[Delta]:
        """What is still to be passed on at the end of the answer; ``cut`` when it was stopped by its length.

        Raises:
            UpstreamError: ``invalid_tool_call``: nobody can tell which function was called.
        """
        out: list[Delta] = []
        for call in self._opened if self._parallel else self._opened[:1]:
            if not call.name:
                call.name = self._only_name(call, cut)
            if not call.name:
                continue
            rest = call.rest(cut)
            out += self._first(call, rest) if not call.shown else [Call(call.key, arguments=rest)] if rest else []
        return out

    def _only_name(self, call: _OpenCall, cut: bool) -> str:
        if cut or not call.has_begun or not self._names:
            return ""  # where nothing was offered, nothing was called
        if len(self._names) == 1:
            return next(iter(self._names))
        raise UpstreamError("The model's server sent a function call without a name.", code="invalid_tool_call")


def _equal(one: str, other: str) -> bool:
    """Whether two JSON texts say the same."""
    if one == other.strip():
        return True
    value = _decode(one)
    return value is not None and value == _decode(other)


def _is_another(so_far: str, piece: str) -> bool:
    """Whether a piece begins an object of its own: one that is whole, or that cannot stand behind what was ``said``."""
    piece = piece.lstrip()
    if piece[:1] != "{":
        return False
    is_misplaced = so_far.rstrip()[-1:] not in (":", "[", ",") and not piece.startswith(so_far)
    return is_misplaced or piece.rstrip() == so_far.rstrip() or JsonScanner().feed(piece) >= 0
