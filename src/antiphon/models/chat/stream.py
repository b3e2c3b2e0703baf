"""The bytes of a chat-completions answer -> deltas. Pure.

An answer is lost only where it cannot be understood: what nobody reads is not looked at, a frame that says nothing is
passed over, and its words are kept in case the answer never comes to its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from antiphon.models import Delta, Finish, Prompt, Reasoning, Refusal, Text, ToolMeasure, Usage
from antiphon.models.chat import errors as chat_errors
from antiphon.models.chat.body import callable_functions, is_bound, shows_in_words
from antiphon.models.chat.calls import Calls
from antiphon.models.chat.chunk import (
    CallPiece,
    Choice,
    Chunk,
    Counts,
    Said,
    blocks_of,
    chunk_of,
    decode,
    logprob_of,
    parse,
    thought_of,
)
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.filters import Filter, filters
from antiphon.models.chat.frames import FrameJoiner
from antiphon.models.chat.lines import Documents, Opening, Splitter
from antiphon.models.chat.unicode import SurrogateJoiner
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

_FINISH: Final[dict[str, Literal["stop", "length", "content_filter"]]] = {
    "length": "length",
    "max_tokens": "length",
    "max_new_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
}
"""Any other reason is ``stop``: calls, and every server's own words for the end."""
_FAILED: Final = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
_NOT_YET: Final = frozenset({"", "null", "none"})
_DONE: Final = b"[DONE]"
_DECODE_ERRORS: Final = (ValueError, RecursionError)
"""msgspec's errors and Unicode's are ``ValueError``s."""
_ASIDE_MAX: Final = 65_536
"""How many pieces of choices that nobody asked for are kept, in case the server has no first one."""


_Saying: TypeAlias = Text | Reasoning | Refusal


class _Texts:
    """Joins halves of surrogate pairs in the texts of one answer, which follow each other.

    Attributes:
        pending: whether a half waits for its partner.
    """

    def __init__(self) -> None:
        self.pending = False
        self._joiner = SurrogateJoiner()
        self._kind: type[_Saying] = Text

    def feed(self, kind: type[_Saying], text: str) -> list[_Saying]:
        """The text as deltas; in front of it what is left of a text of another kind."""
        before = self.end() if kind is not self._kind else []
        self._kind = kind
        whole = self._joiner.feed(text)
        self.pending = bool(self._joiner)
        return [*before, kind(whole)] if whole else before

    def end(self) -> list[_Saying]:
        """What is left of the last text."""
        self.pending = False
        alone = self._joiner.end()
        return [self._kind(alone)] if alone else []


