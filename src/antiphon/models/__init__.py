"""What a model is to the rest of the system: a prompt in, deltas out.

The spine imports this file alone. ``chat`` speaks to any chat-completions server, ``llamacpp`` runs the embedded
one, ``scripted`` is the deterministic model that ships for tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Literal, Protocol, TypeAlias

import msgspec

from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

ToolMeasure: TypeAlias = Literal[
    "shown_in_words",
    "read_from_text",
    "text_mended",
    "chosen_greedily",
    "needless",
    "searched",
    "several_required",
    "schema_bounded",
    "arguments_mended",
    "held_to_schema",
    "undeclared",
    "disallowed",
    "repeat_answered",
    "invented",
]
"""What may be done so that a weak model's calls come right.

The functions were shown in words. A call was read from text, or from text that had to be mended, or was sampled
greedily; none was needed, by the odds of its name and of a question; a search was asked for, since the model thought of
no other function; several calls were read where one is required. A schema got bounds. Arguments were mended; a call was
asked for again, held to its schema; instead of one that does not exist, or had just been made, the model answered
without tools, or what had failed was changed; one that does not exist beside others, that the request does not allow,
or about what nobody had spoken of, was left out, or something else was asked for in its place.
"""


class Text(msgspec.Struct, frozen=True, gc=False):
    """Answer text. ``logprobs``: entries ``{token, logprob, bytes, top_logprobs}`` when they were asked for."""

    text: str
    logprobs: tuple[Json, ...] = ()


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """Raw reasoning text; never part of the answer."""

    text: str


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Text by which the model declines."""

    text: str


class Call(msgspec.Struct, frozen=True, gc=False):
    """A piece of a function call. ``key`` is the provider's own (its index), so that calls may interleave.

    The first piece of a key carries ``name``; ``arguments`` pieces join to one JSON text. ``call_id`` is the
    provider's id for the call, or empty: then one is made.
    """

    key: int
    name: str = ""
    arguments: str = ""
    call_id: str = ""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one sampling. ``input`` includes ``cached``; ``output`` includes ``reasoning``."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


PROBED: ContextVar[list[Usage] | None] = ContextVar("probed", default=None)
"""Receives what is used by samples of a token or a few that nobody is shown: to count a prompt, or to see what a model
would begin with. None for nobody.
"""


class Finish(msgspec.Struct, frozen=True):
    """The last delta of every sample, exactly one. ``usage`` is None when the server did not say; ``helps`` is what was
    done so that the model's calls come right.
    """

    reason: Literal["stop", "length", "content_filter"] = "stop"
    usage: Usage | None = None
    helps: tuple[ToolMeasure, ...] = ()


Delta: TypeAlias = Text | Reasoning | Refusal | Call | Finish


class Grammar(msgspec.Struct, frozen=True):
    """What a text must match: a grammar in llguidance's Lark, or a regular expression in that of Rust."""

    syntax: Literal["lark", "regex"]
    definition: str


class Function(msgspec.Struct, frozen=True):
    """A function the model may call.

    Attributes:
        parameters: a JSON schema; None means any object.
        searches: whether it looks for what the model cannot know, so that it is preferred to general knowledge.
        grammar: of the text in its only parameter, ``input``; None where that is free, or there is none.
    """

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool = True
    grammar: Grammar | None = None
    searches: bool = False


