"""`python -m bench.soak`: a server under mixed load, with small bounds, watched for growth.

Clients stream, ask for whole answers, continue chains and conversations, leave in mid-stream, read slowly, and send
nonsense. The server keeps responses for seconds, and at most some megabytes, so that it sweeps all the time;
conversations, which have no time, go for want of room.

Exit code 0: bounded; 1: memory or disk grew past its bound; 2: the run is not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from bench.overhead.processes import Process, Unready, free_port
from bench.picture import bars

ROOT = Path(__file__).parents[2]
CHAIN_TURNS = 20
FREE_BYTES = 16 << 20
"""Free space that the database keeps."""
LOG_BYTES = 64 << 20
"""What the write-ahead log may take."""
DAY_S = 86_400


@dataclasses.dataclass(frozen=True)
class Look:
    """The server at one moment."""

    at_s: float
    rss_mb: float
    used_mb: float
    file_mb: float
    commits: int
    open_streams: int
    answered: int


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--clients", type=int, default=16, help="clients at once (default: 16)")
    parser.add_argument("--store-mb", type=float, default=16.0, help="the store's bound in MB (default: 16)")
    parser.add_argument("--keep-s", type=float, default=20.0, help="how long responses are kept (default: 20)")
    parser.add_argument("--looks", type=int, default=20, help="how often to look (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser.parse_args()


class Client:
    """One client that does one thing after the other, at random."""

    def __init__(self, session: aiohttp.ClientSession, done: Counter[str], seed: int) -> None:
        self._session = session
        self._done = done
        self._chance = random.Random(seed)
        self._chain: list[str] = []
        self._conversation = ""
        self._said = 0

    async def run(self, until: float) -> None:
        often = (self.stream, self.turn, self.talk)
        acts = (*often, *often, self.turn, self.leave, self.slow, self.nonsense)
        while time.monotonic() < until:
            act = self._chance.choice(acts)
            await act()
            self._done[act.__name__] += 1

    def _body(self, deltas: int, **more: object) -> dict[str, object]:
        # Texts of many lengths: the same sizes again and again would leave no holes in memory or file.
        text = "tell me more " * self._chance.randint(1, 400)
        return {"model": f"deltas-{deltas}", "input": text, **more}

    async def stream(self) -> None:
        body = self._body(200, stream=True, store=self._chance.random() < 0.5)
        async with self._session.post("responses", json=body) as answer:
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")

    async def turn(self) -> None:
        previous = self._chain[-1] if self._chain and len(self._chain) < CHAIN_TURNS else None
        if previous is None:
            self._chain.clear()
        body = self._body(1, **({"previous_response_id": previous} if previous else {}))
        async with self._session.post("responses", json=body) as answer:
            if answer.status == 400:  # its parent was swept meanwhile
                self._chain.clear()
                return
            assert answer.status == 200, await answer.text()
            self._chain.append((await answer.json())["id"])

    async def talk(self) -> None:
        if not self._conversation or self._said == CHAIN_TURNS:
            async with self._session.post("conversations", json={}) as answer:
                self._conversation, self._said = (await answer.json())["id"], 0
        body = self._body(1, conversation=self._conversation)
        async with self._session.post("responses", json=body) as answer:
            if answer.status == 404:  # swept meanwhile
                self._conversation = ""
                return
            assert answer.status == 200, await answer.text()
            self._said += 1

    async def leave(self) -> None:
        async with self._session.post("responses", json=self._body(20_000, stream=True)) as answer:
            await answer.content.read(2_000)
            answer.close()

    async def slow(self) -> None:
        async with self._session.post("responses", json=self._body(200, stream=True, store=False)) as answer:
            for _ in range(5):
                await answer.content.read(1_000)
                await asyncio.sleep(0.1)
            await answer.read()

    async def nonsense(self) -> None:
        async with self._session.post("responses", json=self._body(1, temperature="hot")) as answer:
            assert answer.status == 400


async def _look(session: aiohttp.ClientSession, server: Process, began: float, done: Counter[str]) -> Look:
    async with session.get("../metrics") as answer:
        lines = [line.rpartition(" ") for line in (await answer.text()).splitlines() if not line.startswith("#")]
    stats = {name: float(value) for name, _, value in lines}
    return Look(
        at_s=round(time.monotonic() - began, 1),
        rss_mb=round(server.rss_mb(), 1),
        used_mb=round(stats["antiphon_store_used_bytes"] / 1e6, 1),
        file_mb=round(stats["antiphon_store_file_bytes"] / 1e6, 1),
        commits=int(stats["antiphon_store_commits_total"]),
        open_streams=int(stats["antiphon_open_streams"]),
        answered=done.total(),
    )


async def _soak(options: argparse.Namespace, url: str, server: Process) -> tuple[list[Look], Counter[str]]:
    done: Counter[str] = Counter()
    looks: list[Look] = []
    began = time.monotonic()
    until = began + options.seconds
    connector = aiohttp.TCPConnector(limit=options.clients + 1)
    async with aiohttp.ClientSession(url, connector=connector) as session, asyncio.TaskGroup() as group:
        for seed in range(options.clients):
            group.create_task(Client(session, done, seed).run(until))
        for n in range(options.looks):
            await asyncio.sleep(max(0.0, began + (n + 1) * options.seconds / options.looks - time.monotonic()))
            looks.append(await _look(session, server, began, done))
    return looks, done


def _verdict(looks: list[Look], store_mb: float) -> list[str]:
    """What grew past its bound. The first half is for warming up."""
    half = len(looks) // 2
    settled, late = looks[half : half + max(1, half // 2)], looks[half + max(1, half // 2) :]
    wrong: list[str] = []
    if late and max(look.rss_mb for look in late) > 1.15 * max(look.rss_mb for look in settled) + 8:
        wrong.append("memory still grows in the second half")
    file_max = store_mb * 2 + (FREE_BYTES + LOG_BYTES) / 1e6
    if max(look.file_mb for look in looks) > file_max:
        wrong.append(f"the files passed {file_max:.0f} MB")
    return wrong


def _show(looks: list[Look], done: Counter[str], console: Console) -> None:
    table = Table("s", "memory MB", "content MB", "files MB", "commits", "open streams", "answered")
    for look in looks:
        table.add_row(*(str(value) for value in dataclasses.astuple(look)))
    console.print(table)
    for name in ("rss_mb", "used_mb", "file_mb"):
        values = [getattr(look, name) for look in looks]
        console.print(f"{name:8} {bars(values)}  {min(values)} to {max(values)} MB")
    console.print(", ".join(f"{count} {name}" for name, count in sorted(done.items())))


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="antiphon-soak-") as name:
        place, port, up = Path(name), free_port(), free_port()
        settings = place / "antiphon.toml"
        settings.write_text(
            f'upstream = "http://127.0.0.1:{up}/v1"\nport = {port}\ndata = "{place / "data"}"\n'
            f"retention_days = {options.keep_s / DAY_S}\nstore_bytes_max = {int(options.store_mb * 1e6)}\n"
        )
        upstream = [sys.executable, "-m", "bench.overhead.upstream", "--port", str(up)]
        server = [sys.executable, "-m", "antiphon", "serve", "--config", str(settings)]
        with (
            Process(upstream, place / "upstream.log", cwd=ROOT) as model,
            Process(server, place / "server.log", cwd=ROOT) as antiphon,
        ):
            try:
                model.wait_until_ready(up, "/v1/models")
                antiphon.wait_until_ready(port, "/health")
                looks, done = asyncio.run(_soak(options, f"http://127.0.0.1:{port}/v1/", antiphon))
            except (Unready, ExceptionGroup, OSError) as error:
                print(f"not a valid run: {error!r}\n{antiphon.log_tail()}", file=sys.stderr)
                return 2
    _show(looks, done, Console())
    wrong = _verdict(looks, options.store_mb)
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(look) for look in looks]))
    print("; ".join(wrong) if wrong else "bounded")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
