"""`python -m bench.inprocess`: a call with the engine in the client's process, against the same call over HTTP.

Exit code 0: in-process is the faster one everywhere; 1: it is not; 2: the run is not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from antiphon import AsyncOpenAI, OpenAI
from antiphon.testing.inprocess import scripted
from bench.inprocess import served

WAYS = ("in process", "over HTTP")


class Case(NamedTuple):
    """What is measured."""

    client: str
    answer: str
    deltas: int
    store: bool

    def __str__(self) -> str:
        return f"{self.client}, {self.answer} of {self.deltas}, {'stored' if self.store else 'not stored'}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.inprocess", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--calls", type=int, default=30, help="calls of a round, per case and way (default: 30)")
    parser.add_argument("--deltas", type=int, default=200, help="deltas of the long answers (default: 200)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser.parse_args()


def _cases(deltas: int) -> list[Case]:
    shapes = (("whole", 1), ("whole", deltas), ("stream", 1), ("stream", deltas))
    clients = ("sync", "async")
    return [Case(client, *shape, store) for client, shape, store in itertools.product(clients, shapes, (False, True))]


class Way:
    """Clients of one way, kept open over all rounds.

    Args:
        make: makes a client for an engine that answers with so many deltas.
    """

    def __init__(self, make: Callable[[type[Any], int], Any], stack: ExitStack) -> None:
        self._runner = stack.enter_context(asyncio.Runner())
        self._make = make
        self._clients: dict[tuple[str, int], Any] = {}
        stack.callback(self._close)

    def took_s(self, case: Case, calls: int) -> list[float]:
        """How long each call took, to the last byte of its answer, as the client's own objects."""
        client = self._client(case)
        if case.client == "async":
            return self._runner.run(_async_calls(client, case, calls))
        return [_sync_call(client, case) for _ in range(calls)]

    def _client(self, case: Case) -> Any:
        kind = (case.client, case.deltas)
        if kind not in self._clients:
            self._clients[kind] = self._make(AsyncOpenAI if case.client == "async" else OpenAI, case.deltas)
        return self._clients[kind]

    def _close(self) -> None:
        for (kind, _), client in self._clients.items():
            if kind == "async":
                self._runner.run(client.close())
            else:
                client.close()


def _sync_call(client: OpenAI, case: Case) -> float:
    began = time.perf_counter()
    answer: Any = client.responses.create(model="m", input="Hi", store=case.store, stream=case.answer == "stream")
    last = list(answer)[-1].response if case.answer == "stream" else answer
    took = time.perf_counter() - began
    _check(last, case)
    return took


async def _async_calls(client: AsyncOpenAI, case: Case, calls: int) -> list[float]:
    took: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        stream = case.answer == "stream"
        answer: Any = await client.responses.create(model="m", input="Hi", store=case.store, stream=stream)
        last = [event async for event in answer][-1].response if stream else answer
        took.append(time.perf_counter() - began)
        _check(last, case)
    return took


def _check(response: Any, case: Case) -> None:
    assert response.status == "completed", response.status
    assert response.output_text == "word " * case.deltas, response.output_text


def _measured(options: argparse.Namespace, place: Path, stack: ExitStack) -> dict[Case, list[tuple[float, float]]]:
    """Per case and round, the median call of both ways, in ms."""
    lengths = (1, options.deltas)
    urls = {n: stack.enter_context(served.server(place / f"served-{n}", n)) for n in lengths}
    engines = {n: scripted(served.model(n)) for n in lengths}
    ways = (
        Way(lambda kind, n: kind(data=place / f"own-{n}", engine=engines[n]), stack),
        Way(lambda kind, n: kind(base_url=urls[n], api_key="none"), stack),
    )
    cases = _cases(options.deltas)
    rounds: dict[Case, list[tuple[float, float]]] = {case: [] for case in cases}
    for number in range(options.rounds + 1):
        for case in cases:
            # Who goes first changes with every round.
            turn = ways if number % 2 else ways[::-1]
            took = {way: statistics.median(way.took_s(case, options.calls)) * 1000 for way in turn}
            if number:  # the first round warms everything
                rounds[case].append((took[ways[0]], took[ways[1]]))
    return rounds


def _show(rounds: dict[Case, list[tuple[float, float]]]) -> dict[str, dict[str, float]]:
    table = Table("call", *(f"{way}, ms" for way in WAYS), "ratio")
    stats: dict[str, dict[str, float]] = {}
    for case, seen in rounds.items():
        own, http = (statistics.median(way) for way in zip(*seen, strict=True))
        ratio = statistics.median(mine / theirs for mine, theirs in seen)
        stats[str(case)] = {"in_process_ms": own, "http_ms": http, "ratio": ratio}
        table.add_row(str(case), f"{own:.2f}", f"{http:.2f}", f"{ratio:.2f}")
    Console().print(table)
    return stats


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="antiphon-inprocess-") as name, ExitStack() as stack:
        try:
            stats = _show(_measured(options, Path(name), stack))
        except (AssertionError, OSError) as error:
            print(f"not a valid run: {error!r}", file=sys.stderr)
            return 2
    if options.json:
        options.json.write_text(json.dumps(stats))
    slower = [case for case, figure in stats.items() if figure["ratio"] >= 1]
    print(f"slower in process: {'; '.join(slower)}" if slower else "in process is faster everywhere")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
