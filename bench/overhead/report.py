"""From samples to figures: medians over the rounds, and ratios to the raw proxy of the same round."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.overhead.rounds import (
    LATENCY,
    RAW,
    REQUESTS,
    STAGES,
    STORED,
    STREAMS,
    SUBJECTS,
    UNSTORED,
    WHOLE,
    Memory,
    Sample,
    Stage,
    Subject,
)

RSS_MB_MAX = 120.0
"""Target: resident memory of Antiphon without a model stays under this, in MB."""
RATIOS_MIN = {
    (STREAMS, UNSTORED): 0.5,
    (STREAMS, STORED): 0.4,
    (REQUESTS, UNSTORED): 0.6,
    (REQUESTS, STORED): 0.4,
}
"""Targets: rates as a share of the raw proxy's are at least these."""

KEYS = {RAW: "raw", UNSTORED: "unstored", STORED: "stored"}
"""The subjects' names in the JSON."""

Rounds = Sequence[Sequence[Sample]]
Reading = Callable[[Sample], float]


def _rate(sample: Sample) -> float:
    return sample.rate


def _p50_ms(sample: Sample) -> float:
    return sample.outcome.p50_ms


def _p99_ms(sample: Sample) -> float:
    return sample.outcome.p99_ms


def _cpu_ms(sample: Sample) -> float:
    return sample.cpu_ms_per_answer


CPU_SHARES: dict[str, Reading] = {
    "subject": lambda sample: sample.subject_cpu_s / sample.wall_s,
    "upstream": lambda sample: sample.upstream_cpu_s / sample.wall_s,
    "load": lambda sample: sample.load_cpu_s / sample.wall_s,
    "others": lambda sample: sample.others_cpu_s / sample.wall_s,
}
"""CPU time by process during a measurement, as a share of one core."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is printed, from the samples of all rounds."""

    rounds: Rounds
    memory: Memory

    def per_round(self, stage: Stage, subject: Subject, figure: Reading) -> list[float]:
        """One figure of one stage on one subject, round by round."""
        return [
            figure(sample)
            for samples in self.rounds
            for sample in samples
            if (sample.stage, sample.subject) == (stage, subject)
        ]

    def median(self, stage: Stage, subject: Subject, figure: Reading) -> float:
        return statistics.median(self.per_round(stage, subject, figure))

    def ratio(self, stage: Stage, subject: Subject, figure: Reading) -> float:
        """Median of the rounds' ratios to the raw proxy."""
        return statistics.median(self._pairs(stage, subject, figure, lambda own, raw: own / raw))

    def added(self, stage: Stage, subject: Subject, figure: Reading) -> float:
        """Median of the rounds' differences to the raw proxy."""
        return statistics.median(self._pairs(stage, subject, figure, lambda own, raw: own - raw))

    def _pairs(
        self, stage: Stage, subject: Subject, figure: Reading, join: Callable[[float, float], float]
    ) -> list[float]:
        own = self.per_round(stage, subject, figure)
        raw = self.per_round(stage, RAW, figure)
        return [join(*pair) for pair in zip(own, raw, strict=True)]

    def missed(self) -> list[str]:
        """The targets that were missed, in words."""
        ratios = {key: self.ratio(*key, _rate) for key in RATIOS_MIN}
        missed = [
            f"{stage.name}/s, {subject.name}: {ratios[stage, subject]:.3f} of the raw proxy, target {least}"
            for (stage, subject), least in RATIOS_MIN.items()
            if ratios[stage, subject] < least
        ]
        if self.memory.loaded_mb >= RSS_MB_MAX:
            missed.append(f"memory: {self.memory.loaded_mb:.1f} MB, target under {RSS_MB_MAX:.0f} MB")
        return missed


def as_json(report: Report, window_s: float, raw_by: str) -> dict[str, Any]:
    """The figures as plain values; units are last in the names, `_ratio` is to the raw proxy."""
    return {
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": len(os.sched_getaffinity(0)),
        },
        "rounds": len(report.rounds),
        "window_s": window_s,
        "raw_by": raw_by,
        "latency": {KEYS[subject]: _latency_json(report, subject) for subject in SUBJECTS},
        "requests": {KEYS[subject]: _rate_json(report, REQUESTS, subject) for subject in SUBJECTS},
        "streams": {KEYS[subject]: _rate_json(report, STREAMS, subject) for subject in SUBJECTS},
        "whole": {KEYS[subject]: _rate_json(report, WHOLE, subject) for subject in SUBJECTS},
        "rss": {name: round(value, 1) for name, value in dataclasses.asdict(report.memory).items()},
        "missed": report.missed(),
    }


