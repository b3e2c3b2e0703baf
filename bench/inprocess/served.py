"""The other side of the comparison: the same engine behind a loopback socket, in a process of its own.

Run as a module: ``python -m bench.inprocess.served FOLDER DELTAS``. It says its base URL in a line and ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from antiphon.config import Config
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.serving import serving

ROOT = Path(__file__).parents[2]


def model(deltas: int) -> ScriptedModel:
    """A model that says that many words at once, each a batch of its own."""
    return ScriptedModel(["word "] * deltas, again=True)


@contextmanager
def server(place: Path, deltas: int) -> Iterator[str]:
    """The server's base URL, as long as this lasts."""
    command = [sys.executable, "-m", "bench.inprocess.served", str(place), str(deltas)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


async def _serve(place: Path, deltas: int) -> None:
    store = await SqliteStore.open(place)
    async with serving(model(deltas), store=store, config=Config(data=place)) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await store.close()


if __name__ == "__main__":
    # The event loop that `antiphon serve` takes.
    factory = uvicorn.Config("none", loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
