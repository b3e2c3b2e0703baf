"""`python -m bench.prefix`: a chain with tools on the embedded model; how much of each prompt was read before.

Exit code 0: at least 95 % of what could be reused was; 1: less; 2: the run is not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from bench.overhead.processes import Process, Unready, free_port
from bench.picture import bars

ROOT = Path(__file__).parents[2]
REUSED_MIN = 0.95
TOOL: Any = {
    "type": "function",
    "name": "look_up",
    "description": "Looks a plant up in the almanac.",
    "parameters": {"type": "object", "properties": {"plant": {"type": "string"}}, "required": ["plant"]},
    "strict": False,
}
PLANTS = ("rose", "tulip", "peony", "aster", "lilac", "iris", "fern", "sage", "mint", "dahlia")


@dataclass(frozen=True)
class Turn:
    """One turn: tokens of its prompt, those that were read before, and those that could have been; the time until the
    first delta, in milliseconds.
    """

    tokens: int
    cached: int
    reusable: int
    first_ms: float


@contextmanager
def server(place: Path, model: str, *, sealing_keys: Sequence[str] = (), threads: int = 0) -> Iterator[str]:
    """`antiphon serve` on an embedded model, with so many threads (0: as many as it thinks right); its URL, ending in
    ``/v1``.
    """
    port = free_port()
    settings = place / "antiphon.toml"
    settings.write_text(f"sealing_keys = {json.dumps(list(sealing_keys))}\nthreads = {threads}\n")
    flags = ["--config", str(settings), "--model", model, "--port", str(port), "--data", str(place / "data")]
    with Process([sys.executable, "-m", "antiphon", "serve", *flags], place / "server.log", cwd=ROOT) as served:
        served.wait_until_ready(port, "/readyz")
        yield f"http://127.0.0.1:{port}/v1"


def asked(turn: int) -> list[Any]:
    """What a turn adds: a question, a call that an agent made, its output."""
    plant = PLANTS[turn % len(PLANTS)]
    output = f"{plant}: sow in week {turn + 10}, {turn * 3 + 2} cm apart; water every {turn % 5 + 1} days; likes sun."
    return [
        {"role": "user", "content": f"Question {turn}: when do I sow the {plant}?"},
        {"type": "function_call", "call_id": f"c{turn}", "name": "look_up", "arguments": f'{{"plant": "{plant}"}}'},
        {"type": "function_call_output", "call_id": f"c{turn}", "output": output},
    ]


async def take(
    client: AsyncOpenAI, input: list[Any], previous: str | None, rules: str, reusable: int
) -> tuple[Turn, Any]:
    """One turn, streamed.

    Raises:
        AssertionError: it did not end well, or its usage is unknown.
    """
    began, first = time.perf_counter(), 0.0
    stream = await client.responses.create(
        model="m",
        input=input,
        previous_response_id=previous,
        instructions=rules,
        tools=[TOOL],
        tool_choice="none",
        max_output_tokens=16,
        stream=True,
    )
    ended: Any = None
    async for event in stream:
        if not first and event.type == "response.output_text.delta":
            first = time.perf_counter() - began
        ended = getattr(event, "response", ended)
    assert ended.status in ("completed", "incomplete") and ended.usage is not None, ended.status
    used = ended.usage
    return Turn(used.input_tokens, used.input_tokens_details.cached_tokens, reusable, first * 1000), ended


async def grow(url: str, turns: int) -> tuple[list[Turn], Turn]:
    """The turns of a chain; and its last prompt once more behind other words, so that nothing of it is reused."""
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        done: list[Turn] = []
        previous, reusable, whole = None, 0, list[Any]()
        for number in range(turns):
            input = asked(number)
            turn, response = await take(client, input, previous, "You are a gardener. Be brief.", reusable)
            done.append(turn)
            previous, reusable = response.id, turn.tokens
            whole += [*input, {"role": "assistant", "content": response.output_text}]
        cold, _ = await take(client, whole[:-1], None, "Another gardener speaks, and says little.", 0)
    return done, cold


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.prefix", description=__doc__)
    parser.add_argument("--turns", type=int, default=20, help="turns of the chain (default: 20)")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="the embedded model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="antiphon-prefix-") as name:
        try:
            with server(Path(name), options.model) as url:
                turns, cold = asyncio.run(grow(url, options.turns))
        except (Unready, AssertionError, OSError) as error:
            print(f"not a valid run: {error!r}", file=sys.stderr)
            return 2
    print("turn  tokens  cached  reusable  first delta, ms")
    for number, turn in enumerate(turns):
        print(f"{number:4}  {turn.tokens:6}  {turn.cached:6}  {turn.reusable:8}  {turn.first_ms:8.0f}")
    reused = sum(min(turn.cached, turn.reusable) for turn in turns) / sum(turn.reusable for turn in turns)
    later = [turn.first_ms for turn in turns[1:]]
    half = len(later) // 2
    growth = statistics.median(later[half:]) / statistics.median(later[:half])
    print(f"first delta {bars(later)}  second half over first half: {growth:.2f}")
    print(f"the last prompt without reuse: {cold.first_ms:.0f} ms, {cold.first_ms / later[-1]:.1f} times as long")
    print(f"reused: {reused:.1%} of what could be")
    if options.json:
        figures = {"turns": [asdict(turn) for turn in turns], "cold": asdict(cold), "reused": reused, "growth": growth}
        options.json.write_text(json.dumps(figures))
    return 0 if reused >= REUSED_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
