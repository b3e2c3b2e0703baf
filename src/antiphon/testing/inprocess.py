"""Engines for the in-process clients of tests: a scripted model, the folder's own database.

with OpenAI(data=tmp_path, engine=scripted(ScriptedModel("Hello"))) as client:
    client.responses.create(model="m", input="Hi")
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Literal

from antiphon.assembly import open_engine
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.models import Model
from antiphon.testing.serving import OneModel


def scripted(model: Model) -> Callable[[Config, str], AbstractAsyncContextManager[Engine]]:
    """What opens an engine on that model, for ``OpenAI(engine=…)``. Clients that shall share it are given the same."""
    return partial(_open, model)


def _open(model: Model, config: Config, url: str) -> AbstractAsyncContextManager[Engine]:
    return open_engine(config, None, url, roster=OneModel(model))


class Gate(asyncio.Event):
    """An event for scripts, which any thread may set; the engine waits for it in its own.

    Attributes:
        reached: set when the script has come so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._waiting: asyncio.AbstractEventLoop | None = None

    async def wait(self) -> Literal[True]:
        """See ``asyncio.Event.wait``."""
        with self._lock:
            self._waiting = asyncio.get_running_loop()
        self.reached.set()
        return await super().wait()

    def set(self) -> None:
        """Let those go on who wait, and who will."""
        with self._lock:
            if self._waiting is None:
                super().set()
            else:
                self._waiting.call_soon_threadsafe(super().set)
