"""What is measured, on whom, and in which order.

Promise: within a round every stage runs on all subjects one after the other (A B C), then the next round begins, so
that a machine that grows slower or faster meanwhile does so for all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from bench.overhead import load
from bench.overhead.processes import Process, busy_s, free_port
from bench.overhead.upstream import TEXT

BIN = Path(sys.executable).parent
ANTIPHON = f"{BIN}/antiphon serve --upstream {{upstream}} --port {{port}} --data {{data}}"
"""How the server is started; `{upstream}` ends in `/v1`, `{data}` is an empty folder."""

ROOT = Path(__file__).parents[2]
LEAD_S = 0.25
"""How long each measurement runs before its window opens, in seconds."""
WARM_S = 1.0
"""How long each subject runs each stage before the first round, in seconds."""
SETTLE_S = 0.3
"""Pause after a measurement, for what a subject still has to write, in seconds."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One kind of load: `connections` clients at once, answers of `deltas` deltas, streamed to the reader or whole."""

    name: str
    connections: int
    deltas: int
    stream: bool


LATENCY = Stage("latency", connections=1, deltas=1, stream=False)
REQUESTS = Stage("requests", connections=32, deltas=1, stream=False)
STREAMS = Stage("streams", connections=16, deltas=200, stream=True)
WHOLE = Stage("whole", connections=16, deltas=200, stream=False)
STAGES = (LATENCY, REQUESTS, STREAMS, WHOLE)


@dataclasses.dataclass(frozen=True)
class Subject:
    """One that is measured. `store` is None for the raw proxy, which is sent the chat request itself."""

    name: str
    store: bool | None


RAW = Subject("raw proxy", store=None)
UNSTORED = Subject("antiphon, store=false", store=False)
STORED = Subject("antiphon, store=true", store=True)
SUBJECTS = (RAW, UNSTORED, STORED)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One measurement; CPU seconds are those of the whole measurement, which lasted `wall_s`."""

    subject: Subject
    stage: Stage
    outcome: load.Outcome
    wall_s: float
    subject_cpu_s: float
    upstream_cpu_s: float
    load_cpu_s: float
    others_cpu_s: float
    """Of everything else on the machine; much of it spoils the figures."""

    @property
    def rate(self) -> float:
        """Answers per second within the window."""
        return self.outcome.counted / self.outcome.window_s

    @property
    def cpu_ms_per_answer(self) -> float:
        """CPU time of the subject for one answer, in milliseconds."""
        return self.subject_cpu_s * 1000 / self.outcome.answered


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory of the Antiphon process, in MB: before any load, after all of it, and at its highest."""

    idle_mb: float
    loaded_mb: float
    peak_mb: float


class Invalid(Exception):
    """A measurement with a wrong answer in it; the run is worth nothing."""


def job(subject: Subject, stage: Stage, port: int, window_s: float) -> load.Job:
    """What the load generator is told."""
    to_raw = subject.store is None
    return load.Job(
        port=port,
        path="/v1/chat/completions" if to_raw else "/v1/responses",
        body=json.dumps(_chat_request(stage) if to_raw else _responses_request(subject, stage)),
        connections=stage.connections,
        lead_s=LEAD_S,
        window_s=window_s,
        expected=_frames(stage) if to_raw else _events(stage),
    )


