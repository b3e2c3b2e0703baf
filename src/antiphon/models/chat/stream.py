"""The bytes of a chat-completions answer -> deltas. Pure.

This is the hot path: one typed decoder, made once, reads only the fields that are needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, Protocol, cast

import msgspec

from antiphon.models import (
    Call,
    Delta,
    Finish,
    Prompt,
    Reasoning,
    Refusal,
    Text,
    Usage,
)
from antiphon.models.chat import errors as chat_errors
from antiphon.models.chat.arguments import compact
from antiphon.models.chat.body import callable_functions
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.dialect import Dialect
from antiphon.models.chat.forced import ForcedCall
from antiphon.models.chat.frames import FrameJoiner
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | Json | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct, gc=False):
    """``delta`` of a chunk, ``message`` of a whole answer."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Logprobs(msgspec.Struct, gc=False):
    content: list[Json] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode: Final[Callable[[bytes], _Chunk]] = msgspec.json.Decoder(_Chunk).decode

_FINISH: Final[dict[str, Literal["stop", "length", "content_filter"]]] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
"""Any other reason is ``stop``: calls, and every server's own words for the end."""
_FAILED: Final = frozenset({"error", "abort"})
_DONE: Final = b"[DONE]"


class Filter(Protocol):
    """Looks at the answer's text on its way: ``Dialect``, ``ForcedCall``, ``Repeated``."""

    @property
    def idle(self) -> bool: ...

    def feed(self, text: str) -> list[Delta]: ...

    def end(self, cut: bool) -> list[Delta]: ...

    def release(self) -> list[Delta]: ...

    def separated(self) -> None: ...


class Repeated:
    """Takes off the begun answer with which llama.cpp opens its continuation."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._held = ""

    @property
    def idle(self) -> bool:
        return not self._prefix

    def feed(self, text: str) -> list[Delta]:
        self._held += text
        if len(self._held) < len(self._prefix) and self._prefix.startswith(self._held):
            return []
        # Some templates trim what they repeat. Not repeated after all, everything is new.
        whole = self._held.startswith(self._prefix)
        new = self._held.removeprefix(self._prefix if whole else self._prefix.rstrip())
        self._prefix = self._held = ""
        return [Text(new)] if new else []

    def release(self) -> list[Delta]:
        held, self._held = self._held, ""
        return [Text(held)] if held else []

    def end(self, cut: bool) -> list[Delta]:
        """Stopped within what it repeats: nothing is new."""
        return []

    def separated(self) -> None:
        """Reasoning beside the answer changes nothing here."""


def filters(prompt: Prompt, config: ChatConfig, keys: Iterator[int], *, forced: bool) -> list[Filter]:
    """What looks at the text of one answer, first to last. ``forced``: the answer is held to the schema of a call."""
    functions = callable_functions(prompt)
    chain: list[Filter] = []
    if prompt.prefix and config.supports_prefill == "llamacpp":
        chain.append(Repeated(prompt.prefix))
    reasoning_format = config.reasoning_format
    if forced and reasoning_format == "opened":
        reasoning_format = "tags"  # what is held to a schema cannot close a tag
    dialect = Dialect(
        reasoning_format=reasoning_format,
        functions=functions if config.text_calls and config.tool_help != "off" and not forced else (),
        whole=prompt.format.type == "text",
        parallel=prompt.parallel_tool_calls,
        keys=keys,
        begun=bool(prompt.prefix),
    )
    if not dialect.idle:
        chain.append(dialect)
    if forced:
        chain.append(ForcedCall(functions, keys))
    return chain


class _Open(msgspec.Struct):
    """A call of the server's that has begun."""

    key: int
    id: str = ""
    named: bool = False
    held: str = ""
    written: bool = False


