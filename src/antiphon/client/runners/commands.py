"""Runs one program with bounds on its time and its output, and leaves nothing of it running."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

PRINTED_BYTES_MAX: Final = 64 * 1024 * 1024
KEPT_BYTES_MAX: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_LOOK_S: Final = 0.05
_GRACE_S: Final = 0.5


@dataclass(frozen=True)
class Printed:
    """What a program printed and how it ended.

    Attributes:
        stdout: its beginning and its end, if it is more than 1 MiB.
        stderr: the same.
        exit_code: 128 and the signal's number, if a signal ended it; None, if its time was over.
    """

    stdout: str
    stderr: str
    exit_code: int | None


def perform(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float) -> Printed:
    """Runs a program in a process group of its own, which is killed when the program has ended, or has had its time.

    A program that prints more than 64 MiB is killed, and its stderr says so.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out, process.stderr as err:
        kept = {out: _Kept(), err: _Kept()}
        try:
            in_time = _read(process, kept, time.monotonic() + timeout_s)
        finally:
            _kill(process)
    code = process.returncode
    if sum(each.size for each in kept.values()) > PRINTED_BYTES_MAX:
        kept[err].add(f"\n[It was killed: it printed more than {PRINTED_BYTES_MAX} bytes.]".encode())
    return Printed(kept[out].text(), kept[err].text(), (code if code >= 0 else 128 - code) if in_time else None)


@dataclass
class _Kept:
    """The beginning and the end of what was printed."""

    size: int = 0
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        room = KEPT_BYTES_MAX // 2 - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > KEPT_BYTES_MAX:
            del self._tail[: -KEPT_BYTES_MAX // 2]

    def text(self) -> str:
        tail = self._tail[-KEPT_BYTES_MAX // 2 :]
        left_out = self.size - len(self._head) - len(tail)
        gap = f"\n[… {left_out} bytes …]\n".encode() if left_out else b""
        return bytes(self._head + gap + tail).decode("utf-8", "replace")


def _read(process: subprocess.Popen[bytes], kept: dict[IO[bytes], _Kept], deadline: float) -> bool:
    """Reads until the program has ended; False if its time was over before.

    What it leaves in the background may hold its pipes: that is killed with it.
    """
    with selectors.DefaultSelector() as selector:
        for pipe in kept:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        ended = False
        while selector.get_map():
            if not ended and _has_ended(process):
                ended = True
                _kill_group(process)
                deadline = time.monotonic() + _GRACE_S
            if (left := deadline - time.monotonic()) <= 0:
                return ended
            for key, _ in selector.select(min(left, _LOOK_S)):
                pipe: IO[bytes] = key.fileobj  # pyright: ignore[reportAssignmentType]
                if chunk := pipe.read(_READ_BYTES):
                    kept[pipe].add(chunk)
                else:
                    selector.unregister(pipe)
            if sum(each.size for each in kept.values()) > PRINTED_BYTES_MAX:
                return True
    return ended or _ends(process, deadline)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it stays a zombie, so that its group's number is not given away."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # where the process ignores its children's ends
        return True


def _ends(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether a program that prints no more ends in time."""
    while not _has_ended(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(min(_LOOK_S, 0.005))
    return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    _kill_group(process)
    process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
