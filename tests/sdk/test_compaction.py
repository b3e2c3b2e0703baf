"""Compaction through the official SDK: on demand, by a trigger, and in the middle of a response."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from antiphon.config import Config
from antiphon.models import Call, ContextTooLong, Delta, Finish, Function, Prompt, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving
from antiphon.tools import Deferred, HostedTool, Outcome, Scope, ToolCall, call_item, output_item
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError
from antiphon.writer import Item

DONE = Finish("stop", Usage(input=50, output=10))
SUMMARY = "Ada plants roses; the budget is 300."
HISTORY: Any = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "I am Ada. Help me plan a garden."},
    {"role": "assistant", "content": "Gladly. " + "Roses need sun and much water. " * 60 + "Order number is RX-7781."},
    {"role": "user", "content": "The budget is 300."},
    {"role": "assistant", "content": "Noted. " + "A hedge would cost more than that. " * 60},
]


class Gardener(ScriptedModel):
    """Summarises when it is asked to, and answers else; a prompt larger than its window is refused, as servers do."""

    def __init__(self, *scripts: Any, window: int | None = None, summary: str = SUMMARY, **more: Any) -> None:
        super().__init__(*scripts, context_tokens=window, again=True, **more)
        self.window = window
        self.summary = summary
        self.asked: list[Prompt] = []

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Plays what suits the prompt."""
        summarizing = (prompt.instructions or "").startswith("You compress conversations")
        tokens = len(said(prompt)) // 4
        if self.window is not None and tokens > self.window:
            return ScriptedModel([ContextTooLong(tokens, self.window)]).sample(prompt)
        if summarizing:
            self.asked.append(prompt)
            return ScriptedModel([self.summary, DONE]).sample(prompt)
        return super().sample(prompt)


def said(prompt: Prompt) -> str:
    texts = [part.get("text", "") for item in prompt.items for part in item.get("content") or ()]
    return "\n".join([*texts, *(str(item["output"]) for item in prompt.items if "output" in item)])


@asynccontextmanager
async def client_of(model: ScriptedModel, **more: Any) -> AsyncGenerator[AsyncOpenAI]:
    async with serving(model, **more) as url, AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def dumped(items: Sequence[Any]) -> Any:
    return [item.model_dump(exclude_none=True, warnings=False) for item in items]


async def test_users_stay_word_for_word_and_the_rest_is_one_item() -> None:
    async with client_of(Gardener("ok")) as client:
        compacted = await client.responses.compact(model="m", input=HISTORY)
    *users, item = dumped(compacted.output)
    assert [user["content"][0]["text"] for user in users] == ["I am Ada. Help me plan a garden.", "The budget is 300."]
    assert item["type"] == "compaction" and item["id"].startswith("cmp_")
    assert "Ada" not in item["encrypted_content"]
    assert (compacted.object, compacted.usage.input_tokens, compacted.usage.output_tokens) == (
        "response.compaction",
        50,
        10,
    )


async def test_the_figures_say_what_became_of_it() -> None:
    async with client_of(Gardener("ok")) as client:
        compacted = await client.responses.compact(model="m", input=HISTORY)
    figures = compacted.model_extra
    assert figures is not None
    before, after = figures["original_token_count"], figures["token_count"]
    assert before > 900 > after > 0
    assert figures["reduction_percentage"] == round(100 * (1 - after / before), 1) > 70
    assert "counts_estimated" not in figures


class Countless(Gardener):
    """Cannot count."""

    async def count(self, prompt: Prompt) -> int:
        """Fails."""
        raise UpstreamError("no", code="upstream_error")


async def test_figures_that_are_estimated_say_so() -> None:
    async with client_of(Countless("ok")) as client:
        compacted = await client.responses.compact(model="m", input=HISTORY)
    assert (compacted.model_extra or {})["counts_estimated"] is True


