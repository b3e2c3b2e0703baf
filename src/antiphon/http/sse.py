"""Server-sent events: a log whose only reader is one HTTP client.

Frames that are ready together leave in one write, and no frame is split between two writes. A reader that is slow
holds up its own response and nothing else; one that takes nothing for too long is given up, so that the model is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import msgspec

from antiphon.grammar import EVENTS
from antiphon.http.exchange import Exchange
from antiphon.http.profile import EVENT_NAMES
from antiphon.log import encode
from antiphon.wire import Json

_EVENT_STREAM = "text/event-stream; charset=utf-8"
_BEGINS = b'{"type":"'
DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_QUANTUM_BYTES = 32
_NOISE = "Wm4kTq9ZxR2vLc7NbY1sHd8PfGj3aEu6"
_PADS = [f',"obfuscation":"{_NOISE[: -(n + 17) % _QUANTUM_BYTES]}"}}\n\n'.encode() for n in range(_QUANTUM_BYTES)]
"""What closes a delta's frame, by its length modulo the quantum."""
LATE_S = 0.5
"""How long a frame may wait for company."""
_SILENT_S = 15.0
STALLED_S = 60.0
"""How long a reader may take nothing while there is something to take."""
decode = msgspec.json.Decoder().decode
_HEADS = {type: f"event: {type}\ndata: ".encode() for type in (*EVENTS, *EVENT_NAMES.values())}
_DELTAS = {name for type, rule in EVENTS.items() if rule.op == "grow" for name in (type, EVENT_NAMES.get(type, type))}


def frame(event: Json, *, obfuscate: bool) -> bytes:
    """An event as SSE bytes.

    With ``obfuscate``, a delta is padded to a multiple of 32 bytes, so that the sizes seen on the network do not tell
    the words. The padding follows from the event alone: a replay is the same byte for byte.
    """
    return _framed(event["type"], encode(event), obfuscate)


def _framed(type: str, data: bytes, obfuscate: bool) -> bytes:
    if obfuscate and type in _DELTAS:
        return _HEADS[type] + data[:-1] + _PADS[len(data) % _QUANTUM_BYTES]
    return _HEADS[type] + data + b"\n\n"


def _type(line: bytes) -> str:
    """The type of an event of ours, which is its first member."""
    return line[len(_BEGINS) : line.index(b'"', len(_BEGINS))].decode()


def message(event: Json, *, obfuscate: bool) -> bytes:
    """The JSON alone, of the same bytes: what a transport with frames of its own carries."""
    return frame(event, obfuscate=obfuscate)[len(_HEADS[event["type"]]) : -2]


class Stream(Protocol):
    """A log with a reader at its end, who is shown in time what there is."""

    async def beat(self, now: float) -> None:
        """Show what waits too long. ``now`` is the event loop's time, in seconds."""
        ...


class EventStream:
    """The log of a response that is streamed to one client."""

    def __init__(self, exchange: Exchange, pulse: Pulse, *, obfuscate: bool) -> None:
        self._exchange = exchange
        self._obfuscate = obfuscate
        self._frames: list[bytes] = []
        self._pulse = pulse
        self._writing = False
        self._since = self.moved = pulse.now()
        pulse.streams.add(self)

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        self._frames.append(frame(self._exchange.profile.event(event), obfuscate=self._obfuscate))

    def put(self, frame: bytes) -> None:
        """Append a frame that is whole."""
        self._frames.append(frame)

    def take(self, lines: Iterable[bytes]) -> None:
        """Append events of a log, which are JSON already."""
        if self._exchange.profile.renames:
            for line in lines:
                self.append(decode(line))
        else:
            self._frames += [_framed(_type(line), line, self._obfuscate) for line in lines]

    async def open(self) -> None:
        """Send the answer's head, though there may be nothing to show yet."""
        if not self._exchange.started:
            await self._exchange.start(200, _EVENT_STREAM)

    async def flush(self) -> None:
        """See ``Log.flush``. The answer's head goes out with the first frames."""
        if self._frames:
            data = b"".join(self._frames)
            self._frames.clear()
            await self._write(data)

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        self._writing, self._since = True, self._pulse.now()
        await self.open()
        await self._exchange.write(data, more=more)
        self._writing = False
        self.moved = self._pulse.now()

    async def beat(self, now: float) -> None:
        """Show what waits too long; tell a silent connection that we are there."""
        if self._writing:
            if now - self._since > STALLED_S:
                self._exchange.give_up()
            return
        if self._frames and now - self.moved > LATE_S:
            await self.flush()
        elif self._exchange.started and now - self.moved > _SILENT_S:
            await self._write(_PING)

    async def end(self) -> None:
        """Send the rest and ``[DONE]``."""
        self._pulse.streams.discard(self)
        await self._write(b"".join(self._frames) + DONE, more=False)

    def drop(self) -> None:
        """Nobody reads any more."""
        self._pulse.streams.discard(self)


class Pulse:
    """Looks after all that is open, four times a second: early frames are not held back by a slow first token, and a
    client that left is noticed. What is over before the next beat costs next to nothing.
    """

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self.exchanges: set[Exchange] = set()
        self._beats: set[asyncio.Task[None]] = set()
        self.now = asyncio.get_running_loop().time

    async def beat(self) -> None:
        """Run until cancelled."""
        while True:
            await asyncio.sleep(LATE_S / 2)
            for exchange in self.exchanges:
                exchange.watch()
            for stream in list(self.streams):
                # A slow reader would hold up the others: each stream is written by a task of its own.
                task = asyncio.ensure_future(stream.beat(self.now()))
                self._beats.add(task)
                task.add_done_callback(self._done)

    def _done(self, beat: asyncio.Task[None]) -> None:
        self._beats.discard(beat)
        with suppress(asyncio.CancelledError):
            beat.exception()
