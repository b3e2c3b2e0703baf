"""``client.run``: the loop that runs tools, synchronous and not, and what it tells of itself."""

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pydantic
import pytest

from antiphon import AsyncOpenAI, OpenAI
from antiphon.client.runs.loop import (
    CallFinished,
    CallStarted,
    RunEvent,
    RunFinished,
    RunResult,
    TextDelta,
    TurnFinished,
    TurnsExceeded,
    TurnStarted,
)
from antiphon.client.runs.runners import (
    Answer,
    Toolbox,
    ToolRunner,
    failure_item,
    output_item,
)
from antiphon.client.sdk.results import extend
from antiphon.client.sdk.tool_calls import ToolCall
from antiphon.models import Call, Finish, Reasoning, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.inprocess import scripted
from antiphon.wire.errors import UpstreamError

Run = Callable[..., RunResult]
USED = Finish("stop", Usage(input=10, cached=2, output=5, reasoning=1))


def get_weather(city: str, days: int = 1) -> dict[str, Any]:
    """Forecast.

    Args:
        city: Where.
        days: How many.
    """
    return {"city": city, "days": days, "sunny": True}


def call(name: str, arguments: str, id: str, key: int = 0) -> Call:
    return Call(key, name, arguments, id)


@pytest.fixture(params=["sync", "async"])
def running(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[[ScriptedModel], Run]]:
    """What runs a task on a scripted model in this process, with either client."""

    def made(model: ScriptedModel) -> Run:
        def run(task: Any = "Weather?", **options: Any) -> RunResult:
            if request.param == "sync":
                with OpenAI(data=tmp_path, engine=scripted(model), max_retries=0) as client:
                    return client.run(task, model="m", **options)

            async def within() -> RunResult:
                async with AsyncOpenAI(data=tmp_path, engine=scripted(model), max_retries=0) as client:
                    return await client.run(task, model="m", **options)

            return asyncio.run(within())

        return run

    yield made


def outputs(model: ScriptedModel, sample: int = 1) -> list[Any]:
    """What the model was told about its calls in that sample, by the items of its prompt."""
    items = [item if isinstance(item, dict) else json.loads(json.dumps(item)) for item in model.prompts[sample].items]
    return [item["output"] for item in items if item["type"] == "function_call_output"]


def test_a_function_is_called_and_answered(running: Any) -> None:
    model = ScriptedModel(
        [call("get_weather", '{"city": "Paris", "days": null}', "c1"), USED], ["It is ", "sunny.", USED]
    )
    events: list[RunEvent] = []
    result = running(model)(tools=[get_weather], on_event=events.append)
    assert result.output_text == "It is sunny."
    assert (result.turns, len(result.responses), result.pending) == (2, 2, ())
    (record,) = result.calls
    assert (record.turn, record.call.name, record.arguments) == (1, "get_weather", {"city": "Paris", "days": None})
    assert json.loads(record.output["output"]) == {"city": "Paris", "days": 1, "sunny": True}
    assert record.error is None
    assert record.duration_s >= 0
    usage = result.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (20, 4, 10)
    assert (usage.reasoning_tokens, usage.total_tokens) == (2, 30)
    assert [json.loads(output) for output in outputs(model)] == [{"city": "Paris", "days": 1, "sunny": True}]
    assert [type(event) for event in events] == [
        TurnStarted, TurnFinished, CallStarted, CallFinished,
        TurnStarted, TextDelta, TextDelta, TurnFinished, RunFinished,
    ]  # fmt: skip
    assert "".join(event.delta for event in events if isinstance(event, TextDelta)) == "It is sunny."
    assert events[-1] == RunFinished(result)
    assert result.responses[1].previous_response_id == result.responses[0].id


def test_without_a_store_everything_is_sent_again(running: Any) -> None:
    model = ScriptedModel([Reasoning("hm"), "Let me see.", call("get_weather", '{"city": "P"}', "c1")], "Sunny.")
    result = running(model)({"role": "user", "content": "Weather?"}, tools=[get_weather], store=False)
    assert result.output_text == "Sunny."
    assert [response.previous_response_id for response in result.responses] == [None, None]
    kinds = [item["type"] for item in json.loads(json.dumps(list(model.prompts[1].items)))]
    assert kinds[0] == "message"
    assert kinds[-2:] == ["function_call", "function_call_output"]
    assert len(outputs(model)) == 1


