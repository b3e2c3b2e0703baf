"""Conversations with facts to recall, made by a script: the same ones for the same seed.

A fact is said once, in the midst of much else: by the user, by the assistant, or in what a tool returned. Two of ten
are plain words, which no pattern finds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAMES = ("Miriam Okafor", "Jonas Weber", "Priya Raman", "Tomás Ibarra", "Aiko Mori", "Lena Novak")
COLOURS = ("teal", "crimson", "ochre", "violet", "ivory", "olive")
ANIMALS = ("a heron", "an otter", "a badger", "a magpie", "a lynx", "a hedgehog")
CITIES = ("Lisbon", "Tampere", "Gdansk", "Bergen", "Valencia", "Utrecht")
FILLER = (
    "There are several ways to look at this, and each of them has its merits.",
    "It is usually best to begin with the simplest thing that could work.",
    "Many teams have found that a short review at the end of the week helps.",
    "None of this is urgent, but it is good to keep it in mind.",
    "As so often, the details matter more than the plan as a whole.",
    "One could also wait and see how things develop before deciding anything.",
    "In my experience the first draft is never the one that is kept in the end.",
    "It helps to write down what was agreed, so that nobody has to remember it.",
    "The weather has little influence on this, although people like to think so.",
    "A second opinion is always welcome, in particular from those who use it daily.",
)


@dataclass(frozen=True)
class Fact:
    """What is said, what asks for it, and what an answer has to hold."""

    said: str
    question: str
    answer: str
    by: str


@dataclass(frozen=True)
class Conversation:
    """Input items, and the facts in them."""

    items: list[Any]
    facts: list[Fact]


def conversations(count: int, seed: int = 1) -> list[Conversation]:
    """So many conversations, of 1,000 to 2,000 tokens each."""
    return [_conversation(random.Random(f"{seed}-{number}")) for number in range(count)]


def _facts(chance: random.Random) -> Iterator[Fact]:
    name, city = chance.choice(NAMES), chance.choice(CITIES)
    colour, animal = chance.choice(COLOURS), chance.choice(ANIMALS)
    order = f"{chance.choice('RKMT')}X-{chance.randint(1000, 9999)}"
    budget, day = f"{chance.randint(2, 9)},{chance.randint(100, 999)}", chance.randint(2, 27)
    port, host = chance.randint(2000, 9000), f"10.{chance.randint(0, 99)}.{chance.randint(0, 99)}.7"
    path, tries = f"/srv/{chance.choice(CITIES).lower()}/config.toml", chance.randint(3, 29)
    yield Fact(f"Our contact for this is {name}.", "Who is the contact?", name, "user")
    yield Fact(f"The budget is {budget} euros.", "What is the budget?", budget, "user")
    yield Fact(f"The order number is {order}.", "What is the order number?", order, "tool")
    listens = f"The server listens on {host}, port {port}."
    yield Fact(listens, "On which port does the server listen?", str(port), "tool")
    yield Fact(f"The configuration is in {path}.", "In which file is the configuration?", path, "tool")
    floor = f"The review is on 0{day % 9 + 1} March, in room {day}7."
    yield Fact(floor, "In which room is the review?", f"{day}7", "assistant")
    yield Fact(f"We keep max_retries at {tries}.", "To what is max_retries set?", str(tries), "assistant")
    yield Fact(
        f"The next workshop takes place in {city}.", "Where does the next workshop take place?", city, "assistant"
    )
    yield Fact(f"We agreed on {colour} as the colour of the cover.", "Which colour has the cover?", colour, "assistant")
    yield Fact(f"The mascot will be {animal}.", "What is the mascot?", animal.split()[1], "tool")


def _conversation(chance: random.Random) -> Conversation:
    facts = list(_facts(chance))
    items: list[Any] = []
    by = {who: [fact for fact in facts if fact.by == who] for who in ("user", "assistant", "tool")}
    for turn in range(4):
        mine = [fact.said for fact in by["user"][turn : turn + 1]]
        items.append({"role": "user", "content": " ".join([*mine, "What do you make of it?"])})
        called = by["tool"][turn : turn + 1]
        items += _call(turn, _wrapped([fact.said for fact in called], 9, chance))
        answered = by["assistant"][turn : turn + 1]
        items.append({"role": "assistant", "content": _wrapped([fact.said for fact in answered], 11, chance)})
    return Conversation(items, facts)


def _call(turn: int, output: str) -> list[Any]:
    call = {"type": "function_call", "call_id": f"c{turn}", "name": "read_notes", "arguments": f'{{"page": {turn}}}'}
    return [call, {"type": "function_call_output", "call_id": f"c{turn}", "output": output}]


def _wrapped(sentences: list[str], filler: int, chance: random.Random) -> str:
    """The sentences somewhere among so many others."""
    text = [chance.choice(FILLER) for _ in range(filler)]
    for sentence in sentences:
        text.insert(chance.randrange(len(text) + 1), sentence)
    return " ".join(text)
