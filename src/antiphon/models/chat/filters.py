"""What looks at the text of one answer on its way, one after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from antiphon.models import Delta, Prompt, Text, ToolMeasure
from antiphon.models.chat.body import allows_several, held_function, put_in_mouth, shows_in_words
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.dialect import Dialect
from antiphon.models.chat.forced import ForcedCall
from antiphon.models.chat.written import WrittenCall


class Filter(Protocol):
    """Looks at the answer's text on its way: ``Dialect``, ``ForcedCall``, ``WrittenCall``, ``Repeated``."""

    @property
    def idle(self) -> bool: ...

    def feed(self, text: str) -> list[Delta]: ...

    def end(self, cut: bool) -> list[Delta]: ...

    def release(self) -> list[Delta]: ...

    def note_server_reasoning(self) -> None: ...


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

    def note_server_reasoning(self) -> None:
        """Reasoning beside the answer changes nothing here."""


class Begun:
    """Puts in front of the answer what was put into the model's mouth, so that it is read with the rest."""

    def __init__(self, begun: str) -> None:
        self._begun = begun

    @property
    def idle(self) -> bool:
        return not self._begun

    def feed(self, text: str) -> list[Delta]:
        begun, self._begun = self._begun, ""
        return [Text(begun + text)]

    def release(self) -> list[Delta]:
        """The server calls by itself: nothing was begun."""
        self._begun = ""
        return []

    def end(self, cut: bool) -> list[Delta]:
        return []

    def note_server_reasoning(self) -> None:
        """Reasoning beside the answer changes nothing here."""


def filters(
    prompt: Prompt, config: ChatConfig, keys: Iterator[int], helps: set[ToolMeasure], *, forced: bool, begun: str = ""
) -> list[Filter]:
    """What looks at the text of one answer, first to last.

    Args:
        helps: where it is noted what helped the calls in it.
        forced: whether the answer is held to the schema of a call.
        begun: what was put into the model's mouth and is to be read with the rest.
    """
    functions = prompt.callable_functions
    reads = (config.text_calls and config.tool_help != "off") or shows_in_words(prompt, config)
    chain: list[Filter] = []
    mouth = put_in_mouth(prompt, config, forced=forced) or begun
    if mouth and config.supports_prefill == "llamacpp":
        chain.append(Repeated(mouth))
    if begun:
        chain.append(Begun(begun))
    held = held_function(prompt, config) if forced else None
    reasoning_format = config.reasoning_format
    if held:
        reasoning_format = "never"  # every character is the text's
    elif forced and reasoning_format == "opened":
        reasoning_format = "tags"  # what is held to a schema cannot close a tag
    dialect = Dialect(
        reasoning_format=reasoning_format,
        functions=functions if reads and not forced else (),
        whole=prompt.format.type == "text",
        parallel=prompt.parallel_tool_calls,
        keys=keys,
        begun=bool(prompt.prefix),
        lenient=config.tool_help == "repair",
        helps=helps,
    )
    if not dialect.idle:
        chain.append(dialect)
    if forced:
        several = allows_several(prompt, config)
        chain.append(WrittenCall(held, keys) if held else ForcedCall(functions, keys, several=several, helps=helps))
    return chain


def through(one: Filter, deltas: Sequence[Delta]) -> list[Delta]:
    """The deltas after the filter, which is shown the texts among them."""
    out: list[Delta] = []
    for delta in deltas:
        out += one.feed(delta.text) if isinstance(delta, Text) else (delta,)
    return out
