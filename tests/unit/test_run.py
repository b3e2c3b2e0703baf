"""One response, from accepted to its terminal event: what is kept, what is counted, and what a failure says."""

import asyncio
from typing import Any

import msgspec
import pytest

from antiphon.access.account import Account
from antiphon.intake import Defaults, plan
from antiphon.models import Finish, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.run import Failed, InFlight, Run, end_response, respond, response_code, to_api_error
from antiphon.store import DuplicateItem, UnknownConversation
from antiphon.store.sqlite import SqliteStore
from antiphon.testing import CountingIds, FakeClock
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest, NotFound, RateLimited, ServerError, Unavailable, UpstreamError
from antiphon.wire.response import Response

USED = Usage(input=5, output=2)


class Kept:
    """A log whose reader is the test: it tells what was settled when each event was shown."""

    def __init__(self, bills: list[Any]) -> None:
        self.events: list[Json] = []
        self.settled_at_end: int | None = None
        self._bills = bills

    def append(self, event: Json) -> None:
        self.events.append(event)

    async def flush(self) -> None:
        if self.events[-1]["type"] == "response.completed":
            self.settled_at_end = len(self._bills)


class Ledger:
    """Counts what is settled; stands where a keyring does."""

    def __init__(self) -> None:
        self.bills: list[tuple[Usage, bool]] = []

    def settle(self, admission: object, used: Usage, estimated: bool, cost: object, **charged: object) -> None:
        self.bills.append((used, estimated))


async def run_with(model: ScriptedModel, **members: Any) -> tuple[Kept, Ledger, Response | Failed, bool]:
    """The log, what was settled, how it ended, and whether it is kept."""
    ledger, ids = Ledger(), CountingIds()
    log = Kept(ledger.bills)
    made = plan({"model": "m", "input": "hi"} | members, defaults=Defaults(), ids=ids, now=1)
    store = await SqliteStore.in_memory()
    try:
        account = Account(ledger)  # type: ignore[arg-type]
        run = Run(made, made.prompt, model, "", store, FakeClock(), ids, account=account)
        ended: Response | Failed
        try:
            ended = await respond(run, log)
        except Failed as failed:
            ended = failed
        return log, ledger, ended, await store.responses.get("", made.response.id) is not None
    finally:
        await store.close()


@pytest.mark.parametrize("store", [True, False])
def test_an_answer_is_counted_and_kept_before_its_end_is_seen(store: bool) -> None:
    log, ledger, ended, kept = asyncio.run(run_with(ScriptedModel([Text("Hi."), Finish("stop", USED)]), store=store))
    assert isinstance(ended, Response) and ended.status == "completed"
    assert ended.usage is not None and ended.usage.total_tokens == 7
    assert (ledger.bills, log.settled_at_end, kept) == ([(USED, False)], 1, store)


def test_a_failure_is_counted_told_and_not_kept() -> None:
    model = ScriptedModel([Text("Hal"), UpstreamError("It broke.")])
    log, ledger, ended, kept = asyncio.run(run_with(model))
    assert isinstance(ended, Failed) and ended.error.message == "It broke."
    assert [event["type"] for event in log.events[-2:]] == ["error", "response.failed"]
    assert (len(ledger.bills), ledger.bills[0][1], kept) == (1, True, False)


def test_what_the_model_did_not_count_is_estimated() -> None:
    _, ledger, ended, _ = asyncio.run(run_with(ScriptedModel([Text("Hi."), Finish("stop", None)])))
    assert isinstance(ended, Response) and ended.usage is None
    assert ledger.bills[0][1] and ledger.bills[0][0].output > 0


@pytest.mark.parametrize(
    ("cause", "kind", "code"),
    [
        (UpstreamError("x"), UpstreamError, "server_error"),
        (RateLimited("x"), RateLimited, "rate_limit_exceeded"),
        (InvalidRequest("x"), InvalidRequest, "invalid_prompt"),
        (UnknownConversation("conv_1"), NotFound, "server_error"),
        (DuplicateItem("msg_1"), InvalidRequest, "invalid_prompt"),
        (KeyError("secret"), ServerError, "server_error"),
    ],
)
def test_a_cause_as_its_caller_may_see_it(cause: Exception, kind: type[Exception], code: str) -> None:
    error = to_api_error(cause)
    assert type(error) is kind
    assert response_code(error) == code
    assert "secret" not in error.message


def test_of_broken_off_items_the_last_alone_belongs_to_an_answer_that_was_cut() -> None:
    items: list[Json] = [{"id": n, "type": "message", "status": "incomplete"} for n in "ab"]
    response = Response(id="resp_1", created_at=1, model="m", output=items)
    assert [item["id"] for item in end_response(response, Finish("length"), None, 9).output] == ["b"]
    whole = end_response(response, Finish(), USED, 9)
    assert (whole.output, whole.status, whole.completed_at) == ([], "completed", 9)
    cut = end_response(response, Finish("content_filter"), USED, 9)
    assert (cut.status, cut.incomplete_details) == ("incomplete", {"reason": "content_filter"})


def test_everything_in_flight_can_be_ended_with_a_word() -> None:
    async def wait(in_flight: InFlight) -> str:
        try:
            with in_flight:
                await asyncio.sleep(60)
        except Unavailable as error:
            return error.message
        return ""

    async def stop() -> list[str]:
        in_flight = InFlight()
        waiting = [asyncio.create_task(wait(in_flight)) for _ in range(3)]
        await asyncio.sleep(0)
        in_flight.stop(Unavailable("Closing."))
        words = await asyncio.gather(*waiting)
        await asyncio.wait_for(in_flight.idle(), 1)
        with pytest.raises(Unavailable), in_flight:
            pass
        return words

    assert asyncio.run(stop()) == ["Closing."] * 3


def test_a_plan_says_what_the_response_says() -> None:
    made = plan({"model": "m", "input": "hi", "store": False}, defaults=Defaults(), ids=CountingIds(), now=1)
    assert (made.store, made.background, made.previous_response_id, made.conversation_id) == (False, False, None, None)
    assert made.with_input(()).input == ()
    assert msgspec.json.decode(msgspec.json.encode(made))["response"]["store"] is False
