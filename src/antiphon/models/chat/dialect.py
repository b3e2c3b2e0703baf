"""What models write as text that is not answer text: reasoning in tags, and calls of functions.

Pure and incremental. However the text is cut into pieces, the deltas join to the same. Text is held back only
from where something may begin to where that is decided, at most ``HELD_CHARS_MAX``; what turns out to be text is
released unchanged.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Call, Delta, Function, Reasoning, Text, ToolMeasure
from antiphon.models.chat import mending
from antiphon.models.chat.arguments import JsonExtent, compact, fits
from antiphon.models.chat.config import ReasoningFormat

HELD_CHARS_MAX: Final = 64 * 1024
"""The longest passage that is looked at as a possible call."""

_THINK: Final = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",
    "<seed:think>": "</seed:think>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<unused94>thought": "<unused95>",
    "◁think▷": "◁/think▷",
    "[THINK]": "[/THINK]",
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
}


class _Form(msgspec.Struct, frozen=True):
    """One way to write calls: ``opener``, perhaps a word, JSON values, ``closer``.

    Attributes:
        words: what may stand between the opener and the JSON.
        closed: whether it is a call only with its closer, or at the end of the text.
    """

    opener: str
    closer: str = ""
    words: tuple[str, ...] = ("",)
    closed: bool = False


_FORMS: Final = (
    _Form("<tool_call>", "</tool_call>"),
    _Form("<tool_calls>", "</tool_calls>"),
    _Form("<function_call>", "</function_call>"),
    _Form("<functioncall>", "</functioncall>"),
    _Form("<|tool_call|>", "<|/tool_call|>"),
    _Form("<|python_tag|>", "<|eom_id|>"),
    _Form("[TOOL_CALLS]"),
    _Form("```", "```", ("", "json", "tool_call", "tool_calls", "function_call"), closed=True),
)
_WHOLE: Final = _Form("", closed=True)
"""The whole answer is JSON."""

_BY_OPENER: Final = {form.opener: form for form in _FORMS}
_OPENER: Final = re.compile("|".join(re.escape(form.opener) for form in _FORMS))
_FIRST: Final = frozenset("<[`{◁")
"""How whatever is looked for in front of the answer begins."""
_OPENER_FIRST: Final = re.compile(r"[<\[`]")
_BEFORE_JSON: Final = re.compile(r"[^\[{]*")
_BETWEEN: Final = re.compile(r"[\s,;]*")
_OPEN: Final = r"(?:\[\s*)?\{\s*(?:\{\s*)?"
_NO_CALL: Final = re.compile(_OPEN + r'[^\s"{]|\[\s*[^\s{]')
_FIRST_KEY: Final = re.compile(_OPEN + r'"([^"\\]*)"')
_FIRST_NAME: Final = re.compile(_OPEN + r'"name"\s*:\s*"([^"\\]*)"')
_ARGUMENTS: Final = ("arguments", "parameters")
_KEYS: Final = frozenset({"name", "function", "type", "id", "index", "call_id", *_ARGUMENTS})
_WRAPPER: Final = "tool_calls"


def _starts(markers: Sequence[str]) -> frozenset[str]:
    """All beginnings of the markers, whole ones left out."""
    return frozenset(marker[:n] for marker in markers for n in range(1, len(marker)))


_THINK_OPENER_STARTS: Final = _starts(tuple(_THINK))
_OPENER_STARTS: Final = _starts(tuple(_BY_OPENER))
_CLOSER_STARTS: Final = {closer: _starts((closer,)) for closer in _THINK.values()}
_ANY_CLOSER: Final = tuple(_THINK.values())
_CLOSER_FIRST: Final = re.compile("[<\\[◁]")
_ANY_CLOSER_STARTS: Final = _starts(_ANY_CLOSER)
_BEGUN_MAX: Final = max(map(len, _OPENER_STARTS | _ANY_CLOSER_STARTS))


def _partial_marker_chars(text: str, starts: frozenset[str]) -> int:
    """How many of the last characters may be the beginning of a marker."""
    for n in range(min(len(text), _BEGUN_MAX), 0, -1):
        if text[-n:] in starts:
            return n
    return 0


class _Found(msgspec.Struct, frozen=True):
    """A decided passage, ``end`` one past its last character; no calls: it is text. ``mended``: as it was meant."""

    end: int
    calls: tuple[tuple[str, str], ...] = ()
    mended: bool = False


class _Passage:
    """Text from an opener on, until it is decided whether it is calls."""

    __slots__ = ("_extent", "_form", "_functions", "_pos", "_start", "_values")

    def __init__(self, form: _Form, functions: _Functions, start: int) -> None:
        self._form = form
        self._functions = functions
        self._start = self._pos = start
        self._extent: JsonExtent | None = None
        self._values: list[str] = []

    def read(self, text: str, last: bool, *, mends: bool = True) -> _Found | None:
        """Decides as early as can be; None when more text is needed, never when ``last``.

        Args:
            mends: whether a value that does not come to its end may be closed.
        """
        while True:
            if self._extent is None:
                found = self._between(text, last) if self._values else self._before(text)
                if found is not None:
                    return found
                if self._extent is None:
                    return _Found(len(text)) if last else None
            start, extent = self._pos, self._extent
            if not self._values and self._hopeless(text, start):
                return _Found(max(start, 1))
            if not extent.scan(text):
                if not last:
                    return None
                return self._read_unfinished(text, start) if mends else _Found(len(text))
            self._values.append(text[start : extent.pos])
            self._pos, self._extent = extent.pos, None

    def _read_unfinished(self, text: str, start: int) -> _Found:
        """The text is over, and a value is not: it may lack its last brace."""
        closer = self._form.closer
        at = text.find(closer, start) if closer else -1
        value, end = (text[start:], len(text)) if at < 0 else (text[start:at], at + len(closer))
        # A string may hold the closer; then what is in front of it does not make sense.
        self._values.append(value.strip())
        found = self._decide(end)
        return found if found.calls else _Found(len(text))

    def _before(self, text: str) -> _Found | None:
        """Between the opener and the first JSON value: nothing, or one of the form's words."""
        gap = _BEFORE_JSON.match(text, self._pos)
        assert gap is not None
        word = gap[0].strip()
        if gap.end() < len(text):
            if word not in self._form.words:
                return _Found(self._start)
            self._pos = gap.end()
            self._extent = JsonExtent(self._pos)
            return None
        possible = any(known.startswith(word) for known in self._form.words)
        return None if possible else _Found(self._start)

    def _between(self, text: str, last: bool) -> _Found | None:
        """After a JSON value: another one, the closer, or something else."""
        gap = _BETWEEN.match(text, self._pos)
        assert gap is not None
        at, closer = gap.end(), self._form.closer
        rest = text[at : at + max(len(closer), 1)]
        if closer and rest == closer:
            return self._decide(at + len(closer))
        if not last and (not rest or (rest != closer and closer.startswith(rest))):
            return None
        if rest[:1] in ("{", "["):
            self._pos, self._extent = at, JsonExtent(at)
            return None
        ended = last and closer.startswith(rest)
        if self._form.closed and not ended:
            return _Found(self._pos)
        return self._decide(len(text) if ended else self._pos)

    def _hopeless(self, text: str, start: int) -> bool:
        """Whether its first key already says that this is no call, so that JSON need not wait for its end."""
        first = _FIRST_KEY.match(text, start)
        if first is None:
            return _NO_CALL.match(text, start) is not None
        if first[1] == "name":
            name = _FIRST_NAME.match(text, start)
            return name is not None and not self._functions.may_be(name[1])
        return first[1] not in _KEYS and first[1] != _WRAPPER

    def _decide(self, end: int) -> _Found:
        calls: list[tuple[str, str]] = []
        decoded = [mending.decode(value) for value in self._values]
        for one in decoded:
            found = _calls(one[0], self._functions) if one else []
            if not found:
                return _Found(end)
            calls += found
        return _Found(end, tuple(calls), mended=any(one is not None and one[1] for one in decoded))


