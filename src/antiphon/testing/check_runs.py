"""What every store must do for responses that run in the background; a part of ``check_store``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from antiphon.store import (
    DuplicateItem,
    DuplicateResponse,
    Fenced,
    QueueFull,
    Record,
    Selection,
    StillRunning,
    Store,
    UnknownConversation,
)
from antiphon.store.runs import Batch, Claimed, NewRun
from antiphon.store.transitions import RUN_STATUSES, TRANSITIONS, WRITABLE, RunStatus
from antiphon.testing.records import NOW, PROJECT, STRANGER, a_conversation, a_record, an_item
from antiphon.wire import Id
from antiphon.wire.response import Status

NODE = "node_1"
OTHER_NODE = "node_2"
_BYTES_MAX = 1 << 20


def a_run(
    id: Id, *, priority: int = 0, events: int = 2, project: str = PROJECT, previous: Id | None = None, **fields: Any
) -> NewRun:
    """A queued response with one input item, and the first events of its log."""
    record = a_record(id, project=project, previous=previous, output=[], status="queued", **fields)
    return NewRun(record=record, job=b'{"job":1}', events=lines(0, events), priority=priority)


def lines(first: int, count: int) -> list[bytes]:
    """Events of those numbers, with what tends to be lost."""
    return [
        f'{{"sequence_number":{n},"delta":"naïve 漢字 🙂 \\u0000 \\n"}}'.encode() for n in range(first, first + count)
    ]


def build_ended(run: NewRun, *, status: str = "completed", output: Sequence[Id] = ("o1",)) -> Record:
    """The run's response as it ends."""
    doc = msgspec.json.encode({"id": run.record.id, "output": [], "metadata": {}, "ended": True})
    return msgspec.structs.replace(run.record, status=status, doc=doc, output=[an_item(id) for id in output])


async def enqueue_runs(store: Store, *runs: NewRun) -> None:
    """Queue runs."""
    for run in runs:
        await store.runs.enqueue(run, queued_max=100, per_project_max=100)


async def start_run(store: Store, run: NewRun, node: str = NODE) -> Claimed:
    """Queue a run and claim it."""
    await enqueue_runs(store, run)
    (claimed,) = await store.runs.claim(node, 1)
    return claimed


async def all_lines(store: Store, id: Id, after: int = -1, project: str = PROJECT) -> list[bytes]:
    """The log behind a number, read in small pieces until there is no more."""
    found: list[bytes] = []
    while True:
        piece = await store.runs.read_events(project, id, after=after + len(found), bytes_max=1)
        assert piece is not None, "the log went away"
        assert piece.batch.first == after + len(found) + 1, "a piece begins elsewhere"
        found += piece.batch.events
        if not piece.batch.events:
            return found


async def keeps_a_queued_response(store: Store) -> None:
    """It can be seen, with its input and the beginning of its log, before anybody works on it."""
    await enqueue_runs(store, a_run("r1"))
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and found.status == "queued", "a queued response is missing"
    page = await store.items.read_input(PROJECT, "r1", after=None, limit=5, order="asc")
    assert page is not None and [item.id for item in page.items] == ["r1_in"], "the input is missing"
    assert await all_lines(store, "r1") == lines(0, 2), "the first events changed"
    assert await store.responses.get(STRANGER, "r1") is None
    assert await store.runs.read_events(STRANGER, "r1", after=-1, bytes_max=_BYTES_MAX) is None, (
        "a stranger reads the log"
    )


async def refuses_to_queue_an_id_twice(store: Store) -> None:
    """Queued or stored."""
    await store.responses.commit(a_record("r1"))
    await enqueue_runs(store, a_run("r2"))
    for id in ("r1", "r2"):
        try:
            await enqueue_runs(store, a_run(id))
        except DuplicateResponse:
            continue
        raise AssertionError(f"{id} was queued twice")


async def bounds_the_queue(store: Store) -> None:
    """In all, and for each project; what is being worked on does not wait."""
    await enqueue_runs(store, a_run("r1"), a_run("r2"))
    for limits, of_project in (((2, 9), False), ((9, 2), True)):
        try:
            await store.runs.enqueue(a_run("r3"), queued_max=limits[0], per_project_max=limits[1])
        except QueueFull as full:
            assert full.of_project is of_project, "the wrong bound is named"
        else:
            raise AssertionError("the queue has no bound")
    assert await store.responses.get(PROJECT, "r3") is None, "a refused response was kept"
    await store.runs.enqueue(a_run("s1", project=STRANGER), queued_max=9, per_project_max=1)
    await store.runs.claim(NODE, 1)
    await store.runs.enqueue(a_run("r3"), queued_max=3, per_project_max=2)