@pytest.mark.parametrize("alone", [False, True])
async def test_its_output_works_in_a_new_chain_on_another_server(alone: bool) -> None:
    keys = Config(sealing_keys=["s" * 32])
    async with client_of(Gardener("ok"), config=keys) as client:
        output = dumped((await client.responses.compact(model="m", input=HISTORY)).output)
    model = Gardener("300.")
    async with client_of(model, config=keys) as client:
        asked: Any = [*(output[-1:] if alone else output), {"role": "user", "content": "What is the budget?"}]
        response = await client.responses.create(model="m", input=asked, store=False)
    assert response.output_text == "300."
    shown = said(model.prompts[0])
    assert shown.count("I am Ada. Help me plan a garden.") == 1
    assert SUMMARY in shown and shown.endswith("What is the budget?")
    assert "Be brief." in shown


async def test_what_the_summary_lost_is_kept_word_for_word() -> None:
    model = Gardener("ok")
    async with client_of(model) as client:
        output = dumped((await client.responses.compact(model="m", input=HISTORY)).output)
        await client.responses.create(model="m", input=output)
    assert "Order number is RX-7781." in said(model.prompts[0])


async def test_a_chain_is_compacted_with_what_is_asked_last() -> None:
    model = Gardener("Roses.")
    async with client_of(model) as client:
        first = await client.responses.create(model="m", input="What shall I plant?")
        compacted = await client.responses.compact(
            model="m", input="Mind the budget", previous_response_id=first.id, instructions="You are a gardener."
        )
    users = [item["content"][0]["text"] for item in dumped(compacted.output)[:-1]]
    assert users == ["What shall I plant?", "Mind the budget"]
    assert "assistant: Roses." in said(model.asked[0])
    assert "You are a gardener." in str(model.asked[0].instructions)


async def test_a_context_larger_than_the_window_is_compacted_in_pieces() -> None:
    model = Gardener("ok", window=400)
    async with client_of(model) as client:
        compacted = await client.responses.compact(model="m", input=HISTORY)
        response = await client.responses.create(model="m", input=dumped(compacted.output))
    assert len(model.asked) > 2
    assert response.status == "completed"


async def test_a_compaction_is_compacted_again() -> None:
    model = Gardener("ok")
    async with client_of(model) as client:
        output = dumped((await client.responses.compact(model="m", input=HISTORY)).output)
        again: Any = [*output, {"role": "user", "content": "Tulips too."}]
        output = dumped((await client.responses.compact(model="m", input=again)).output)
        await client.responses.create(model="m", input=output)
    assert [len(item.get("content", ())) for item in output] == [1, 1, 1, 0]
    shown = said(model.prompts[0])
    assert shown.count("Tulips too.") == 1 and shown.count("The conversation so far was compacted") == 1
    assert "RX-7781" in shown


SHOWN: Any = [
    {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
    {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
]


@pytest.mark.parametrize("carried", [False, True])
async def test_images_and_files_stay_as_they_came_and_are_shown_once(carried: bool) -> None:
    """The image as a note, since this model sees none."""
    model = Gardener("ok", supports_images=False)
    asked: Any = [{"role": "user", "content": SHOWN}, *HISTORY[2:]]
    async with client_of(model, config=Config(unsupported_images="note")) as client:
        if carried:
            output = dumped((await client.responses.compact(model="m", input=asked)).output)
            assert output[0]["content"] == SHOWN
            await client.responses.create(model="m", input=output)
        else:
            compacted = await client.responses.create(model="m", input=[*asked, {"type": "compaction_trigger"}])
            await client.responses.create(model="m", input="And now?", previous_response_id=compacted.id)
    shown = said(model.prompts[-1])
    assert shown.count("An image stood here") == shown.count("a.txt:\nhello") == 1


@pytest.mark.parametrize(("body", "param"), [({}, "model"), ({"model": "m"}, None)])
async def test_nothing_to_compact(body: Any, param: str | None) -> None:
    async with client_of(Gardener("ok")) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/responses/compact", body=body, cast_to=object)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", param)


async def test_a_conversation_is_not_passed_over() -> None:
    """Whoever names one means it: what they get may not leave it out."""
    async with client_of(Gardener("ok")) as client:
        named = (await client.conversations.create(items=HISTORY)).id
        with pytest.raises(openai.BadRequestError, match="compaction_trigger") as caught:
            await client.responses.compact(model="m", input="hi", extra_body={"conversation": named})
        assert (await client.responses.compact(model="m", input="hi", extra_body={"conversation": None})).output
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "conversation")


