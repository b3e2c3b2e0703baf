"""The processes of a run: started, watched through /proc, and ended by their own pid."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_S = 60.0
"""How long a process may take until it answers, in seconds."""
STOP_S = 15.0
"""How long a process may take to end after it was asked to, in seconds."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOG_TAIL_CHARS = 4_000


class Unready(Exception):
    """A process ended, or stayed silent, before it could be measured."""


def busy_s() -> float:
    """CPU time that all of the machine's cores have spent at work since it started, in seconds.

    Time that a hypervisor gave to others counts as work: it too was not to be had.
    """
    with Path("/proc/stat").open() as lines:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, lines.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A child process; leaving the context ends it. What it prints goes to `log`."""

    def __init__(
        self, argv: Sequence[str], log: Path, *, cwd: Path, stop_signal: int = signal.SIGTERM, pipes: bool = False
    ) -> None:
        self._log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                argv,
                cwd=cwd,
                env={name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")},
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.stdin:
            self._child.stdin.close()
        if self._child.poll() is None:
            self._child.send_signal(self._stop_signal)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()

    def ask(self, line: bytes) -> bytes:
        """Write one line to the child, wait for one line back; raises Unready when the child is gone."""
        assert self._child.stdin and self._child.stdout
        try:
            self._child.stdin.write(line + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            raise Unready(self.log_tail()) from None
        answer = self._child.stdout.readline()
        if not answer:
            raise Unready(self.log_tail())
        return answer

    def wait_until_ready(self, port: int, path: str) -> None:
        """Wait until GET `path` answers 200; raises Unready with the end of the log."""
        deadline = time.monotonic() + READY_S
        while not _answers(port, path):
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise Unready(f"{self._child.args!r} does not answer at {path}:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        """The end of what the process printed."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL_CHARS:]

    def cpu_s(self) -> float:
        """CPU time used until now by the process and its children, user and system, in seconds."""
        return sum(_cpu_s(pid) for pid in _tree(self._child.pid))

    def rss_mb(self) -> float:
        """Resident memory now of the process and its children, in MB (10⁶ bytes)."""
        return sum(_status_mb(pid, "VmRSS") for pid in _tree(self._child.pid))

    def rss_peak_mb(self) -> float:
        """The highest resident memory of the process itself until now, in MB."""
        return _status_mb(self._child.pid, "VmHWM")


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _status_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
