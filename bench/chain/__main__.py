"""`python -m bench.chain`: a long chain, by `previous_response_id` and as a conversation, in the store and over HTTP.

Exit code 0: flat; 1: a turn of a long chain takes more room or more statements than one of a short chain; 2: the run is
not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.chain import inside, served
from bench.chain.looks import WAYS, Look
from bench.overhead.processes import Unready
from bench.picture import bars

GROWTH_MAX = 1.1
"""What a turn of the last quarter may take of the room of one of the second quarter. The first is for the tables' own
first pages."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chain", description=__doc__)
    parser.add_argument("--turns", type=int, default=1000, help="turns of each chain (default: 1000)")
    parser.add_argument("--looks", type=int, default=20, help="how often to look (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    if not 8 <= options.looks <= options.turns:
        parser.error("--looks: from 8 to as many as there are turns")
    return options


async def _all(looks: AsyncIterator[Look]) -> list[Look]:
    return [look async for look in looks]


def _measured(place: Path, turns: int, looks: int) -> dict[str, list[Look]]:
    statements = inside.Statements()
    seen = {
        f"{way}, in the store": asyncio.run(_all(inside.grow(place / way, way, turns, looks, statements)))
        for way in WAYS
    }
    with served.server(place) as url:
        for way in WAYS:
            seen[f"{way}, over HTTP"] = asyncio.run(_all(served.grow(url, way, turns, looks)))
    return seen


def _wrong(name: str, looks: Sequence[Look]) -> list[str]:
    """What is not flat."""
    quarter = len(looks) // 4
    second, last = looks[quarter : 2 * quarter], looks[-quarter:]
    wrong: list[str] = []
    room = [statistics.mean(look.turn_bytes for look in part) for part in (second, last)]
    if room[1] > GROWTH_MAX * room[0]:
        wrong.append(f"{name}: a turn's room grows from {room[0]:.0f} to {room[1]:.0f} bytes")
    if {look.load_statements for look in looks} - {1, None}:
        wrong.append(f"{name}: the context takes more than one statement")
    if len({look.turn_statements for look in looks}) > 1:
        wrong.append(f"{name}: a longer chain takes other statements")
    return wrong


def _show(name: str, looks: Sequence[Look], console: Console) -> None:
    table = Table("turns", "bytes/turn", "turn ms", "load ms", "statements/load", "statements/turn", title=name)
    for look in looks:
        cells = (look.turns, round(look.turn_bytes), f"{look.turn_ms:.2f}", look.load_ms and f"{look.load_ms:.2f}")
        table.add_row(*(str(cell or "") for cell in (*cells, look.load_statements, look.turn_statements)))
    console.print(table)
    for column, unit in (("turn_bytes", "bytes"), ("turn_ms", "ms"), ("load_ms", "ms")):
        values = [value for look in looks if (value := getattr(look, column)) is not None]
        if values:
            console.print(f"{column:10} {bars(values)}  {values[0]:.2f} to {values[-1]:.2f} {unit}")


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="antiphon-chain-") as name:
        try:
            seen = _measured(Path(name), options.turns, options.looks)
        except (Unready, AssertionError, OSError) as error:
            print(f"not a valid run: {error!r}", file=sys.stderr)
            return 2
    console = Console()
    for title, looks in seen.items():
        _show(title, looks, console)
    if options.json:
        stats = {title: [dataclasses.asdict(look) for look in looks] for title, looks in seen.items()}
        options.json.write_text(json.dumps(stats))
    wrong = [text for title, looks in seen.items() for text in _wrong(title, looks)]
    print("; ".join(wrong) if wrong else "flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