def _calls(value: Any, functions: _Functions) -> list[tuple[str, str]]:
    """The calls, name and arguments, that one JSON value is; none when any part of it is something else."""
    if isinstance(value, dict) and tuple(cast(dict[str, Any], value)) == (_WRAPPER,):
        value = cast(dict[str, Any], value)[_WRAPPER]
    values: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
    calls = [_call(one, functions) for one in values]
    return [call for call in calls if call is not None] if None not in calls else []


def _call(value: Any, functions: _Functions) -> tuple[str, str] | None:
    """One call in any of the shapes seen: ``{name, arguments}``, ``{type, function: {…}}``, ``{function: name, …}``.

    Members beside these do not matter where ``arguments`` are among them; ``parameters`` may be those of a definition.
    """
    if not isinstance(value, dict):
        return None
    call = cast(dict[str, Any], value)
    inner: Any = call.get("function")
    if isinstance(inner, dict):
        return _call(inner, functions) if "name" not in call else None
    name: Any = call.get("name", inner)
    if not isinstance(name, str) or not ("arguments" in call or _KEYS.issuperset(call)):
        return None
    has_arguments = any(key in call for key in _ARGUMENTS)
    arguments = _arguments(call)
    return (name, compact(arguments)) if functions.accept(name, arguments, has_arguments=has_arguments) else None


