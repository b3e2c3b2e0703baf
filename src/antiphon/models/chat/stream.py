"""The bytes of a chat-completions answer -> its chunks, and their deltas (``answer``). Pure.

An answer is lost only where it cannot be understood: what nobody reads is not looked at, a frame that says nothing is
passed over, and its words are kept in case the answer never comes to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Delta, Prompt
from antiphon.models.chat import errors as chat_errors
from antiphon.models.chat.answer import Answer
from antiphon.models.chat.chunk import Choice, Counts, decode, parse, parse_row
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.frames import FrameJoiner
from antiphon.models.chat.lines import Documents, Opening, Splitter
from antiphon.models.chat.loose import chunk_of, unwrap, usage_in
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

_DONE: Final = b"[DONE]"
_ALSO_DONE: Final = frozenset({b"done", b"done][done"})
"""How others write that, without what is around it, in lower case."""
_ENDS: Final = frozenset({"done", "end", "complete", "completed", "finish", "finished", "message_stop"})
"""Events and types that say that no more will come."""
_JUNK: Final = b" \t\0\xef\xbb\xbf"
"""What may stand around a field's name."""
_DECODE_ERRORS: Final = (ValueError, RecursionError)
"""msgspec's errors and Unicode's are ``ValueError``s."""


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
        joiner = None if prompt.streamed or prompt.top_logprobs is not None else FrameJoiner(_only_text)
        self._opening = Opening(config.line_bytes_max, joiner.join if joiner else None)
        self._splitter: Splitter | None = None
        self._answer = Answer(prompt, config, forced=forced, begun=begun)
        self._frame: list[bytes] = []
        self._event = b""
        self._words = ""
        self._last = b""
        self.finished = False

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete, and only what is said of it may still come."""
        return self._answer.is_over

    @property
    def has_usage(self) -> bool:
        """Whether it was said what the answer used."""
        return self._answer.usage is not None

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
                    self._done(out)
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
        match name.strip(_JUNK).lower():
            case b"data":  # something stands in front of it
                self._read([b"data:" + value], out)
            case b"event":
                self._event = value.strip()
            case b"error":
                self._event = b"error"
                self._data(value, out)
            case b"" | b"id" | b"retry":
                pass
            case _ if self._frame:
                self._frame.append(line)  # it goes on without a name
            case _:
                self._data(line, out)

    def _data(self, data: bytes, out: list[Delta]) -> None:
        """One line of data, which mostly is a whole frame."""
        try:
            chunk = decode(data)
        except _DECODE_ERRORS:
            self._odd_data(data, out)
            return
        if chunk.choices and not self._is_mute(chunk.choices[0]):
            self._last, before = data, len(out)
            self._answer.feed(chunk, out)
            if self._words and len(out) > before:
                self._words = ""  # it went on all the same
        elif chunk.choices == [] and self._tells_usage(chunk.usage) and not self._event:
            self._answer.feed(chunk, out)
        else:
            self._odd_data(data, out)

    def _is_mute(self, choice: Choice) -> bool:
        """Whether a choice says nothing that is documented, and so perhaps something else."""
        delta = choice.delta
        if delta is not None and delta.content is not None:
            return False
        if delta is None:
            return choice.message is None and not choice.text and not choice.finish_reason
        if choice.finish_reason and self._answer.has_begun:
            return False
        return not any(msgspec.structs.astuple(delta)) and not (choice.message or choice.error)

    @staticmethod
    def _tells_usage(usage: Counts | None) -> bool:
        return usage is not None and bool(usage.input and usage.output)

    def _end_frame(self, out: list[Delta]) -> None:
        """The frame's lines are here, and did not make sense one by one."""
        frame, self._frame = b"\n".join(self._frame), []
        if frame:
            self._odd_data(frame, out, last=True)
        elif self._event.decode(errors="replace").lower() in _ENDS:
            self._mark_end()
        self._event = b""

    def _odd_data(self, data: bytes, out: list[Delta], *, last: bool = False) -> None:
        """Data that is no chunk as documented, or one that says nothing."""
        text = data.strip()
        if not text:
            return
        if text[:5] == b"data:":  # said twice
            self._data(text[5:], out)
            return
        try:
            values = parse_row(text) if text[:1] in b"{[" else [parse(text)]
        except ValueError:
            self._no_json(text, out, last)
            return
        for value in values:
            self._value(value, out)

    def _no_json(self, text: bytes, out: list[Delta], last: bool) -> None:
        if text.strip(b"\"'[]").lower() in _ALSO_DONE:
            if self._answer.has_begun or self.is_over:
                self._done(out)
        elif self._event == b"error":
            self._fail(text.decode(errors="replace"))
        elif text[:1] not in b"{[":
            # A word alone is a heartbeat, and a tag is a page of a proxy.
            is_page = text[:1] == b"<" and not text[1:2].isdigit()
            is_sentence = b" " in text or not text.isascii()
            self._words = text.decode(errors="replace") if is_sentence and not is_page else self._words
        elif not last:
            self._frame.append(text)  # perhaps it goes on in the next line
        elif not self.is_over:
            raise _Unreadable("a frame that is not JSON")

    def _document(self, data: bytes, out: list[Delta]) -> None:
        if data.strip() == _DONE:
            self._done(out)
            return
        try:
            value = parse(data)
        except ValueError as error:
            raise _Unreadable(str(error)) from None
        value = unwrap(cast(Json, value)) if isinstance(value, dict) else value
        self._value(value, out)
        if _has_message(value):
            self._answer.choose(out)
            # A document is an answer, also where it does not say why it ends.
            self._answer.finish_reason = self._answer.finish_reason or "stop"
            self._finish(out)

    def _value(self, value: Any, out: list[Delta]) -> None:
        if isinstance(value, list):
            for one in cast("list[Any]", value):
                self._value(one, out)
        elif isinstance(value, dict):
            self._object(cast(Json, value), out)
        elif isinstance(value, str) and value[:1] == "{":  # JSON in JSON
            self._odd_data(value.encode(errors="replace"), out)
        elif isinstance(value, str) and value.encode(errors="replace") == _DONE:
            self._no_json(_DONE, out, last=True)
        elif isinstance(value, str):
            self._words = value

    def _object(self, value: Json, out: list[Delta]) -> None:
        value = unwrap(value)
        chunk = chunk_of(value)
        self._answer.feed(chunk, out, loose=True)
        if not chunk.choices and not chunk.usage:
            if self._event == b"error" or chat_errors.is_marked(value):
                self._fail(value)
            if self._event.decode(errors="replace").lower() in _ENDS or _says_end(value):
                self._mark_end()
            else:
                self._words = chat_errors.words_of(value) or self._words

    def _fail(self, error: Any) -> None:
        if not self.is_over:
            raise chat_errors.stream_error(error)

    # The end.

    def _done(self, out: list[Delta]) -> None:
        """The server's own word that this was all. There are some that never say why an answer ends."""
        self._answer.choose(out)
        self._mark_end()
        self._finish(out)

    def _mark_end(self) -> None:
        if self._answer.has_begun and not self._words:
            self._answer.finish_reason = self._answer.finish_reason or "stop"

    def _finish(self, out: list[Delta]) -> None:
        self._answer.choose(out)
        if self._answer.has_failed:
            raise chat_errors.gave_up(self._words)
        if not self.is_over:
            raise chat_errors.truncated_error(self._words)
        usage = self._answer.usage
        if self._last and (usage is None or not usage.output):
            self._answer.note_usage(_usage_of(self._last))
        self._answer.finish(out)
        self.finished = True


def _usage_of(data: bytes) -> Counts | None:
    """What a frame says that was used, where it is not documented."""
    try:
        value = parse(data)
    except ValueError:
        return None
    return usage_in(cast(Json, value)) if isinstance(value, dict) else None


def _says_end(value: Json) -> bool:
    kinds = (value.get(name) for name in ("type", "event", "status"))
    return value.get("done") is True or any(isinstance(kind, str) and kind.lower() in _ENDS for kind in kinds)


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
    values = [value for value in msgspec.structs.astuple(choice.delta) if value]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else None


class _Unreadable(UpstreamError):
    """What the server wrote makes no sense."""

    def __init__(self, why: str) -> None:
        super().__init__("The model's server wrote what cannot be read.", internal=why)
