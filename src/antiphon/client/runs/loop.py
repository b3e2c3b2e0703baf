"""The loop of ``client.run``: ask, run the calls, ask again, until there is an answer.

The loop is a generator of commands that does no I/O and starts nothing; ``executor`` carries
the commands out, with threads or in an event loop.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias

from openai import omit

from antiphon.client.runs.runners import Item, Tool, Toolbox
from antiphon.client.sdk.params import (
    Arguments,
    Input,
    input_items,
    to_official,
)
from antiphon.client.sdk.parsing import ResponseParser, prepare_parsing
from antiphon.client.sdk.results import ParsedResponse, Response
from antiphon.client.sdk.text_format import Shape, T
from antiphon.client.sdk.tool_calls import ToolCall

TURNS_MAX: Final = 16
CALL_TIMEOUT_S: Final = 120.0
PARALLEL_CALLS_MAX: Final = 8
OUTPUT_CHARS_MAX: Final = 200_000


@dataclass(frozen=True)
class RunUsage:
    """The tokens of all responses of a run together."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True)
class CallRecord:
    """A call that was run.

    Attributes:
        turn: the turn that asked for it, from 1.
        call: the call.
        arguments: its arguments as JSON values; as text, where they are no JSON.
        output: the item that was sent back.
        error: what went wrong, as the model was told; None if nothing.
        duration_s: how long it ran, in seconds.
        note: what the model was told besides the item, in a message; None if nothing.
    """

    turn: int
    call: ToolCall
    arguments: Any
    output: Item
    error: str | None
    duration_s: float
    note: str | None = None


@dataclass(frozen=True)
class RunResult(Generic[T]):
    """What a run came to.

    Attributes:
        response: the last response, the answer.
        responses: all of them, oldest first.
        calls: the calls that were run, in the order in which they were asked for.
        pending: calls that nobody here runs; the run ended because of them. To go on, answer them in a request of your
            own.
    """

    response: ParsedResponse[T]
    responses: Sequence[Response]
    calls: Sequence[CallRecord] = ()
    pending: Sequence[ToolCall] = ()

    @property
    def output_text(self) -> str:
        """The text of the last response; '' when it has none."""
        return self.response.output_text

    @property
    def output_parsed(self) -> T | None:
        """The answer as ``text_format`` has it; None as in ``ParsedResponse``, which has the reason."""
        return self.response.output_parsed

    @property
    def turns(self) -> int:
        """How many responses there were."""
        return len(self.responses)

    @property
    def usage(self) -> RunUsage:
        """The tokens of all responses together, as far as they said."""
        used = [response.usage for response in self.responses if response.usage is not None]
        return RunUsage(
            input_tokens=sum(usage.input_tokens for usage in used),
            cached_tokens=sum(usage.input_tokens_details.cached_tokens for usage in used),
            output_tokens=sum(usage.output_tokens for usage in used),
            reasoning_tokens=sum(usage.output_tokens_details.reasoning_tokens for usage in used),
            total_tokens=sum(usage.total_tokens for usage in used),
        )

    def __str__(self) -> str:
        return str(self.response)


class TurnsExceeded(RuntimeError):
    """The model still asked for calls after the last turn that the run was given.

    Attributes:
        result: what there is until then; ``pending`` are the calls that were not run any more.
    """

    def __init__(self, result: RunResult[Any]) -> None:
        super().__init__(f"The model has no answer after {result.turns} turns; give it more with turns_max=.")
        self.result = result


class RunBroken(RuntimeError):
    """A response failed, or its stream ended before it did, without an error of the server's."""


@dataclass(frozen=True)
class TurnStarted:
    """A response is asked for. ``turn`` counts from 1."""

    turn: int


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer's text has come."""

    turn: int
    delta: str


@dataclass(frozen=True)
class TurnFinished:
    """The response is there, and with it the calls that it asks for."""

    turn: int
    response: Response


@dataclass(frozen=True)
class CallStarted:
    """A call begins to run."""

    turn: int
    call: ToolCall


@dataclass(frozen=True)
class CallFinished:
    """A call has run, or has failed."""

    turn: int
    record: CallRecord


@dataclass(frozen=True)
class RunFinished:
    """The run is over; the last event."""

    result: RunResult[Any]


RunEvent: TypeAlias = TurnStarted | TextDelta | TurnFinished | CallStarted | CallFinished | RunFinished
"""What happens in a run, in order. Calls of one turn run at the same time and finish in any order."""


@dataclass(frozen=True)
class Sample:
    """Ask for a response; send back the ``Response``."""

    turn: int
    arguments: Arguments


@dataclass(frozen=True)
class RunCalls:
    """Run these calls; send back their ``CallRecord``s, in the same order."""

    turn: int
    calls: Sequence[ToolCall]


