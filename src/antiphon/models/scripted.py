"""A model that says what it is told to: deterministic, without a network, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import msgspec

from antiphon.models import Delta, Finish, Prompt, Text, ToolHelp

Step: TypeAlias = str | Delta | Sequence[Delta] | Exception | asyncio.Event
"""One step of a script: a batch (text or one delta stand for a batch of one), a failure to raise, or an event
to wait for."""
Script: TypeAlias = Sequence[Step]

_CHARS_PER_TOKEN: Final = 4


class Sampled(msgspec.Struct):
    """One sampling as the model saw it.

    Attributes:
        prompt: what it was given.
        finished: whether its ``Finish`` was taken.
        left_early: whether its context was left before that.
    """

    prompt: Prompt
    finished: bool = False
    left_early: bool = False


class ScriptedModel:
    """Plays one script per sample, in order; implements ``antiphon.models.Model``.

    A script that does not end with ``Finish`` or a failure is given a ``Finish`` of its own. A failure that
    is its first step is raised on entering.

    Args:
        scripts: what the samples play. One sample more than there are scripts is an ``AssertionError``,
            unless ``again``.
        again: whether the last script is played again from then on.
        tokens: how ``count`` counts; a quarter of the characters of the items by default.

    Attributes:
        samples: a record for each sample, oldest first.
    """

    def __init__(
        self,
        *scripts: Script | str,
        again: bool = False,
        name: str = "scripted",
        supports_images: bool = True,
        context_tokens: int | None = None,
        supports_prefill: bool = True,
        tool_help: ToolHelp = "read",
        tokens: Callable[[Prompt], int] | None = None,
        accepts: Sequence[str] = (),
    ) -> None:
        self._scripts = [_steps(script) for script in scripts]
        self._again = again
        self._name = name
        self._sees = supports_images
        self._context_tokens = context_tokens
        self._continues = supports_prefill
        self.tool_help: ToolHelp = tool_help
        self.accepts = accepts
        self._tokens = tokens or _quarter
        self.samples: list[Sampled] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def supports_images(self) -> bool:
        return self._sees

    @property
    def context_tokens(self) -> int | None:
        return self._context_tokens

    @property
    def supports_prefill(self) -> bool:
        """Whether ``Prompt.prefix`` may be used."""
        return self._continues

    @property
    def estimates_tokens(self) -> bool:
        """Whether ``count`` only estimates: it does not."""
        return False

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts it was given, oldest first."""
        return [sampled.prompt for sampled in self.samples]

    def add(self, *scripts: Script | str) -> None:
        """Appends scripts for further samples."""
        self._scripts += [_steps(script) for script in scripts]

    async def close(self) -> None:
        """Nothing to close."""

    @asynccontextmanager
    async def sample(self, prompt: Prompt) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        """Plays the next script; see ``Model.sample``."""
        n = len(self.samples)
        sampled = Sampled(prompt)
        self.samples.append(sampled)
        script = self._script(n)
        try:
            if script and isinstance(script[0], Exception):
                raise script[0]
            yield _Play(script, sampled)
        finally:
            sampled.left_early = not sampled.finished

    def _script(self, n: int) -> list[Step]:
        if self._again and self._scripts:
            n = min(n, len(self._scripts) - 1)
        assert n < len(self._scripts), f"sample {n + 1}, but only {len(self._scripts)} scripts"
        return self._scripts[n]

    async def count(self, prompt: Prompt) -> int:
        return self._tokens(prompt)


class _Play:
    """The batches of one script."""

    def __init__(self, script: Sequence[Step], sampled: Sampled) -> None:
        self._steps = iter(script)
        self._sampled = sampled

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        if self._sampled.finished:
            raise StopAsyncIteration
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
                continue
            return self._record(_batch(step))
        return self._record((Finish(),))

    def _record(self, batch: Sequence[Delta]) -> Sequence[Delta]:
        assert batch, "a batch has at least one delta"
        self._sampled.finished = isinstance(batch[-1], Finish)
        return batch


def _steps(script: Script | str) -> list[Step]:
    return [script] if isinstance(script, str) else list(script)


def _batch(step: str | Delta | Sequence[Delta]) -> Sequence[Delta]:
    if isinstance(step, str):
        return (Text(step),)
    if isinstance(step, msgspec.Struct):
        return (step,)
    return step


def _quarter(prompt: Prompt) -> int:
    whole: list[Any] = [prompt.instructions, *prompt.items]
    return len(msgspec.json.encode(whole)) // _CHARS_PER_TOKEN
