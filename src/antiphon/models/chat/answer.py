"""The chunks of a chat-completions answer -> deltas. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from antiphon.models import ContextTooLong, Delta, Finish, Prompt, Reasoning, Refusal, Text, ToolMeasure, Usage
from antiphon.models.chat.body import is_bound, shows_in_words
from antiphon.models.chat.calls import Calls
from antiphon.models.chat.carried import Aside, is_signature
from antiphon.models.chat.chunk import (
    CallPiece,
    Choice,
    Chunk,
    Counts,
    Message,
)
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.errors import is_error, stream_error
from antiphon.models.chat.filters import filters, through
from antiphon.models.chat.loose import blocks_of, calls_of, logprobs_of, thought_of
from antiphon.models.chat.unicode import SurrogateJoiner
from antiphon.wire import Json

_LENGTH: Final = re.compile(
    r"length|max_(?:\w+_)?tokens|token_(?:limit|budget)|(?:output|context)_(?:limit|window)"
    r"|max_(?:context|output)|error_limit"
)
_FILTERED: Final = re.compile(
    r"filter|guardrail|moderat|safety|sensitive|spii|recitation|refus|prohibited|blocklist|policy|toxic|flagged|censor"
)
"""Any other reason is ``stop``: calls, and every server's own words for the end."""
_WORDY: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+")
_FAILED: Final = re.compile(
    r"(?:\w+_)?error|abort(?:ed)?|cancell?ed|failed|interrupted|\w*overloaded|insufficient_(?:system_resource|quota)"
)
_NO_ROOM: Final = re.compile(r"(?:model_)?context_(?:window|length)_exceeded")
"""That the context was full."""
_NOT_YET: Final = re.compile(r"null|none|nil|undefined|in_progress|not_finished|(?:finish_reason_)?unspecified")
_ASIDE_MAX: Final = 65_536
"""How many pieces of choices that nobody asked for are kept, in case the server has no first one."""


_TextDelta: TypeAlias = Text | Reasoning | Refusal


class _Texts:
    """Joins halves of surrogate pairs in the texts of one answer, which follow each other.

    Attributes:
        pending: whether a half waits for its partner.
    """

    def __init__(self) -> None:
        self.pending = False
        self._joiner = SurrogateJoiner()
        self._kind: type[_TextDelta] = Text

    def feed(self, kind: type[_TextDelta], text: str) -> list[_TextDelta]:
        """The text as deltas; in front of it what is left of a text of another kind."""
        before = self.end() if kind is not self._kind else []
        self._kind = kind
        whole = self._joiner.feed(text)
        self.pending = bool(self._joiner)
        return [*before, kind(whole)] if whole else before

    def end(self) -> list[_TextDelta]:
        """What is left of the last text."""
        self.pending = False
        alone = self._joiner.end()
        return [self._kind(alone)] if alone else []


def _known_reason(reason: str) -> Literal["stop", "length", "content_filter"]:
    """Why an answer ends, in this API's words, from those of its server, however they are spelled."""
    return "length" if _LENGTH.search(reason) else "content_filter" if _FILTERED.search(reason) else "stop"


def _normalize_reason(reason: str) -> str:
    """A reason in lower case, its words joined by underscores."""
    return _WORDY.sub("_", reason).strip("_").lower()


def _read_call(piece: CallPiece) -> tuple[str, str | Json | None]:
    """The name and the arguments in a piece of a call, wherever its server puts them."""
    if piece.custom is not None:
        return piece.custom.name or "", None if piece.custom.input is None else {"input": piece.custom.input}
    function = piece.function
    name = (function.name if function is not None else None) or piece.name or ""
    inner = () if function is None else (function.arguments, function.parameters, function.args, function.input)
    given = (*inner, piece.arguments, piece.parameters, piece.input)
    return name, next((one for one in given if one is not None), None)