def test_calls_of_one_turn_run_at_the_same_time(running: Any) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(n: int) -> int:
        both.wait()
        return n

    async def async_meet(n: int) -> int:
        return await asyncio.to_thread(meet, n)

    model = ScriptedModel(
        [call("meet", '{"n": 1}', "c1"), call("meet", '{"n": 2}', "c2", 1)],
        [call("async_meet", '{"n": 3}', "c3"), call("async_meet", '{"n": 4}', "c4", 1)],
        "done",
    )
    result = running(model)(tools=[meet, async_meet])
    assert [record.output["output"] for record in result.calls] == ["1", "2", "3", "4"]


def test_no_more_run_at_once_than_may(running: Any) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)  # long enough for others to begin, if they could
        with lock:
            now -= 1

    model = ScriptedModel([call("work", "{}", f"c{n}", n) for n in range(5)], "done")
    result = running(model)(tools=[work], parallel_calls_max=2)
    assert len(result.calls) == 5
    assert most <= 2


def test_an_exception_is_told_to_the_model(running: Any) -> None:
    def fail(n: int) -> None:
        raise KeyError("no such row")

    model = ScriptedModel(
        [call("fail", '{"n": 1}', "c1")], [call("fail", '{"n": "x"}', "c2")], [call("none", "{}", "c3")], "sorry"
    )
    result = running(model)(tools=[fail])
    assert result.output_text == "sorry"
    assert [record.error for record in result.calls] == [
        "KeyError: 'no such row'",
        "Invalid arguments for fail: n: Input should be a valid integer, unable to parse string as an integer",
        "There is no function 'none'. There are: fail.",
    ]
    assert outputs(model, 3) == [record.error for record in result.calls]


def test_an_exception_ends_the_run_if_asked_for(running: Any) -> None:
    def fail(n: int) -> None:
        raise KeyError("no such row")

    model = ScriptedModel([call("fail", '{"n": "x"}', "c1")], [call("fail", '{"n": 1}', "c2")])
    with pytest.raises(KeyError, match="no such row"):
        running(model)(tools=[fail], raise_errors=True)
    assert len(model.samples) == 2, "wrong arguments are the model's to mend in any case"


def test_a_call_that_takes_too_long_is_given_up(running: Any) -> None:
    never = threading.Event()

    def hang() -> None:
        never.wait(60)

    async def async_hang() -> None:
        await asyncio.sleep(60)

    model = ScriptedModel([call("hang", "{}", "c1"), call("async_hang", "{}", "c2", 1)], "done")
    result = running(model)(tools=[hang, async_hang], call_timeout_s=0.05)
    never.set()
    assert [record.error for record in result.calls] == ["TimeoutError: it took longer than 0.05 s"] * 2
    assert result.output_text == "done"


def test_turns_are_bounded(running: Any) -> None:
    model = ScriptedModel(*([call("get_weather", '{"city": "P"}', f"c{turn}")] for turn in range(3)))
    with pytest.raises(TurnsExceeded, match="no answer after 3 turns") as caught:
        running(model)(tools=[get_weather], turns_max=3)
    result = caught.value.result
    assert (result.turns, len(result.calls)) == (3, 2)
    assert [pending.name for pending in result.pending] == ["get_weather"]


def test_calls_that_nobody_here_runs_are_handed_back(running: Any) -> None:
    spec = {"type": "function", "name": "ask_human", "parameters": {"type": "object", "properties": {}}}
    model = ScriptedModel(["A question.", call("ask_human", "{}", "c1"), call("get_weather", '{"city": "P"}', "c2", 1)])
    result = running(model)(tools=[spec, get_weather], text_format=list[int])
    assert [pending.name for pending in result.pending] == ["ask_human"]
    assert (result.calls, result.output_parsed) == ([], None)


def test_the_answer_in_a_shape(running: Any) -> None:
    class Forecast(pydantic.BaseModel):
        sunny: bool

    model = ScriptedModel([call("get_weather", '{"city": "P"}', "c1")], '{"sunny": true}')
    result = running(model)(tools=[get_weather], text_format=Forecast)
    assert result.output_parsed == Forecast(sunny=True)


def test_an_answer_that_was_cut_ends_the_run(running: Any) -> None:
    model = ScriptedModel(["Once upon", Finish("length")])
    result = running(model)(tools=[get_weather], text_format=list[int])
    assert (result.response.status, result.output_text, result.output_parsed) == ("incomplete", "Once upon", None)
    assert result.response.output_parsed_reason == "incomplete: max_output_tokens"


def test_a_choice_that_forces_a_call_holds_once(running: Any) -> None:
    model = ScriptedModel([call("get_weather", '{"city": "P"}', "c1")], "Sunny.")
    assert running(model)(tools=[get_weather], tool_choice="required").output_text == "Sunny."
    assert [prompt.tool_choice.mode for prompt in model.prompts] == ["required", "auto"]


