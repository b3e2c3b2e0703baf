"""How others come in to the engine of this process: WebSockets of its own clients through a pair of sockets, and other
processes, which find the folder in use, through a socket file in it. No port is opened.

The socket file belongs to its user alone (mode 0600). Who may open it may read the folder too, and so needs no key.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from antiphon.config import Config
from antiphon.http.auth import trust_callers
from antiphon.http.body import BodyBudget
from antiphon.http.connection import uvicorn_options
from antiphon.store.sqlite import UNIX

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger("antiphon.client")

_PATH_BYTES_MAX = 100
"""What every system allows for the path of a socket file."""
_CLOSE_S = 1.0
_PATTERN = "engine-*.sock"


class SocketFile:
    """A listening socket with a name in the file system, in the folder where that is possible.

    Attributes:
        url: ``unix:PATH``.
    """

    def __init__(self, folder: Path) -> None:
        self._scratch: str | None = None
        path = folder / _PATTERN.replace("*", secrets.token_hex(4))
        if len(bytes(path)) > _PATH_BYTES_MAX:
            self._scratch = tempfile.mkdtemp(prefix="antiphon-")
            path = Path(self._scratch) / path.name
        self._path = path
        self.url = f"{UNIX}{path}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.socket.bind(str(path))
            path.chmod(0o600)
            self.socket.listen()
        except BaseException:
            self.close()
            raise

    def remove_stale(self) -> None:
        """Remove what processes left that were killed; for the owner of the folder."""
        for path in self._path.parent.glob(_PATTERN):
            if path != self._path and not _is_listening(path):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the name away. Harmless when repeated."""
        self.socket.close()
        self._path.unlink(missing_ok=True)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def open_socket_file(config: Config) -> SocketFile | None:
    """A socket file for the folder; None where there is nothing to share, or no such thing."""
    if config.store == "memory" or not hasattr(socket, "AF_UNIX"):
        return None
    try:
        return SocketFile(config.data)
    except OSError as error:
        log.info("no socket file, so other processes cannot use this engine: %s", error)
        return None


class SocketServer:
    """Speaks HTTP and WebSocket with whoever has a socket to the engine. Belongs to the engine's event loop."""

    def __init__(self, app: ASGIApp, config: Config, bodies: BodyBudget) -> None:
        self._app = app
        self._config = config
        self._bodies = bodies
        self._server: asyncio.Server | None = None
        self._make: Callable[[], asyncio.Protocol] | None = None
        self._state: Any = None

    async def listen(self, file: SocketFile) -> None:
        """Take connections that come through the file."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._protocol, sock=file.socket)
        file.remove_stale()

    async def accept(self, end: socket.socket) -> None:
        """Speak with whoever holds the other end."""
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, end)

    async def close(self) -> None:
        """Take leave of all."""
        if self._server is not None:
            self._server.close()
        if self._state is None:
            return
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_CLOSE_S)
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def _protocol(self) -> asyncio.Protocol:
        """uvicorn's protocol for one connection; uvicorn is brought in by the first one."""
        if self._make is None:
            import uvicorn
            from uvicorn.server import ServerState

            config = uvicorn.Config(
                trust_callers(self._app),
                lifespan="off",
                date_header=False,
                **uvicorn_options(self._config, self._bodies),
            )
            config.load()
            state = self._state = ServerState()
            kind = cast("Callable[..., asyncio.Protocol]", config.http_protocol_class)
            self._make = lambda: kind(config=config, server_state=state, app_state={})
        return self._make()
