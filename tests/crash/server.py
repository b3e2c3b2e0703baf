"""The server that is killed: the real one, with a recording tool, and a way to die at a given commit.

``--die N:before`` kills the process at its Nth commit, when the transaction is complete but not committed;
``N:after`` once it is committed, and nobody has been told.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

from recorder import Recorder

from antiphon.cli.server import serve
from antiphon.config import Config
from antiphon.store.sqlite import threads


class Dying:
    """A connection that kills its process when it would commit."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)
        return self._db.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def die_at(commit: int, *, before: bool) -> None:
    """Have this process die at that commit of its life."""
    committed = threads.commit_group
    count = 0

    def dying(db: Any, *rest: Any) -> Any:
        nonlocal count
        count += 1
        if count == commit and before:
            db = Dying(db)
        outcomes = committed(db, *rest)
        if count == commit:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcomes

    threads.commit_group = dying


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--calls", type=Path, required=True)
    parser.add_argument("--call-s", type=float, default=0.15)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--die", default="")
    parser.add_argument("--embeds", action="store_true", help="embed what it takes in, by the upstream")
    options = parser.parse_args()
    if options.die:
        commit, _, where = options.die.partition(":")
        die_at(int(commit), before=where == "before")
    config = Config(
        port=options.port,
        data=options.data,
        upstream=options.upstream,
        model="teller",
        upstream_options={"supports_prefill": "vllm"},
        background_attempts_max=options.attempts,
        background_running_max=64,
        drain_s=3.0,
        embedding="upstream" if options.embeds else "none",
        embedding_url=options.upstream,
        embedding_model="numbers",
    )
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    serve(config, listener, tools=[Recorder(options.calls, pause_s=options.call_s)])


if __name__ == "__main__":
    main()