class _Calls:
    """Tells the pieces of a server's calls apart, whatever it numbers them by.

    Most give each call an ``index``; some give all the same or none, and tell them apart by ``id`` or a new
    name.
    """

    def __init__(self, keys: Iterator[int], parallel: bool) -> None:
        self._keys = keys
        self._parallel = parallel
        self._opened: list[_Open] = []
        self._current: dict[int | None, _Open] = {}
        self._by_id: dict[tuple[int | None, str], _Open] = {}

    def __bool__(self) -> bool:
        return bool(self._opened)

    def piece(self, index: int | None, call_id: str, function: _Function) -> list[Delta]:
        call = self._find(index, call_id, function.name or "")
        if not self._parallel and call is not self._opened[0]:
            return []
        arguments = function.arguments or ""
        if not isinstance(arguments, str):
            arguments = compact(arguments)
        call.written = call.written or bool(arguments)
        if call.named:
            return [Call(call.key, arguments=arguments)] if arguments else []
        if not function.name:
            call.held += arguments
            return []
        call.named = True
        arguments, call.held = call.held + arguments, ""
        return [Call(call.key, function.name, arguments, call.id)]

    def _find(self, index: int | None, call_id: str, name: str) -> _Open:
        current = self._current.get(index)
        if call_id:
            known = self._by_id.get((index, call_id))
            if known is None and current is not None and not current.id and not name:
                known, current.id = current, call_id
            current = known
        elif index is None and name:
            current = None
        if current is None:
            current = _Open(next(self._keys), call_id)
            self._opened.append(current)
        self._current[index] = current
        if call_id:
            self._by_id[index, call_id] = current
        return current

    def end(self, cut: bool) -> list[Delta]:
        """A call without arguments has written nothing, which is not JSON; make it the empty object."""
        if cut:
            return []
        shown = self._opened if self._parallel else self._opened[:1]
        return [Call(call.key, arguments="{}") for call in shown if call.named and not call.written]