async def gives_each_run_to_one_worker(store: Store) -> None:
    """Higher priority first, then the project with fewer in progress, then the older; none twice."""
    await enqueue_runs(store, a_run("a1"), a_run("a2"), a_run("low", priority=-1), a_run("b1", project=STRANGER))
    await enqueue_runs(store, a_run("high", priority=1))
    order = [run.id for run in await store.runs.claim(NODE, 2)]
    order += [run.id for run in await store.runs.claim(OTHER_NODE, 9)]
    assert order == ["high", "b1", "a1", "a2", "low"], order
    assert await store.runs.claim(NODE, 9) == [], "a run was claimed twice"
    found = await store.responses.get(PROJECT, "a1")
    assert found is not None and found.status == "in_progress", "a claimed response still seems to wait"


async def gives_the_worker_what_it_needs(store: Store) -> None:
    """The job as it was put, and the progress as it was noted last."""
    run = await start_run(store, a_run("r1"))
    assert (run.project, run.job, run.progress, run.attempt) == (PROJECT, b'{"job":1}', b"", 1), run
    await store.runs.append("r1", run.epoch, Batch(2, lines(2, 1)), b'{"turns":1}')
    await store.runs.append("r1", run.epoch, Batch(3, lines(3, 1)))
    await store.runs.recover(OTHER_NODE)
    (again,) = await store.runs.claim(OTHER_NODE, 1)
    assert (again.progress, again.attempt) == (b'{"turns":1}', 2), again
    assert again.epoch > run.epoch, "the epoch did not rise"


async def replays_from_any_number(store: Store) -> None:
    """While it grows and when it has ended, sealed or not: the same bytes."""
    new = a_run("r1")
    run = await start_run(store, new)
    for first in range(2, 12, 2):
        await store.runs.append("r1", run.epoch, Batch(first, lines(first, 2)))
    for after in range(-1, 12):
        assert await all_lines(store, "r1", after) == lines(after + 1, 11 - after), f"wrong behind {after}"
    open_log = await store.runs.read_events(PROJECT, "r1", after=11, bytes_max=_BYTES_MAX)
    assert open_log is not None and not open_log.ended and open_log.last == 11, "a growing log seems to have ended"
    await store.runs.finish("r1", run.epoch, Batch(12, lines(12, 2)), build_ended(new))
    for _ in range(2):
        for after in range(-1, 14):
            assert await all_lines(store, "r1", after) == lines(after + 1, 13 - after), f"wrong behind {after}"
        whole = await store.runs.read_events(PROJECT, "r1", after=-1, bytes_max=_BYTES_MAX)
        assert whole is not None and whole.ended and whole.last == 13, "the end of the log is not known"
        part = await store.runs.read_events(PROJECT, "r1", after=-1, bytes_max=1)
        assert part is not None and not part.ended, "a part seems to reach to the end"
        await store.runs.seal("r1")


async def seals_a_long_log(store: Store) -> None:
    """Of several chunks; sealing again, or too early, changes nothing."""
    new = a_run("r1")
    run = await start_run(store, new)
    big = [b'{"delta":"%s"}' % (b"%d" % n * 5000) for n in range(200)]
    await store.runs.seal("r1")
    for at in range(0, 200, 5):
        await store.runs.append("r1", run.epoch, Batch(2 + at, big[at : at + 5]))
    await store.runs.finish("r1", run.epoch, Batch(202, lines(202, 1)), build_ended(new))
    whole = [*lines(0, 2), *big, *lines(202, 1)]
    for _ in range(3):
        assert await all_lines(store, "r1") == whole, "sealing changed the log"
        assert await all_lines(store, "r1", 150) == whole[151:], "a sealed log is cut wrong"
        await store.runs.seal("r1")
    assert await store.runs.recover(NODE) == [], "a sealed run is still there"


async def fences_a_former_worker(store: Store) -> None:
    """Once a run is another's, or given back, nothing more is written under the old epoch."""
    new = a_run("r1")
    old = await start_run(store, new)
    await store.runs.recover(OTHER_NODE)
    await _assert_fenced(store, new, old.epoch)
    (run,) = await store.runs.claim(OTHER_NODE, 1)
    await _assert_fenced(store, new, old.epoch)
    await store.runs.release("r1", old.epoch)
    await store.runs.append("r1", run.epoch, Batch(2, lines(2, 1)))
    assert await all_lines(store, "r1") == lines(0, 3)
    await store.runs.finish("r1", run.epoch, Batch(3, lines(3, 1)), build_ended(new))
    await _assert_fenced(store, new, old.epoch)
    await store.runs.seal("r1")
    await _assert_fenced(store, new, run.epoch)


