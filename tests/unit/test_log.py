"""Where events go: to nobody, to whoever is told, to readers from any number."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from timeless import TimelessLoop

from antiphon.log import Heartbeat, Notifier, NullLog, StaticReader, decode_event, encode
from antiphon.testing import CountingIds
from antiphon.wire import Json
from antiphon.wire.response import Response
from antiphon.writer import Writer


class Kept:
    """A log whose reader is the test."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.shown = 0

    def append(self, event: Json) -> None:
        self.events.append(event)

    async def flush(self) -> None:
        self.shown = len(self.events)


def begun(log: Kept | NullLog) -> Writer:
    writer = Writer(log.append, CountingIds())
    writer.start(Response(id="resp_1", created_at=1, model="m"))
    return writer


def test_those_who_watch_a_topic_are_told_and_no_others() -> None:
    async def watch() -> None:
        notifier = Notifier()
        with notifier.watch("a") as one, notifier.watch("a") as two, notifier.watch("b") as other:
            notifier.notify("a")
            assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
            notifier.close()
            assert other.is_set() and notifier.closed
        notifier.notify("a")

    asyncio.run(watch())


def test_a_log_that_is_there_is_read_whole() -> None:
    async def read() -> list[bytes]:
        async with StaticReader([b"1", b"2"]).pieces() as pieces:
            return [line async for piece in pieces for line in piece]

    assert asyncio.run(read()) == [b"1", b"2"]


def test_an_event_of_a_log_is_folded_again_as_it_was() -> None:
    log = Kept()
    begun(log)
    again = [decode_event(encode(event)) for event in log.events]
    assert again == log.events
    assert isinstance(again[0]["response"], Response)


T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """In time that passes only while everybody waits."""
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(work)


def test_a_silent_log_hears_that_it_goes_on_and_a_busy_one_does_not() -> None:
    async def wait(busy: bool) -> Kept:
        log = Kept()
        writer = begun(log)
        with Heartbeat(writer, log, 0.03):
            for _ in range(10):
                await asyncio.sleep(0.01)
                if busy:
                    writer.emit("response.in_progress", response=writer.state.envelope)
        before = len(log.events)
        await asyncio.sleep(0.05)
        assert len(log.events) == before, "it beats on after its end"
        return log

    silent = run(wait(busy=False))
    assert len(silent.events) > 2 and silent.shown == len(silent.events)
    assert [event["sequence_number"] for event in silent.events] == list(range(len(silent.events)))
    assert len(run(wait(busy=True)).events) == 12


def test_nobody_hears_it_where_nobody_reads() -> None:
    async def wait() -> int:
        log = NullLog()
        writer = begun(log)
        with Heartbeat(writer, log, 0.01):
            await asyncio.sleep(0.05)
        return writer.state.seq

    assert run(wait()) == 2
