"""`python -m bench.overhead`: measure, print, and (if asked) hold the figures against the targets.

Exit code 0: measured; 1: `--target-check` and a target missed; 2: the run is not valid.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.overhead import report, rounds
from bench.overhead.processes import Unready


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=rounds.__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, at least 1 (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--target-check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="run Antiphon under cProfile and write its event loop's profile there; the rates then mean nothing",
    )
    parser.add_argument(
        "--raw-by",
        choices=("read", "chunk"),
        default="read",
        help="the raw proxy sends on what each read gave (the limit), or each SSE frame by itself (default: read)",
    )
    parser.add_argument(
        "--command",
        default=rounds.ANTIPHON,
        help="how the server is started, with {upstream}, {port} and {data} (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds must be at least 1 and --seconds above 0")
    if options.profile and options.target_check:
        parser.error("--profile slows the server; leave out --target-check")
    return options


def _measure(options: argparse.Namespace) -> report.Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        rounds.bench(options.command, options.profile, raw_by_chunk=options.raw_by == "chunk") as bench,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("start", total=rounds.steps(options.rounds))
        done = iter(range(rounds.steps(options.rounds)))
        taken, memory = rounds.run(
            bench,
            options.rounds,
            options.seconds,
            lambda name: progress.update(task, description=name, completed=next(done)),
        )
    return report.Report(taken, memory)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        measured = _measure(options)
    except (rounds.Invalid, Unready) as error:
        print(f"not a valid run: {error}", file=sys.stderr)
        return 2
    report.show(measured, Console())
    line = json.dumps(report.as_json(measured, options.seconds, options.raw_by), ensure_ascii=False)
    print(line)
    if options.json:
        options.json.write_text(line + "\n")
    return 1 if options.target_check and measured.missed() else 0


if __name__ == "__main__":
    sys.exit(main())
