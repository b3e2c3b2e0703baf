"""The embedded model as the rest sees it: found or fetched, run in its child process, answering to every name."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp

from antiphon.models import Model, ToolHelp
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.embedded.catalogue import (
    Entry,
    choose,
    find,
    load,
)
from antiphon.models.embedded.download import (
    FetchFailed,
    Reporter,
    cached,
    fetch,
    folder,
)
from antiphon.models.embedded.llamacpp import (
    EmbeddedServer,
    Settings,
    StartFailed,
    cores,
    memory_bytes,
    settings_for,
    settings_of_file,
    speed,
)
from antiphon.models.embedded.vocabulary import NoVocabulary, control_tokens

SLOTS = 2
IDLE_S = 3600.0
"""How long the model may read before its first token: a full context takes a small machine many minutes."""

Say = Callable[[str], None]


class CannotEmbed(Exception):
    """There is no model to run, or it does not start; the text says why, for people."""


def locate(name: str, data: Path, say: Say, threads: int = 0, reporter: Reporter | None = None) -> Settings:
    """How to run the model ``name``: a catalogue name, the path of a ``.gguf`` file, or empty for one that fits this
    machine. Blocks while it is fetched; the ``reporter`` is told how far that is, people on standard error if there is
    none. ``threads`` 0 leaves one core to everything else.

    Raises:
        CannotEmbed: no such model, or it cannot be fetched.
    """
    log = data / "llamacpp.log"
    threads = threads or max(1, cores() - 1)
    if name.endswith(".gguf"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise CannotEmbed(f"there is no file {path}")
        return settings_of_file(path, log, slots=SLOTS, threads=threads)
    entry = entry_for(name, say)
    try:
        return settings_for(entry, fetch(entry, reporter=reporter), log, slots=SLOTS, threads=threads)
    except FetchFailed as error:
        raise CannotEmbed(str(error)) from error


def entry_for(name: str, say: Say) -> Entry:
    """The catalogue's entry of that name, or the one that fits this machine.

    Raises:
        CannotEmbed: there is no such name.
    """
    entries = load()
    if not name:
        choice = choose(entries, memory_bytes(), _room(), slots=SLOTS, cached=[e.name for e in entries if cached(e)])
        say(f"Model: {choice.why}")
        return choice.entry
    entry = find(entries, name)
    if entry is None:
        raise CannotEmbed(f"there is no model {name!r}; there are {', '.join(e.name for e in entries)}")
    return entry


def _room() -> int:
    """Bytes free where models are kept, or will be."""
    place = folder()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


async def start(settings: Settings, say: Say | None, tool_help: ToolHelp = "repair") -> EmbeddedModel:
    """Start the model and tell how fast it is here; that is not measured where nobody listens.

    Raises:
        CannotEmbed: it does not start; the text holds the end of its log.
    """
    server = EmbeddedServer(settings)
    try:
        await server.start()
    except (StartFailed, OSError) as error:
        raise CannotEmbed(str(error)) from error
    try:
        tokens = await asyncio.to_thread(control_tokens, settings.model)
        if say is not None:
            await _tell_speed(server, say)
    except (NoVocabulary, OSError) as error:
        await server.stop()
        raise CannotEmbed(f"{settings.model}: {error}") from error
    except BaseException:
        await server.stop()
        raise
    return EmbeddedModel(server, tokens, tool_help)


async def _tell_speed(server: EmbeddedServer, say: Say) -> None:
    settings = server.settings
    try:
        pace = await speed(server.base_url, server.api_key)
    except (aiohttp.ClientError, ValueError) as error:
        say(f"{settings.alias} is up ({error}).")
    else:
        say(
            f"{settings.alias} loaded in {server.load_s:.1f} s; it reads {pace.read:.0f} and writes {pace.write:.0f} "
            f"tokens/s here, {settings.slots} requests at once with {server.context_tokens} tokens of context each."
        )


class EmbeddedModel:
    """The roster of one model, which answers to every name: documents that say ``gpt-4`` run on it."""

    def __init__(self, server: EmbeddedServer, control_tokens: tuple[str, ...], tool_help: ToolHelp) -> None:
        self._server = server
        self._model = ChatModel(
            ChatConfig(
                base_url=server.base_url,
                api_key=server.api_key,
                model=server.settings.alias,
                context_tokens=server.context_tokens,
                supports_prefill="llamacpp",
                sampling={"temperature": 1.0, "top_p": 1.0},
                tool_help=tool_help,
                counter="llamacpp",
                control_tokens=control_tokens,
                idle_s=IDLE_S,
            )
        )

    async def find(self, name: str) -> Model:
        """The model, whatever its caller calls it; waits while its process is started again.

        Raises:
            antiphon.wire.errors.Unavailable: it does not come up.
        """
        await self._server.ready()
        return self._model

    async def names(self) -> Sequence[str]:
        """Its real name."""
        return [self._model.name]

    async def ready(self) -> bool:
        """Whether its process answers."""
        return self._server.alive

    async def close(self) -> None:
        """End its process."""
        await self._model.close()
        await self._server.stop()
