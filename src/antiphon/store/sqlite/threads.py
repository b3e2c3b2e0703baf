"""What the store's threads do: one commits requests in groups, the others read."""

from __future__ import annotations

import sqlite3

from antiphon.store.sqlite.connection import translate_error
from antiphon.store.sqlite.executor import Executor, Job, Outcome, attempt
from antiphon.telemetry.metrics import Histogram


def commit_in_groups(db: sqlite3.Connection, group_max: int, groups: Histogram, executor: Executor) -> None:
    """One transaction for all that wait, so that they share its fsync. Callers hear of it after the commit.

    A group in which anything fails is undone and tried again one by one, so that a bad request fails alone, and a
    disk too full for one may have room for others. Whatever fails, the thread lives on. ``groups`` sees how large each
    committed group was.
    """
    while waiting := _take_group(executor, group_max):
        if group := [job for job in waiting if not job.alone]:
            executor.deliver(commit_group(db, group, groups))
        if alone := [job for job in waiting if job.alone]:
            executor.deliver([attempt(job, db) for job in alone])
    db.close()


def read(db: sqlite3.Connection, executor: Executor) -> None:
    """One statement after the other, each on the newest committed state."""
    while job := executor.jobs.get():
        executor.deliver([attempt(job, db)])
    db.close()


def _take_group(executor: Executor, group_max: int) -> list[Job]:
    """Waits for one job and takes the others that are there; none when the executor is closed and empty."""
    group: list[Job] = []
    while job := executor.jobs.get():
        group.append(job)
        if len(group) == group_max or executor.jobs.empty():
            return group
    if group:
        # The sign to end was for the next call.
        executor.jobs.put(None)
    return group


def commit_group(db: sqlite3.Connection, group: list[Job], groups: Histogram) -> list[Outcome]:
    try:
        db.execute("BEGIN IMMEDIATE")
    except Exception as error:
        # Not one by one: if another program holds the database, each try takes the whole busy timeout.
        return [Outcome(job.future, None, translate_error(error)) for job in group]
    try:
        outcomes = [Outcome(job.future, job.work(db)) for job in group]
        db.execute("COMMIT")
    except Exception as error:
        _roll_back(db)
        if len(group) > 1:
            return [outcome for job in group for outcome in commit_group(db, [job], groups)]
        return [Outcome(group[0].future, None, translate_error(error))]
    groups.observe(len(group))
    return outcomes


def _roll_back(db: sqlite3.Connection) -> None:
    if not db.in_transaction:
        return
    try:
        db.execute("ROLLBACK")
    except sqlite3.Error:
        # SQLite rolled back by itself; the next BEGIN tells if it did not.
        return
