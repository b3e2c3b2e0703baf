"""A whole server on a real loopback socket, in the test's own event loop.

async with serving(ScriptedModel("Hello")) as url:
    client = AsyncOpenAI(base_url=url, api_key="none")
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from antiphon.access.keyring import Keyring, synchronizing
from antiphon.assembly import make_toolbox
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.files.blobs import BlobStore, LocalBlobs
from antiphon.files.embedding import Embedder
from antiphon.files.reranking import Reranker
from antiphon.http.app import make_app
from antiphon.http.body import BodyBudget
from antiphon.http.connection import uvicorn_options
from antiphon.models import Model, Roster
from antiphon.store import Store
from antiphon.store.keys import KeyStore
from antiphon.store.sqlite import SqliteStore
from antiphon.tools import ClientTool, HostedTool

_GRACE_S = 1.0


class OneModel:
    """A roster of one model that answers to every name and is always ready."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def find(self, name: str) -> Model:
        """The model."""
        return self._model

    async def names(self) -> Sequence[str]:
        """Its name."""
        return [self._model.name]

    async def ready(self) -> bool:
        """It is."""
        return True

    async def close(self) -> None:
        """Nothing to close."""


class _Server(uvicorn.Server):
    """uvicorn that leaves the process's signals alone: they are the test runner's."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def serving(
    model: Model | None = None,
    *,
    roster: Roster | None = None,
    store: Store | None = None,
    config: Config | None = None,
    keys: KeyStore | None = None,
    token: str = "",
    tools: Sequence[HostedTool] = (),
    client_tools: Sequence[ClientTool] = (),
    blobs: BlobStore | None = None,
    embedders: Sequence[Embedder] = (),
    reranker: Reranker | None = None,
) -> AsyncGenerator[str]:
    """Serve a model, or a whole roster; yields the base URL, ending in ``/v1``.

    Args:
        token: see ``Engine``.
        tools: what the server runs for its models; ``client_tools``: what its callers run.
        blobs, embedders, reranker: see ``Engine``; files are in a folder that goes at the end without any.
    """
    if roster is None:
        assert model is not None, "either a model or a roster"
        roster = OneModel(model)
    async with AsyncExitStack() as stack:
        if store is None:
            store = await SqliteStore.in_memory()
            stack.push_async_callback(store.close)
        keyring = await stack.enter_async_context(synchronizing(await Keyring(keys or store.keys, store.usage).open()))
        folder = stack.enter_context(TemporaryDirectory(prefix="antiphon-files-"))
        engine = Engine(
            config or Config(),
            roster,
            store,
            keyring,
            token=token,
            toolbox=make_toolbox(tools, client_tools),
            blobs=blobs or LocalBlobs(Path(folder)),
            embedders=embedders,
            reranker=reranker,
        )
        await stack.enter_async_context(engine.dispatcher.working())
        await stack.enter_async_context(engine.background.working(_GRACE_S))
        await stack.enter_async_context(engine.file_sweeper.working())
        await stack.enter_async_context(engine.ingestion.working())
        yield await stack.enter_async_context(_listening(engine))


@asynccontextmanager
async def _listening(engine: Engine) -> AsyncGenerator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        bodies = BodyBudget(engine.config.bodies_bytes_max)
        server = _Server(
            uvicorn.Config(
                make_app(engine, bodies),
                loop="none",
                lifespan="on",
                timeout_graceful_shutdown=1,
                **uvicorn_options(engine.config, bodies),
            )
        )
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
            if running.done():
                await running
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await running
