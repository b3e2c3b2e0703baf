"""``Idempotency-Key``: a repeated request gets the first one's answer, and is not executed again.

The answer to a request with a key is recorded as it is sent, byte for byte, and replayed from its beginning to whoever
sends the same request with the same key, also while the first is still being answered. The records lie in memory,
bounded in number, bytes and age. A failed answer is not kept: the caller repeats the request to try again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final, NamedTuple

from starlette.types import Message

from antiphon.http.exchange import GONE, Exchange
from antiphon.wire.errors import InvalidRequest, RateLimited

ANSWERS_MAX = 1000
"""Answers kept for one project; the oldest complete one makes room for a new one."""
BYTES_MAX = 64 << 20
AHEAD_BYTES_MAX = 1 << 20
"""How much may be recorded that no reader has taken yet: the work is not faster than the fastest of them."""
AGE_S = 24 * 60 * 60.0
NAMED_MAX: Final = 20_000
"""How many ids are looked for in a request."""
_KEY_CHARS_MAX = 255
_UNIQUE: Final = re.compile(rb"[0-9a-f]{48}")
"""What makes an id one of ours; a chat completion shares it with its response."""
_NAMED: Final = re.compile(rb'[_-]([0-9a-f]{48})"')

Perform = Callable[[Exchange], Awaitable[None]]
"""Answers an exchange; never raises."""


class _Place(NamedTuple):
    """Keys of different projects do not meet."""

    project: str
    key: str


class _Recording:
    """One answer, and the task that makes it until it is complete.

    Args:
        body: of the request.

    Attributes:
        digest: of the request's body.
        readers: how many exchanges it is being replayed to.
        complete: whether all of it has been recorded.
        bytes: size of the body so far.
        weight: bytes that count among the kept answers; 0 until it is complete.
    """

    def __init__(self, body: bytes, digest: bytes, began: float) -> None:
        self.digest = digest
        self._named = frozenset(found[1] for found in islice(_NAMED.finditer(body), NAMED_MAX))
        self.began = began
        self.readers = 0
        self.complete = False
        self.bytes = 0
        self.weight = 0
        self.work: asyncio.Task[None] | None = None
        self._messages: list[Message] = []
        self._read_bytes = 0
        self._moved = asyncio.Event()

    async def record(self, message: Message) -> None:
        """Take the next message; waits while all readers are slow."""
        self._messages.append(message)
        self.bytes += len(message.get("body", b""))
        self.wake_readers()
        while self.readers and self.bytes - self._read_bytes > AHEAD_BYTES_MAX:
            await self._moved.wait()

    def wake_readers(self) -> None:
        """Let the readers look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    def mentions(self, id: str) -> bool:
        """Whether the request named the object of that id, or the answer does, as far as it has been recorded."""
        ours = _UNIQUE.search(id.encode())
        wanted = ours[0] if ours else b'"%s"' % id.encode()
        return wanted in self._named or any(wanted in message.get("body", b"") for message in self._messages)

    async def play(self, exchange: Exchange) -> None:
        """Send all of it, and what is still to come."""
        sent = sent_bytes = 0
        while sent < len(self._messages) or not self.complete:
            if sent == len(self._messages):
                await self._moved.wait()
                continue
            message = self._messages[sent]
            await exchange.relay(message)
            sent += 1
            sent_bytes += len(message.get("body", b""))
            if sent_bytes > self._read_bytes:
                self._read_bytes = sent_bytes
                if not self.complete:
                    self.wake_readers()


