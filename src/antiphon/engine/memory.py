"""Responses that are not stored, remembered for whoever goes on with them over the same connection."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from antiphon.log import Log, encode
from antiphon.run import Run
from antiphon.wire import Id, Json
from antiphon.wire.response import Response


class Remembered(msgspec.Struct, frozen=True):
    """A response that can be continued: the whole context up to it and with it."""

    id: Id
    items: Sequence[Json]
    bytes: int


class Memories:
    """What all connections together remember: past ``bytes_max`` what has been there longest is forgotten, whosever it
    is.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._all: OrderedDict[tuple[Memory, str | None], int] = OrderedDict()

    def add(self, memory: Memory, lane: str | None, size: int) -> None:
        """A lane remembers that many bytes now."""
        self.remove(memory, lane)
        self._all[memory, lane] = size
        self._bytes += size
        while self._bytes > self._bytes_max:
            oldest, its_lane = next(iter(self._all))
            oldest.drop(its_lane)

    def remove(self, memory: Memory, lane: str | None) -> None:
        """A lane remembers nothing."""
        self._bytes -= self._all.pop((memory, lane), 0)


class Memory:
    """The latest response of each lane, where it is not stored. Past ``bytes_max`` the lane that was silent longest
    is forgotten. ``memories`` are all of them.
    """

    def __init__(self, bytes_max: int, memories: Memories) -> None:
        self._bytes_max = bytes_max
        self._memories = memories
        self._latest: dict[str | None, Remembered] = {}

    def lane(self, name: str | None) -> LaneMemory:
        """What the responses of one lane share."""
        return LaneMemory(self, name)

    def recall(self, id: Id) -> Sequence[Json] | None:
        """The context of a response, oldest item first; None when it is not remembered."""
        return next((known.items for known in self._latest.values() if known.id == id), None)

    def keep(self, lane: str | None, id: Id, items: Sequence[Json] | None) -> None:
        """A response is the latest of its lane now; without ``items``, it is not remembered, nor is the one before."""
        self.drop(lane)
        if items is not None:
            known = self._latest[lane] = Remembered(id, items, len(encode(items)))
            self._memories.add(self, lane, known.bytes)
        while sum(known.bytes for known in self._latest.values()) > self._bytes_max:
            self.drop(next(iter(self._latest)))

    def forget(self, id: Id | None) -> None:
        """Let go of a response that could not be continued."""
        for lane in [lane for lane, known in self._latest.items() if known.id == id]:
            self.drop(lane)

    def drop(self, lane: str | None) -> None:
        """Let go of what a lane remembers, if anything."""
        self._latest.pop(lane, None)
        self._memories.remove(self, lane)

    def close(self) -> None:
        """Let go of everything."""
        for lane in list(self._latest):
            self.drop(lane)


class LaneMemory(msgspec.Struct, frozen=True):
    """A memory, as one lane sees it."""

    memory: Memory
    lane: str | None

    def recall(self, id: Id) -> Sequence[Json] | None:
        """See ``Memory.recall``."""
        return self.memory.recall(id)

    def forget(self, id: object) -> None:
        """See ``Memory.forget``; whatever is no id was never remembered."""
        if isinstance(id, str):
            self.memory.forget(id)

    def remember(self, run: Run, log: Log) -> Log:
        """The log, with the response of the run remembered at its end. One that is stored is left to the store."""
        return _Remembering(log, partial(self._keep, run))

    def _keep(self, run: Run, response: Response) -> None:
        items = None if response.store else (*run.history, *run.plan.input, *response.output)
        self.memory.keep(self.lane, response.id, items)


class _Remembering:
    """A log that has the response remembered before its reader can see the last event, and continue it."""

    def __init__(self, log: Log, keep: Callable[[Response], None]) -> None:
        self._log = log
        self._keep = keep

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        if event["type"] in ("response.completed", "response.incomplete"):
            self._keep(event["response"])
        self._log.append(event)

    async def flush(self) -> None:
        """See ``Log.flush``."""
        await self._log.flush()
