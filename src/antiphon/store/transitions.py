"""The statuses of a background run, and what moves it from one to the next: one table. The statements of a store take
their conditions from it, ``testing.check_runs`` holds a store to it, and ``docs/reference/run-statuses.md`` shows it.

What a caller of the API sees is the response's status: queued, in_progress, then completed, incomplete, failed or
cancelled. The run beside it needs two more words: ``cancelled`` until the last record is written, and ``ended``,
however it ended, until its log is sealed. Then the run is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

import msgspec

from antiphon.wire.response import Status

RunStatus: TypeAlias = Literal["queued", "in_progress", "cancelled", "ended"]
RUN_STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
UNFINISHED: frozenset[RunStatus] = frozenset({"queued", "in_progress"})


class Transition(msgspec.Struct, frozen=True):
    """One way from status to status.

    Attributes:
        method: of ``RunStore``.
        before: where the run may be; from elsewhere nothing changes. Empty: there is no run yet.
        after: where it is then; None: it is gone.
        response: what the response's status is then.
        meaning: for people.
    """

    method: str
    before: tuple[RunStatus, ...]
    after: RunStatus | None
    response: tuple[Status, ...]
    meaning: str


ENQUEUE = Transition("enqueue", (), "queued", ("queued",), "accepted, and durable")
CLAIM = Transition("claim", ("queued",), "in_progress", ("in_progress",), "a worker takes it, under a new epoch")
RELEASE = Transition("release", ("in_progress",), "queued", ("in_progress",), "a worker that stops gives it back")
RECOVER = Transition("recover", ("in_progress",), "queued", ("in_progress",), "its process has died")
REQUEUE = Transition("requeue_lost", ("in_progress",), "queued", ("in_progress",), "its process does not know of it")
CANCEL = Transition(
    "cancel", ("queued", "in_progress", "cancelled"), "cancelled", ("cancelled",), "permanently, under a new epoch"
)
FINISH = Transition("finish", ("in_progress",), "ended", ("completed", "incomplete", "failed"), "the worker is done")
FINISH_CANCELLED = Transition("finish", ("cancelled",), "ended", ("cancelled",), "the last record is written")
SEAL = Transition(
    "seal", ("ended",), None, ("completed", "incomplete", "failed", "cancelled"), "its log is packed, and stays"
)

TRANSITIONS = (ENQUEUE, CLAIM, RELEASE, RECOVER, REQUEUE, CANCEL, FINISH, FINISH_CANCELLED, SEAL)

WRITABLE: tuple[RunStatus, ...] = (*FINISH.before, *FINISH_CANCELLED.before)
"""Where a run is when somebody may add to its log, under its epoch."""


def join_for_sql(statuses: Iterable[RunStatus]) -> str:
    """The statuses as SQL has them behind ``IN``."""
    quoted = [f"'{status}'" for status in statuses]
    return f"({', '.join(quoted)})"


def render_markdown() -> str:
    """The table, for the docs."""
    lines = ["| `RunStore` | from | to | the response is | |", "| --- | --- | --- | --- | --- |"]
    for each in TRANSITIONS:
        before, after = ", ".join(each.before) or "nothing", each.after or "nothing"
        lines.append(f"| `{each.method}` | {before} | {after} | {', '.join(each.response)} | {each.meaning} |")
    return "\n".join(lines) + "\n"
