"""The load generator: a process that takes one job per line on stdin and gives one outcome per line on
stdout.

Promise: hand-written HTTP/1.1 over keep-alive connections, so that the generator is not what is measured.
Every answer is read to the end of its body and checked: status 200, the expected number of frames, and
the expected last word. One wrong answer makes the whole job an error.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

GRACE_S = 15.0
"""How long after its window a job may take to drain before it is an error, in seconds."""

_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Expectation(msgspec.Struct, frozen=True):
    """What every body holds: `needle` exactly `count` times, and `ending` at least once."""

    needle: str
    count: int
    ending: str


class Job(msgspec.Struct, frozen=True):
    """`connections` clients, each sending `body` again as soon as it is answered.

    What is answered during the first `lead_s` seconds is checked, not counted; the window after it lasts
    `window_s`.
    """

    port: int
    path: str
    body: str
    connections: int
    lead_s: float
    window_s: float
    expected: Expectation


class Outcome(msgspec.Struct, frozen=True):
    """`counted` answers came within the window, `answered` in all; latencies are of the window, in
    milliseconds.
    """

    counted: int = 0
    answered: int = 0
    window_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    error: str | None = None


class WrongAnswer(Exception):
    """An answer that is not what the benchmark asked for."""


def request_bytes(job: Job) -> bytes:
    """The request as it goes over the wire."""
    body = job.body.encode()
    head = (
        f"POST {job.path} HTTP/1.1\r\nhost: 127.0.0.1:{job.port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def body_of(answer: bytes) -> bytes:
    """The body of a whole HTTP answer, out of its chunks if it has any."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    parts: list[bytes] = []
    at = 0
    while True:
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


class Check:
    """An expectation, encoded."""

    def __init__(self, expected: Expectation) -> None:
        self._needle = expected.needle.encode()
        self._count = expected.count
        self._ending = expected.ending.encode()

    def __call__(self, answer: bytes) -> None:
        """Raise WrongAnswer unless the answer is right.

        Counts in the bytes as they came first; only where that fails (a chunk's border may cut a needle)
        is the body taken out of its chunks.
        """
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise WrongAnswer(f"status: {answer[:600]!r}")
        if not self._holds(answer):
            body = body_of(answer)
            if not self._holds(body):
                seen = body.count(self._needle)
                wanted = f"{self._count} × {self._needle!r} and {self._ending!r}"
                raise WrongAnswer(f"wanted {wanted}, counted {seen}: …{body[-600:]!r}")

    def _holds(self, data: bytes) -> bool:
        return data.count(self._needle) == self._count and self._ending in data


class Tally:
    """What the connections of one job share: the clock's bounds, the latencies, the end."""

    def __init__(self, job: Job) -> None:
        self.check = Check(job.expected)
        self.request = request_bytes(job)
        self.latencies_s: list[float] = []
        self.answered = 0
        self.opens_at = time.perf_counter() + job.lead_s
        self.closes_at = self.opens_at + job.window_s
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = job.connections

    def answer(self, began_at: float, ended_at: float) -> bool:
        """Count one right answer; whether another request is wanted."""
        self.answered += 1
        if self.opens_at <= ended_at < self.closes_at:
            self.latencies_s.append(ended_at - began_at)
        if ended_at < self.closes_at:
            return True
        self._open -= 1
        if not self._open and not self.finished.done():
            self.finished.set_result(None)
        return False

    def fail(self, error: Exception) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)


class Connection(asyncio.Protocol):
    """One client: sends, reads to the end of the body, checks, sends again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.fail(WrongAnswer(f"the server closed a connection: {exc!r}"))

    def _send(self) -> None:
        self._began_at = time.perf_counter()
        self._transport.write(self._tally.request)

    def data_received(self, data: bytes) -> None:
        if len(data) < len(_LAST_CHUNK) and self._pieces:
            self._size -= len(self._pieces[-1])
            data = self._pieces.pop() + data
        self._pieces.append(data)
        self._size += len(data)
        if self._needed is None:
            self._read_head()
        whole = self._size >= self._needed if self._needed else data.endswith(_LAST_CHUNK)
        if whole:
            self._finish(time.perf_counter())

    def _read_head(self) -> None:
        """Learn where the answer ends: `_needed` bytes in all, or 0 when its chunks will tell."""
        data = b"".join(self._pieces)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        _, found, value = data[:end].lower().partition(b"\r\ncontent-length:")
        self._needed = end + 4 + int(value.split(b"\r\n")[0]) if found else 0

    def _finish(self, ended_at: float) -> None:
        answer = b"".join(self._pieces)
        self._pieces.clear()
        self._size, self._needed = 0, None
        try:
            self._tally.check(answer)
        except WrongAnswer as error:
            self._tally.fail(error)
            return
        if self._tally.answer(self._began_at, ended_at):
            self._send()


def _percentile_ms(ordered_s: list[float], share: float) -> float:
    return ordered_s[min(int(len(ordered_s) * share), len(ordered_s) - 1)] * 1000


async def run(job: Job) -> Outcome:
    """Run one job to its end; raises WrongAnswer, OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    tally = Tally(job)
    transports: list[asyncio.BaseTransport] = []
    try:
        async with asyncio.timeout(job.lead_s + job.window_s + GRACE_S):
            for _ in range(job.connections):
                transport, _ = await loop.create_connection(lambda: Connection(tally), "127.0.0.1", job.port)
                transports.append(transport)
            await tally.finished
    finally:
        tally.finished.cancel()
        for transport in transports:
            transport.close()
    ordered_s = sorted(tally.latencies_s)
    if not ordered_s:
        raise WrongAnswer("no answer came within the window")
    return Outcome(
        counted=len(ordered_s),
        answered=tally.answered,
        window_s=job.window_s,
        p50_ms=_percentile_ms(ordered_s, 0.50),
        p99_ms=_percentile_ms(ordered_s, 0.99),
    )


def main() -> None:
    for line in sys.stdin:
        try:
            outcome = uvloop.run(run(msgspec.json.decode(line, type=Job)))
        except (WrongAnswer, OSError, TimeoutError) as error:
            outcome = Outcome(error=f"{type(error).__name__}: {error}")
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
