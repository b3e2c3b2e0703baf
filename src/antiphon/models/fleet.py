"""Several servers with the same models as one: requests that share a context go to the same server, which has most of
it in its cache, as long as it lives.

Which server that is follows from the key of the prompt and the servers' names alone (rendezvous hashing): every process
comes to the same answer without asking another, and where a server goes or comes, only its own keys move. A server that
cannot be reached is left out, and asked in the background until it is there again; then its keys come back to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from antiphon.models import Delta, Model, Prompt, Roster, ToolHelp
from antiphon.models.roster import not_found
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, RateLimited, Unavailable, UpstreamError, UpstreamTimeout

log = logging.getLogger("antiphon.models")

PROBE_S: Final = 1.5
PROBE_S_MAX: Final = 30.0
"""How often a server that is away is asked whether it is back: at first, and in the end."""
_CROWD: Final = 2.0
_CROWD_MIN: Final = 8
"""A server is crowded that works on more than so many times what the least busy one does, and so many more."""

T = TypeVar("T")


class Member:
    """One server of a fleet.

    Args:
        name: by which it is ranked, the same in every process; shown in the log.

    Attributes:
        is_away: whether it could not be reached, and has not been seen since.
        working: how many samples it is asked for now, by this process.
    """

    def __init__(self, name: str, roster: Roster) -> None:
        self.name = name
        self.roster = roster
        self.working = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        return self._probing is not None

    def note(self, error: ApiError) -> None:
        """Leave it out for now, if that is what the error says of it."""
        if self._probing is None and _is_gone(error):
            log.warning("upstream %s is unavailable: %s", self.name, error.code)
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        pause = PROBE_S
        while True:
            await asyncio.sleep(pause)
            if await self._is_back():
                break
            pause = min(2 * pause, PROBE_S_MAX)
        log.warning("upstream %s is available again", self.name)
        self._probing = None

    async def _is_back(self) -> bool:
        try:
            return await self.roster.ready()
        except ApiError:
            return False

    async def close(self) -> None:
        """Ask it no more, and let go of its connections."""
        if self._probing is not None:
            self._probing.cancel()
        await self.roster.close()


class FleetRoster:
    """The models of several servers, by their names; implements ``antiphon.models.Roster``. A model is there where
    one of them has it.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        assert members, "a fleet has members"
        self._members = members

    async def find(self, name: str) -> Model:
        """See ``Roster.find``."""
        found = await self._ask_all(lambda member: member.roster.find(name))
        models = [(member, model) for member, model in found if not isinstance(model, ApiError)]
        if not models and any(member.is_away for member in self._members):
            raise Unavailable("The model's server cannot be reached.")
        if not models:
            raise _worst(error for _, error in found if isinstance(error, ApiError)) or not_found(name)
        return FleetModel(models)

    async def names(self) -> Sequence[str]:
        """What any of them has."""
        found = await self._ask_all(lambda member: member.roster.names())
        lists = [names for _, names in found if not isinstance(names, ApiError)]
        if not lists:
            raise next(error for _, error in found if isinstance(error, ApiError))
        return list(dict.fromkeys(name for names in lists for name in names))

    async def ready(self) -> bool:
        """Whether one of them is there."""
        return any(await asyncio.gather(*(member.roster.ready() for member in self._present())))

    async def close(self) -> None:
        """Let go of all of them."""
        await asyncio.gather(*(member.close() for member in self._members))

    def _present(self) -> Sequence[Member]:
        return [member for member in self._members if not member.is_away] or self._members

    async def _ask_all(self, ask: Callable[[Member], Awaitable[T]]) -> Sequence[tuple[Member, T | ApiError]]:
        async def one(member: Member) -> tuple[Member, T | ApiError]:
            try:
                return member, await ask(member)
            except ApiError as error:
                member.note(error)
                return member, error

        return await asyncio.gather(*(one(member) for member in self._present()))


