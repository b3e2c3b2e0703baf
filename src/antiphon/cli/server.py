"""The server behind ``antiphon serve``: an engine behind a socket, and what is printed once it listens."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax

from antiphon.assembly import CannotOpen, open_engine
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.http.app import make_app
from antiphon.http.body import BodyBudget
from antiphon.http.connection import uvicorn_options
from antiphon.net.descriptors import raise_descriptors
from antiphon.store import StoreUnavailable
from antiphon.telemetry import logs
from antiphon.tools import HostedTool
from antiphon.wire.errors import ApiError

if TYPE_CHECKING:
    from antiphon.models.embedded.llamacpp import Settings

_BACKLOG = 2048
_SHUTDOWN_S = 5
"""How long connections may take to send what they have, once all work has ended."""
_SIGNAL_S = 0.1
_GC_ALLOCATIONS = 20_000


class ServeFailed(Exception):
    """The server could not start; the text says why, for people."""


def serve(config: Config, listener: socket.socket, tools: Sequence[HostedTool] = ()) -> None:
    """Serve on ``listener`` until a signal says stop.

    Args:
        tools: what the server runs for its models.

    Raises:
        ServeFailed: the model or the store could not be opened.
    """
    _refuse_open_server(config, _has_key(config))
    raise_descriptors()
    console = Console(stderr=True, highlight=False)
    # Before there is an event loop: a long fetch ends at the first Ctrl-C.
    located = None if config.upstream else _locate_model(config, console)
    loop_factory = uvicorn.Config(_never_called, loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(logs.note_loop_error)
        runner.run(_serve(config, listener, console, located, tools))


def _has_key(config: Config) -> bool:
    """Whether there is a key; asked early, so that no model is fetched for nothing."""
    from antiphon.store.sqlite import database_of
    from antiphon.store.sqlite.keys import read_keys_of

    try:
        return any(key.revoked_at is None for key in read_keys_of(database_of(config.data)))
    except StoreUnavailable as error:
        raise ServeFailed(str(error)) from error


def _locate_model(config: Config, console: Console) -> Settings:
    from antiphon.models.embedded import CannotEmbed, locate

    try:
        return locate(config.model, config.data, console.print, config.threads)
    except CannotEmbed as error:
        raise ServeFailed(str(error)) from error


def _refuse_open_server(config: Config, open_keys: bool) -> None:
    if not config.loopback and not open_keys:
        raise ServeFailed(
            f"host {config.host!r} is not a loopback address, and there is no key: anyone who reaches the port could"
            " use the model and read every response. Make a key with `antiphon keys create`, or use 127.0.0.1."
        )


async def _never_called(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only asked for its event loop")


async def _serve(
    config: Config, listener: socket.socket, console: Console, located: Settings | None, tools: Sequence[HostedTool]
) -> None:
    url = f"http://{_host(config.host)}:{listener.getsockname()[1]}/v1"
    try:
        async with open_engine(config, console.print, url, located, tools=tools) as engine:
            _refuse_open_server(config, engine.keyring.has_open_key)
            await _Server(config, engine, console, url).serve(sockets=[listener])
    except CannotOpen as error:
        raise ServeFailed(str(error)) from error


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """uvicorn, which prints its address once it listens."""

    def __init__(self, config: Config, engine: Engine, console: Console, url: str) -> None:
        bodies = BodyBudget(config.bodies_bytes_max)
        super().__init__(
            uvicorn.Config(
                make_app(engine, bodies),
                loop="none",
                lifespan="on",
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_SHUTDOWN_S,
                **uvicorn_options(config, bodies),
            )
        )
        self._console = console
        self._url = url
        self._engine = engine

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the address."""
        await super().startup(sockets)
        _freeze_objects()
        _print_welcome(self._console, self._url, await self._model(), self._engine)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let open requests end or fail with an error, then close. A second signal cuts this
        short.
        """
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        draining = asyncio.create_task(self._engine.drain(self._engine.config.drain_s))
        while not draining.done() and not self.force_exit:
            await asyncio.wait({draining}, timeout=_SIGNAL_S)
        await super().shutdown(sockets)

    async def _model(self) -> str:
        """A model's name to show; the server starts also while its upstream is not there yet."""
        try:
            names = await self._engine.roster.names()
        except ApiError as error:
            self._console.print(f"[yellow]{escape(error.message)}[/] Requests are answered once it can.")
            return "MODEL"
        return names[0] if names else "MODEL"

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let a signal stop the server and do nothing else: uvicorn would raise it again and skip the clean-up."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, self.handle_exit, sign, None)
        try:
            yield
        finally:
            for sign in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sign)


def _freeze_objects() -> None:
    """Exempt from garbage collection what lives as long as the process: requests make few cycles, and the collector
    would go through all modules again and again to find them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 100)


def _print_welcome(console: Console, url: str, model: str, engine: Engine) -> None:
    needs_key, config = engine.keyring.requires_key, engine.config
    bearer = " -H 'Authorization: Bearer YOUR_KEY'" if needs_key else ""
    curl = f"""curl {url}/responses -H 'Content-Type: application/json'{bearer} \\
  -d '{{"model": "{model}", "input": "Say hello in three languages."}}'"""
    python = f"""from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="{"YOUR_KEY" if needs_key else "none"}")
response = client.responses.create(model="{model}", input="Say hello in three languages.")
print(response.output_text)"""
    console.print(f"[bold]Antiphon[/] serves [bold cyan]{escape(url)}[/] with [bold]{escape(model)}[/]")
    place = escape(str(config.data)) if config.store == "sqlite" else "memory, until the server stops"
    console.print(f"Responses are kept in {place}\n", soft_wrap=True)
    for text, language in ((curl, "bash"), (python, "python")):
        if console.is_terminal:
            console.print(Padding(Syntax(text, language, background_color="default"), (0, 0, 1, 0)))
        else:
            console.print(escape(text) + "\n", soft_wrap=True)
