"""A sandbox for commands, where the system offers one: bubblewrap.

In it a command sees the system's programs and its own folder, and nothing else of the disk; it can write to its folder
and to an empty ``/tmp``, and it reaches no network and no process outside.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu")
_NETWORK: Final = ("/run/systemd/resolve", "/run/NetworkManager/resolv.conf")
_HOOKS: Final = (".git/hooks", ".git/config")
_SECRETS: Final = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-")
"""Files of the system that root can read, and a command has no business with."""

_PROBE_S: Final = 10.0


class SandboxMissing(RuntimeError):
    """There is no sandbox here; the text says why."""


def wrap_command(argv: Sequence[str], root: Path, cwd: Path, readable: Sequence[Path], *, network: bool) -> list[str]:
    """A program's arguments, in the sandbox.

    Args:
        argv: the program and its arguments.
        root: the folder that it may write to.
        cwd: where it starts, below the root.
        readable: what else it may read.
        network: whether it reaches the network.
    """
    return [*_view(str(root), readable, network=network), "--chdir", str(cwd), "--", *argv]


@functools.cache
def missing() -> str | None:
    """Why there is no sandbox here; None if there is one."""
    if shutil.which("bwrap") is None:
        return "bubblewrap (bwrap) is not installed"
    try:
        probe = [*_view("/tmp", (), network=False), "--", "true"]
        tried = subprocess.run(probe, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    return f"bubblewrap does not work here: {tried.stderr.strip()}" if tried.returncode else None


def _view(root: str, readable: Sequence[Path], *, network: bool) -> list[str]:
    """What is seen from within. What is bound later lies over what was before."""
    view = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
    view += ["--share-net"] if network else []
    view += ["--tmpfs", "/tmp"]
    for path in [*_SYSTEM, *_pythons(), *(_NETWORK if network else ()), *map(str, readable)]:
        view += _shown(path)
    for path in filter(os.path.exists, _SECRETS):
        view += ["--ro-bind", "/dev/null", path]
    view += ["--bind", root, root]
    for path in _HOOKS:  # what the user's own git would run
        view += ["--ro-bind-try", f"{root}/{path}", f"{root}/{path}"]
    return view


def _shown(path: str) -> list[str]:
    if Path(path).is_symlink():
        return ["--symlink", str(Path(path).readlink()), path]
    return ["--ro-bind-try", path, path]


def _pythons() -> Iterator[str]:
    """Where this Python lives, if that is none of the system's folders."""
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not prefix.startswith("/usr"):
            yield prefix