async def test_a_model_that_writes_no_summary_fails() -> None:
    async with client_of(Gardener("ok", summary=" ")) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.compact(model="m", input=HISTORY)
    assert caught.value.code == "compaction_failed"


# By a trigger


async def test_a_trigger_makes_exactly_one_item() -> None:
    async with client_of(Gardener("ok")) as client:
        asked: Any = [*HISTORY, {"type": "compaction_trigger"}]
        stream = await client.responses.create(model="m", input=asked, stream=True)
        events: list[Any] = [event async for event in stream]
        listed = [item.type async for item in client.responses.input_items.list(events[0].response.id)]
    assert listed == ["message"] * len(HISTORY)  # a trigger is of no type that lists have
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.compaction.compacting",
        "response.output_item.done",
        "response.completed",
    ]
    (item,) = events[-1].response.output
    assert (item.type, events[-1].response.usage.input_tokens) == ("compaction", 50)
    assert item.encrypted_content == events[4].item.encrypted_content


@pytest.mark.parametrize("background", [False, True])
async def test_a_chain_goes_on_behind_its_compaction(background: bool) -> None:
    model = Gardener("Roses.")
    async with client_of(model) as client:
        first = await client.responses.create(model="m", input=HISTORY)
        trigger: Any = [{"type": "compaction_trigger"}]
        made = await client.responses.create(
            model="m", input=trigger, previous_response_id=first.id, background=background
        )
        while made.status in ("queued", "in_progress"):
            await asyncio.sleep(0.01)
            made = await client.responses.retrieve(made.id)
        assert [item.type for item in made.output] == ["compaction"]
        await client.responses.create(model="m", input="And now?", previous_response_id=made.id)
    shown = said(model.prompts[-1])
    assert SUMMARY in shown and "Roses need sun and much water. Roses" not in shown


async def test_a_conversation_goes_on_behind_its_compaction_and_is_as_it_was_when_that_fails() -> None:
    model = Gardener("Roses.", summary="")
    async with client_of(model) as client:
        conversation = await client.conversations.create(items=HISTORY)
        trigger: Any = [{"type": "compaction_trigger"}]
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input=trigger, conversation=conversation.id)
        kept = await client.conversations.items.list(conversation.id, limit=100)
        assert len(kept.data) == len(HISTORY)
        model.summary = SUMMARY
        await client.responses.create(model="m", input=trigger, conversation=conversation.id)
        listed = await client.conversations.items.list(conversation.id, limit=100)
        assert [item.type for item in listed.data] == ["compaction", *["message"] * len(HISTORY)]
        await client.responses.create(model="m", input="And now?", conversation=conversation.id)
    assert SUMMARY in said(model.prompts[-1])


async def test_a_conversation_takes_nothing_that_it_could_not_open_later() -> None:
    async with client_of(Gardener("ok")) as client:
        item = dumped((await client.responses.compact(model="m", input=HISTORY)).output)[-1]
        thought = {"type": "reasoning", "id": "rs_1", "summary": []}
        kept: Any = [item, thought]
        conversation = await client.conversations.create(items=kept)
        sealed: str = item["encrypted_content"]
        for wrong in (
            {**item, "id": "cmp_2", "encrypted_content": sealed[:-6] + "AAAAAA"},
            {**item, "id": "cmp_2", "encrypted_content": ""},
            {**thought, "id": "rs_2", "encrypted_content": sealed},
        ):
            asked: Any = [{"role": "user", "content": "x"}, wrong]
            for keeping in (
                client.conversations.create(items=asked),
                client.conversations.items.create(conversation.id, items=asked),
            ):
                with pytest.raises(openai.BadRequestError) as caught:
                    await keeping
                assert caught.value.code == "invalid_encrypted_content"
                assert caught.value.param == "items[1].encrypted_content"
        response = await client.responses.create(model="m", input="And now?", conversation=conversation.id)
    assert response.output_text == "ok"


