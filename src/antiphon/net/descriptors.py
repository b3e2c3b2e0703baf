"""Open files: how many there may be, and for whom there is room."""

from __future__ import annotations

import sys
from typing import Final

_RESERVED_DESCRIPTORS: Final = 160
"""For the store, the listening socket, the model's process, who is turned away, and what Python opens now and then."""
_CONNECTIONS_LEAST: Final = 32
DESCRIPTORS_MAX: Final = 65_536


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


def upstream_room(files: int, upstream: int) -> int:
    """How many of the connections to the upstream that are wished for there is room for."""
    return min(upstream, files // 4)


def room_for(files: int, upstream: int) -> int:
    """How many connections of clients there is room for beside what the server itself opens."""
    return max(_CONNECTIONS_LEAST, files - upstream_room(files, upstream) - _RESERVED_DESCRIPTORS)
