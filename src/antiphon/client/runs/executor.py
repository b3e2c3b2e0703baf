"""Carries a run's commands out: with threads for the synchronous client, in the event loop for the asynchronous one.

Both are generators of events, the last of which is ``RunFinished``. Closing one early closes the connection that is
open, which stops the model, and waits for no call: a thread cannot be ended, what it still brings is dropped.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, cast

from antiphon.client.runs.function_tool import ArgumentsRefused
from antiphon.client.runs.loop import (
    CallFinished,
    CallRecord,
    CallStarted,
    Command,
    RunBroken,
    RunCalls,
    RunEvent,
    RunFinished,
    RunPlan,
    RunResult,
    Sample,
    TextDelta,
    TurnFinished,
    TurnStarted,
    parse_arguments,
    run_turns,
)
from antiphon.client.runs.runners import Answer, ToolRunner, failure_item, is_in_order, output_item
from antiphon.client.sdk.results import Response
from antiphon.client.sdk.tool_calls import ToolCall

_TEXT = "response.output_text.delta"
_TERMINAL = ("response.completed", "response.incomplete", "response.failed")

Outcome = tuple[Any, BaseException | None, float]
"""What a runner returned, what it raised, and how many seconds it took."""


class _CommandLoop:
    """The generator of commands, and its result when it has ended."""

    def __init__(self, plan: RunPlan) -> None:
        self._commands: Generator[Command, Any, RunResult[Any]] = run_turns(plan)
        self.result: RunResult[Any] | None = None

    def next(self, answer: Any = None) -> Command | None:
        """The next command; None when there is a result."""
        try:
            return self._commands.send(answer)
        except StopIteration as ended:
            self.result = ended.value
            return None


def execute(responses: Any, plan: RunPlan) -> Iterator[RunEvent]:
    """The events of a run of a synchronous client.

    Raises:
        openai.APIError: the server refused or failed.
        RunBroken: a stream ended without its response.
        TurnsExceeded: there was no answer within the turns of the plan.
        Exception: whatever a tool raised, if the plan says so.
    """
    loop = _CommandLoop(plan)
    answer: Any = None
    while (command := loop.next(answer)) is not None:
        match command:
            case Sample():
                yield TurnStarted(command.turn)
                answer = yield from _sample(responses, command)
                yield TurnFinished(command.turn, answer)
            case RunCalls():
                answer = yield from _run_calls(command, plan)
    assert loop.result is not None
    yield RunFinished(loop.result)


def _sample(responses: Any, command: Sample) -> Generator[RunEvent, None, Response]:
    ended: Response | None = None
    with responses.create(stream=True, **command.arguments) as stream:
        for event in stream:
            ended = _terminal_response(event) or ended
            if event.type == _TEXT:
                yield TextDelta(command.turn, str(event.delta))
    return _require_complete(ended)


def _terminal_response(event: Any) -> Response | None:
    return cast(Response, event.response) if event.type in _TERMINAL else None


def _require_complete(ended: Response | None) -> Response:
    if ended is None:
        raise RunBroken("The stream ended before its response did.")
    if ended.status == "failed":
        raise RunBroken(f"The response failed: {ended.error.message if ended.error else 'without a reason'}")
    return ended


def _run_calls(command: RunCalls, plan: RunPlan) -> Generator[RunEvent, None, list[CallRecord]]:
    """Runs calls in threads, so many at once, each for so long."""
    inbox: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
    waiting = list(range(len(command.calls)))
    deadlines: dict[int, float] = {}
    records: dict[int, CallRecord] = {}
    while waiting or deadlines:
        while (index := _next_startable(command, plan, waiting, deadlines)) is not None:
            waiting.remove(index)
            call = command.calls[index]
            deadlines[index] = time.monotonic() + plan.call_timeout_s
            _start_thread(_find_runner(plan, call), call, lambda outcome, index=index: inbox.put((index, outcome)))
            yield CallStarted(command.turn, call)
        for index, outcome in _next_outcomes(inbox, deadlines, plan.call_timeout_s):
            if deadlines.pop(index, None) is not None:  # else it comes too late
                records[index] = _make_record(command.turn, command.calls[index], outcome, plan)
                yield CallFinished(command.turn, records[index])
    return [records[index] for index in range(len(command.calls))]


def _next_startable(command: RunCalls, plan: RunPlan, waiting: Sequence[int], running: Collection[int]) -> int | None:
    """The next call that there is room for, and that waits for none before it."""
    if len(running) == plan.parallel_calls_max:
        return None
    taken = any(is_in_order(_find_runner(plan, command.calls[index])) for index in running)
    return next(
        (index for index in waiting if not (taken and is_in_order(_find_runner(plan, command.calls[index])))), None
    )


def _next_outcomes(
    inbox: queue.SimpleQueue[tuple[int, Outcome]], deadlines: dict[int, float], timeout_s: float
) -> Sequence[tuple[int, Outcome]]:
    """The next outcome, or that some have taken too long."""
    try:
        return [inbox.get(timeout=max(0.0, min(deadlines.values()) - time.monotonic()))]
    except queue.Empty:
        now = time.monotonic()
        return [(index, _timeout_outcome(timeout_s)) for index, deadline in deadlines.items() if deadline <= now]


def _timeout_outcome(timeout_s: float) -> Outcome:
    return None, TimeoutError(f"it took longer than {timeout_s:g} s"), timeout_s


def _start_thread(runner: ToolRunner, call: ToolCall, done: Callable[[Outcome], object]) -> None:
    """Runs a call in a thread that does not keep the process alive, with the caller's context variables."""
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=lambda: done(context.run(_attempt, runner, call)), name=f"call-{call.name}", daemon=True
    )
    thread.start()