async def _assert_fenced(store: Store, new: NewRun, epoch: int) -> None:
    id = new.record.id
    before = await all_lines(store, id)
    batch = Batch(len(before), lines(len(before), 1))
    for attempt in (store.runs.append(id, epoch, batch, b"{}"), store.runs.finish(id, epoch, batch, build_ended(new))):
        try:
            await attempt
        except Fenced:
            continue
        raise AssertionError("a former worker wrote")
    assert await all_lines(store, id) == before, "a fenced worker changed the log"


async def takes_a_write_again(store: Store) -> None:
    """Of which nobody knows whether it was done: it is done once."""
    new = a_run("r1")
    run = await start_run(store, new)
    for _ in range(2):
        await store.runs.append("r1", run.epoch, Batch(2, lines(2, 3)), b'{"turns":1}')
    assert await all_lines(store, "r1") == lines(0, 5)
    for _ in range(2):
        await store.runs.finish("r1", run.epoch, Batch(5, lines(5, 2)), build_ended(new))
    assert await all_lines(store, "r1") == lines(0, 7)
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and [item.id for item in found.output] == ["o1"], found


async def requeues_what_its_node_lost(store: Store) -> None:
    """What a node does not hold waits again; what it holds, and what others do, is left alone."""
    held = await start_run(store, a_run("r1"))
    lost = await start_run(store, a_run("r2"))
    await start_run(store, a_run("r3"), OTHER_NODE)
    found = {each.id: each.status for each in await store.runs.requeue_lost(NODE, ["r1"])}
    assert found == {"r1": "in_progress", "r2": "queued", "r3": "in_progress"}, found
    (again,) = await store.runs.claim(NODE, 9)
    assert (again.id, again.attempt) == ("r2", 2) and again.epoch > lost.epoch, again
    await store.runs.append("r1", held.epoch, Batch(2, lines(2, 1)))


async def takes_a_run_back(store: Store) -> None:
    """A run that is given back waits again, and the attempt does not count."""
    run = await start_run(store, a_run("r1"))
    await store.runs.release("r1", run.epoch)
    await store.runs.release("r1", run.epoch)
    (again,) = await store.runs.claim(NODE, 1)
    assert again.attempt == 1 and again.epoch > run.epoch, again
    await store.runs.release("nothing", 1)


async def finds_what_was_left(store: Store) -> None:
    """Another node's runs wait again; one's own are left alone; conversations are named, that they can be locked."""
    await store.conversations.create(a_conversation("c1"), [])
    await start_run(store, a_run("r1", conversation="c1"))
    await start_run(store, a_run("r2"), OTHER_NODE)
    await enqueue_runs(store, a_run("r3"))
    found = {each.id: (each.project, each.status, each.conversation_id) for each in await store.runs.recover(NODE)}
    assert found == {
        "r1": (PROJECT, "in_progress", "c1"),
        "r2": (PROJECT, "queued", None),
        "r3": (PROJECT, "queued", None),
    }, found


async def keeps_a_response_as_it_ended(store: Store) -> None:
    """Status, document and output, and its history for those that continue it."""
    await store.responses.commit(a_record("p"))
    new = a_run("r1", previous="p")
    run = await start_run(store, new)
    await store.runs.finish("r1", run.epoch, Batch(2, lines(2, 1)), build_ended(new))
    found = await store.responses.get(PROJECT, "r1")
    assert found is not None and found.status == "completed" and b'"ended":true' in found.doc, "the end was not kept"
    assert [item.id for item in found.output] == ["o1"], "the output was not kept"
    history = await store.items.load_history(PROJECT, "r1")
    assert history is not None and [item.id for item in history] == ["p_in", "p_out", "r1_in", "o1"], history


async def tells_a_run_its_context(store: Store) -> None:
    """What it continues and its own input, even when what it continues has been deleted meanwhile. Nobody can
    continue it before it has ended.
    """
    await store.responses.commit(a_record("p"))
    await start_run(store, a_run("r1", previous="p"))
    await store.responses.delete(PROJECT, "p")
    context = await store.items.load_context(PROJECT, "r1")
    assert context is not None and [item.id for item in context] == ["p_in", "p_out", "r1_in"], context
    assert await store.items.load_context(STRANGER, "r1") is None
    assert await store.items.load_history(STRANGER, "r1") is None
    try:
        await store.items.load_history(PROJECT, "r1")
    except StillRunning:
        return
    raise AssertionError("a response that has not ended was continued")