def test_a_server_that_fails_is_an_error(running: Any) -> None:
    model = ScriptedModel([call("get_weather", '{"city": "P"}', "c1")], ["Once", UpstreamError("gone")])
    with pytest.raises(openai.APIError):
        running(model)(tools=[get_weather])


def test_a_long_output_is_cut(running: Any) -> None:
    def read() -> str:
        return "x" * 100

    model = ScriptedModel([call("read", "{}", "c1")], "done")
    result = running(model)(tools=[read], output_chars_max=10)
    assert result.calls[0].output["output"] == "x" * 10 + " … (cut: 100 characters in all)"


def test_tools_see_the_callers_context(running: Any) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    def who() -> str:
        return user.get()

    async def async_who() -> str:
        return user.get()

    user.set("ada")
    model = ScriptedModel([call("who", "{}", "c1"), call("async_who", "{}", "c2", 1)], "done")
    result = running(model)(tools=[who, async_who])
    assert [record.output["output"] for record in result.calls] == ["ada", "ada"]


class Lookup:
    """A runner of another kind of thing than a function: it declares its own tool."""

    kind = "function"

    def __init__(self) -> None:
        parameters = {"type": "object", "properties": {}}
        self.tool = {"type": "function", "name": "lookup", "parameters": parameters, "strict": False}

    def run(self, call: ToolCall) -> str:
        return f"looked up {call.function}"


def test_anything_with_a_kind_and_a_run_is_a_tool(running: Any) -> None:
    assert isinstance(Lookup(), ToolRunner)
    model = ScriptedModel([call("lookup", "{}", "c1")], "done")
    result = running(model)(tools=[Lookup()])
    assert result.calls[0].output["output"] == "looked up {'name': 'lookup', 'arguments': '{}'}"


@pytest.mark.parametrize(
    ("tools", "options", "error", "words"),
    [
        ([3], {}, TypeError, "is not a tool"),
        ([get_weather, get_weather], {}, ValueError, "two tools"),
        ([], {"turns_max": 0}, ValueError, "above 0"),
        ([], {"background": True}, ValueError, "background"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_sent(
    running: Any, tools: Any, options: Any, error: Any, words: str
) -> None:
    model = ScriptedModel()
    with pytest.raises(error, match=words):
        running(model)(tools=tools, **options)
    assert model.samples == []


def test_events_may_be_read_one_by_one_and_left(tmp_path: Any) -> None:
    model = ScriptedModel(["One", "two"], again=True)
    with OpenAI(data=tmp_path, engine=scripted(model)) as client:
        events = client.run_events("hi", model="m")
        assert next(events) == TurnStarted(1)
        assert next(events) == TextDelta(1, "One")
        events.close()  # type: ignore[attr-defined]
        assert client.run("hi", model="m").output_text == "Onetwo"


async def test_a_cancelled_run_cancels_its_calls(tmp_path: Any) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    model = ScriptedModel([call("hang", "{}", "c1")])
    async with AsyncOpenAI(data=tmp_path, engine=scripted(model)) as client:
        run = asyncio.create_task(client.run("hi", model="m", tools=[hang]))
        await started.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert cancelled.is_set()


async def test_a_tool_that_is_cancelled_by_itself_ends_the_run(tmp_path: Any) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    async with AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel([call("give_up", "{}", "c1")]))) as client:
        with pytest.raises(asyncio.CancelledError):
            await client.run("hi", model="m", tools=[give_up])


async def test_events_may_be_heard_by_a_coroutine_function(tmp_path: Any) -> None:
    heard: list[RunEvent] = []

    async def hear(event: RunEvent) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    async with AsyncOpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello"))) as client:
        result = await client.run("hi", model="m", on_event=hear)
    assert heard[-1] == RunFinished(result)


def item_call(type: str, **fields: Any) -> ToolCall:
    from openai.types.responses import Response

    item = {"type": type, "id": "i", "call_id": "c", "status": "completed", **fields}
    made: Any = extend(Response.construct(id="r", output=[item]))
    return made.tool_calls[0]


PATCH = item_call("apply_patch_call", operation={"type": "delete_file", "path": "a"})
SHELL = item_call("shell_call", action={"commands": ["ls"], "max_output_length": 9})
COMPUTER = item_call("computer_call", pending_safety_checks=[], actions=[{"type": "screenshot"}])
CUSTOM = item_call("custom_tool_call", name="sql", input="select 1")
ENDED = {"type": "exit", "exit_code": 0}


@pytest.mark.parametrize(
    ("asked", "returned", "item"),
    [
        (PATCH, None, {"type": "apply_patch_call_output", "call_id": "c", "status": "completed"}),
        (PATCH, "log", {"type": "apply_patch_call_output", "call_id": "c", "status": "completed", "output": "log"}),
        (
            PATCH,
            {"status": "failed", "output": "no"},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no"},
        ),
        (
            SHELL,
            "a.py",
            {
                "type": "shell_call_output",
                "call_id": "c",
                "max_output_length": 9,
                "output": [{"stdout": "a.py", "stderr": "", "outcome": ENDED}],
            },
        ),
        (SHELL, [], {"type": "shell_call_output", "call_id": "c", "max_output_length": 9, "output": []}),
        (
            COMPUTER,
            "data:image/png;base64,AA",
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"},
            },
        ),
        (
            COMPUTER,
            {"output": {"type": "computer_screenshot", "file_id": "f"}, "acknowledged_safety_checks": []},
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "file_id": "f"},
                "acknowledged_safety_checks": [],
            },
        ),
        (CUSTOM, [1, 2], {"type": "custom_tool_call_output", "call_id": "c", "output": "[1,2]"}),
        (
            CUSTOM,
            [{"type": "input_text", "text": "x"}],
            {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        ),
        (PATCH, {"type": "item_of_ours_output", "n": 1}, {"type": "item_of_ours_output", "call_id": "c", "n": 1}),
    ],
)
def test_what_runners_of_other_kinds_return_is_sent_as_their_items(asked: ToolCall, returned: Any, item: Any) -> None:
    assert output_item(asked, returned, 1000) == item