class ChatStream:
    """Reads one answer.

    Args:
        prompt: what it answers.
        config: the server.
        forced: whether the answer is held to the schema of a call.
        whole: whether the answer is one JSON document although a stream was asked for.
    """

    def __init__(self, prompt: Prompt, config: ChatConfig, *, forced: bool = False, whole: bool = False) -> None:
        keys = itertools.count()
        self._line_bytes_max = config.line_bytes_max
        self._filters = filters(prompt, config, keys, forced=forced)
        self._calls = _Calls(keys, prompt.parallel_tool_calls)
        self._wants_logprobs = prompt.top_logprobs is not None
        self._joiner = None if prompt.streamed or self._wants_logprobs else FrameJoiner(_only_text)
        self._logprobs: tuple[Json, ...] = ()
        self._whole = whole
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self.finished = False
        """Whether ``Finish`` was given: nothing more will come."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that ``data`` completes; perhaps none.

        Raises:
            UpstreamError: the server reported an error, or what it wrote cannot be read.
        """
        end = data.rfind(b"\n") + 1 if not self._whole else 0
        self._rest_bytes += len(data)
        if end == 0:
            self._rest.append(data)
            self._check_bound()
            return []
        tail, lines = data[end:], data[:end]
        if self._rest:
            lines = b"".join((*self._rest, lines))
        self._rest, self._rest_bytes = ([tail] if tail else []), len(tail)
        return self._lines(lines)

    def _check_bound(self) -> None:
        if self._rest_bytes > self._line_bytes_max:
            raise _unreadable(f"a line of more than {self._line_bytes_max} bytes")

    def _lines(self, data: bytes) -> list[Delta]:
        out: list[Delta] = []
        if self._joiner is not None:
            data = self._joiner.join(data)
        for line in data.split(b"\n"):
            if line[:5] == b"data:":
                if len(line) < 16 and line[5:].strip() == _DONE:
                    return out if self.finished else out + self._finish()
                self._chunk(_decoded(line[5:]), out)
            elif line[:6] == b"error:":
                raise chat_errors.reported(_decoded_any(line[6:]))
        return out

    def end(self) -> list[Delta]:
        """The last deltas, once the server has closed its answer.

        Raises:
            UpstreamError: the answer is not complete.
        """
        rest, self._rest = b"".join(self._rest), []
        if self.finished:
            return []
        out: list[Delta] = []
        if self._whole:
            self._chunk(_decoded(rest), out)
        elif rest:
            out += self._lines(rest)
        return out if self.finished else out + self._finish()

    def _chunk(self, chunk: _Chunk, out: list[Delta]) -> None:
        if chunk.choices:
            choice = chunk.choices[0]
            said = choice.delta or choice.message
            if said is not None:
                self._said(said, choice.logprobs, out)
            if choice.finish_reason:
                self._finish_reason = choice.finish_reason
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if chunk.error is not None:
            raise chat_errors.reported(chunk.error)

    def _said(self, said: _Said, logprobs: _Logprobs | None, out: list[Delta]) -> None:
        if self._wants_logprobs and logprobs is not None and logprobs.content:
            self._logprobs += tuple(map(_logprob, logprobs.content))
        if thought := said.reasoning_content or said.reasoning or said.reasoning_text:
            out.append(Reasoning(thought))
            for one in self._filters:
                one.separated()
        content = said.content
        if type(content) is str and not self._filters and not self._wants_logprobs:
            if content:
                out.append(Text(content))
        elif content:
            self._text(content if isinstance(content, str) else _joined(content), out)
        if said.refusal:
            out.append(Refusal(said.refusal))
        if said.tool_calls:
            self._tool_calls(said.tool_calls, out)
        if said.function_call is not None:
            self._tool_calls((_ToolCall(-1, None, said.function_call),), out)

    def _text(self, text: str, out: list[Delta]) -> None:
        deltas: list[Delta] = [Text(text)]
        for one in self._filters:
            deltas = _through(one, deltas)
        out += self._with_logprobs(deltas)
        self._filters = [one for one in self._filters if not one.idle]

    def _with_logprobs(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        """Puts the logprobs that came so far on the first text; those of text that was no answer are dropped."""
        if not self._logprobs or not deltas:
            return deltas
        logprobs, self._logprobs = self._logprobs, ()
        for n, delta in enumerate(deltas):
            if isinstance(delta, Text):
                return [*deltas[:n], Text(delta.text, logprobs), *deltas[n + 1 :]]
        return deltas

    def _tool_calls(self, pieces: Sequence[_ToolCall], out: list[Delta]) -> None:
        # The server tells calls and text apart by itself: what is held is text, in front of the calls.
        for one in self._filters:
            out += one.release()
        self._filters = []
        for piece in pieces:
            if piece.function is not None:
                out += self._calls.piece(piece.index, piece.id or "", piece.function)

    def _finish(self) -> list[Delta]:
        reason = self._finish_reason
        if reason is None:
            raise UpstreamError("The model's server ended mid-stream.", code="upstream_ended")
        if reason in _FAILED:
            raise UpstreamError("The model's server gave up in mid-stream.", internal=f"finish_reason {reason}")
        known = _FINISH.get(reason, "stop")
        cut = known != "stop"
        deltas: list[Delta] = []
        for one in self._filters:
            deltas = _through(one, deltas) + one.end(cut)
        out = [*self._with_logprobs(deltas), *self._calls.end(cut), Finish(known, self._usage)]
        self.finished = True
        return out


def _through(one: Filter, deltas: Sequence[Delta]) -> list[Delta]:
    out: list[Delta] = []
    for delta in deltas:
        out += one.feed(delta.text) if isinstance(delta, Text) else (delta,)
    return out


def _decoded(line: bytes) -> _Chunk:
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        raise _unreadable(str(error)) from None


def _only_text(line: bytes) -> str | None:
    """See ``frames.ReadText``."""
    try:
        chunk = _decode(line)
    except msgspec.DecodeError:
        return None
    if chunk.error is not None or chunk.usage is not None or not chunk.choices:
        return None
    choice = chunk.choices[0]
    if choice.delta is None or choice.finish_reason or len(chunk.choices) > 1:
        return None
    said = [value for value in msgspec.structs.astuple(choice.delta) if value]
    return said[0] if len(said) == 1 and isinstance(said[0], str) else None


def _decoded_any(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line.decode(errors="replace")


def _unreadable(why: str) -> UpstreamError:
    return UpstreamError("The model's server wrote what cannot be read.", internal=why)


def _joined(content: Sequence[Any]) -> str:
    """Content as a list of parts, as some hosted servers write it."""
    parts = [cast(Json, part) for part in content if isinstance(part, dict)]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _usage(usage: _Usage) -> Usage:
    cached, reasoning = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input=usage.prompt_tokens or 0,
        cached=(cached.cached_tokens or 0) if cached else 0,
        output=usage.completion_tokens or 0,
        reasoning=(reasoning.reasoning_tokens or 0) if reasoning else 0,
    )


def _logprob(entry: Json) -> Json:
    return {**_token(entry), "top_logprobs": [_token(one) for one in entry.get("top_logprobs") or ()]}


def _token(entry: Json) -> Json:
    token = entry.get("token") or ""
    raw = entry.get("bytes")
    return {
        "token": token,
        "logprob": entry.get("logprob"),
        "bytes": raw if raw is not None else list(token.encode()),
    }