async def joins_its_conversation_at_the_end(store: Store) -> None:
    """Input and output together; a run that did not end well has added nothing."""
    await store.conversations.create(a_conversation("c1"), [an_item("first")])
    new = a_run("r1", conversation="c1")
    run = await start_run(store, new)
    context = await store.items.load_context(PROJECT, "r1")
    assert context is not None and [item.id for item in context] == ["first", "r1_in"], context
    assert await _ids(store) == ["first"], "the input was added too early"
    for output, refusal in ((["first"], DuplicateItem), (["o1"], None)):
        try:
            await store.runs.finish("r1", run.epoch, Batch(2, lines(2, 1)), build_ended(new, output=output))
        except DuplicateItem:
            assert refusal is DuplicateItem and await all_lines(store, "r1") == lines(0, 2)
    assert await _ids(store) == ["first", "r1_in", "o1"]
    await store.responses.delete(PROJECT, "r1")
    assert await _ids(store) == ["first", "r1_in", "o1"], "deleting a response took its items out of a conversation"


async def _ids(store: Store) -> list[Id]:
    found = await store.conversations.load_history(PROJECT, "c1")
    assert found is not None, "the conversation is missing"
    return [item.id for item in found]


async def refuses_to_queue_in_no_conversation(store: Store) -> None:
    """Neither one that is not there nor another project's."""
    await store.conversations.create(a_conversation("c1", project=STRANGER), [])
    for id in ("c0", "c1"):
        try:
            await enqueue_runs(store, a_run("r1", conversation=id))
        except UnknownConversation:
            continue
        raise AssertionError("a response was queued in a conversation of nobody")
    assert await store.responses.get(PROJECT, "r1") is None


async def moves_as_the_table_says(store: Store) -> None:
    """Every transition from every status: it moves the run where ``TRANSITIONS`` allows it, and nothing elsewhere."""
    for status in RUN_STATUSES:
        for transition in TRANSITIONS:
            allowed = status in transition.before
            if transition.method == "finish" and not allowed and status in WRITABLE:
                continue  # the other row of ``finish``
            run = a_run(f"r_{status}_{transition.method}")
            epoch = await _bring_to(store, run, status)
            seen = await _status_of(store, run)
            assert seen == status, f"{status} cannot be reached: {seen}"
            await _attempt(store, run, transition.method, epoch, transition.response[0], allowed=allowed)
            expected = transition.after if allowed else status
            assert await _status_of(store, run) == expected, f"{transition.method} from {status}: not {expected}"
            record = await store.responses.get(PROJECT, run.record.id)
            if allowed:
                assert record is not None and record.status in transition.response, f"{transition.method}: {record}"
            await store.responses.delete(PROJECT, run.record.id)


async def _bring_to(store: Store, run: NewRun, status: RunStatus) -> int:
    """Queue the run and move it on; its epoch."""
    await enqueue_runs(store, run)
    if status == "queued":
        return 0
    (claimed,) = await store.runs.claim(NODE, 1)
    if status == "cancelled":
        return await store.runs.cancel(PROJECT, run.record.id) or 0
    if status == "ended":
        await store.runs.finish(run.record.id, claimed.epoch, Batch(2, []), build_ended(run))
    return claimed.epoch


async def _status_of(store: Store, run: NewRun) -> RunStatus | None:
    found = await store.runs.requeue_lost("nobody", [])
    return next((each.status for each in found if each.id == run.record.id), None)


async def _attempt(store: Store, run: NewRun, method: str, epoch: int, status: Status, *, allowed: bool) -> None:
    id, runs = run.record.id, store.runs
    with suppress(Fenced, DuplicateResponse):
        match method:
            case "enqueue":
                await enqueue_runs(store, run)
            case "claim":
                await runs.claim(NODE, 1)
            case "release":
                await runs.release(id, epoch)
            case "recover":
                await runs.recover(OTHER_NODE)
            case "requeue_lost":
                await runs.requeue_lost(NODE, [])
            case "cancel":
                done = await runs.cancel(PROJECT, id) is not None
                assert done == allowed, f"cancel says {done}, the table {allowed}"
            case "finish":
                await runs.finish(id, epoch, Batch(2, []), build_ended(run, status=status))
            case _:
                await runs.seal(id)


