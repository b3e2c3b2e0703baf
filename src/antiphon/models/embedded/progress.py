"""Tells people how far the fetch of a model is, in a terminal or in a log."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from antiphon.models.embedded.catalogue import size


class Abandoned(Exception):
    """What a reporter raises in ``at`` to end the fetch. What there is stays, and is gone on with the next time."""


class Reporter(Protocol):
    """Who is told how far a fetch is."""

    def begin(self, what: str, have_bytes: int, total_bytes: int) -> None: ...
    def at(self, have_bytes: int) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Tells nobody."""

    def begin(self, what: str, have_bytes: int, total_bytes: int) -> None: ...
    def at(self, have_bytes: int) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Lines(Silent):
    """A line at every quarter, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total_bytes = 1
        self._quarter = 0

    def begin(self, what: str, have_bytes: int, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._quarter = 4 * have_bytes // total_bytes
        self.say(f"fetching {what}: {size(have_bytes)} of {size(total_bytes)}")

    def at(self, have_bytes: int) -> None:
        quarter = 4 * have_bytes // self._total_bytes
        if quarter > self._quarter:
            self._quarter = quarter
            self.say(f"  {25 * quarter} %")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bar(Silent):
    """A progress bar, for a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        text = TextColumn("{task.description}", markup=False)
        self._progress = Progress(text, BarColumn(), *columns, console=console)
        self._task = self._progress.add_task("", visible=False)

    def begin(self, what: str, have_bytes: int, total_bytes: int) -> None:
        self._progress.start()
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total_bytes, completed=have_bytes)

    def at(self, have_bytes: int) -> None:
        self._progress.update(self._task, completed=have_bytes)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def on_stderr() -> Reporter:
    """A bar when standard error is a terminal, else lines."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(console)