class ToolChoice(msgspec.Struct, frozen=True):
    """``auto``: the model decides. ``required``: at least one call. ``none``: no call.

    ``names`` limits which of the prompt's functions may be called; empty means all. One name with ``required``
    is the API's forced function.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] = ()


class TextFormat(msgspec.Struct, frozen=True):
    """``text.format``: ``schema`` and ``name`` are set for ``json_schema`` only."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema: Json | None = None
    strict: bool = False


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one sampling needs, in the API's own item form; a model converts it at its own boundary.

    Attributes:
        items: the whole context, oldest first, as API items (``message`` with ``role`` and a list of parts,
            ``function_call``, ``function_call_output``, ``reasoning``, …). Kinds a model cannot be shown are left
            out by the model's own translation.
        instructions: the system text in front of the context, or None.
        max_output_tokens: bound on generated tokens, or None for the model's own.
        temperature, top_p: None where nobody asked for any: the model's server knows best.
        top_logprobs: how many alternatives per token; None when no logprobs are wanted.
        effort: reasoning effort, or None.
        extra: members that the request has beside the API's own, and that the model accepts (``Model.accepts``).
        prefix: an assistant text to continue (not repeated in the deltas); empty for none.
        prefers_call: whether a call that has to do with what was said is preferred to words, where the model is helped
            with its choice: something is to be found out.
        streamed: whether somebody may read the deltas one by one; else those that come together may be one.
        cache_key: of prompts that begin alike, where the caller said so; empty to see that from the prompt itself.
    """

    items: tuple[Json, ...]
    instructions: str | None = None
    functions: tuple[Function, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    format: TextFormat = TextFormat()
    verbosity: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    effort: str | None = None
    extra: Json = {}
    user: str | None = None
    prefix: str = ""
    prefers_call: bool = False
    streamed: bool = True
    cache_key: str = ""

    @property
    def callable_functions(self) -> tuple[Function, ...]:
        """The functions that ``tool_choice`` leaves."""
        choice = self.tool_choice
        if not self.functions or choice.mode == "none":
            return ()
        return tuple(each for each in self.functions if not choice.names or each.name in choice.names)


ToolHelp: TypeAlias = Literal["off", "read", "repair"]
"""How calls of weak models are helped. ``off``: not at all. ``read``: those written as plain text are recognised.
``repair``: they are also held until they are whole, mended where that makes them fit, and asked for again elsewhere."""

ToolFormat: TypeAlias = Literal["template", "fenced"]
"""How a model is shown functions. ``template``: by its server's chat template. ``fenced``: in words, with calls as
fenced blocks of JSON."""


class Model(Protocol):
    """One model.

    Attributes:
        name: the name really used, shown in ``x-antiphon-model``.
        supports_images: whether it accepts images.
        context_tokens: its context window, or None when unknown.
        supports_prefill: whether it can go on with a begun answer (``Prompt.prefix``).
        tool_help: how much its calls are helped.
        estimates_tokens: whether ``count`` only estimates.
        accepts: the members of a request, beside the API's own, that it is given (``Prompt.extra``).
    """

    @property
    def accepts(self) -> Collection[str]: ...

    @property
    def supports_prefill(self) -> bool: ...

    @property
    def tool_help(self) -> ToolHelp: ...

    @property
    def estimates_tokens(self) -> bool: ...

    @property
    def name(self) -> str: ...

    @property
    def supports_images(self) -> bool: ...

    @property
    def context_tokens(self) -> int | None: ...

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Sample once.

        Entering returns once the model's server has accepted the prompt. The iterator yields one non-empty batch per
        read of the upstream; the last delta of the last batch is the only ``Finish``. Leaving the context stops the
        upstream.

        Raises:
            antiphon.wire.errors.ApiError: on entering or while iterating; an upstream that ends without a
                finish reason is ``UpstreamError``.
        """
        ...

    async def count(self, prompt: Prompt) -> int:
        """Tokens of the rendered prompt, functions and format included: the ``input`` that a sample would report.

        Raises:
            antiphon.wire.errors.ApiError: they cannot be counted.
            ContextTooLong: the prompt does not fit, and only what fits can be counted.
        """
        ...


class ImagesRefused(InvalidRequest):
    """The model's server says that its model takes no images."""


class ContextTooLong(Exception):
    """The prompt does not fit. ``prompt_tokens`` and ``context_tokens`` when the server said them."""

    def __init__(self, prompt_tokens: int | None = None, context_tokens: int | None = None) -> None:
        super().__init__("prompt longer than the context window")
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class Roster(Protocol):
    """The models a server has, by the names callers use."""

    async def find(self, name: str) -> Model:
        """The model that answers to ``name``.

        Raises:
            antiphon.wire.errors.InvalidRequest: ``model_not_found``.
            antiphon.wire.errors.ApiError: the model's server could not be asked.
        """
        ...

    async def names(self) -> Sequence[str]:
        """Every name worth listing."""
        ...

    async def ready(self) -> bool:
        """Whether a request would find a model now."""
        ...

    async def close(self) -> None:
        """Let go of connections and processes."""
        ...
