"""Background runs and their logs as the memory store keeps them: dictionaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec

from antiphon.store.runs import UNFINISHED, Batch, Claimed, Excerpt, Fenced, NewRun, QueueFull, RunStatus
from antiphon.wire import Id


class _Entry(msgspec.Struct):
    """A run."""

    owner: str
    priority: int
    job: bytes
    status: RunStatus = "queued"
    node: str | None = None
    epoch: int = 0
    attempt: int = 0
    progress: bytes = b""


class Ledger:
    """All runs of one store, and the logs and times of responses that ran."""

    def __init__(self) -> None:
        self.runs: dict[Id, _Entry] = {}
        self.expiry: dict[Id, int] = {}
        self._logs: dict[Id, list[bytes]] = {}

    def refuse_full(self, owner: str, queued_max: int, per_project_max: int) -> None:
        """See that one more may wait.

        Raises:
            QueueFull: it may not.
        """
        waiting = Counter(entry.owner for entry in self._of("queued"))
        for count, most, mine in ((waiting.total(), queued_max, False), (waiting[owner], per_project_max, True)):
            if count >= most:
                raise QueueFull(mine=mine)

    def add(self, run: NewRun) -> None:
        """Queue a run."""
        self.runs[run.record.id] = _Entry(run.record.owner, run.priority, run.job)
        self._logs[run.record.id] = list(run.events)

    def claim(self, node: str, limit: int) -> Iterator[Claimed]:
        """Take queued runs over."""
        for _ in range(limit):
            busy = Counter(entry.owner for entry in self._of("in_progress"))
            queued = [id for id, entry in self.runs.items() if entry.status == "queued"]
            if not queued:
                return
            # The first of several that are alike is the oldest.
            id = min(queued, key=self._turn(busy))
            entry = self.runs[id]
            entry.status, entry.node = "in_progress", node
            entry.epoch, entry.attempt = entry.epoch + 1, entry.attempt + 1
            yield Claimed(
                id=id,
                owner=entry.owner,
                epoch=entry.epoch,
                attempt=entry.attempt,
                job=entry.job,
                progress=entry.progress,
            )

    def _turn(self, busy: Counter[str]) -> Callable[[Id], tuple[int, int]]:
        return lambda id: (-self.runs[id].priority, busy[self.runs[id].owner])

    def owned(self, id: Id, epoch: int) -> _Entry:
        """The run, if it is at that epoch.

        Raises:
            Fenced: it is not.
        """
        entry = self.runs.get(id)
        if entry is None or entry.epoch != epoch or entry.status not in ("in_progress", "cancelled"):
            raise Fenced(id)
        return entry

    def has_ended(self, id: Id, epoch: int) -> bool:
        """Whether it ended at that epoch."""
        entry = self.runs.get(id)
        return entry is not None and entry.epoch == epoch and entry.status == "ended"

    def write(self, id: Id, batch: Batch) -> None:
        """Add to a log what is not there yet."""
        log = self._logs[id]
        assert batch.first <= len(log), "the numbers of a log have no gap"
        log += batch.events[len(log) - batch.first :]

    def recover(self, node: str) -> None:
        """Queue again what other nodes left."""
        for entry in self._of("in_progress"):
            if entry.node != node:
                entry.status, entry.node = "queued", None

    def sweep(self, node: str, held: Sequence[Id]) -> None:
        """Queue again what this node does not hold."""
        for id, entry in self.runs.items():
            if entry.status == "in_progress" and entry.node == node and id not in held:
                entry.status, entry.node = "queued", None

    def cancel(self, owner: str, id: Id) -> int | None:
        """Mark a run as cancelled; its epoch."""
        entry = self.runs.get(id)
        if entry is None or entry.owner != owner or entry.status == "ended":
            return None
        entry.status, entry.node, entry.epoch = "cancelled", None, entry.epoch + 1
        return entry.epoch

    def running(self, id: Id) -> bool:
        """Whether the response waits or is being worked on."""
        return id in self.runs and self.runs[id].status in UNFINISHED

    def excerpt(self, id: Id, after: int, bytes_max: int) -> Excerpt:
        """A piece of a log."""
        log = self._logs.get(id, [])
        found: list[bytes] = []
        size = 0
        for line in log[after + 1 :]:
            found.append(line)
            size += len(line)
            if size >= bytes_max:
                break
        ended = not self.running(id) and after + len(found) >= len(log) - 1
        return Excerpt(batch=Batch(after + 1, found), last=len(log) - 1, ended=ended)

    def forget(self, id: Id) -> None:
        """Nothing of it is left."""
        self.runs.pop(id, None)
        self.expiry.pop(id, None)
        self._logs.pop(id, None)

    def bytes(self, id: Id) -> int:
        """The bytes of a log."""
        return sum(map(len, self._logs.get(id, ())))

    def clear(self) -> None:
        """Forget all."""
        self.runs.clear()
        self.expiry.clear()
        self._logs.clear()

    def _of(self, status: RunStatus) -> Iterator[_Entry]:
        return (entry for entry in self.runs.values() if entry.status == status)