def test_how_a_failure_is_said() -> None:
    patch, shell, computer = (failure_item(asked, "no", 99) for asked in (PATCH, SHELL, COMPUTER))
    assert patch == {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no"}
    assert shell is not None
    assert shell["output"] == [{"stdout": "", "stderr": "no", "outcome": {"type": "exit", "exit_code": 1}}]
    assert computer is None


def test_runners_are_found_by_the_kind_of_call() -> None:
    class Of:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def run(self, call: ToolCall) -> None: ...

    patch, computer, shell = Of("apply_patch"), Of("computer"), Of("shell")
    box = Toolbox([patch, computer, shell])
    assert box.declared == [{"type": "apply_patch"}, {"type": "computer"}, {"type": "shell"}]
    assert (box.runner(PATCH), box.runner(COMPUTER), box.runner(SHELL)) == (patch, computer, shell)
    assert box.runner(CUSTOM) is None


def test_calls_that_change_things_run_one_after_another_and_others_beside_them(running: Any) -> None:
    steps: list[str] = []
    meanwhile = threading.Event()

    class Change:
        kind = "function"
        in_order = True

        def __init__(self, name: str) -> None:
            self.tool = {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}

        def run(self, call: ToolCall) -> str:
            steps.append(f"{call.name} begins")
            if call.name == "first":
                assert meanwhile.wait(20)
            time.sleep(0.01)
            steps.append(f"{call.name} ends")
            return "done"

    def look() -> str:
        meanwhile.set()
        return "looked"

    asked = [
        call("first", "{}", "c1"),
        call("second", "{}", "c2", 1),
        call("first", "{}", "c3", 2),
        call("look", "{}", "c4", 3),
    ]
    model = ScriptedModel(asked, "done")
    result = running(model)(tools=[Change("first"), Change("second"), look])
    assert [record.output["output"] for record in result.calls] == ["done", "done", "done", "looked"]
    order = ["first begins", "first ends", "second begins", "second ends", "first begins", "first ends"]
    assert steps == order


@pytest.mark.parametrize("store", [True, False])
def test_what_an_answer_says_besides_comes_behind_the_outputs(running: Any, store: bool) -> None:
    def look(at: str) -> Answer:
        return Answer({"seen": at}, f"There is more at {at}.")

    model = ScriptedModel([call("look", '{"at": "a"}', "c1"), call("look", '{"at": "b"}', "c2", 1)], "done")
    result = running(model)(tools=[look], store=store)
    assert [(record.output["output"], record.note) for record in result.calls] == [
        ('{"seen":"a"}', "There is more at a."),
        ('{"seen":"b"}', "There is more at b."),
    ]
    told = [json.loads(json.dumps(item)) for item in model.prompts[1].items][-4:]
    assert [item["type"] for item in told] == ["function_call_output", "function_call_output", "message", "message"]
    assert [item["content"] for item in told[2:]] == [
        [{"type": "input_text", "text": "There is more at a."}],
        [{"type": "input_text", "text": "There is more at b."}],
    ]