async def test_a_trigger_stands_last() -> None:
    async with client_of(Gardener("ok")) as client:
        asked: Any = [{"type": "compaction_trigger"}, *HISTORY]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input=asked)
    assert caught.value.param == "input[0]"


async def test_no_conversation_keeps_a_trigger() -> None:
    trigger: Any = {"type": "compaction_trigger"}
    async with client_of(Gardener("ok")) as client:
        conversation = await client.conversations.create()
        for refused in (
            client.conversations.create(items=[trigger]),
            client.conversations.items.create(conversation.id, items=[trigger]),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                await refused
            assert (caught.value.code, caught.value.param) == ("invalid_value", "items[0].type")


async def test_a_compaction_survives_a_restart(tmp_path: Path) -> None:
    keys = Config(sealing_keys=["s" * 32])
    store = await SqliteStore.open(tmp_path)
    async with client_of(Gardener("ok"), store=store, config=keys) as client:
        asked: Any = [*HISTORY, {"type": "compaction_trigger"}]
        made = await client.responses.create(model="m", input=asked)
    await store.close()
    store = await SqliteStore.open(tmp_path)
    model = Gardener("ok")
    async with client_of(model, store=store, config=keys) as client:
        await client.responses.create(model="m", input="And?", previous_response_id=made.id)
    await store.close()
    assert SUMMARY in said(model.prompts[0])


# In the middle of a response


class Almanac(HostedTool):
    """A hosted tool that has much to say."""

    kinds = ("almanac",)
    items = ("mcp_call",)

    def functions(self, spec: Json) -> Sequence[Function]:
        return [Function("look")]

    def lower(self, item: Json) -> Sequence[Json]:
        return call_item(item["id"], "look", ""), output_item(item["id"], item["output"])

    def repeats(self, name: str) -> bool:
        return True

    def begin(self, call: ToolCall, spec: Json) -> Json | Deferred:
        return {"type": "mcp_call", "name": "look", "server_label": "almanac"}

    async def run(self, call: ToolCall, item: Item, scope: Scope) -> Outcome:
        return Outcome({"output": "It rains in April. " * 400})

    def fail(self, reason: str) -> Outcome:
        return Outcome({"output": reason}, failed=True)


MANAGED: Any = [{"type": "compaction", "compact_threshold": 1500}]
ALMANAC: Any = [{"type": "almanac"}]
LOOK = [Call(0, "look", "{}", "call_1"), DONE]


async def test_a_context_that_grows_is_compacted_on_its_way() -> None:
    model = Gardener(LOOK, ["It rains.", DONE])
    async with client_of(model, tools=[Almanac()]) as client:
        response = await client.responses.create(
            model="m", input="When does it rain?", tools=ALMANAC, context_management=MANAGED
        )
        assert [item.type for item in response.output] == ["mcp_call", "compaction", "message"]
        assert response.usage is not None and response.usage.input_tokens == 150
        shown = said(model.prompts[1])
        assert shown.startswith("When does it rain?") and "It rains in April. It rains" not in shown
        await client.responses.create(model="m", input="Sure?", previous_response_id=response.id)
    assert "It rains in April. It rains" not in said(model.prompts[2])
    assert said(model.prompts[2]).endswith("It rains.\nSure?")


async def test_a_stateless_caller_drops_what_stands_before() -> None:
    model = Gardener(LOOK, ["It rains.", DONE])
    async with client_of(model, tools=[Almanac()]) as client:
        response = await client.responses.create(
            model="m", input="When does it rain?", tools=ALMANAC, context_management=MANAGED, store=False
        )
        asked: Any = [*dumped(response.output[1:]), {"role": "user", "content": "Sure?"}]
        await client.responses.create(model="m", input=asked, store=False)
    assert "When does it rain?" in said(model.prompts[2])


async def test_below_the_threshold_nothing_happens() -> None:
    model = Gardener("ok")
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input="hi", context_management=MANAGED)
        unsaid: Any = [{"type": "compaction"}]
        assert (await client.responses.create(model="m", input="hi", context_management=unsaid)).output_text == "ok"
    assert [item.type for item in response.output] == ["message"] and not model.asked


