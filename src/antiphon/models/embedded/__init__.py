"""The embedded model as the rest sees it: found or fetched, run in its child process, answering to every name."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from antiphon.models import Delta, Model, Prompt, ToolFormat, ToolHelp
from antiphon.models.chat.body import limit_answer
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.embedded.catalogue import (
    Choice,
    choose,
    find,
    load,
    take,
)
from antiphon.models.embedded.download import (
    FetchFailed,
    fetch,
    find_cached,
    folder,
)
from antiphon.models.embedded.gguf import NotReadable, attention
from antiphon.models.embedded.llamacpp import (
    EmbeddedServer,
    Settings,
    StartFailed,
    cores,
    memory_bytes,
    speed,
)
from antiphon.models.embedded.pool import Gate, Pool, fit_pool, least_pool
from antiphon.models.embedded.progress import Reporter
from antiphon.models.embedded.vocabulary import NoVocabulary, control_tokens, reasons, shows_functions

SLOTS = 2
FILE_POOL = Pool(window_tokens=8192, tokens=SLOTS * 8192, slots=SLOTS)
"""The contexts of a model whose file does not say what they need."""
FILE_WINDOW_TOKENS_MAX = 32768
"""How much of a window a model that is no entry of the catalogue is given: some were trained for a million tokens."""
FILE_WORKING_BYTES = 1_000_000_000
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
        pool = pool_of_file(path, memory_bytes())
        settings = Settings(model=path, log=log, alias=path.stem, pool=pool, threads=threads)
        return _with_template(settings)
    chosen = choose_model(name)
    say(f"Model: {chosen.why}")
    try:
        model = fetch(chosen.entry, reporter=reporter)
    except FetchFailed as error:
        raise CannotEmbed(str(error)) from error
    return Settings(
        model=model,
        log=log,
        alias=chosen.entry.name,
        pool=chosen.pool,
        threads=threads,
        tool_format=chosen.entry.tool_format,
        call_odds=chosen.entry.call_odds,
        tools_unreliable=chosen.entry.tools == "unreliable",
    )


def _with_template(settings: Settings) -> Settings:
    """How a model is asked of which no more is known than its file says."""
    path = settings.model
    try:
        tool_format: ToolFormat = "template" if shows_functions(path) else "fenced"
        return msgspec.structs.replace(settings, tool_format=tool_format, reasons=reasons(path))
    except (NoVocabulary, OSError) as error:
        raise CannotEmbed(f"{path}: {error}") from error


def pool_of_file(path: Path, free_bytes: int) -> Pool:
    """The contexts of any ``.gguf`` file, as far as it says what they need; what is none fails when it is started."""
    try:
        shape = attention(path)
    except (NotReadable, OSError):
        shape = None
    if shape is None:
        return FILE_POOL
    window = min(shape.context_tokens, FILE_WINDOW_TOKENS_MAX)
    left = free_bytes - path.stat().st_size - FILE_WORKING_BYTES
    return fit_pool(window, SLOTS, shape.f16_bytes_per_token, left) or least_pool(window, SLOTS)


def choose_model(name: str) -> Choice:
    """The catalogue's entry of that name, or the one that fits this machine; with as much context as this machine has
    memory for.

    Raises:
        CannotEmbed: there is no such name.
    """
    entries, free_bytes = load(), memory_bytes()
    if not name:
        return choose(entries, free_bytes, _room(), slots=SLOTS, cached=[e.name for e in entries if find_cached(e)])
    entry = find(entries, name)
    if entry is None:
        raise CannotEmbed(f"unknown model {name!r}; known models: {', '.join(e.name for e in entries)}")
    return take(entry, free_bytes, slots=SLOTS)


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
            await _report_speed(server, say)
    except (NoVocabulary, OSError) as error:
        await server.stop()
        raise CannotEmbed(f"{settings.model}: {error}") from error
    except BaseException:
        await server.stop()
        raise
    return EmbeddedModel(server, tokens, tool_help)


async def _report_speed(server: EmbeddedServer, say: Say) -> None:
    settings = server.settings
    try:
        pace = await speed(server.base_url, server.api_key)
    except (aiohttp.ClientError, ValueError) as error:
        say(f"{settings.alias} is up ({error}).")
    else:
        say(
            f"{settings.alias} loaded in {server.load_s:.1f} s; it reads {pace.read:.0f} and writes {pace.write:.0f} "
            f"tokens/s here, with {msgspec.structs.replace(settings.pool, window_tokens=server.context_tokens)}."
        )
    if settings.tools_unreliable:
        say("tools: unreliable. It decides badly whether to call a function, unless a call is required.")


class _GatedModel(ChatModel):
    """The model, whose requests wait for room where they share it."""

    def __init__(self, gate: Gate | None, pool: Pool, config: ChatConfig) -> None:
        super().__init__(config)
        self._gate = gate
        self._pool = pool

    def sample(self, prompt: Prompt) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Delta]]]:
        """See ``Model.sample``.

        Raises:
            Unavailable: other requests took up the pool for ``IDLE_S``.
        """
        if self._gate is None:
            return super().sample(prompt)
        return self._sample_within(self._gate, prompt)

    @asynccontextmanager
    async def _sample_within(self, gate: Gate, prompt: Prompt) -> AsyncGenerator[AsyncIterator[Sequence[Delta]]]:
        prompt = limit_answer(prompt, self.config)
        claim = self._pool.claim(await self.count(prompt), prompt.max_output_tokens)
        bound = msgspec.structs.replace(prompt, max_output_tokens=claim.output_tokens_max)
        async with gate.hold(claim.tokens, IDLE_S), super().sample(bound) as batches:
            yield batches


_ACCEPTED = (
    "chat_template_kwargs",
    "logit_bias",
    "min_p",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "top_k",
    "typical_p",
)
"""Members of a request that are not the API's, and that llama.cpp knows."""


class EmbeddedModel:
    """The roster of one model, which answers to every name: documents that say ``gpt-4`` run on it."""

    def __init__(self, server: EmbeddedServer, control_tokens: tuple[str, ...], tool_help: ToolHelp) -> None:
        self._server = server
        self._model = _GatedModel(
            Gate(server.settings.pool) if server.settings.pool.is_shared else None,
            server.settings.pool,
            ChatConfig(
                base_url=server.base_url,
                api_key=server.api_key,
                model=server.settings.alias,
                context_tokens=server.context_tokens,
                grammars="llamacpp",
                schemas="response_format" if server.settings.reasons else "llguidance",
                supports_prefill="llamacpp",
                forced_several=not server.settings.tools_unreliable,
                bounds_schemas=tool_help == "repair",
                sampling={"temperature": 1.0, "top_p": 1.0},
                tool_help=tool_help,
                tool_format=server.settings.tool_format if tool_help != "off" else "template",
                call_odds=server.settings.call_odds,
                counter="llamacpp",
                control_tokens=control_tokens,
                accepts=_ACCEPTED,
                idle_s=IDLE_S,
            ),
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
        """End its process; then the connections to it have ended too."""
        await self._server.stop()
        await self._model.close()
