"""Where a response's events go. The turn loop does not know which log it writes to.

``append`` takes an event in order and returns at once; ``flush`` lets its readers see what was appended, and waits when
they are slow. Which promise stands behind ``flush`` is the log's own: a log that can be resumed commits first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from antiphon.grammar import EVENTS
from antiphon.store import Record, StoreUnavailable
from antiphon.store.runs import Batch, Excerpt, RunStore
from antiphon.webhooks.outbox import Outbox, nobody
from antiphon.wire import Id, Json
from antiphon.wire.response import Response
from antiphon.writer import Writer

encode = msgspec.json.Encoder().encode
"""An event's bytes, the same for every reader and at every replay."""

PIECE_BYTES = 256 * 1024
"""How much of a log is read at a time."""
POLL_S = 1.0
"""How long a reader waits before it looks by itself: a hint may be lost."""
RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0)
"""How long a worker waits before it writes again to a store that refused."""


class Log(Protocol):
    """The sink of one response's events."""

    def append(self, event: Json) -> None:
        """Take the next event. Never waits, never fails."""
        ...

    async def flush(self) -> None:
        """Show what was appended; waits while readers are behind."""
        ...


class NullLog:
    """The log of a response that nobody streams: it keeps nothing, for the fold holds the answer."""

    def append(self, event: Json) -> None:
        """Nothing to do."""

    async def flush(self) -> None:
        """Nothing to do."""