async def test_the_window_is_the_threshold_of_those_who_name_none() -> None:
    model = Gardener("ok", window=1000)
    async with client_of(model) as client:
        unsaid: Any = [{"type": "compaction"}]
        response = await client.responses.create(model="m", input=HISTORY, context_management=unsaid)
    assert [item.type for item in response.output] == ["compaction", "message"]


async def test_a_response_goes_on_where_a_compaction_failed() -> None:
    model = Gardener("ok", summary="")
    async with client_of(model) as client:
        response = await client.responses.create(model="m", input=HISTORY * 2, context_management=MANAGED)
    assert [item.type for item in response.output] == ["message"]


async def test_the_crash_of_a_model_in_a_compaction_is_an_error_of_its_own() -> None:
    class Broken(Gardener):
        def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
            return ScriptedModel([UpstreamError("gone")]).sample(prompt)

    async with client_of(Broken("ok")) as client:
        with pytest.raises(openai.InternalServerError, match="gone"):
            await client.responses.compact(model="m", input=HISTORY)


# What takes long


class Slow(Gardener):
    """Takes its time for a summary: as long as ``held`` is not set."""

    def __init__(self, *scripts: Any, held: asyncio.Event, summary: str = SUMMARY) -> None:
        super().__init__(*scripts, summary=summary)
        self.held = held

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Waits before it writes a summary."""
        if not (prompt.instructions or "").startswith("You compress conversations"):
            return super().sample(prompt)
        return ScriptedModel([self.held, self.summary, DONE] if self.summary else [self.held, DONE]).sample(prompt)


BEATING = Config(heartbeat_s=0.02)


async def test_spaces_come_while_a_compaction_takes_long() -> None:
    held = asyncio.Event()
    async with (
        serving(Slow("ok", held=held), config=BEATING) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/responses/compact", json={"model": "m", "input": HISTORY}) as answer,
    ):
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["x-antiphon-model"] == "scripted"
        assert await answer.content.readexactly(3) == b"   "
        held.set()
        assert (await answer.json())["object"] == "response.compaction"


async def test_the_official_client_waits_through_them() -> None:
    held = asyncio.Event()
    async with client_of(Slow("ok", held=held), config=BEATING) as client:
        asking = asyncio.create_task(client.with_options(timeout=0.5).responses.compact(model="m", input=HISTORY))
        await asyncio.sleep(0.8)
        held.set()
        assert (await asking).object == "response.compaction"


async def test_what_fails_behind_them_is_no_answer() -> None:
    held, begun = asyncio.Event(), asyncio.Event()

    async def note(_: object) -> None:
        begun.set()

    noting = openai.DefaultAsyncHttpxClient(event_hooks={"response": [note]})
    async with (
        serving(Slow("ok", held=held, summary=""), config=BEATING) as url,
        aiohttp.ClientSession() as session,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=noting) as client,
    ):
        async with session.post(f"{url}/responses/compact", json={"model": "m", "input": HISTORY}) as answer:
            await answer.content.readexactly(1)
            held.set()
            read = b""
            with pytest.raises(aiohttp.ClientPayloadError):
                while piece := await answer.content.readany():
                    read += piece
        assert json.loads(read)["error"]["code"] == "compaction_failed"
        held.clear()
        asking = asyncio.create_task(client.responses.compact(model="m", input=HISTORY))
        await begun.wait()
        held.set()
        with pytest.raises(openai.APIConnectionError):
            await asking


@pytest.mark.parametrize("background", [False, True])
async def test_a_stream_that_compacts_shows_that_it_goes_on(background: bool) -> None:
    held = asyncio.Event()
    async with client_of(Slow("ok", held=held), config=BEATING) as client:
        stream = await client.responses.create(
            model="m", input=HISTORY * 2, context_management=MANAGED, stream=True, background=background
        )
        types: list[str] = []
        async for event in stream:
            types.append(event.type)
            if types.count("response.in_progress") == 4:
                held.set()
    before = types.index("response.output_item.added")
    assert types[:before].count("response.in_progress") >= 4 and types[-1] == "response.completed"
