"""``Idempotency-Key``: a request sent again is answered again, not done again.

What a request with a key is answered is recorded as it is sent, byte for byte, and played to whoever sends the same
request with the same key: from the beginning, while the first is still being answered too. The records lie in memory,
bounded in number, bytes and age. An answer that failed is not kept: trying that again is what the caller wants.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.types import Message

from antiphon.http.exchange import Exchange
from antiphon.wire.errors import InvalidRequest

ANSWERS_MAX = 1000
BYTES_MAX = 64 << 20
AGE_S = 24 * 60 * 60.0
_KEY_CHARS_MAX = 255

Perform = Callable[[Exchange], Awaitable[None]]
"""Answers an exchange, whatever happens; never raises."""


class _Place(NamedTuple):
    """Keys of different owners do not meet."""

    owner: str
    key: str


class _Recording:
    """One answer, and the work behind it as long as that goes on.

    Attributes:
        digest: of the request's body.
        readers: how many exchanges it is being played to.
        over: whether all of it is there.
        bytes: how much of a body there is so far.
        weight: what it counts for among the kept answers; nothing while it is not over.
    """

    def __init__(self, digest: bytes, began: float) -> None:
        self.digest = digest
        self.began = began
        self.readers = 0
        self.over = False
        self.bytes = 0
        self.weight = 0
        self.work: asyncio.Task[None] | None = None
        self._messages: list[Message] = []
        self._moved = asyncio.Event()

    async def record(self, message: Message) -> None:
        """Take the next message; it waits for no reader."""
        self._messages.append(message)
        self.bytes += len(message.get("body", b""))
        self.move()

    def move(self) -> None:
        """Let the readers look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def play(self, exchange: Exchange) -> None:
        """Send all of it, and what is still to come."""
        sent = 0
        while sent < len(self._messages) or not self.over:
            if sent == len(self._messages):
                await self._moved.wait()
                continue
            await exchange.relay(self._messages[sent])
            sent += 1


class Replays:
    """The recorded answers of one server. ``now`` gives seconds that never go back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[_Place, _Recording] = OrderedDict()
        self._bytes = 0

    async def answer(self, exchange: Exchange, key: str, perform: Perform) -> None:
        """Answer as the first request with this key was answered; if this is the first, by ``perform``.

        Raises:
            InvalidRequest: the key is no key, or came with another body before.
            antiphon.http.exchange.ClientGone: the client left. If it was the last one, so does the work.
        """
        if not 0 < len(key) <= _KEY_CHARS_MAX:
            raise InvalidRequest(
                f"Invalid 'Idempotency-Key': expected 1 to {_KEY_CHARS_MAX} characters, but got {len(key)}.",
                code="invalid_value",
            )
        body = await exchange.body()
        place = _Place(exchange.owner, key)
        recording = self._found(place, hashlib.sha256(body).digest())
        if recording.work is None:
            recording.work = asyncio.create_task(self._performed(place, recording, exchange, body, perform))
        else:
            exchange.headers["x-antiphon-replayed"] = "true"
        with exchange.attended():
            await self._played(place, recording, exchange)

    async def _played(self, place: _Place, recording: _Recording, exchange: Exchange) -> None:
        recording.readers += 1
        try:
            await recording.play(exchange)
        finally:
            recording.readers -= 1
            if not recording.readers and not recording.over:
                self._forget(place, recording)
                assert recording.work is not None
                recording.work.cancel()
                await asyncio.wait([recording.work])

    def _found(self, place: _Place, digest: bytes) -> _Recording:
        """The recording of that key, begun if there is none."""
        now = self._now()
        while self._kept and (len(self._kept) >= ANSWERS_MAX or now - next(iter(self._kept.values())).began > AGE_S):
            self._forget(*next(iter(self._kept.items())))
        recording = self._kept.setdefault(place, _Recording(digest, now))
        if recording.digest != digest:
            raise InvalidRequest(
                "This Idempotency-Key was used with another request body. A new request needs a new key.",
                code="idempotency_key_reused",
                headers={"x-should-retry": "false"},
            )
        return recording

    async def _performed(
        self, place: _Place, recording: _Recording, first: Exchange, body: bytes, perform: Perform
    ) -> None:
        """Answer an exchange of our own, that no client's leaving breaks off, into the recording."""
        own = first.sibling(body, recording.record)
        try:
            await perform(own)
        except asyncio.CancelledError:
            own.failed = True
            raise
        finally:
            recording.over = True
            if own.failed:
                self._forget(place, recording)
            else:
                self._weigh(place, recording)
            recording.move()

    def _weigh(self, place: _Place, recording: _Recording) -> None:
        """Count its bytes; the oldest go where there are too many."""
        if self._kept.get(place) is recording:
            recording.weight = recording.bytes
            self._bytes += recording.weight
        for other_place, other in list(self._kept.items()):
            if self._bytes <= BYTES_MAX:
                return
            if other.over:
                self._forget(other_place, other)

    def _forget(self, place: _Place, recording: _Recording) -> None:
        """Play it to nobody new."""
        if self._kept.get(place) is recording:
            del self._kept[place]
            self._bytes -= recording.weight
