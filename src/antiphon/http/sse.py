"""Server-sent events: a log whose only reader is one HTTP client.

Frames that are ready together leave in one write, and no frame is split between two writes. A slow reader holds up its
own response and nothing else; one that takes nothing for too long is disconnected, so that the model is free.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from antiphon.grammar import EVENTS
from antiphon.http.exchange import Exchange
from antiphon.http.monitor import FLUSH_AFTER_S
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
_SILENT_S = 15.0
STALLED_S = 60.0
"""How long a reader may take nothing while there is something to read."""
decode = msgspec.json.Decoder().decode
_HEADS = {type: f"event: {type}\ndata: ".encode() for type in (*EVENTS, *EVENT_NAMES.values())}
_DELTAS = {name for type, rule in EVENTS.items() if rule.op == "grow" for name in (type, EVENT_NAMES.get(type, type))}


def frame(event: Json, *, obfuscate: bool) -> bytes:
    """An event as SSE bytes.

    With ``obfuscate``, a delta is padded to a multiple of 32 bytes, so that the sizes seen on the network do not tell
    the words. The padding follows from the event alone: a replay is the same byte for byte.
    """
    return _build_frame(event["type"], encode(event), obfuscate)


def _build_frame(type: str, data: bytes, obfuscate: bool) -> bytes:
    if obfuscate and type in _DELTAS:
        return _HEADS[type] + data[:-1] + _PADS[len(data) % _QUANTUM_BYTES]
    return _HEADS[type] + data + b"\n\n"


def _type(line: bytes) -> str:
    """The type of an event of ours, which is its first member."""
    return line[len(_BEGINS) : line.index(b'"', len(_BEGINS))].decode()


def encode_message(event: Json, *, obfuscate: bool) -> bytes:
    """The same JSON without the SSE framing, for a transport with frames of its own."""
    return frame(event, obfuscate=obfuscate)[len(_HEADS[event["type"]]) : -2]


class EventStream:
    """The log of a response that is streamed to one client.

    Args:
        holds_opening: whether what opens the stream waits for the first words, as long as silence may last: until then
            a failure is the answer, with its status.
    """

    def __init__(self, exchange: Exchange, *, obfuscate: bool, holds_opening: bool = False) -> None:
        self._exchange = exchange
        self._obfuscate = obfuscate
        self._holds_opening = holds_opening
        self._frames: list[bytes] = []
        self._monitor = exchange.monitor
        self._writing = False
        self._since = self.moved = self._monitor.now()
        self._monitor.streams.add(self)

    def append(self, event: Json) -> None:
        """See ``Log.append``."""
        self._frames.append(frame(self._exchange.profile.event(event), obfuscate=self._obfuscate))

    def append_frame(self, frame: bytes) -> None:
        """Append a complete frame."""
        self._frames.append(frame)

    def take(self, lines: Iterable[bytes]) -> None:
        """Append events of a stored log, which are JSON already."""
        if self._exchange.profile.renames:
            for line in lines:
                self.append(decode(line))
        else:
            self._frames += [_build_frame(_type(line), line, self._obfuscate) for line in lines]

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
        self._writing, self._since = True, self._monitor.now()
        await self.open()
        await self._exchange.write(data, more=more)
        self._writing = False
        self.moved = self._monitor.now()

    async def check(self, now: float) -> None:
        """Flush frames that have waited too long; send a comment on a silent connection."""
        if self._writing:
            if now - self._since > STALLED_S:
                self._exchange.abandon()
            return
        is_held = self._holds_opening and not self._exchange.started
        if self._frames and now - self.moved > (_SILENT_S if is_held else FLUSH_AFTER_S):
            await self.flush()
        elif self._exchange.started and now - self.moved > _SILENT_S:
            await self._write(_PING)

    async def end(self) -> None:
        """Send the rest and ``[DONE]``."""
        self._monitor.streams.discard(self)
        await self._write(b"".join(self._frames) + DONE, more=False)

    def drop(self) -> None:
        """Nobody reads any more."""
        self._monitor.streams.discard(self)
