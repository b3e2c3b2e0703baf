"""Who is connected: how many may be, from one address and in all, and who has to go when there are too many.

A connection that has asked for nothing yet, or nothing more, makes room for a new one; one at work never does.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, Protocol

LOOPBACK: Final = ("127.", "::1")
LINGERING_MAX: Final = 32
"""How many that were turned away may stay open for a moment, to read why."""


class Peer(Protocol):
    """One client's connection."""

    @property
    def address(self) -> str: ...

    def drop(self) -> None:
        """Close it, now and without a word."""
        ...


class Peers:
    """The connections of one server.

    Args:
        total_max: how many there may be.
        per_address_max: how many from one address, this machine's excepted.
    """

    def __init__(self, total_max: int, per_address_max: int) -> None:
        self._total_max = total_max
        self._per_address_max = per_address_max
        self._all: set[Peer] = set()
        self._idle: OrderedDict[Peer, None] = OrderedDict()
        self._from: Counter[str] = Counter()
        self._lingering: set[Peer] = set()

    def enter(self, peer: Peer) -> bool:
        """Whether there is room for one more; the one that has been idle longest goes for it where there must."""
        address = peer.address
        local = address.startswith(LOOPBACK) or not address
        if not local and self._from[address] >= self._per_address_max and not self._make_room(address):
            return False
        if len(self._all) >= self._total_max and not self._make_room(None):
            return False
        self._all.add(peer)
        self._from[address] += 1
        self._idle[peer] = None
        return True

    def may_linger(self, peer: Peer) -> bool:
        """Whether one that there is no room for may stay for a moment."""
        if len(self._lingering) >= LINGERING_MAX:
            return False
        self._lingering.add(peer)
        return True

    def work(self, peer: Peer) -> None:
        """It has asked for something."""
        self._idle.pop(peer, None)

    def rest(self, peer: Peer) -> None:
        """It has been answered."""
        if peer in self._all:
            self._idle[peer] = None

    def leave(self, peer: Peer) -> None:
        """It is closed."""
        self._lingering.discard(peer)
        if peer in self._all:
            self._all.discard(peer)
            self._idle.pop(peer, None)
            self._from[peer.address] -= 1
            if not self._from[peer.address]:
                del self._from[peer.address]

    def _make_room(self, address: str | None) -> bool:
        for peer in self._idle:
            if address in (None, peer.address):
                self.leave(peer)
                peer.drop()
                return True
        return False