class IdempotencyCache:
    """The recorded answers of one server. ``now``: a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[_Place, _Recording] = OrderedDict()
        self._bytes = 0

    async def answer(self, exchange: Exchange, key: str, perform: Perform) -> None:
        """Answer as the first request with this key was answered; if this is the first, by ``perform``.

        Raises:
            InvalidRequest: the key is too long, or was used with another body.
            antiphon.http.exchange.ClientDisconnected: the client disconnected; with the last one the work is cancelled.
        """
        if not 0 < len(key) <= _KEY_CHARS_MAX:
            raise InvalidRequest(
                f"Invalid 'Idempotency-Key': expected 1 to {_KEY_CHARS_MAX} characters, but got {len(key)}.",
                code="invalid_value",
            )
        body = await exchange.body()
        place = _Place(exchange.project, key)
        recording = self._find_or_begin(place, body)
        if recording.work is None:
            recording.work = asyncio.create_task(self._perform(place, recording, exchange, body, perform))
        else:
            exchange.headers["x-antiphon-replayed"] = "true"
        with exchange.while_connected():
            await self._play(place, recording, exchange)

    def forget(self, project: str, id: str) -> None:
        """Forget the answers of that project that have to do with the object ``id``: it has been deleted, and what was
        made of it may repeat it.
        """
        for place, recording in list(self._kept.items()):
            if place.project == project and recording.mentions(id):
                self._forget(place, recording)

    def forget_all(self) -> None:
        """Forget all complete answers: what they contain may have been deleted."""
        for place, recording in list(self._kept.items()):
            if recording.complete:
                self._forget(place, recording)

    async def _play(self, place: _Place, recording: _Recording, exchange: Exchange) -> None:
        recording.readers += 1
        try:
            await recording.play(exchange)
        finally:
            recording.readers -= 1
            if not recording.readers and not recording.complete:
                self._forget(place, recording)
                assert recording.work is not None
                recording.work.cancel()
                await asyncio.wait([recording.work])

    def _find_or_begin(self, place: _Place, body: bytes) -> _Recording:
        """The recording of that key; a new one if there is none."""
        now, digest = self._now(), hashlib.sha256(body).digest()
        for old, recording in list(self._kept.items()):
            if now - recording.began <= AGE_S:
                break
            if recording.complete:
                self._forget(old, recording)
        if place not in self._kept:
            self._make_room(place.project)
            self._kept[place] = _Recording(body, digest, now)
        recording = self._kept[place]
        if recording.digest != digest:
            raise InvalidRequest(
                "This Idempotency-Key was used with another request body. A new request needs a new key.",
                code="idempotency_key_reused",
                headers={"x-should-retry": "false"},
            )
        return recording

    def _make_room(self, project: str) -> None:
        """Make room for one more answer of a project among that project's own.

        Raises:
            RateLimited: all that it may have are still being answered.
        """
        own = [(place, recording) for place, recording in self._kept.items() if place.project == project]
        if len(own) < ANSWERS_MAX:
            return
        oldest = next(((place, recording) for place, recording in own if recording.complete), None)
        if oldest is None:
            text = f"There are {ANSWERS_MAX} requests with an Idempotency-Key under way already. Retry in a moment."
            raise RateLimited(text, code="too_many_keys", headers={"Retry-After": "2"})
        self._forget(*oldest)

    async def _perform(
        self, place: _Place, recording: _Recording, first: Exchange, body: bytes, perform: Perform
    ) -> None:
        """Answer a duplicate of the exchange into the recording; no client's disconnect interrupts it."""
        own = first.duplicate(body, recording.record)
        try:
            await perform(own)
        except asyncio.CancelledError:
            own.failed = True
            raise
        finally:
            if own.share is not None:
                own.share.give_back()
            recording.complete = True
            if own.failed or own.status == GONE:
                self._forget(place, recording)
            else:
                self._count_bytes(place, recording)
            recording.wake_readers()

    def _count_bytes(self, place: _Place, recording: _Recording) -> None:
        """Count its bytes; when there are too many, drop the oldest of the project that takes most."""
        if self._kept.get(place) is recording:
            recording.weight = recording.bytes
            self._bytes += recording.weight
        while self._bytes > BYTES_MAX:
            taken: Counter[str] = Counter()
            for other_place, other in self._kept.items():
                taken[other_place.project] += other.weight
            most = taken.most_common(1)[0][0]
            self._forget(*next((p, r) for p, r in self._kept.items() if p.project == most and r.weight))

    def _forget(self, place: _Place, recording: _Recording) -> None:
        """Replay it to no new request."""
        if self._kept.get(place) is recording:
            del self._kept[place]
            self._bytes -= recording.weight
