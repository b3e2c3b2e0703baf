"""`python -m bench.compaction`: facts that a model recalls from conversations before and after they are compacted.

It runs unattended: a line for each conversation says how it went and how long the rest will take, the figures so far
are in the file of ``--json`` all the time, and no conversation is begun once ``--minutes`` have passed.

Exit code 0: at least 95 % of the facts are kept, at a reduction of at least 70 %; 1: not so; 2: the run is not valid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import openai
from openai import AsyncOpenAI

from antiphon.access.sealing import Sealer, new_secret
from antiphon.compaction import Compaction
from bench.compaction.conversations import Conversation, Fact, conversations
from bench.overhead.processes import Unready
from bench.prefix.__main__ import server

KEPT_MIN, REDUCTION_MIN = 0.95, 70.0


@dataclass(frozen=True)
class Outcome:
    """What became of a conversation: tokens before and after, and of its facts how many are in what takes its place,
    and how many the model answered right before and after (None where it was not asked).
    """

    before: int
    after: int
    facts: int
    kept: int
    right_before: int | None
    right_after: int | None
    seconds: float = 0.0

    @property
    def reduction(self) -> float:
        """By how many per cent it shrank."""
        return 100 * (1 - self.after / self.before)


async def measure(client: AsyncOpenAI, sealer: Sealer, talk: Conversation, ask: bool) -> Outcome:
    """Compact one conversation, and look for its facts. What asks for them before shares what has been read; so does
    what asks after.
    """
    began = time.monotonic()
    compacted = await client.responses.compact(model="m", input=talk.items)
    output: Any = [item.model_dump(exclude_none=True, warnings=False) for item in compacted.output]
    held = msgspec.convert(sealer.open(output[-1]["encrypted_content"], "", "compaction"), Compaction)
    text = "\n".join(part["text"] for item in held.items() for part in item["content"])
    before, after = [await answered(client, items, talk.facts) if ask else None for items in (talk.items, output)]
    kept = sum(fact.answer.lower() in text.lower() for fact in talk.facts)
    took = time.monotonic() - began
    return Outcome(held.original_tokens, held.tokens, len(talk.facts), kept, before, after, round(took, 1))


async def answered(client: AsyncOpenAI, items: list[Any], facts: list[Fact]) -> int:
    """How many of the facts the model recalls."""
    right = 0
    for fact in facts:
        question: Any = {"role": "user", "content": f"{fact.question} Answer in a few words."}
        response = await client.responses.create(
            model="m", input=[*items, question], temperature=0, max_output_tokens=32, store=False
        )
        right += fact.answer.lower() in response.output_text.lower()
    return right


async def run(
    url: str, secret: str, count: int, ask: bool, *, seconds: float, keep: Callable[[list[Outcome]], None]
) -> list[Outcome]:
    """The conversations that can be begun in that time; ``keep`` is given what is done, after each."""
    sealer, done, end = Sealer([secret]), list[Outcome](), time.monotonic() + seconds
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=1800) as client:
        for talk in conversations(count):
            if done and time.monotonic() > end:
                break
            done.append(await measure(client, sealer, talk, ask))
            print(progress(done, count), flush=True)
            keep(done)
    return done


def progress(done: list[Outcome], count: int) -> str:
    """How the last conversation went, and how long the rest will take."""
    last = done[-1]
    left = (count - len(done)) * sum(each.seconds for each in done) / len(done) / 60
    right = "" if last.right_before is None else f"  right {last.right_before} -> {last.right_after}"
    kept = f"kept {last.kept}/{last.facts}{right}  {last.before} -> {last.after} tokens ({last.reduction:.0f} %)"
    return f"{len(done):3}/{count}  {kept}  {last.seconds:.0f} s; about {left:.0f} min left"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compaction", description=__doc__)
    parser.add_argument("--conversations", type=int, default=12, help="how many (default: 12)")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct", help="the embedded model")
    parser.add_argument("--no-answers", action="store_true", help="only look whether the facts are still there")
    parser.add_argument("--threads", type=int, default=0, help="threads of the model (default: as the server thinks)")
    parser.add_argument("--minutes", type=float, default=240, help="begin no conversation later (default: 240)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there, after each")
    options = parser.parse_args()
    secret = new_secret()

    def keep(done: list[Outcome]) -> None:
        if options.json:
            options.json.write_text(json.dumps([asdict(each) for each in done]))

    with tempfile.TemporaryDirectory(prefix="antiphon-compaction-") as name:
        try:
            with server(Path(name), options.model, sealing_keys=[secret], threads=options.threads) as url:
                seconds, ask = options.minutes * 60, not options.no_answers
                done = asyncio.run(run(url, secret, options.conversations, ask, seconds=seconds, keep=keep))
        except (Unready, openai.APIError, OSError) as error:
            print(f"not a valid run: {error!r}", file=sys.stderr)
            return 2
    facts, kept = sum(each.facts for each in done), sum(each.kept for each in done) / sum(each.facts for each in done)
    reduction = 100 * (1 - sum(each.after for each in done) / sum(each.before for each in done))
    sizes = sorted(each.before for each in done)
    if len(done) < options.conversations:
        print(f"only {len(done)} of {options.conversations} conversations in {options.minutes:g} minutes")
    print(f"{len(done)} conversations of {sizes[0]} to {sizes[-1]} tokens")
    print(f"facts kept: {kept:.1%} of {facts}, at a reduction of {reduction:.1f} %")
    if not options.no_answers:
        before, after = (sum(getattr(each, name) or 0 for each in done) for name in ("right_before", "right_after"))
        print(f"answered right: {before} before, {after} after, of {facts}")
    return 0 if kept >= KEPT_MIN and reduction >= REDUCTION_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
