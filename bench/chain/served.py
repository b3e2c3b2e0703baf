"""A chain over HTTP: `antiphon serve` in a process of its own, in front of the fake model server."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from bench.chain.looks import QUESTION, Look, Way, lengths
from bench.overhead.processes import Process, free_port

ROOT = Path(__file__).parents[2]
_USED = "antiphon_store_used_bytes "


@contextmanager
def server(place: Path) -> Iterator[str]:
    """A server on an empty folder in ``place``; its URL, ending in ``/v1/``.

    Raises:
        bench.overhead.processes.Unready: it does not come up.
    """
    port, up = free_port(), free_port()
    upstream = [sys.executable, "-m", "bench.overhead.upstream", "--port", str(up)]
    flags = ["--upstream", f"http://127.0.0.1:{up}/v1", "--port", str(port), "--data", str(place / "data")]
    antiphon = [sys.executable, "-m", "antiphon", "serve", *flags]
    with (
        Process(upstream, place / "upstream.log", cwd=ROOT) as model,
        Process(antiphon, place / "server.log", cwd=ROOT) as served,
    ):
        model.wait_until_ready(up, "/v1/models")
        served.wait_until_ready(port, "/health")
        yield f"http://127.0.0.1:{port}/v1/"


async def grow(url: str, way: Way, turns: int, looks: int) -> AsyncIterator[Look]:
    """Grow a chain, and look at it now and then."""
    async with aiohttp.ClientSession(url) as session:
        continued = (await _posted(session, "conversations", {}))["id"] if way == "conversation" else ""
        done, used = 0, await _used_bytes(session)
        for length in lengths(turns, looks):
            took: list[float] = []
            while done < length:
                body = {"model": "deltas-1", "input": QUESTION} | ({way: continued} if continued else {})
                began = time.perf_counter()
                answer = await _posted(session, "responses", body)
                took.append(time.perf_counter() - began)
                continued = continued if way == "conversation" else str(answer["id"])
                done += 1
            now = await _used_bytes(session)
            yield Look(length, (now - used) / len(took), statistics.median(took) * 1000)
            used = now


async def _posted(session: aiohttp.ClientSession, path: str, body: dict[str, str]) -> dict[str, str]:
    async with session.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _used_bytes(session: aiohttp.ClientSession) -> float:
    async with session.get("../metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.removeprefix(_USED)) for line in lines if line.startswith(_USED))