class Notifier:
    """Tells those who wait that there may be something to see. A hint may be lost; what counts is in the store.

    Attributes:
        closed: whether nobody will tell anything any more.
    """

    def __init__(self) -> None:
        self.closed = False
        # In the order in which they came, so that what follows has an order too.
        self._waiting: defaultdict[str, dict[asyncio.Event, None]] = defaultdict(dict)

    def notify(self, topic: str) -> None:
        """Wake those who watch the topic."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def close(self) -> None:
        """Send away all who wait."""
        self.closed = True
        for topic in list(self._waiting):
            self.notify(topic)

    @contextmanager
    def watch(self, topic: str) -> Generator[asyncio.Event]:
        """An event that is set at each hint, as long as this lasts."""
        event = asyncio.Event()
        self._waiting[topic][event] = None
        try:
            yield event
        finally:
            del self._waiting[topic][event]
            if not self._waiting[topic]:
                del self._waiting[topic]


class RunLog:
    """The log of a run in the background: what has been flushed is durable, and can be replayed from then on.

    Args:
        epoch: of the claim under which it writes.
        first: the number of the next event.
        outbox: who is told of the end; nobody by default.

    Attributes:
        progress: what is noted with the next events, when it has changed.
    """

    def __init__(
        self, store: RunStore, notifier: Notifier, id: Id, epoch: int, first: int, outbox: Outbox | None = None
    ) -> None:
        self.progress: Callable[[], bytes] = bytes
        self._store = store
        self._notifier = notifier
        self._id = id
        self._epoch = epoch
        self._first = first
        self._lines: list[bytes] = []
        self._noted = b""
        self._outbox = outbox or nobody()
        self._turn = asyncio.Lock()

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        self._lines.append(encode(event))

    async def flush(self) -> None:
        """Commit, then let the readers look. While the store refuses to write, this waits and tries again.

        Raises:
            Fenced: the run is not the caller's any more.
            StoreUnavailable: the store has refused for too long.
        """
        # Tools that end at the same time flush side by side; the order of the events is that of ``append``.
        async with self._turn:
            batch, progress = self._take(), self.progress()
            noted = progress if progress != self._noted else None
            if batch.events or noted is not None:
                await _retry(lambda: self._store.append(self._id, self._epoch, batch, noted))
                self._noted = progress
        self._notifier.notify(self._id)

    async def finish(self, record: Record, expires_at: int | None) -> None:
        """Commit the last events and the response as it ended, in one; see ``RunStore.finish``.

        Raises:
            Fenced, StoreUnavailable: as ``flush``.
            UnknownConversation, DuplicateItem: its conversation does not take it; nothing was written.
        """
        async with self._turn:
            batch, deliveries = self._take(), self._outbox.deliveries(record)
            finish = partial(self._store.finish, self._id, self._epoch, batch, record, expires_at, deliveries)
            await _retry(lambda: _complete_write(finish()))
        self._outbox.wake(deliveries)

    def _take(self) -> Batch:
        batch = Batch(self._first, self._lines)
        self._first, self._lines = self._first + len(self._lines), []
        return batch


async def _retry(write: Callable[[], Awaitable[None]]) -> None:
    for wait_s in RETRY_S:
        with suppress(StoreUnavailable):
            return await write()
        await asyncio.sleep(wait_s)
    return await write()


async def _complete_write(write: Coroutine[Any, Any, None]) -> None:
    """Do the write, and learn what came of it, even when cancelled: once it is done, it is too late for that."""
    writing = asyncio.create_task(write)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        if writing.cancelled() or writing.exception():
            raise
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()


class Heartbeat:
    """Says that a response goes on, as an event of its log like any other: agents count events while they wait, and
    give up; comments do not help. A context for the time in which it may be silent.
    """

    def __init__(self, writer: Writer, log: Log, interval_s: float) -> None:
        self._writer = writer
        self._log = log
        self._interval_s = interval_s
        self._seen = -1
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        if self._interval_s and not isinstance(self._log, NullLog):
            self._beat()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        """Speak if nothing was said since the last time, and look again later."""
        state = self._writer.state
        if self._seen == state.seq:
            self._writer.emit("response.in_progress", response=state.envelope)
            self._flush = asyncio.ensure_future(self._show())
        self._seen = state.seq
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._beat)

    async def _show(self) -> None:
        # What goes wrong here goes wrong again at the next flush, where somebody hears of it.
        with suppress(Exception):
            await self._log.flush()


class Reader(Protocol):
    """Shows a log to one reader."""

    def pieces(self) -> AbstractAsyncContextManager[AsyncIterator[Sequence[bytes]]]:
        """The events as JSON, in pieces, to the end of the log.

        Raises:
            Interrupted: while iterating: there is more to come, but not here.
        """
        ...


class StaticReader(msgspec.Struct, frozen=True):
    """Reads a log that is there, whole."""

    lines: Sequence[bytes]

    @asynccontextmanager
    async def pieces(self) -> AsyncGenerator[AsyncIterator[Sequence[bytes]]]:
        """See ``Reader.pieces``."""
        yield self._once()

    async def _once(self) -> AsyncGenerator[Sequence[bytes]]:
        yield self.lines


class Interrupted(Exception):
    """A log goes on, and nobody here can tell: the server ends. A reader can go on later, or elsewhere."""


class Tail(msgspec.Struct):
    """Reads one log, from a number to its end, with events in front of it."""

    store: RunStore
    notifier: Notifier
    project: str
    id: Id
    after: int
    first: Sequence[bytes] = ()

    @asynccontextmanager
    async def pieces(self) -> AsyncGenerator[AsyncIterator[Sequence[bytes]]]:
        """See ``Reader.pieces``: events as they become durable. It ends when the response is deleted, too."""
        pieces = self._pieces()
        try:
            yield pieces
        finally:
            await pieces.aclose()

    async def _pieces(self) -> AsyncGenerator[Sequence[bytes]]:
        if self.first:
            yield self.first
        with self.notifier.watch(self.id) as wakeup:
            while True:
                # Before the look: what comes after it sets the hint again.
                wakeup.clear()
                piece = await self._read()
                if piece is None:
                    return
                self.after += len(piece.batch.events)
                if piece.batch.events:
                    yield piece.batch.events
                if piece.ended:
                    return
                if not piece.batch.events and self.notifier.closed:
                    raise Interrupted
                if not piece.batch.events:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await wakeup.wait()

    async def _read(self) -> Excerpt | None:
        return await self.store.read_events(self.project, self.id, after=self.after, bytes_max=PIECE_BYTES)


def decode_event(line: bytes) -> Json:
    """An event of a log as the fold takes it."""
    event: Json = msgspec.json.decode(line)
    rule = EVENTS[event["type"]]
    if rule.op == "envelope":
        event["response"] = msgspec.convert(event["response"], Response)
    return event


async def read_log(store: RunStore, project: str, id: Id) -> list[Json]:
    """All events of a log so far, as the fold takes them.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    found: list[Json] = []
    while True:
        piece = await store.read_events(project, id, after=len(found) - 1, bytes_max=PIECE_BYTES)
        found += [decode_event(line) for line in piece.batch.events] if piece else ()
        if piece is None or piece.ended or not piece.batch.events:
            return found