class FleetModel:
    """One model on several servers; implements ``antiphon.models.Model``."""

    def __init__(self, models: Sequence[tuple[Member, Model]]) -> None:
        self._models = models
        self._first = models[0][1]

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def supports_images(self) -> bool:
        return all(model.supports_images for _, model in self._models)

    @property
    def accepts(self) -> Collection[str]:
        """What all of them are given."""
        first, *others = (model.accepts for _, model in self._models)
        return [name for name in first if all(name in names for names in others)]

    @property
    def context_tokens(self) -> int | None:
        """The smallest of their windows that are known."""
        return min((model.context_tokens for _, model in self._models if model.context_tokens), default=None)

    @property
    def supports_prefill(self) -> bool:
        """See ``Model``."""
        return all(model.supports_prefill for _, model in self._models)

    @property
    def tool_help(self) -> ToolHelp:
        """See ``Model``."""
        return self._first.tool_help

    @property
    def estimates_tokens(self) -> bool:
        """See ``Model``."""
        return any(model.estimates_tokens for _, model in self._models)

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """Sample once, on the server that the prompt's key chooses, or the next one where that fails before it has said
        anything; see ``Model.sample``.
        """
        return _Sample(self.rank_members(prompt), prompt)

    async def count(self, prompt: Prompt) -> int:
        """See ``Model.count``."""
        failed: list[ApiError] = []
        for member, model in self.rank_members(prompt):
            try:
                return await model.count(prompt)
            except ApiError as error:
                failed.append(_pass_over(member, error))
        raise failed[0]

    def rank_members(self, prompt: Prompt) -> Sequence[tuple[Member, Model]]:
        """The servers in the order in which they are tried: those that are away come last."""
        key = prompt.cache_key or content_key(prompt)
        whole = sorted(self._models, key=lambda each: rank(key, each[0].name), reverse=True)
        crowded = set[int]() if prompt.cache_key else self._find_crowded()
        return sorted(whole, key=lambda each: (each[0].is_away, id(each[0]) in crowded))

    def _find_crowded(self) -> set[int]:
        bound = _CROWD * min(member.working for member, _ in self._models) + _CROWD_MIN
        return {id(member) for member, _ in self._models if member.working > bound}


class _Sample:
    """One answer: of the first server in the order that begins one."""

    def __init__(self, ranked: Sequence[tuple[Member, Model]], prompt: Prompt) -> None:
        self._left = list(ranked)
        self._prompt = prompt
        self._spoke = False
        self._failed: list[ApiError] = []

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._member.working -= 1
        await self._context.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[Sequence[Delta]]:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        while True:
            try:
                batch = await anext(self._batches)
            except ApiError as error:
                if self._spoke or not _is_gone(error) or not self._left:
                    self._member.note(error)
                    raise
                await self._go_on(error)
            else:
                self._spoke = True
                return batch

    async def _go_on(self, error: ApiError) -> None:
        """With the next server: this one has said nothing."""
        self._failed.append(_pass_over(self._member, error))
        # The context that is left when this one is must be open, whatever happens here.
        member, context = self._member, self._context
        await self._start()
        member.working -= 1
        await context.__aexit__(None, None, None)

    async def _start(self) -> None:
        while self._left:
            member, model = self._left.pop(0)
            context = model.sample(self._prompt)
            try:
                batches = await context.__aenter__()
            except ApiError as error:
                self._failed.append(_pass_over(member, error))
                continue
            member.working += 1
            self._member, self._context, self._batches = member, context, aiter(batches)
            return
        raise self._failed[0]


def _pass_over(member: Member, error: ApiError) -> ApiError:
    """The error, where another server may do better.

    Raises:
        ApiError: it, where none would.
    """
    member.note(error)
    if not _is_gone(error) and not isinstance(error, RateLimited):
        raise error
    return error


def _is_gone(error: ApiError) -> bool:
    """Whether the server is not there, or not now. One that fails over a prompt is: the prompt would be the end of all
    of them.
    """
    ended = isinstance(error, UpstreamError) and error.code == "upstream_ended"
    return ended or isinstance(error, Unavailable | UpstreamTimeout)


def _worst(errors: Iterable[ApiError]) -> ApiError | None:
    """What a caller is told: that a server is away, before that the others do not have the model."""
    return min(errors, key=lambda error: isinstance(error, InvalidRequest), default=None)


def content_key(prompt: Prompt) -> str:
    """What a prompt without a key begins with, before a model has said anything: the same for all turns of a chain,
    whoever carries it.
    """
    return _digest(msgspec.json.encode(list(_beginning(prompt.items)), order="sorted"))


def _beginning(items: Iterable[Json]) -> Iterable[Json]:
    for item in items:
        if item["type"] != "message" or item["role"] == "assistant":
            return
        yield {"role": item["role"], "content": item["content"]}


def rank(key: str, name: str) -> str:
    """How much that server wants that key: the largest one has it."""
    return _digest(f"{key}\0{name}".encode())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