Command: TypeAlias = Sample | RunCalls


@dataclass(frozen=True)
class RunPlan:
    """A run as it was asked for.

    Attributes:
        task: the input of the first turn.
        toolbox: its tools.
        asked: the other parameters of each request, in the official form.
        turns_max: responses at most.
        call_timeout_s: seconds for one call.
        parallel_calls_max: calls that run at the same time.
        output_chars_max: characters of a call's output that the model is shown.
        raise_errors: whether a tool's exception ends the run.
    """

    task: Input
    toolbox: Toolbox
    params: Arguments
    text_format: Shape = None
    turns_max: int = TURNS_MAX
    call_timeout_s: float = CALL_TIMEOUT_S
    parallel_calls_max: int = PARALLEL_CALLS_MAX
    output_chars_max: int = OUTPUT_CHARS_MAX
    raise_errors: bool = False

    def __post_init__(self) -> None:
        if min(self.turns_max, self.parallel_calls_max, self.call_timeout_s, self.output_chars_max) <= 0:
            raise ValueError("turns_max, parallel_calls_max, call_timeout_s and output_chars_max must be above 0.")
        if self.params.get("background"):
            raise ValueError("A run waits for its responses: background cannot be true.")


def plan_run(task: Input, tools: Iterable[Tool], arguments: Mapping[str, Any], **bounds: Any) -> RunPlan:
    """The plan of a run.

    Raises:
        TypeError: something in ``tools`` is no tool, or aliases contradict what they are short for.
        ValueError: two tools for the same calls, a bound that is not above 0, or ``background``.
    """
    toolbox = Toolbox(tools)
    params = to_official({**arguments, "tools": toolbox.declared} if toolbox.declared else arguments)
    return RunPlan(task, toolbox, params, **bounds)


def run_turns(plan: RunPlan) -> Generator[Command, Any, RunResult[Any]]:
    """The loop: yields commands, is sent what they ask for, returns the result.

    Raises:
        TurnsExceeded: after ``turns_max`` turns there still are calls.
    """
    params, reader = prepare_parsing(plan.text_format, omit, plan.params)
    history = _History(plan.task, params)
    responses: list[Response] = []
    records: list[CallRecord] = []
    while True:
        response: Response = yield Sample(len(responses) + 1, history.request())
        responses.append(response)
        calls = response.tool_calls or [] if response.status == "completed" else []
        pending = [call for call in calls if plan.toolbox.runner(call) is None]
        if not calls:
            return RunResult(reader.response(response), responses, records)
        if pending or len(responses) == plan.turns_max:
            unanswered = RunResult(ResponseParser(None).response(response), responses, records, pending or calls)
            if pending:
                return unanswered
            raise TurnsExceeded(unanswered)
        done: Sequence[CallRecord] = yield RunCalls(len(responses), calls)
        records += done
        notes: list[Item] = [{"role": "user", "content": record.note} for record in done if record.note]
        history.add(response, [*(record.output for record in done), *notes])


@dataclass
class _History:
    """What each request says of what was before it.

    The server's memory where it has one: a conversation, or a chain of stored responses. With ``store=False``
    everything is sent again.
    """

    task: Input
    params: Arguments
    _sent: Arguments = field(default_factory=dict[str, Any])

    def request(self) -> Arguments:
        """The arguments of the next request."""
        return {**self.params, "input": self.task, **self._sent}

    def add(self, response: Response, outputs: list[Item]) -> None:
        """A response whose calls have been answered."""
        if self.params.get("store") is False and "conversation" not in self.params:
            before = self._sent.get("input") or input_items(self.task)
            self._sent = {"input": [*before, *_replay_output(response), *outputs]}
        elif "conversation" in self.params:
            self._sent = {"input": outputs}
        else:
            self._sent = {"input": outputs, "previous_response_id": response.id}
        if _forces_call(self.params.get("tool_choice")):
            self._sent["tool_choice"] = "auto"


def _forces_call(choice: Any) -> bool:
    """Whether a choice makes the model call something; kept for the next turns, it would never come to an answer."""
    match choice:
        case "required":
            return True
        case {"type": kind}:
            return kind != "allowed_tools"
        case _:
            return False


def _replay_output(response: Response) -> list[Item]:
    """Its output as input. Reasoning goes along where it can be understood again: encrypted, or in words."""
    sent = [item.to_dict(mode="json", exclude_none=True) for item in response.output]
    return [
        item for item in sent if item["type"] != "reasoning" or item.get("encrypted_content") or item.get("content")
    ]


def parse_arguments(call: ToolCall) -> Any:
    """A call's arguments as JSON values; as text, where they are no JSON."""
    if call.type != "function":
        return call.input
    try:
        return json.loads(call.input or "{}")
    except ValueError:
        return call.input