class _Tokens(msgspec.Struct):
    """What the server said of tokens so far. A number once said stays, unless another comes that is not 0."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, counts: Counts) -> None:
        input = counts.prompt_tokens or counts.input_tokens or 0
        output = counts.completion_tokens or counts.output_tokens or 0
        if not input and output and counts.total_tokens:
            input = max(0, counts.total_tokens - output)
        self.input, self.output = input or self.input, output or self.output
        details = counts.prompt_tokens_details or counts.input_tokens_details
        cached = (details and details.cached_tokens) or counts.prompt_cache_hit_tokens or counts.cached_tokens
        self.cached = cached or self.cached
        spent = counts.completion_tokens_details or counts.output_tokens_details
        self.reasoning = (spent and spent.reasoning_tokens) or self.reasoning

    @property
    def usage(self) -> Usage | None:
        """None while nothing was said that could be true."""
        if not self.input and not self.output:
            return None
        return Usage(self.input, self.cached, self.output, self.reasoning)


class ChatStream:
    """Reads one answer.

    Args:
        prompt: what it answers.
        config: the server.
        forced: whether the answer is held to the schema of a call.
        begun: what was put into the model's mouth, to be read as the beginning of its answer.

    Attributes:
        finished: whether ``Finish`` was given: nothing more will come.
    """

    def __init__(self, prompt: Prompt, config: ChatConfig, *, forced: bool = False, begun: str = "") -> None:
        keys = itertools.count()
        joiner = None if prompt.streamed or prompt.top_logprobs is not None else FrameJoiner(_only_text)
        self._opening = Opening(config.line_bytes_max, joiner.join if joiner else None)
        self._splitter: Splitter | None = None
        self._helps: set[ToolMeasure] = {"shown_in_words"} if shows_in_words(prompt, config) else set()
        if is_bound(prompt, config):
            self._helps.add("schema_bounded")
        self._filters = filters(prompt, config, keys, self._helps, forced=forced, begun=begun)
        self._calls = Calls(keys, prompt.parallel_tool_calls, [one.name for one in callable_functions(prompt)])
        self._wants_logprobs = prompt.top_logprobs is not None
        self._logprobs: tuple[Json, ...] = ()
        self._texts = _Texts()
        self._is_loose = False
        self._frame: list[bytes] = []
        self._event = b""
        self._words = ""
        self._is_chosen = False
        self._aside: list[Choice] = []
        self._has_spoken = False
        self._finish_reason: str | None = None
        self._tokens = _Tokens()
        self.finished = False

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete, and only what is said of it may still come."""
        return self._finish_reason is not None

    @property
    def has_usage(self) -> bool:
        """Whether it was said what the answer used."""
        return self._tokens.usage is not None

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that ``data`` completes; perhaps none.

        Raises:
            UpstreamError: the server reported an error, or what it wrote cannot be read.
        """
        out: list[Delta] = []
        if self._splitter is None:
            opened = self._opening.feed(data)
            if opened is None:
                return out
            self._splitter, data = opened
        self._read(self._splitter.feed(data), out)
        return out

    def _read(self, pieces: Sequence[bytes], out: list[Delta]) -> None:
        if isinstance(self._splitter, Documents):
            for document in pieces:
                if not self.finished:
                    self._document(document, out)
            return
        for line in pieces:
            if line[:5] == b"data:":
                if len(line) < 16 and line[5:].strip() == _DONE:
                    self._finish(out)
                    return
                if self._frame:
                    self._frame.append(line[5:])
                else:
                    self._data(line[5:], out)
            elif line:
                self._other_line(line, out)
            elif self._frame or self._event:
                self._end_frame(out)

    def end(self) -> list[Delta]:
        """The last deltas, once the server has closed its answer, or has no more to say.

        Raises:
            UpstreamError: the answer is not complete.
        """
        out: list[Delta] = []
        self._read_rest(out)
        if not self.finished:
            self._finish(out)
        return out

    def cut(self) -> list[Delta] | None:
        """The last deltas where the connection broke behind the end of the answer; None where it is not complete."""
        out: list[Delta] = []
        self._read_rest(out)
        if self.is_over and not self.finished:
            self._finish(out)
        return out if self.finished else None

    def _read_rest(self, out: list[Delta]) -> None:
        if self.finished or self._splitter is None:
            return
        try:
            self._read(self._splitter.end(), out)
            if not self.finished:
                self._end_frame(out)
        except _Unreadable:
            pass  # cut off in the middle

    # Frames and documents.

    def _other_line(self, line: bytes, out: list[Delta]) -> None:
        name, _, value = line.partition(b":")
        match name.strip():
            case b"data":  # something stands in front of it
                self._read([b"data:" + value], out)
            case b"event":
                self._event = value.strip()
            case b"error":
                self._event = b"error"
                self._data(value, out)
            case b"" | b"id" | b"retry":
                pass
            case _:
                self._data(line, out)

    def _data(self, data: bytes, out: list[Delta]) -> None:
        """One line of data, which mostly is a whole frame."""
        try:
            chunk = decode(data)
        except _DECODE_ERRORS:
            self._odd_data(data, out)
            return
        if chunk.choices or (chunk.usage is not None and not self._event):
            self._chunk(chunk, out)
        else:
            self._odd_data(data, out)

    def _end_frame(self, out: list[Delta]) -> None:
        """The frame's lines are here, and did not make sense one by one."""
        frame, self._frame = b"\n".join(self._frame), []
        if frame:
            self._odd_data(frame, out, last=True)
        self._event = b""

    def _odd_data(self, data: bytes, out: list[Delta], *, last: bool = False) -> None:
        """Data that is no chunk as documented, or one that says nothing."""
        text = data.strip()
        if not text:
            return
        try:
            value = parse(text)
        except ValueError:
            self._no_json(text, last)
            return
        self._value(value, out)

    def _no_json(self, text: bytes, last: bool) -> None:
        if self._event == b"error":
            self._fail(text.decode(errors="replace"))
        elif text[:1] not in b"{[":
            # A word alone is a heartbeat, and a tag is a page of a proxy.
            self._words = text.decode(errors="replace") if b" " in text and text[:1] != b"<" else self._words
        elif not last:
            self._frame.append(text)  # perhaps it goes on in the next line
        elif not self.is_over:
            raise _Unreadable("a frame that is no JSON")

    def _document(self, data: bytes, out: list[Delta]) -> None:
        if data.strip() == _DONE:
            self._finish(out)
            return
        try:
            value = parse(data)
        except ValueError as error:
            raise _Unreadable(str(error)) from None
        self._value(value, out)
        if _has_message(value):
            self._play_aside(out)
            # A document is an answer, also where it does not say why it ends.
            self._finish_reason = self._finish_reason or "stop"
            self._finish(out)

    def _value(self, value: Any, out: list[Delta]) -> None:
        if isinstance(value, list):
            for one in cast("list[Any]", value):
                self._value(one, out)
        elif isinstance(value, dict):
            self._object(cast(Json, value), out)
        elif isinstance(value, str):
            self._words = value

    def _object(self, value: Json, out: list[Delta]) -> None:
        chunk = chunk_of(value)
        self._is_loose = True
        try:
            self._chunk(chunk, out)
        finally:
            self._is_loose = False
        if not chunk.choices and not chunk.usage:
            if self._event == b"error" or chat_errors.is_marked(value):
                self._fail(value)
            self._words = chat_errors.words_of(value) or self._words

    def _fail(self, error: Any) -> None:
        if not self.is_over:
            raise chat_errors.reported(error)

    # Chunks.

    def _chunk(self, chunk: Chunk, out: list[Delta]) -> None:
        for choice in chunk.choices or ():
            if not choice.index:
                self._is_chosen = True
                self._choice(choice, out)
            elif not self._is_chosen and len(self._aside) < _ASIDE_MAX:
                self._aside.append(choice)
        if chunk.usage is not None:
            self._tokens.add(chunk.usage)
        if chunk.error and chat_errors.is_error(chunk.error):
            self._fail({"error": chunk.error})

    def _choice(self, choice: Choice, out: list[Delta]) -> None:
        said = choice.delta
        if said is not None:
            self._said(said, choice, out)
        elif choice.message is not None:
            self._summary(choice.message, choice, out)
        if choice.finish_reason and choice.finish_reason.lower() not in _NOT_YET:
            self._finish_reason = choice.finish_reason.lower()
        if choice.usage is not None:
            self._tokens.add(choice.usage)

    def _summary(self, message: Said, choice: Choice, out: list[Delta]) -> None:
        """A whole message: the answer, unless it has been said piece by piece before."""
        if self._has_spoken:
            message = Said(tool_calls=message.tool_calls, function_call=message.function_call)
        self._said(message, choice, out)

    def _said(self, said: Said, choice: Choice, out: list[Delta]) -> None:
        if self._wants_logprobs and choice.logprobs is not None:
            entries = map(logprob_of, choice.logprobs.content or ())
            self._logprobs += tuple(one for one in entries if one is not None)
        if thought := said.reasoning_content or said.reasoning or said.reasoning_text or said.thinking:
            self._think(thought, out)
        elif said.reasoning_details:
            self._think("".join(map(thought_of, said.reasoning_details)), out)
        content = said.content
        if type(content) is str:
            if content and not (self._filters or self._wants_logprobs or self._is_loose or self._texts.pending):
                self._has_spoken = True
                out.append(Text(content))
            elif content:
                self._speak(content, out)
        elif content:
            self._blocks(content, out)
        if said.refusal:
            out += self._joined(Refusal, said.refusal)
        if said.tool_calls or said.function_call is not None:
            self._tool_calls(said, out)

    def _blocks(self, content: Sequence[Any], out: list[Delta]) -> None:
        for kind, text in blocks_of(content):
            match kind:
                case "thought":
                    self._think(text, out)
                case "refusal":
                    out += self._joined(Refusal, text)
                case _:
                    self._speak(text, out)

    def _joined(self, kind: type[_Saying], text: str) -> Sequence[_Saying]:
        return self._texts.feed(kind, text) if self._is_loose or self._texts.pending else (kind(text),)

    def _think(self, text: str, out: list[Delta]) -> None:
        if not text:
            return
        out += self._joined(Reasoning, text)
        for one in self._filters:
            one.separated()

    def _speak(self, text: str, out: list[Delta]) -> None:
        self._has_spoken = True
        deltas: Sequence[Delta] = self._joined(Text, text)
        if self._filters or self._wants_logprobs:
            deltas = self._filtered(deltas)
        out += deltas

    def _filtered(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        for one in self._filters:
            deltas = _through(one, deltas)
        self._filters = [one for one in self._filters if not one.idle]
        return self._with_logprobs(deltas)

    def _with_logprobs(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        """Puts the logprobs that came so far on the first text; those of text that was no answer are dropped."""
        if not self._logprobs or not deltas:
            return deltas
        logprobs, self._logprobs = self._logprobs, ()
        for n, delta in enumerate(deltas):
            if isinstance(delta, Text):
                return [*deltas[:n], Text(delta.text, logprobs), *deltas[n + 1 :]]
        return deltas

    def _tool_calls(self, said: Said, out: list[Delta]) -> None:
        pieces = said.tool_calls or [CallPiece(-1, None, said.function_call)]
        # The server tells calls and text apart by itself: what is held is text, in front of the calls.
        out += self._texts.end()
        for one in self._filters:
            out += one.release()
        self._filters = []
        for piece in pieces:
            function = piece.function or piece
            out += self._calls.feed(piece.index, piece.id or "", function.name or "", function.arguments)

    def _finish(self, out: list[Delta]) -> None:
        self._play_aside(out)
        reason = self._finish_reason
        if reason is None:
            raise chat_errors.ended(self._words)
        if reason in _FAILED:
            raise UpstreamError("The model's server gave up in mid-stream.", internal=f"finish_reason {reason}")
        known = _FINISH.get(reason, "stop")
        cut = known != "stop"
        deltas: list[Delta] = list(self._texts.end())
        for one in self._filters:
            deltas = _through(one, deltas) + one.end(cut)
        out += self._with_logprobs(deltas)
        out += self._calls.end(cut)
        out.append(Finish(known, self._tokens.usage, tuple(sorted(self._helps))))
        self.finished = True

    def _play_aside(self, out: list[Delta]) -> None:
        """The server has no first choice: the one with the lowest number is it."""
        aside, self._aside = self._aside, []
        if not self._is_chosen and aside:
            first = min(choice.index or 0 for choice in aside)
            for choice in aside:
                if choice.index == first:
                    self._choice(choice, out)


def _through(one: Filter, deltas: Sequence[Delta]) -> list[Delta]:
    out: list[Delta] = []
    for delta in deltas:
        out += one.feed(delta.text) if isinstance(delta, Text) else (delta,)
    return out


def _has_message(value: Any) -> bool:
    """Whether a document holds a whole message, and not a piece of one."""
    choices: Any = cast(Json, value).get("choices") if isinstance(value, dict) else None
    found: list[Any] = cast("list[Any]", choices) if isinstance(choices, list) else [choices]
    return any(isinstance(one, dict) and "message" in one for one in found)


def _only_text(line: bytes) -> str | None:
    """See ``frames.ReadText``."""
    try:
        chunk = decode(line)
    except _DECODE_ERRORS:
        return None
    if chunk.error is not None or chunk.usage is not None or not chunk.choices:
        return None
    choice = chunk.choices[0]
    if choice.delta is None or choice.index or choice.finish_reason or choice.usage or len(chunk.choices) > 1:
        return None
    said = [value for value in msgspec.structs.astuple(choice.delta) if value]
    return said[0] if len(said) == 1 and isinstance(said[0], str) else None


class _Unreadable(UpstreamError):
    """What the server wrote makes no sense."""

    def __init__(self, why: str) -> None:
        super().__init__("The model's server wrote what cannot be read.", internal=why)
