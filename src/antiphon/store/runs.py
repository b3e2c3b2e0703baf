"""Responses that run in the background, as the rest of the system asks a store for them.

A run is one row beside its response: the entry in the queue, who works on it, and the fencing token in one. It is there
from the moment the request is accepted until the response has ended and its log is sealed. Its events are the log
that any reader can replay from any number; what a reader has been shown was committed before.

A worker writes under the ``epoch`` of its claim. Whoever takes a run over, or cancels it, raises the epoch: what the
former worker still writes is refused as ``Fenced``, however late it wakes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from antiphon.store.deliveries import Delivery
from antiphon.store.responses import Record
from antiphon.store.transitions import RunStatus
from antiphon.wire import Id


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A response to be queued.

    Attributes:
        record: the response as it is accepted, without output; its items join its conversation when it ends.
        job: what a worker needs to do it, in the worker's own words.
        events: the first events of its log, JSON each, numbered from 0.
        priority: those of a higher one are claimed first.
    """

    record: Record
    job: bytes
    events: Sequence[bytes]
    priority: int = 0


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is a worker's to do.

    Attributes:
        attempt: how often it has been claimed, this time included; a ``release`` takes one back.
        progress: what the last worker noted with its events; empty at first.
    """

    id: Id
    project: str
    epoch: int
    attempt: int
    job: bytes
    progress: bytes


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has not been sealed, as a look around finds it."""

    id: Id
    project: str
    status: RunStatus
    epoch: int
    conversation_id: Id | None


class Batch(msgspec.Struct, frozen=True):
    """Events that follow each other: JSON each, without line ends; the first one's ``sequence_number`` is ``first``."""

    first: int
    events: Sequence[bytes]


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log.

    Attributes:
        batch: the events asked for, in order; perhaps none.
        last: the number of the last event of the whole log, -1 for an empty one.
        ended: whether nothing will be added any more, and ``batch`` reaches to the end.
    """

    batch: Batch
    last: int
    ended: bool


class RunStore(Protocol):
    """Where runs outlive the process. What moves a run from status to status is the table in ``store.transitions``.

    Needs a single process: ``recover`` alone, which takes every other node for dead. The rest holds among nodes: a
    claim is one statement, and whoever writes is fenced by the epoch. A store of several nodes needs a heartbeat in
    place of ``recover`` and ``requeue_lost``, and has to wake the workers of other nodes when something is enqueued.
    """

    async def enqueue(self, run: NewRun, *, queued_max: int, per_project_max: int) -> None:
        """Keep a response and queue it, in one transaction.

        Args:
            queued_max: how many runs may wait in all; ``per_project_max`` how many of one project.

        Raises:
            QueueFull: so many wait already.
            DuplicateResponse: the id is taken.
            UnknownConversation: its conversation is gone.
        """
        ...

    async def claim(self, node: str, limit: int) -> list[Claimed]:
        """Take up to ``limit`` queued runs over: those of the highest priority first, among them those whose project
        has the fewest in progress, then the oldest.
        """
        ...

    async def append(self, id: Id, epoch: int, batch: Batch, progress: bytes | None = None) -> None:
        """Add events to the log of a claimed run, and note the progress if it is given. Events that are there already
        are left as they are: a call of which nobody knows whether it was done is made again.

        Raises:
            Fenced: the run is not the caller's.
        """
        ...

    async def finish(
        self,
        id: Id,
        epoch: int,
        batch: Batch,
        record: Record,
        expires_at: int | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        """Add the last events and keep the response as it ended, in one transaction; of ``record`` the status, the
        document and the output are read. Its items are added to its conversation. Nothing when it has ended under this
        epoch already: a call of which nobody knows whether it was done is made again.

        Args:
            expires_at: when the response goes, in Unix seconds; None for the usual retention.
            deliveries: whom to tell that it has ended.

        Raises:
            Fenced: the run is not the caller's.
            UnknownConversation: its conversation is gone.
            DuplicateItem: its conversation has one of its items.
        """
        ...

    async def release(self, id: Id, epoch: int) -> None:
        """Give a run back: it waits again, and this attempt does not count. Nothing when it is not the caller's."""
        ...

    async def recover(self, node: str) -> list[Unfinished]:
        """Have what other nodes left in progress wait again, and say what is there. Needs a single process: all other
        nodes are taken for dead.
        """
        ...

    async def requeue_lost(self, node: str, held: Sequence[Id]) -> list[Unfinished]:
        """Have what this node is said to have in progress and does not hold wait again, and say what is there; runs of
        other nodes are left alone.
        """
        ...

    async def cancel(self, project: str, id: Id) -> int | None:
        """Stop a run for ever: from now on nobody can add to its log. Its new epoch, with which ``finish`` writes the
        last record; None when there is no run to cancel.
        """
        ...

    async def read_events(self, project: str, id: Id, *, after: int, bytes_max: int) -> Excerpt | None:
        """The events behind number ``after``, about ``bytes_max`` bytes of them at most but one event at least; None
        when there is no such response. A response that did not run in the background has an empty log that ended.
        """
        ...

    async def seal(self, id: Id) -> None:
        """Pack the log of a run that ended, and forget the run. The events stay as they are."""
        ...
