"""``antiphon serve``: an engine behind a socket, and what a newcomer reads when it is up."""

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
from antiphon.http.connection import uvicorn_options
from antiphon.http.peers import raise_descriptors
from antiphon.store import StoreUnavailable
from antiphon.telemetry import logs
from antiphon.tools import HostedTool
from antiphon.wire.errors import ApiError

if TYPE_CHECKING:
    from antiphon.models.embedded.llamacpp import Settings

_BACKLOG = 2048
_LAST_WORDS_S = 5
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
    _refuse_strangers(config, _any_key(config))
    raise_descriptors()
    console = Console(stderr=True, highlight=False)
    # Before there is an event loop: a long fetch ends at the first Ctrl-C.
    located = None if config.upstream else _located(config, console)
    loop_factory = uvicorn.Config(_no_app, loop="auto", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(logs.note_loop_error)
        runner.run(_serve(config, listener, console, located, tools))


def _any_key(config: Config) -> bool:
    """Whether there is a key, asked before a model is fetched for nothing."""
    from antiphon.store.sqlite import database_of
    from antiphon.store.sqlite.keys import read_keys_of

    try:
        return any(key.revoked_at is None for key in read_keys_of(database_of(config.data)))
    except StoreUnavailable as error:
        raise ServeFailed(str(error)) from error


def _located(config: Config, console: Console) -> Settings:
    from antiphon.models.embedded import CannotEmbed, locate

    try:
        return locate(config.model, config.data, console.print, config.threads)
    except CannotEmbed as error:
        raise ServeFailed(str(error)) from error


def _refuse_strangers(config: Config, open_keys: bool) -> None:
    if not config.loopback and not open_keys:
        raise ServeFailed(
            f"host {config.host!r} is not a loopback address, and there is no key: anyone who reaches the port could"
            " use the model and read every response. Make a key with `antiphon keys create`, or use 127.0.0.1."
        )


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only asked for its event loop")


async def _serve(
    config: Config, listener: socket.socket, console: Console, located: Settings | None, tools: Sequence[HostedTool]
) -> None:
    url = f"http://{_host(config.host)}:{listener.getsockname()[1]}/v1"
    try:
        async with open_engine(config, console.print, url, located, tools=tools) as engine:
            _refuse_strangers(config, engine.keyring.opens)
            await _Server(config, engine, console, url).serve(sockets=[listener])
    except CannotOpen as error:
        raise ServeFailed(str(error)) from error


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(uvicorn.Server):
    """uvicorn, which tells people where it is once it is there."""

    def __init__(self, config: Config, engine: Engine, console: Console, url: str) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(engine),
                loop="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_LAST_WORDS_S,
                **uvicorn_options(config),
            )
        )
        self._console = console
        self._url = url
        self._engine = engine

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        _settle_memory()
        _welcome(self._console, self._url, await self._model(), self._engine)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let what is open come to its end or fail with a word, then close. A second signal
        cuts it short.
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
        """Let a signal end the serving and nothing else: uvicorn would raise it again, past all that closes."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, self.handle_exit, sign, None)
        try:
            yield
        finally:
            for sign in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(sign)


def _settle_memory() -> None:
    """Spare the garbage collector what lives as long as the process: requests make few cycles, and it would look
    through all modules again and again for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_ALLOCATIONS, 20, 100)


def _welcome(console: Console, url: str, model: str, engine: Engine) -> None:
    asks, config = engine.keyring.asks, engine.config
    bearer = " -H 'Authorization: Bearer YOUR_KEY'" if asks else ""
    curl = f"""curl {url}/responses -H 'Content-Type: application/json'{bearer} \\
  -d '{{"model": "{model}", "input": "Say hello in three languages."}}'"""
    python = f"""from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="{"YOUR_KEY" if asks else "none"}")
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