def _attempt(runner: ToolRunner, call: ToolCall) -> Outcome:
    began = time.monotonic()
    try:
        returned = runner.run(call)
        if inspect.isawaitable(returned):
            returned = asyncio.run(_await(returned))
        return returned, None, time.monotonic() - began
    except BaseException as error:  # in a thread of its own nobody else would hear of it
        return None, error, time.monotonic() - began


async def _await(returned: Any) -> Any:
    return await returned


async def execute_async(responses: Any, plan: RunPlan) -> AsyncGenerator[RunEvent]:
    """The events of a run of an asynchronous client; see ``execute``."""
    loop = _CommandLoop(plan)
    answer: Any = None
    while (command := loop.next(answer)) is not None:
        match command:
            case Sample():
                yield TurnStarted(command.turn)
                ended: Response | None = None
                async with await responses.create(stream=True, **command.arguments) as stream:
                    async for event in stream:
                        ended = _terminal_response(event) or ended
                        if event.type == _TEXT:
                            yield TextDelta(command.turn, str(event.delta))
                answer = _require_complete(ended)
                yield TurnFinished(command.turn, answer)
            case RunCalls():
                call_tasks = _CallTasks(command, plan)
                async with aclosing(call_tasks.events()) as events:
                    async for event in events:
                        yield event
                answer = call_tasks.records()
    assert loop.result is not None
    yield RunFinished(loop.result)


class _CallTasks:
    """The calls of one turn, as tasks of the event loop."""

    def __init__(self, command: RunCalls, plan: RunPlan) -> None:
        self._command = command
        self._plan = plan
        self._records: dict[int, CallRecord] = {}
        self._order = asyncio.Lock()
        self._room = asyncio.Semaphore(plan.parallel_calls_max)
        self._inbox: asyncio.Queue[RunEvent | BaseException] = asyncio.Queue()

    async def events(self) -> AsyncGenerator[RunEvent]:
        """What happens, until all have run. Leaving early cancels those that are running."""
        tasks = [asyncio.create_task(self._run(index, call)) for index, call in enumerate(self._command.calls)]
        try:
            while len(self._records) < len(tasks) or not self._inbox.empty():
                event = await self._inbox.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def records(self) -> list[CallRecord]:
        """In the order of the calls."""
        return [self._records[index] for index in range(len(self._command.calls))]

    async def _run(self, index: int, call: ToolCall) -> None:
        runner = _find_runner(self._plan, call)
        async with self._order if is_in_order(runner) else nullcontext(), self._room:
            self._inbox.put_nowait(CallStarted(self._command.turn, call))
            try:
                outcome = await _async_attempt(runner, call, self._plan.call_timeout_s)
                record = _make_record(self._command.turn, call, outcome, self._plan)
            except BaseException as error:  # for whoever reads the events
                self._inbox.put_nowait(error)
                return
            self._records[index] = record
            self._inbox.put_nowait(CallFinished(self._command.turn, record))


async def _async_attempt(runner: ToolRunner, call: ToolCall, timeout_s: float) -> Outcome:
    began = time.monotonic()
    bound = asyncio.timeout(timeout_s)
    try:
        async with bound:
            returned = await _invoke(runner, call)
        return returned, None, time.monotonic() - began
    except Exception as error:
        if isinstance(error, TimeoutError) and bound.expired():
            return _timeout_outcome(timeout_s)
        return None, error, time.monotonic() - began


async def _invoke(runner: ToolRunner, call: ToolCall) -> Any:
    """A coroutine function in this loop; anything else in a thread, as it may block."""
    if getattr(runner, "is_async", False) or inspect.iscoroutinefunction(runner.run):
        return await runner.run(call)
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[Outcome] = loop.create_future()

    def done(outcome: Outcome) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: arrived.done() or arrived.set_result(outcome))

    _start_thread(runner, call, done)
    returned, error, _ = await arrived
    if error is not None:
        raise error
    return returned


def _find_runner(plan: RunPlan, call: ToolCall) -> ToolRunner:
    runner = plan.toolbox.runner(call)
    assert runner is not None, "calls that nobody runs end the run"
    return runner


def _make_record(turn: int, call: ToolCall, outcome: Outcome, plan: RunPlan) -> CallRecord:
    """What came of a call.

    Raises:
        BaseException: what the tool raised, if the plan says so, if it is no ``Exception``, or if the model cannot be
        told.
    """
    returned, error, duration_s = outcome
    if error is None:
        answer, note = (returned.output, returned.note) if isinstance(returned, Answer) else (returned, None)
        item = output_item(call, answer, plan.output_chars_max)
        return CallRecord(turn, call, parse_arguments(call), item, None, duration_s, note)
    refused = isinstance(error, ArgumentsRefused)
    message = str(error) if refused else f"{type(error).__name__}: {error}"
    item = failure_item(call, message, plan.output_chars_max)
    if item is None or not isinstance(error, Exception) or (plan.raise_errors and not refused):
        raise error
    return CallRecord(turn, call, parse_arguments(call), item, message, duration_s)
