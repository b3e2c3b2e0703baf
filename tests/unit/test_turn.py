"""The turns of one response: what is asked again, what waits, and when it is enough."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.background.recovery import resume_turns
from antiphon.context import refuse_sealed
from antiphon.log import NullLog
from antiphon.models import Call, Finish, Function, Prompt, Text, TextFormat, ToolChoice, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.telemetry.meter import ResponseTimer
from antiphon.testing import CountingIds
from antiphon.tools import CallInvalid, Deferred, HostedTool, Outcome, Scope, ToolCall, call_item, output_item
from antiphon.tools.corrections import CORRECTIONS_MAX
from antiphon.tools.toolbox import Toolbox
from antiphon.turn import TURNS_MAX, Compacting, Progress, TurnContext, take_turns
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest, UpstreamError
from antiphon.wire.response import Response
from antiphon.writer import Item, Writer

DONE = Finish("stop", Usage(input=3, output=2))


class Even:
    """A client tool that takes even numbers."""

    kinds = ("even",)
    items = ("shell_call",)
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("even")]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        if int(call.arguments) % 2:
            raise CallInvalid(f"{call.arguments} is odd.")
        return [{"type": "shell_call", "call_id": call.call_id, "action": {"commands": [call.arguments]}}]

    def lower(self, item: Json) -> Sequence[Json]:
        return ()


class Guarded(HostedTool):
    """A hosted tool whose dangerous calls wait for approval."""

    kinds = ("guarded",)
    items = ("mcp_call", "mcp_approval_request")

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("look"), Function("push")]

    def lower(self, item: Json) -> Sequence[Json]:
        if item["type"] == "mcp_call":
            return call_item(item["id"], item["name"], ""), output_item(item["id"], item["output"])
        return ()

    def begin(self, call: ToolCall, spec: Json) -> Json | Deferred:
        doc: Json = {"name": call.name, "server_label": "s"}
        if call.name == "push":
            return Deferred({"type": "mcp_approval_request", "arguments": call.arguments, **doc})
        return {"type": "mcp_call", **doc}

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        return Outcome({"output": "seen"})

    def fail(self, reason: str) -> Outcome:
        return Outcome({"error": reason}, failed=True)


HI: Json = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


def turns(
    model: ScriptedModel,
    *,
    items: tuple[Json, ...] = (HI,),
    choice: ToolChoice = ToolChoice(),
    format: TextFormat = TextFormat(),
    spec: Json | None = None,
    more: Sequence[Json] = (),
    **options: Any,
) -> TurnContext:
    specs = [{"type": "even"}, {"type": "guarded"}, spec or {"type": "function", "name": "f"}, *more]
    offers = Toolbox([Guarded()], [Even()]).offers(specs)
    log = NullLog()
    writer = Writer(log.append, CountingIds())
    writer.start(Response(id="resp_1", created_at=1, model="m"))
    prompt = Prompt(items=items, functions=offers.functions, tool_choice=choice, format=format)
    context = TurnContext(
        model=model,
        prompt=prompt,
        writer=writer,
        log=log,
        ids=CountingIds(),
        scope=Scope(project="", response_id="resp_1"),
        progress=Progress(),
        timer=ResponseTimer(),
        offers=offers,
        **options,
    )
    asyncio.run(_take(context))
    return context


async def _take(context: TurnContext) -> None:
    await take_turns(context)


def test_a_call_that_is_no_good_is_asked_for_again_and_never_shown() -> None:
    model = ScriptedModel([Text("Let me see."), Call(0, "even", "1", "c1"), DONE], [Call(0, "even", "2", "c2"), DONE])
    context = turns(model)
    assert [item["type"] for item in context.writer.state.output] == ["message", "shell_call"]
    told = model.prompts[1].items
    assert [item["type"] for item in told[-2:]] == ["function_call", "function_call_output"]
    assert told[-1]["output"] == "1 is odd."
    assert context.progress.used == Usage(input=6, output=4)


def test_a_good_call_beside_a_bad_one_is_made_again() -> None:
    first = [Call(0, "even", "2", "c1"), Call(1, "even", "3", "c2"), DONE]
    model = ScriptedModel(first, [Call(0, "even", "2", "c3"), Call(1, "even", "4", "c4"), DONE])
    context = turns(model)
    assert [item["call_id"] for item in context.writer.state.output] == ["c3", "c4"]
    outputs = [item["output"] for item in model.prompts[1].items if item["type"] == "function_call_output"]
    assert "Make it again" in outputs[0]
    assert outputs[1] == "3 is odd."


def test_at_some_point_it_is_enough() -> None:
    model = ScriptedModel(*[[Call(0, "even", "1", f"c{n}"), DONE] for n in range(CORRECTIONS_MAX + 1)])
    with pytest.raises(UpstreamError, match="1 is odd") as caught:
        turns(model)
    assert caught.value.code == "invalid_tool_call"


def test_a_call_may_wait_for_its_caller_and_ends_the_turn() -> None:
    model = ScriptedModel([Call(0, "look", "{}", "c1"), Call(1, "push", '{"a":1}', "c2"), DONE])
    context = turns(model)
    output = sorted(context.writer.state.output, key=lambda item: item["type"])
    assert [item["type"] for item in output] == ["mcp_approval_request", "mcp_call"]
    assert output[0]["arguments"] == '{"a":1}'
    assert output[1]["output"] == "seen"


def test_what_a_hosted_tool_found_is_read_by_the_model() -> None:
    model = ScriptedModel([Call(0, "look", "{}", "c1"), DONE], [Text("I see."), DONE])
    context = turns(model)
    assert [item["type"] for item in context.writer.state.output] == ["mcp_call", "message"]
    assert model.prompts[1].items[-1]["output"] == "seen"


LONG = tuple(
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"{i} " + "word " * 100}]}
    for i in range(10)
)


@pytest.mark.parametrize("calls_max", [None, 3])
def test_a_model_that_never_stops_calling_comes_to_its_end(calls_max: int | None) -> None:
    model = ScriptedModel(*[[Call(0, "look", "{}", "c"), DONE]] * (TURNS_MAX + 1))
    context = turns(model, calls_max=calls_max)
    made = calls_max or TURNS_MAX
    assert [item["type"] for item in context.writer.state.output] == ["mcp_call"] * made + ["message"]
    assert "look" not in {function.name for function in model.prompts[-1].functions}


@pytest.mark.parametrize("choice", [ToolChoice("none"), ToolChoice("auto", ("even",))])
def test_no_hosted_tool_runs_that_the_request_does_not_allow(choice: ToolChoice) -> None:
    model = ScriptedModel([Text("Hm."), Call(0, "look", "{}", "c"), DONE])
    context = turns(model, choice=choice)
    assert [item["type"] for item in context.writer.state.output] == ["message"]


def test_what_does_not_fit_is_refused_before_the_model_is_asked() -> None:
    model = ScriptedModel("cut without a word", context_tokens=900)
    with pytest.raises(InvalidRequest) as caught:
        turns(model, items=LONG)
    assert caught.value.code == "context_length_exceeded"
    assert model.samples == []


def test_the_oldest_make_room_before_the_model_is_asked() -> None:
    model = ScriptedModel(["ok", DONE], context_tokens=900)
    turns(model, items=LONG, truncate=True)
    (sampled,) = model.samples
    assert sampled.prompt.items == LONG[-len(sampled.prompt.items) :]
    assert asyncio.run(model.count(sampled.prompt)) <= 900 * 0.75


def test_a_count_that_fails_refuses_nothing() -> None:
    class Mute(ScriptedModel):
        async def count(self, prompt: Prompt) -> int:
            raise UpstreamError("it cannot")

    model = Mute(["ok", DONE], context_tokens=1100)
    turns(model, items=LONG)
    assert len(model.samples) == 1
    with pytest.raises(InvalidRequest):
        turns(Mute(context_tokens=900), items=LONG)  # ten words more than that cannot fit


def test_an_estimate_refuses_nothing_that_may_fit() -> None:
    class Guessing(ScriptedModel):
        @property
        def estimates_tokens(self) -> bool:
            return True

    long_words = ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 6000}]},)
    model = Guessing(["ok", DONE], context_tokens=1000)
    turns(model, items=long_words)
    assert len(model.samples) == 1, "that long a word may be one token for every 64 characters"
    with pytest.raises(InvalidRequest):
        turns(Guessing(context_tokens=900), items=LONG)


def test_a_compaction_that_a_crash_left_open_is_gone_on_with_as_the_same_item() -> None:
    sealed: list[Json] = []

    def seal(value: Json) -> str:
        sealed.append(value)
        return "sealed"

    log = NullLog()
    writer = Writer(log.append, CountingIds())
    writer.start(Response(id="resp_1", created_at=1, model="m"))
    before = writer.item("compaction", encrypted_content="")
    before.phase("compacting")
    model = ScriptedModel(["short", DONE])
    context = TurnContext(
        model=model,
        prompt=Prompt(items=(HI | {"id": "msg_1"},)),
        writer=writer,
        log=log,
        ids=CountingIds(),
        scope=Scope(project="", response_id="resp_1"),
        progress=Progress(),
        timer=ResponseTimer(),
        compacting=Compacting(True, None, seal, refuse_sealed),
    )
    assert asyncio.run(resume_turns(context)).reason == "stop"
    assert writer.state.output == [{"id": before.id, "type": "compaction", "encrypted_content": "sealed"}]
    assert sealed[0]["messages"] == [HI | {"id": "msg_1"}]
    assert context.progress.known == DONE.usage


def test_a_weak_model_that_repeats_a_call_answers_from_its_result() -> None:
    made = (HI, call_item("c1", "look", '{"a": 1}'), output_item("c1", "42"))
    repeat = [Call(0, "look", '{"a":1}', "c2"), DONE]
    model = ScriptedModel(repeat, [Text("It is 42."), DONE], tool_help="repair")
    context = turns(model, items=made)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert model.prompts[1].functions == ()
    assert "repeat_answered" in context.timer.helps


def test_a_weak_model_that_repeats_a_failed_call_is_told_so_once_and_then_answers() -> None:
    made = (HI, call_item("c1", "look", '{"a": 1}'), output_item("c1", "Error: no such thing. There is 2."))
    repeat = [Call(0, "look", '{"a":1}', "c2"), DONE]
    changed = [Call(0, "look", '{"a":2}', "c3"), DONE]
    model = ScriptedModel(repeat, changed, [Text("It is 42."), DONE], tool_help="repair")
    context = turns(model, items=made)
    assert [item["type"] for item in context.writer.state.output] == ["mcp_call", "message"]
    assert "look was just called like that" in str(model.prompts[1].items[-1])
    model = ScriptedModel(repeat, repeat, [Text("It cannot be found."), DONE], tool_help="repair")
    context = turns(model, items=made)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert model.prompts[2].functions == ()


def test_a_call_is_still_a_repeat_once_the_model_has_been_told_of_another() -> None:
    made = (HI, call_item("c1", "look", "{}"), output_item("c1", "42"))
    repeat = [Call(0, "look", "{}", "c2"), DONE]
    model = ScriptedModel(INVENTED, repeat, [Text("To whom?"), DONE], tool_help="repair")
    context = turns(model, items=made)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert "repeat_answered" in context.timer.helps


def test_a_call_that_was_refused_was_not_made() -> None:
    odd = [Call(0, "even", "1", "c1"), DONE]
    model = ScriptedModel(odd, odd, [Call(0, "even", "2", "c1"), DONE], tool_help="repair")
    context = turns(model)
    assert [item["type"] for item in context.writer.state.output] == ["shell_call"]
    assert "repeat_answered" not in context.timer.helps


def test_a_new_call_beside_a_repeated_one_is_made_alone() -> None:
    made = (HI, call_item("c1", "look", "{}"), output_item("c1", "42"))
    both = [Call(0, "look", "{}", "c2"), Call(1, "look", '{"a":2}', "c3"), DONE]
    model = ScriptedModel(both, [Text("Done."), DONE], tool_help="repair")
    context = turns(model, items=made)
    assert [item["type"] for item in context.writer.state.output] == ["mcp_call", "message"]


def test_a_strong_model_may_repeat_what_it_likes() -> None:
    made = (HI, call_item("c1", "look", "{}"), output_item("c1", "42"))
    context = turns(ScriptedModel([Call(0, "look", "{}", "c2"), DONE], [Text("42"), DONE]), items=made)
    assert context.writer.state.output[0]["type"] == "mcp_call"


INVENTED = [Call(0, "f", '{"to": "bob@example.com"}', "c1"), DONE]


def test_a_weak_model_that_invents_an_address_is_told_and_asked_again_without_that_function() -> None:
    model = ScriptedModel(INVENTED, [Text("To whom?"), DONE], tool_help="repair")
    context = turns(model)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert [function.name for function in model.prompts[1].functions] == ["even", "look", "push"]
    assert "nobody has said which 'to' is meant" in model.prompts[1].items[-1]["content"][0]["text"]
    assert "invented" in context.timer.helps
    assert context.progress.known == Usage(input=6, output=4)


def test_a_call_that_says_enough_is_made_without_what_is_optional_and_invented() -> None:
    texts = {"text": {"type": "string"}, "customer": {"type": "string"}}
    spec: Json = {"type": "function", "name": "open", "parameters": {"type": "object", "properties": texts}}
    made = [Call(0, "open", '{"text": "Hi", "customer": "123456"}', "c1"), DONE]
    spec["parameters"]["required"] = ["text"]
    context = turns(ScriptedModel(made, tool_help="repair"), spec=spec)
    assert [item["arguments"] for item in context.writer.state.output] == ['{"text":"Hi"}']
    del spec["parameters"]["required"]
    context = turns(ScriptedModel(made, [Text("Whose?"), DONE], tool_help="repair"), spec=spec)
    assert [item["type"] for item in context.writer.state.output] == ["message"]


def test_what_is_optional_and_invented_is_never_made_of_a_call_that_has_to_be_mended() -> None:
    texts = {"text": {"type": "string"}, "customer": {"type": "string"}, "state": {"enum": ["open"]}}
    schema: Json = {"type": "object", "properties": texts, "required": ["text"], "additionalProperties": False}
    spec: Json = {"type": "function", "name": "open", "parameters": schema}
    made = [Call(0, "open", '{"text": "Hi", "customer": "123456", "state": null}', "c1"), DONE]
    context = turns(ScriptedModel(made, tool_help="repair"), spec=spec)
    assert [item["arguments"] for item in context.writer.state.output] == ['{"text":"Hi"}']
    # It cannot be dropped where something like it has to be there; then it is asked for.
    spec["parameters"] = {**schema, "anyOf": [{"required": ["customer"]}, {"required": ["state"]}]}
    context = turns(ScriptedModel(made, [Text("Whose?"), DONE], tool_help="repair"), spec=spec)
    assert [item["type"] for item in context.writer.state.output] == ["message"]


def test_what_is_to_find_something_out_is_about_what_was_spoken_of() -> None:
    elsewhere = [Call(0, "f", '{"city": "Madrid"}', "c1"), DONE]
    spec: Json = {"type": "function", "name": "f"}
    assert turns(ScriptedModel(elsewhere, tool_help="repair"), spec=spec).writer.state.output
    other = [{"type": "function", "name": "g"}]
    model = ScriptedModel(
        [Call(0, "g", '{"to": "bob@example.com"}', "c1"), DONE], elsewhere, [Text("To whom?"), DONE], tool_help="repair"
    )
    context = turns(model, spec=spec, more=other)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    parroted = [Call(0, "f", '{"name": "meant"}', "c1"), DONE]
    again = [[Call(0, "g", '{"to": "bob@example.com"}', "c1"), DONE], parroted, [Text("To whom?"), DONE]]
    context = turns(ScriptedModel(*again, tool_help="repair"), spec=spec, more=other)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert "Ask the user" in model.prompts[2].items[-1]["content"][0]["text"]


def test_one_that_does_so_again_answers_in_words() -> None:
    model = ScriptedModel(INVENTED, INVENTED, [Text("To whom?"), DONE], tool_help="repair")
    assert [item["type"] for item in turns(model).writer.state.output] == ["message"]
    assert model.prompts[2].functions == ()


def test_a_call_that_tells_more_is_made_without_the_one_that_needs_it() -> None:
    both = [Call(0, "look", "{}", "c2"), Call(1, "f", '{"to": "bob@example.com"}', "c1"), DONE]
    model = ScriptedModel(both, [Text("Done."), DONE], tool_help="repair")
    context = turns(model)
    assert [item["type"] for item in context.writer.state.output] == ["mcp_call", "message"]
    assert "invented" in context.timer.helps


@pytest.mark.parametrize("choice", [ToolChoice(), ToolChoice("auto", ("f",))])
def test_a_weak_model_that_calls_what_there_is_not_answers_whatever_else_is_allowed(choice: ToolChoice) -> None:
    model = ScriptedModel([Call(0, "nothing", "{}", "c1"), DONE], [Text("Hello."), DONE], tool_help="repair")
    context = turns(model, choice=choice)
    assert [item["type"] for item in context.writer.state.output] == ["message"]
    assert model.prompts[1].functions == ()
    assert "undeclared" in context.timer.helps


@pytest.mark.parametrize("turned", [1, -1])
def test_all_calls_that_were_invented_are_told_of_whatever_their_order(turned: int) -> None:
    texts = [Call(0, "g", '{"to": "ann@example.com"}', "c2"), Call(1, "f", '{"to": "bob@example.com"}', "c1")]
    unknown = Call(2, "nothing", "{}", "c3")
    model = ScriptedModel([*[*texts, unknown][::turned], DONE], [Text("To whom?"), DONE], tool_help="repair")
    turns(model, more=[{"type": "function", "name": "g"}])
    assert [function.name for function in model.prompts[1].functions] == ["even", "look", "push"]


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("required", ("f",))])
def test_a_call_that_has_to_be_made_may_be_about_anything(choice: ToolChoice) -> None:
    context = turns(ScriptedModel(INVENTED, tool_help="repair"), choice=choice)
    assert [item["type"] for item in context.writer.state.output] == ["function_call"]


def test_a_strong_model_may_call_about_what_it_likes() -> None:
    assert [item["type"] for item in turns(ScriptedModel(INVENTED)).writer.state.output] == ["function_call"]


EVEN_ONLY = ToolChoice("auto", ("even",))
BARRED = [ToolChoice("none"), EVEN_ONLY, ToolChoice("required", ("even",))]


@pytest.mark.parametrize("name", ["look", "f", "nobody"])
@pytest.mark.parametrize("choice", BARRED)
def test_a_call_that_the_request_does_not_allow_is_never_shown_and_asked_for_again(
    name: str, choice: ToolChoice
) -> None:
    answer = [Text("No."), DONE] if choice.mode != "required" else [Call(0, "even", "2", "c2"), DONE]
    model = ScriptedModel([Text(" \n"), Call(0, name, "{}", "c1"), DONE], answer)
    context = turns(model, choice=choice)
    assert [item["type"] for item in context.writer.state.output][1:] == (
        ["message"] if choice.mode != "required" else ["shell_call"]
    )
    call, output = model.prompts[1].items[-2:]
    assert (call["name"], call["call_id"], output["call_id"]) == (name, "c1", "c1")
    assert output["output"].startswith(f"Error: {name} was not called")
    assert "disallowed" in context.timer.helps


@pytest.mark.parametrize("choice", BARRED[:2])
def test_beside_an_answer_such_a_call_is_left_out(choice: ToolChoice) -> None:
    model = ScriptedModel([Text("No."), Call(0, "f", "{}", "c1"), DONE])
    context = turns(model, choice=choice)
    assert [item["type"] for item in context.writer.state.output] == ["message"]


@pytest.mark.parametrize("choice", BARRED[1:])
def test_beside_a_call_that_is_allowed_such_a_call_is_left_out(choice: ToolChoice) -> None:
    model = ScriptedModel([Call(0, "f", "{}", "c1"), Call(1, "even", "2", "c2"), Call(2, "look", "{}", "c3"), DONE])
    context = turns(model, choice=choice)
    assert [item["call_id"] for item in context.writer.state.output] == ["c2"]


@pytest.mark.parametrize("choice", BARRED)
def test_a_model_that_only_calls_what_it_may_not_fails(choice: ToolChoice) -> None:
    model = ScriptedModel([Call(0, "f", "{}", "c"), DONE], again=True)
    with pytest.raises(UpstreamError, match="f was not called") as caught:
        turns(model, choice=choice)
    assert caught.value.code == "invalid_tool_call"
    assert len(model.samples) == CORRECTIONS_MAX + 1


def test_a_json_answer_is_asked_for_again_too() -> None:
    model = ScriptedModel([Call(0, "f", "{}", "c"), DONE], ['{"a":1}', DONE])
    context = turns(model, choice=ToolChoice("none"), format=TextFormat("json_object"))
    assert [item["content"][0]["text"] for item in context.writer.state.output] == ['{"a":1}']
