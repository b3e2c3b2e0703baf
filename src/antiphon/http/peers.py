"""Who is connected: how many may be, from one address and in all, and who has to go when there are too many.

A connection that has asked for nothing yet, or nothing more, makes room for a new one; one at work never does.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from typing import Final, Protocol

LOOPBACK: Final = ("127.", "::1")
_RESERVED_DESCRIPTORS: Final = 160
"""For the store, the listening socket, the model's process and what Python opens now and then."""
_CONNECTIONS_LEAST: Final = 32
DESCRIPTORS_MAX: Final = 65_536


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

    def work(self, peer: Peer) -> None:
        """It has asked for something."""
        self._idle.pop(peer, None)

    def rest(self, peer: Peer) -> None:
        """It has been answered."""
        if peer in self._all:
            self._idle[peer] = None

    def leave(self, peer: Peer) -> None:
        """It is closed, or no matter of ours any more."""
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


def raise_descriptors() -> None:
    """Let this process open as many files as the system allows. For a process that is a server and nothing else."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptors() -> int:
    """How many files this process may have open, as far as it could want them."""
    if sys.platform == "win32":
        return DESCRIPTORS_MAX
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else min(soft, DESCRIPTORS_MAX)


def room_for(files: int, upstream: int, websockets: int) -> int:
    """How many connections there is room for beside what the server itself opens."""
    own = min(upstream, files // 4) + min(websockets, files // 8) + _RESERVED_DESCRIPTORS
    return max(_CONNECTIONS_LEAST, files - own)