async def cancels_for_ever(store: Store) -> None:
    """Queued or running; the worker is fenced at once, and the last record is written under the new epoch."""
    queued, running = a_run("r1"), a_run("r2")
    await enqueue_runs(store, running)
    (run,) = await store.runs.claim(NODE, 1)
    await enqueue_runs(store, queued)
    assert await store.runs.cancel(STRANGER, "r1") is None, "a stranger cancelled"
    assert await store.runs.cancel(PROJECT, "nothing") is None
    for new in (queued, running):
        id = new.record.id
        epoch = await store.runs.cancel(PROJECT, id)
        assert epoch is not None, "a run could not be cancelled"
        again = await store.runs.cancel(PROJECT, id)
        assert again is not None, "a second caller is told that there is nothing to cancel"
        found = await store.responses.get(PROJECT, id)
        assert found is not None and found.status == "cancelled"
        log = await store.runs.read_events(PROJECT, id, after=-1, bytes_max=_BYTES_MAX)
        assert log is not None and log.ended, "the log of a cancelled response does not end"
        await _assert_fenced(store, new, run.epoch)
        await store.runs.finish(id, again, Batch(2, []), build_ended(new, status="cancelled", output=[f"{id}_out"]))
        assert await store.runs.cancel(PROJECT, id) is None, "a response that ended was cancelled"
        await store.runs.seal(id)
    assert await store.runs.claim(NODE, 9) == [], "a cancelled run was claimed"
    assert await store.items.load_history(PROJECT, "r2") is not None, "a cancelled response cannot be continued"


async def stops_what_is_deleted(store: Store) -> None:
    """Nobody works on it, and nothing of its log is left."""
    new = a_run("r1")
    run = await start_run(store, new)
    await enqueue_runs(store, a_run("r2"))
    for id in ("r1", "r2"):
        assert await store.responses.delete(PROJECT, id)
        assert await store.runs.read_events(PROJECT, id, after=-1, bytes_max=_BYTES_MAX) is None
    assert await store.runs.claim(NODE, 9) == []
    try:
        await store.runs.append("r1", run.epoch, Batch(2, lines(2, 1)))
    except Fenced:
        return
    raise AssertionError("a deleted response was written to")


async def keeps_some_for_a_short_time(store: Store) -> None:
    """It can be polled until then, and cannot be continued."""
    new = a_run("r1")
    run = await start_run(store, new)
    await store.runs.finish("r1", run.epoch, Batch(2, lines(2, 1)), build_ended(new), NOW + 600)
    await store.runs.seal("r1")
    assert await store.responses.get(PROJECT, "r1") is not None
    assert await store.items.load_history(PROJECT, "r1") is None, "what is kept for a short time was continued"
    assert await store.retention.purge(Selection(expired=NOW + 599), 9) == 0, "it went too early"
    await store.responses.commit(a_record("r2"))
    assert await store.retention.purge(Selection(expired=NOW + 600), 9) == 1
    assert await store.responses.get(PROJECT, "r1") is None
    assert await store.responses.get(PROJECT, "r2") is not None


async def spares_what_runs(store: Store) -> None:
    """Where only what has ended shall go."""
    new = a_run("r1")
    run = await start_run(store, new)
    await enqueue_runs(store, a_run("r2"))
    assert await store.retention.purge(Selection(ended=True), 9) == 0
    await store.runs.finish("r1", run.epoch, Batch(2, lines(2, 1)), build_ended(new))
    assert await store.retention.purge(Selection(ended=True), 9) == 1
    assert await store.retention.purge(Selection(), 9) == 1


async def has_an_empty_log_without_a_run(store: Store) -> None:
    """A response that did not run in the background has nothing to replay."""
    await store.responses.commit(a_record("r1"))
    log = await store.runs.read_events(PROJECT, "r1", after=-1, bytes_max=_BYTES_MAX)
    assert log is not None and log.ended and log.last == -1 and not log.batch.events
    assert await store.runs.read_events(PROJECT, "r0", after=-1, bytes_max=_BYTES_MAX) is None


RUN_CHECKS: tuple[Callable[[Store], Awaitable[None]], ...] = (
    keeps_a_queued_response,
    refuses_to_queue_an_id_twice,
    bounds_the_queue,
    gives_each_run_to_one_worker,
    gives_the_worker_what_it_needs,
    replays_from_any_number,
    seals_a_long_log,
    fences_a_former_worker,
    takes_a_write_again,
    requeues_what_its_node_lost,
    takes_a_run_back,
    finds_what_was_left,
    keeps_a_response_as_it_ended,
    tells_a_run_its_context,
    joins_its_conversation_at_the_end,
    refuses_to_queue_in_no_conversation,
    moves_as_the_table_says,
    cancels_for_ever,
    stops_what_is_deleted,
    keeps_some_for_a_short_time,
    spares_what_runs,
    has_an_empty_log_without_a_run,
)
"""Every promise of ``RunStore``, one function each."""