def _cpu_json(report: Report, stage: Stage, subject: Subject) -> dict[str, float]:
    shares = {f"{name}_cores": round(report.median(stage, subject, figure), 3) for name, figure in CPU_SHARES.items()}
    return shares | {"subject_ms_per_answer": round(report.median(stage, subject, _cpu_ms), 4)}


def _latency_json(report: Report, subject: Subject) -> dict[str, Any]:
    return {
        "p50_ms": round(report.median(LATENCY, subject, _p50_ms), 3),
        "p99_ms": round(report.median(LATENCY, subject, _p99_ms), 3),
        "p50_added_ms": round(report.added(LATENCY, subject, _p50_ms), 3),
        "p99_added_ms": round(report.added(LATENCY, subject, _p99_ms), 3),
        "cpu": _cpu_json(report, LATENCY, subject),
    }


def _rate_json(report: Report, stage: Stage, subject: Subject) -> dict[str, Any]:
    return {
        "per_s": round(report.median(stage, subject, _rate), 1),
        "per_s_ratio": round(report.ratio(stage, subject, _rate), 3),
        "per_s_by_round": [round(value, 1) for value in report.per_round(stage, subject, _rate)],
        "p50_ms": round(report.median(stage, subject, _p50_ms), 3),
        "p99_ms": round(report.median(stage, subject, _p99_ms), 3),
        "cpu": _cpu_json(report, stage, subject),
    }


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    console.print(_figures(report), _cpu(report))
    memory = report.memory
    console.print(
        f"Antiphon's memory: {memory.idle_mb:.1f} MB before the load, {memory.loaded_mb:.1f} MB after it, "
        f"{memory.peak_mb:.1f} MB at its highest (target under {RSS_MB_MAX:.0f} MB after it)"
    )
    for line in report.missed():
        console.print(f"[red]missed[/]  {line}")


def _figures(report: Report) -> Table:
    table = Table(title=f"Medians; rounds: {len(report.rounds)}", title_justify="left")
    table.add_column("")
    for subject in SUBJECTS:
        table.add_column(subject.name, justify="right")
    table.add_row("p50, 1 connection, ms", *_latency_cells(report, _p50_ms))
    table.add_row("p99, 1 connection, ms", *_latency_cells(report, _p99_ms))
    for stage in (REQUESTS, STREAMS, WHOLE):
        cells = [_rate_cell(report, stage, subject) for subject in SUBJECTS]
        table.add_row(f"{stage.name}/s, {stage.connections} connections", *cells)
    return table


def _latency_cells(report: Report, figure: Reading) -> list[str]:
    raw = f"{report.median(LATENCY, RAW, figure):.2f}"
    return [raw] + [
        f"{report.median(LATENCY, subject, figure):.2f} (+{report.added(LATENCY, subject, figure):.2f})"
        for subject in (UNSTORED, STORED)
    ]


def _rate_cell(report: Report, stage: Stage, subject: Subject) -> str:
    rate = f"{report.median(stage, subject, _rate):,.0f}"
    least = RATIOS_MIN.get((stage, subject))
    if least is None:
        return rate
    ratio = report.ratio(stage, subject, _rate)
    return f"{rate} ([{'green' if ratio >= least else 'red'}]×{ratio:.3f}[/], target {least})"


def _cpu(report: Report) -> Table:
    table = Table(title="CPU, in cores; and of the subject for one answer", title_justify="left")
    table.add_column("stage")
    table.add_column("subject")
    for name in (*CPU_SHARES, "ms/answer", "× raw"):
        table.add_column(name, justify="right")
    for stage in STAGES:
        for subject in SUBJECTS:
            shares = [f"{report.median(stage, subject, figure):.2f}" for figure in CPU_SHARES.values()]
            cost = f"{report.median(stage, subject, _cpu_ms):.3f}"
            table.add_row(stage.name, subject.name, *shares, cost, f"{report.ratio(stage, subject, _cpu_ms):.2f}")
        table.add_section()
    return table