class _Tokens(msgspec.Struct):
    """What the server said of tokens so far. A number once said stays, unless another comes that is not 0."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def add(self, counts: Counts) -> None:
        details = counts.prompt_tokens_details or counts.input_tokens_details
        cached = (details and details.cached_tokens) or counts.prompt_cache_hit_tokens or counts.cached_tokens or 0
        spent = counts.completion_tokens_details or counts.output_tokens_details
        reasoning = (spent and spent.reasoning_tokens) or 0
        input, output = counts.input, counts.output
        if input and output:
            # Some leave out of one number what they say in another.
            input, output = input + cached * (cached > input), output + reasoning * (reasoning > output)
        rest = max(0, (counts.total_tokens or 0) - input - output)
        if rest and (input or output):
            input, output = input or rest, output + rest if input else output
        self.input, self.output = input or self.input, output or self.output
        self.cached, self.reasoning = cached or self.cached, reasoning or self.reasoning

    @property
    def usage(self) -> Usage | None:
        """None while nothing was said that could be true."""
        if not self.input and not self.output:
            return None
        return Usage(self.input, self.cached, self.output, self.reasoning)


class Answer:
    """One answer as far as it has come.

    Args:
        prompt: what it answers.
        config: the server.
        forced: whether the answer is held to the schema of a call.
        begun: what was put into the model's mouth.

    Attributes:
        finish_reason: why the server says that it ends, in lower case; None before that.
    """

    def __init__(self, prompt: Prompt, config: ChatConfig, *, forced: bool, begun: str = "") -> None:
        keys = itertools.count()
        self.finish_reason: str | None = None
        self._helps: set[ToolMeasure] = {"shown_in_words"} if shows_in_words(prompt, config) else set()
        if is_bound(prompt, config):
            self._helps.add("schema_bounded")
        self._filters = filters(prompt, config, keys, self._helps, forced=forced, begun=begun)
        self._calls = Calls(keys, prompt.parallel_tool_calls, [one.name for one in prompt.callable_functions])
        self._top_logprobs = prompt.top_logprobs
        self._logprobs: tuple[Json, ...] = ()
        self._texts = _Texts()
        self._is_loose = False
        self._is_chosen = False
        self._aside: list[Choice] = []
        self._has_text = self._has_joined = False
        self._written: str | None = None  # what was said in messages
        self._signatures: list[Json] = []  # of thoughts, for the next call
        self._tokens = _Tokens()

    @property
    def has_failed(self) -> bool:
        """Whether the server says that it gave up."""
        return self.finish_reason is not None and _FAILED.fullmatch(self.finish_reason) is not None

    @property
    def is_over(self) -> bool:
        """Whether its server has said why it ends, and that it is whole."""
        return self.finish_reason is not None and not self.has_failed

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of an answer, or a call."""
        return self._has_text or bool(self._calls)

    @property
    def usage(self) -> Usage | None:
        """What it used, once that was said."""
        return self._tokens.usage

    def feed(self, chunk: Chunk, out: list[Delta], *, loose: bool = False) -> None:
        """Append the deltas of a chunk. ``loose``: its texts may hold halves of surrogate pairs.

        Raises:
            ApiError, ContextTooLong: it is an error, or its choice is one.
        """
        self._is_loose = loose
        for choice in chunk.choices or ():
            if not choice.index:
                self._is_chosen = True
                self._choice(choice, out)
            elif not self._is_chosen and len(self._aside) < _ASIDE_MAX:
                self._aside.append(choice)
        self.note_usage(chunk.usage)
        if chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._tokens.add(chunk.x_groq.usage)
        if chunk.error and is_error(chunk.error) and not self.is_over:
            raise stream_error({"error": chunk.error})

    def note_usage(self, counts: Counts | None) -> None:
        """Take what was said that the answer used."""
        if counts is not None:
            self._tokens.add(counts)

    def choose(self, out: list[Delta]) -> None:
        """No more choices will come. Where the server has no first one, the one with the lowest number is it."""
        aside, self._aside = self._aside, []
        if not self._is_chosen and aside:
            first = min(choice.index or 0 for choice in aside)
            for choice in aside:
                if choice.index == first:
                    self._choice(choice, out)

    def _choice(self, choice: Choice, out: list[Delta]) -> None:
        message = choice.delta
        if message is not None:
            self._read_message(message, choice, out)
        if choice.message is not None:
            self._message(choice.message, choice, out)
        elif choice.text and (message is None or not message.content):
            self._speak(choice.text, out)
        if choice.finish_reason and choice.finish_reason.strip():
            reason = _normalize_reason(choice.finish_reason) or "stop"
            self.finish_reason = self.finish_reason if _NOT_YET.fullmatch(reason) else reason
        if choice.error and is_error(choice.error):
            raise stream_error({"error": choice.error})
        if choice.usage is not None:
            self._tokens.add(choice.usage)

    def _message(self, message: Message, choice: Choice, out: list[Delta]) -> None:
        """A whole message: the answer, unless it has been said in deltas before. Some servers call their pieces so, or
        say all of it anew each time.
        """
        if self._written is None and (self._has_text or self._calls):
            calls = Message(tool_calls=message.tool_calls, function_call=message.function_call)
            self._read_message(Message() if self._calls else calls, choice, out)
            return
        content, written = message.content, self._written or ""
        if type(content) is str and content:
            if written and content.startswith(written) and (len(content) > len(written) or choice.finish_reason):
                message = msgspec.structs.replace(message, content=content[len(written) :])
                written = ""
            self._written = written + content
        self._read_message(message, choice, out)

    def _read_message(self, message: Message, choice: Choice, out: list[Delta]) -> None:
        if self._top_logprobs is not None and choice.logprobs is not None:
            self._logprobs += tuple(logprobs_of(choice.logprobs, self._top_logprobs))
        self._hear_thoughts(message, out)
        content = message.content or message.text
        if type(content) is str:
            if content and not (
                self._filters or self._top_logprobs is not None or self._is_loose or self._texts.pending
            ):
                self._has_text = True
                out.append(Text(content))
            elif content:
                self._speak(content, out)
        elif content:
            self._blocks(content, out)
        if message.refusal:
            out += self._join(Refusal, message.refusal)
        if message.tool_calls or message.function_call is not None:
            self._tool_calls(message.tool_calls or [CallPiece(-1, None, message.function_call)], out)

    def _hear_thoughts(self, message: Message, out: list[Delta]) -> None:
        """Reasoning, under whatever name it comes, and what its server signed it with."""
        details = message.reasoning_details
        if thought := message.reasoning_content or message.reasoning or message.reasoning_text or message.thinking:
            self._think(thought, out)
        elif blocks := details or message.thinking_blocks:
            self._think("".join(map(thought_of, blocks)), out)
        if details:
            self._signatures += filter(is_signature, details)

    def _blocks(self, content: Sequence[Any], out: list[Delta]) -> None:
        if called := calls_of(content):
            self._tool_calls(called, out)
        for kind, text in blocks_of(content):
            match kind:
                case "thought":
                    self._think(text, out)
                case "refusal":
                    out += self._join(Refusal, text)
                case _:
                    self._speak(text, out)

    def _join(self, kind: type[_TextDelta], text: str) -> Sequence[_TextDelta]:
        self._has_joined = True
        return self._texts.feed(kind, text) if self._is_loose or self._texts.pending else (kind(text),)

    def _think(self, text: str, out: list[Delta]) -> None:
        if not text:
            return
        out += self._join(Reasoning, text)
        for one in self._filters:
            one.note_server_reasoning()

    def _speak(self, text: str, out: list[Delta]) -> None:
        self._has_text = True
        deltas: Sequence[Delta] = self._join(Text, text)
        if self._filters or self._top_logprobs is not None:
            deltas = self._filter(deltas)
        out += deltas

    def _filter(self, deltas: Sequence[Delta]) -> Sequence[Delta]:
        for one in self._filters:
            deltas = through(one, deltas)
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

    def _tool_calls(self, pieces: Sequence[CallPiece], out: list[Delta]) -> None:
        # The server tells calls and text apart by itself: what is held is text, in front of the calls.
        out += self._texts.end()
        for one in self._filters:
            out += one.release()
        self._filters = []
        self._calls.next_chunk()
        for piece in pieces:
            name, arguments = _read_call(piece)
            out += self._calls.feed(piece.index, piece.id or "", name, arguments, self._aside_of(piece))

    def _aside_of(self, piece: CallPiece) -> Aside:
        """What is wanted back with a call; the signatures of what was thought go with the first that comes then."""
        signatures, self._signatures = self._signatures, []
        return Aside(piece.extra_content, signatures or None)

    def finish(self, out: list[Delta]) -> None:
        """Append what is still to be said, and the end.

        Raises:
            UpstreamError: a call cannot be understood.
            ContextTooLong: it ends because the context is full, and never began.
        """
        reason = self.finish_reason
        assert reason is not None and not self.has_failed, "an answer is finished once it has a reason"
        if _NO_ROOM.fullmatch(reason) and not self.has_begun and not self._has_joined:
            raise ContextTooLong(self._tokens.input or None)
        known = _known_reason(reason)
        cut = known != "stop"
        deltas: list[Delta] = list(self._texts.end())
        for one in self._filters:
            deltas = through(one, deltas) + one.end(cut)
        out += self._with_logprobs(deltas)
        out += self._calls.end(cut)
        out.append(Finish(known, self._tokens.usage, tuple(sorted(self._helps))))