def _chat_request(stage: Stage) -> dict[str, object]:
    """What Antiphon asks of its upstream when it is asked `_responses_request`."""
    return {
        "model": f"deltas-{stage.deltas}",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _responses_request(subject: Subject, stage: Stage) -> dict[str, object]:
    request: dict[str, object] = {"model": f"deltas-{stage.deltas}", "input": "hi", "store": subject.store}
    return request | {"stream": True} if stage.stream else request


def _frames(stage: Stage) -> load.Expectation:
    """The upstream's own frames: the deltas, then finish, usage and the end."""
    return load.Expectation(needle="data: ", count=stage.deltas + 3, ending="data: [DONE]")


def _events(stage: Stage) -> load.Expectation:
    """A stream has each delta and completes; a whole response holds the text once."""
    if stage.stream:
        return load.Expectation("event: response.output_text.delta", stage.deltas, "event: response.completed")
    return load.Expectation(json.dumps(TEXT * stage.deltas), 1, '"completed"')


@dataclasses.dataclass(frozen=True)
class Bench:
    """All processes, up and answering."""

    upstream: Process
    raw: Process
    antiphon: Process
    load: Process
    raw_port: int
    antiphon_port: int

    def measure(self, subject: Subject, stage: Stage, window_s: float) -> Sample:
        """Run one stage on one subject; raises Invalid when an answer is wrong."""
        process, port = (self.raw, self.raw_port) if subject is RAW else (self.antiphon, self.antiphon_port)
        watched = (process, self.upstream, self.load)
        cpu_s, began_busy_s, began_at = [each.cpu_s() for each in watched], busy_s(), time.monotonic()
        line = self.load.ask(msgspec.json.encode(job(subject, stage, port, window_s)))
        wall_s = time.monotonic() - began_at
        used_s = [each.cpu_s() - before_s for each, before_s in zip(watched, cpu_s, strict=True)]
        others_s = max(0.0, busy_s() - began_busy_s - sum(used_s))
        outcome = msgspec.json.decode(line, type=load.Outcome)
        if outcome.error is not None:
            raise Invalid(f"{stage.name}, {subject.name}: {outcome.error}\n{process.log_tail()}")
        time.sleep(SETTLE_S)
        return Sample(subject, stage, outcome, wall_s, *used_s, others_s)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"bench.overhead.{name}", *arguments]


def _antiphon_argv(command: str, upstream: str, port: int, data: Path, profile: Path | None) -> list[str]:
    argv = [word.format(upstream=upstream, port=port, data=data) for word in command.split()]
    return [sys.executable, "-m", "cProfile", "-o", str(profile.absolute()), *argv] if profile else argv


@contextlib.contextmanager
def bench(command: str = ANTIPHON, profile: Path | None = None, *, raw_by_chunk: bool = False) -> Iterator[Bench]:
    """Start everything on 127.0.0.1 with a folder that goes when the run ends."""
    upstream_port, raw_port, antiphon_port = free_port(), free_port(), free_port()
    upstream_url = f"http://127.0.0.1:{upstream_port}"
    with tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder, contextlib.ExitStack() as stack:
        logs, data = Path(folder), Path(folder) / "data"
        data.mkdir()

        upstream = stack.enter_context(
            Process(_module("upstream", "--port", str(upstream_port)), logs / "upstream.log", cwd=ROOT)
        )
        upstream.wait_until_ready(upstream_port, "/v1/models")
        raw_argv = _module("proxy", "--port", str(raw_port), "--upstream", upstream_url)
        raw_argv += ["--by-chunk"] if raw_by_chunk else []
        raw = stack.enter_context(Process(raw_argv, logs / "proxy.log", cwd=ROOT))
        raw.wait_until_ready(raw_port, "/v1/models")
        antiphon = stack.enter_context(
            Process(
                _antiphon_argv(command, f"{upstream_url}/v1", antiphon_port, data, profile),
                logs / "antiphon.log",
                cwd=data,
                stop_signal=signal.SIGINT if profile else signal.SIGTERM,
            )
        )
        antiphon.wait_until_ready(antiphon_port, "/health")
        generator = stack.enter_context(Process(_module("load"), logs / "load.log", cwd=ROOT, pipes=True))
        yield Bench(upstream, raw, antiphon, generator, raw_port, antiphon_port)


def steps(rounds: int) -> int:
    """How many measurements a run has, those for warming up included."""
    return (rounds + 1) * len(STAGES) * len(SUBJECTS)


def run(
    bench: Bench, rounds: int, window_s: float, before: Callable[[str], None]
) -> tuple[Sequence[Sequence[Sample]], Memory]:
    """The samples of each round, and the memory; `before` is told what comes next. Raises Invalid."""
    idle_mb = bench.antiphon.rss_mb()
    _round(bench, WARM_S, lambda name: before(f"warm up · {name}"))
    taken = [
        _round(bench, window_s, lambda name, at=at: before(f"round {at} of {rounds} · {name}"))
        for at in range(1, rounds + 1)
    ]
    return taken, Memory(idle_mb, bench.antiphon.rss_mb(), bench.antiphon.rss_peak_mb())


def _round(bench: Bench, window_s: float, before: Callable[[str], None]) -> list[Sample]:
    samples: list[Sample] = []
    for stage in STAGES:
        for subject in SUBJECTS:
            before(f"{stage.name} · {subject.name}")
            samples.append(bench.measure(subject, stage, window_s))
    return samples