class _Functions:
    """Which calls are taken for such.

    Args:
        lenient: whether also those that do not fit, because what is wrong with them is mended elsewhere.
    """

    def __init__(self, functions: Sequence[Function], lenient: bool) -> None:
        self._by_name: Mapping[str, Function] = {function.name: function for function in functions}
        self._lenient = lenient

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def may_be(self, name: str) -> bool:
        """Whether a call of that name may be taken for one."""
        return self._lenient or name in self._by_name

    def accept(self, name: str, arguments: Any, *, has_arguments: bool) -> bool:
        """Whether this is a call.

        Args:
            has_arguments: whether it has a member for its arguments.
        """
        function = self._by_name.get(name)
        if function is not None and fits(function, arguments):
            return True
        return self._lenient and isinstance(arguments, dict) and (has_arguments or function is not None)


def _arguments(call: dict[str, Any]) -> Any:
    """The arguments, decoded; some models write them as a string of JSON, some leave out an empty object."""
    value: Any = next((call[key] for key in _ARGUMENTS if key in call), None)
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    decoded = mending.decode(value)
    return decoded[0] if decoded else None


_Step = Callable[[bool], Sequence[Delta] | None]


class Dialect:
    """Sorts one answer's text into answer, reasoning and calls.

    Args:
        thinks: how reasoning shows; see ``ReasoningFormat``.
        functions: those that may be called by text; none when text is never a call.
        whole: whether an answer that as a whole is JSON may be calls; not where the caller asked for JSON.
        parallel: whether there may be more than the first call.
        keys: where ``Call.key`` is taken from.
        begun: whether the text goes on from an earlier one, so that nothing can stand in front of it.
        lenient: whether calls that do not fit are taken for calls too.
        helps: where it is noted that calls were read.
    """

    def __init__(
        self,
        *,
        reasoning_format: ReasoningFormat = "tags",
        functions: Sequence[Function] = (),
        whole: bool = True,
        parallel: bool = True,
        keys: Iterator[int] | None = None,
        begun: bool = False,
        lenient: bool = False,
        helps: set[ToolMeasure] | None = None,
    ) -> None:
        self._helps: set[ToolMeasure] = helps if helps is not None else set()
        self._functions = _Functions(functions, lenient)
        self._whole = whole and not begun
        self._parallel = parallel
        self._keys = keys if keys is not None else itertools.count()
        self._called = False
        self._mends = True
        self._held = ""
        self._passage: _Passage | None = None
        self._closers: tuple[str, ...] = _ANY_CLOSER
        self._closer_starts = _ANY_CLOSER_STARTS
        self._tags = reasoning_format != "never" and not begun
        self._in_text: _Step = self._text  # bound once, because every delta asks for it
        self._step: _Step | None = self._first_step(reasoning_format, begun)

    def _first_step(self, reasoning_format: ReasoningFormat, begun: bool) -> _Step | None:
        if begun or (reasoning_format == "never" and not self._whole):
            return self._after_begin()
        if reasoning_format == "opened":
            return self._enter
        return self._begin if reasoning_format == "tags" or self._functions else None

    def _after_begin(self) -> _Step | None:
        return self._in_text if self._functions else None

    @property
    def idle(self) -> bool:
        """Whether all further text is answer text: there is nothing to look for any more."""
        return self._step is None and not self._held

    def feed(self, text: str) -> list[Delta]:
        """The deltas that ``text`` completes; perhaps none."""
        if self._step is None:
            return [Text(text)]
        if self._step is self._in_text and not self._held and _OPENER_FIRST.search(text) is None:
            return [Text(text)]
        self._held += text
        return self._run(last=False)

    def end(self, cut: bool = False) -> list[Delta]:
        """The deltas of what is still held, at the end of the answer. What was cut off is not mended."""
        self._mends = not cut
        out = self._run(last=True)
        if self._held:
            out.append(Text(self._held))
            self._held = ""
        return out

    def release(self) -> list[Delta]:
        """What is held, as it is, because the server itself began to say what is what; spaces alone are dropped."""
        held, self._held, self._step = self._held, "", None
        return [Text(held)] if held.strip() else []

    def note_server_reasoning(self) -> None:
        """The server separates reasoning itself: no tag that it opened in the prompt will be closed in the text."""
        if self._step == self._enter:
            self._step = self._begin

    def _run(self, last: bool) -> list[Delta]:
        out: list[Delta] = []
        while self._held and self._step is not None:
            deltas = self._step(last)
            if deltas is None:
                return out
            out += deltas
        if self._held and self._step is None:
            out.append(Text(self._held))
            self._held = ""
        return out

    # Steps: each takes something off ``_held`` or moves to another step, and answers with what that gives;
    # None: more text is needed.

    def _begin(self, last: bool) -> Sequence[Delta] | None:
        """In front of the answer: a tag, a call, or the answer itself."""
        start = self._held.lstrip()
        gap = len(self._held) - len(start)
        if gap > HELD_CHARS_MAX or (last and not start):
            return self._to_text()
        if not start or (not last and self._wait_from(start)):
            return None
        if start[0] not in _FIRST:
            return self._to_text()
        if self._tags and self._open_at(start):
            return ()
        opener = _OPENER.match(start) if self._functions else None
        if opener is not None:
            return self._enter_passage(_BY_OPENER[opener[0]], gap + len(opener[0]))
        if self._whole and self._functions and start[0] in "{[":
            return self._enter_passage(_WHOLE, 0)
        return self._to_text()

    def _wait_from(self, start: str) -> bool:
        return (self._tags and start in _THINK_OPENER_STARTS) or (bool(self._functions) and start in _OPENER_STARTS)

    def _open_at(self, start: str) -> bool:
        for opener, closer in _THINK.items():
            if start.startswith(opener):
                self._held = start[len(opener) :]
                self._closers, self._closer_starts = (closer,), _CLOSER_STARTS[closer]
                self._step = self._think_gap
                return True
        return False

    def _to_text(self) -> Sequence[Delta]:
        self._step = self._after_begin()
        return ()

    def _enter_passage(self, form: _Form, start: int) -> Sequence[Delta]:
        self._passage = _Passage(form, self._functions, start)
        self._step = self._in_passage
        return ()

    def _enter(self, last: bool) -> Sequence[Delta] | None:
        """The prompt ended inside the tag; some servers repeat the tag all the same."""
        self._held = self._held.lstrip()
        if self._open_at(self._held):
            return ()
        if not last and (not self._held or self._held in _THINK_OPENER_STARTS):
            return None
        self._step = self._think_gap
        return ()

    def _think_gap(self, last: bool) -> Sequence[Delta] | None:
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._think
        return ()

    def _think(self, last: bool) -> Sequence[Delta] | None:
        """Inside the tag."""
        ends = [(at, closer) for closer in self._closers if (at := self._held.find(closer)) >= 0]
        if ends:
            at, closer = min(ends)
            thought, self._held = self._held[:at], self._held[at + len(closer) :]
            self._step = self._think_over
            return [Reasoning(thought)] if thought else ()
        waits = not last and _CLOSER_FIRST.search(self._held) is not None
        keep = _partial_marker_chars(self._held, self._closer_starts) if waits else 0
        return self._release_text(len(self._held) - keep, Reasoning)

    def _think_over(self, last: bool) -> Sequence[Delta] | None:
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._begin
        return ()

    def _text(self, last: bool) -> Sequence[Delta] | None:
        """Answer text, up to what may open a call."""
        opener = _OPENER.search(self._held)
        if opener is None:
            keep = 0 if last else _partial_marker_chars(self._held, _OPENER_STARTS)
            return self._release_text(len(self._held) - keep, Text)
        before, self._held = self._held[: opener.start()], self._held[opener.start() :]
        self._enter_passage(_BY_OPENER[opener[0]], len(opener[0]))
        return [Text(before)] if before else ()

    def _release_text(self, n: int, kind: type[Text] | type[Reasoning]) -> Sequence[Delta] | None:
        if n == 0:
            return None
        free, self._held = self._held[:n], self._held[n:]
        return [kind(free)]

    def _in_passage(self, last: bool) -> Sequence[Delta] | None:
        """From an opener on."""
        assert self._passage is not None
        over = len(self._held) > HELD_CHARS_MAX
        seen = self._held[: HELD_CHARS_MAX + 1] if over else self._held
        found = self._passage.read(seen, last and not over, mends=self._mends)
        if found is None:
            if not over:
                return None
            found = _Found(len(seen))
        passage, self._held = self._held[: found.end], self._held[found.end :]
        self._step = self._call_gap if found.calls else self._in_text
        if found.mended:
            self._helps.add("text_mended")
        return self._to_deltas(found.calls) if found.calls else [Text(passage)]

    def _to_deltas(self, calls: Sequence[tuple[str, str]]) -> Sequence[Delta]:
        room = len(calls) if self._parallel else int(not self._called)
        self._called = True
        self._helps.add("read_from_text")
        return [Call(next(self._keys), name, arguments) for name, arguments in calls[:room]]

    def _call_gap(self, last: bool) -> Sequence[Delta] | None:
        """After a call; white space up to what follows it belongs to neither."""
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._in_text
        return ()
