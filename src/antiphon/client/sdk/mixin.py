"""The official clients with this package's results: what is asked for, what comes back, and ``run``.

Where the requests go is not decided here.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any

import openai
from openai import Omit, omit
from typing_extensions import Unpack

from antiphon.client.sdk.params import (
    Input,
    RequestOptions,
)
from antiphon.client.sdk.responses import AsyncResponses, Responses
from antiphon.client.sdk.results import extend
from antiphon.client.sdk.text_format import Shape, ShapeOf, T

if TYPE_CHECKING:
    from antiphon.client.runs.loop import RunEvent, RunResult
    from antiphon.client.runs.runners import Tool


class RunOptions(RequestOptions, total=False):
    """What ``run`` takes beside the task, the tools and the model.

    Attributes:
        turns_max: responses at most, 16 if not given.
        call_timeout_s: seconds that one call may take, 120 if not given. The model is told of one that took longer; a
            thread that still runs is left to itself.
        parallel_calls_max: calls that run at the same time, 8 if not given.
        output_chars_max: characters of a call's output that the model is shown, 200,000 if not given.
        raise_errors: end the run with the exception that a tool raises, instead of telling the model.
    """

    turns_max: int
    call_timeout_s: float
    parallel_calls_max: int
    output_chars_max: int
    raise_errors: bool


_BOUNDS = ("turns_max", "call_timeout_s", "parallel_calls_max", "output_chars_max", "raise_errors")


def _plan_run(task: Input, tools: Iterable[Tool], model: str | Omit, text_format: Shape, options: RunOptions) -> Any:
    from antiphon.client.runs import loop

    given: dict[str, Any] = {**options, "model": model}
    bounds = {name: given.pop(name) for name in _BOUNDS if name in given}
    return loop.plan_run(task, tools, given, text_format=text_format, **bounds)


class ClientMixin(openai.OpenAI):
    """The synchronous client's side towards the caller."""

    @cached_property
    def responses(self) -> Responses:  # pyright: ignore[reportIncompatibleMethodOverride]  # cached there too
        """Responses: create, retrieve, stream, parse …"""
        return Responses(self)

    def run(
        self,
        task: Input,
        *,
        tools: Iterable[Tool] = (),
        model: str | Omit = omit,
        text_format: ShapeOf[T] = omit,
        on_event: Callable[[RunEvent], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[T]:
        """Works on a task: asks the model, runs the tools that it calls, and asks again until it answers.

        The calls of one turn run at the same time, each in a thread; a coroutine function in an event loop of that
        thread. What a tool raises, and arguments that do not fit, are told to the model. The history is the server's:
        each turn continues the stored response before it, or ``conversation``; with ``store=False`` everything is sent
        again. A ``tool_choice`` that forces a call holds for the first turn.

        Args:
            task: a text, a message, or items.
            tools: Python functions, whose schemas come from their signatures and docstrings; objects with ``kind`` and
                ``run`` (see ``ToolRunner``); tools as the API writes them, as dicts, which the server runs or you
                answer (see ``RunResult.pending``).
            model: as in ``responses.create``.
            text_format: the shape of the answer, as in ``responses.parse``.
            on_event: called with each ``RunEvent`` as it happens, in this thread.
            **options: ``RunOptions``, and the parameters of ``responses.create``, which hold for every turn.

        Returns:
            The answer, and how it came about.

        Raises:
            TurnsExceeded: the model still called tools in its last turn; its ``result`` is what there is.
            openai.APIError: the server refused or failed.
            RunBroken: a response failed, or its stream ended before it did, without an error of the server's.
            pydantic.ValidationError: the answer does not have the shape of ``text_format``.
            TypeError: something in ``tools`` is no tool, or no schema can be made of it.
            ValueError: two tools for the same calls, or a bound that is not above 0.
        """
        from antiphon.client.runs.loop import RunFinished

        result: RunResult[T] | None = None
        for event in self.run_events(task, tools=tools, model=model, text_format=text_format, **options):
            if on_event is not None:
                on_event(event)
            result = event.result if isinstance(event, RunFinished) else None
        assert result is not None, "the last event holds the result"
        return result

    def run_events(
        self,
        task: Input,
        *,
        tools: Iterable[Tool] = (),
        model: str | Omit = omit,
        text_format: ShapeOf[Any] = omit,
        **options: Unpack[RunOptions],
    ) -> Iterator[RunEvent]:
        """The same as ``run``, as its events: ``for event in client.run_events(…)``. The last one is ``RunFinished``.

        Nothing is sent before the first event is asked for. Closing the iterator ends the run.
        """
        from antiphon.client.runs.executor import execute

        return execute(self.responses, _plan_run(task, tools, model, text_format, options))

    def _process_response_data(self, **parts: Any) -> Any:
        """Where the SDK makes an object of every answer and every event."""
        return extend(super()._process_response_data(**parts))


class AsyncClientMixin(openai.AsyncOpenAI):
    """The asynchronous client's side towards the caller."""

    @cached_property
    def responses(self) -> AsyncResponses:  # pyright: ignore[reportIncompatibleMethodOverride]  # cached there too
        """Responses: create, retrieve, stream, parse …"""
        return AsyncResponses(self)

    async def run(
        self,
        task: Input,
        *,
        tools: Iterable[Tool] = (),
        model: str | Omit = omit,
        text_format: ShapeOf[T] = omit,
        on_event: Callable[[RunEvent], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[T]:
        """Works on a task: asks the model, runs the tools that it calls, and asks again until it answers.

        As ``ClientMixin.run``; ``on_event`` may be a coroutine function; coroutine functions run as tasks of this event
        loop (asyncio's), others in threads. Cancelling it cancels them.
        """
        from antiphon.client.runs.loop import RunFinished

        result: RunResult[T] | None = None
        async with aclosing(
            self.run_events(task, tools=tools, model=model, text_format=text_format, **options)
        ) as events:
            async for event in events:
                if on_event is not None and inspect.isawaitable(awaitable := on_event(event)):
                    await awaitable
                result = event.result if isinstance(event, RunFinished) else None
        assert result is not None, "the last event holds the result"
        return result

    def run_events(
        self,
        task: Input,
        *,
        tools: Iterable[Tool] = (),
        model: str | Omit = omit,
        text_format: ShapeOf[Any] = omit,
        **options: Unpack[RunOptions],
    ) -> AsyncGenerator[RunEvent]:
        """The same as ``run``, as its events, for ``async for``; see ``ClientMixin.run_events``."""
        from antiphon.client.runs.executor import execute_async

        return execute_async(self.responses, _plan_run(task, tools, model, text_format, options))

    def _process_response_data(self, **parts: Any) -> Any:
        """Where the SDK makes an object of every answer and every event."""
        return extend(super()._process_response_data(**parts))
