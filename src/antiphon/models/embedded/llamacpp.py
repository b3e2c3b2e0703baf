"""The embedded model: llama.cpp's server in a child process on a loopback port, watched over and restarted.

It speaks chat completions, so ``chat`` is its client like any other server's. A crash in native code ends the requests
under way and nothing else. The child ends with this process, however that ends.

Memory: the contexts of its slots (``Pool``) are reserved at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp
import msgspec

from antiphon.models import ToolFormat
from antiphon.models.embedded.pool import Pool
from antiphon.wire.errors import Unavailable

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 30.0
STEADY_S = 60.0  # a child that lived this long starts the back-off afresh
STOP_S = 3.0
LOG_TAIL_BYTES = 4000


class StartFailed(Exception):
    """The child did not come up. The message carries the end of its log."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is run.

    Attributes:
        model: the ``.gguf`` file.
        alias: the name the server gives in its answers.
        pool: the contexts of its slots; the server lowers the window to what the model was trained for.
        tool_format: how functions are shown to it.
        call_odds: from which odds on a call is made; None to leave that to the model.
        reasons: whether it may think before it answers.
        tools_unreliable: whether its calls are known not to be relied on.
        threads: threads that compute.
        prompt_cache_bytes: memory for contexts of earlier requests that lost their slot.
        log: where what the child prints goes, until it answers: nothing of a request.
        log_bytes_max: bound on the log, and on the one kept before it.
        start_s: how long loading may take.
        verbosity: llama.cpp's: 1 errors, 2 warnings, 3 a few lines per request.
    """

    model: Path
    log: Path
    alias: str
    pool: Pool
    tool_format: ToolFormat = "template"
    call_odds: float | None = None
    reasons: bool = False
    tools_unreliable: bool = False
    threads: int = 1
    prompt_cache_bytes: int = 256 << 20
    log_bytes_max: int = 1 << 20
    start_s: float = 300.0
    verbosity: int = 2


class Speed(msgspec.Struct, frozen=True):
    """Tokens per second, for one request alone."""

    read: float
    write: float


class _Up(msgspec.Struct, frozen=True):
    """What the child says once it answers."""

    port: int
    load_s: float


def cores() -> int:
    """Cores this process may use: its affinity, and the quota of its cgroup where one is set."""
    ours = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = _cgroup("cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        ours = min(ours, int(quota[0]) // int(quota[1]))
    return max(1, ours)


def memory_bytes() -> int:
    """Memory that is free for a model: the machine's, and what is left of our cgroup's limit where one is set.

    Where neither can be read (not Linux), half of the machine's memory.
    """
    limit, used = _cgroup("memory.max"), _cgroup("memory.current")
    left = int(limit) - int(used) if limit.isdigit() and used.isdigit() else sys.maxsize
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(free, left)


def _cgroup(name: str) -> str:
    """A value of our cgroup (version 2, as a container sees it), or an empty text."""
    try:
        return (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return ""


class EmbeddedServer:
    """One supervised child.

    The port is the system's choice at the first start and kept over restarts, so that ``base_url`` stays.

    Attributes:
        api_key: what requests must carry as a bearer token; made anew by every instance, and never on a command line.
        base_url: where chat completions are, ``http://127.0.0.1:PORT/v1``; empty before ``start``.
        load_s: how long the latest load took.
        restarts: how often the child was started again.
        context_tokens: the most that one request may use, as the server says.
        last_error: why the latest start failed; empty when it did not.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api_key = secrets.token_urlsafe(24)
        self.load_s = 0.0
        self.restarts = 0
        self.context_tokens = settings.pool.window_tokens
        self.last_error = ""
        self._port = 0
        self._process: Process | None = None
        self._up = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1" if self._port else ""

    @property
    def alive(self) -> bool:
        """Whether the child runs and has answered. Its end is noticed as the event loop turns."""
        return self._up.is_set() and self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The child's process id, or None when there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Returns once the server answers.

        Raises:
            StartFailed: the file is no model, memory is short, or loading took longer than ``start_s``.
        """
        assert self._supervisor is None, "started twice"
        process = await self._launch()
        self._supervisor = asyncio.create_task(self._supervise(process))
        try:
            self.context_tokens = await self._read_context_size()
        except BaseException:
            await self.stop()
            raise

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Returns once the server answers; at once when it does.

        Raises:
            Unavailable: it does not within ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self.alive:
                    # A child that has just died is seen here before the supervisor has cleared the event.
                    await (self._up.wait() if not self._up.is_set() else asyncio.sleep(0.01))
        except TimeoutError:
            text = "The model is starting; try again shortly."
            raise Unavailable(text, internal=self.last_error, headers={"Retry-After": "5"}) from None

    async def stop(self) -> None:
        """Ends the child and returns when it is gone. Again: nothing."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
        self._up.clear()
        if self._process is not None:
            await _end(self._process)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _supervise(self, process: Process) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            since = time.monotonic()
            await process.wait()
            self._up.clear()
            if time.monotonic() - since > STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            process, backoff_s = await self._relaunch(backoff_s)

    async def _relaunch(self, backoff_s: float) -> tuple[Process, float]:
        """A child that answers, and the next back-off. Tries for ever, ever more slowly."""
        while True:
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            self.restarts += 1
            with contextlib.suppress(StartFailed, OSError):
                return await self._launch(), backoff_s

    async def _launch(self) -> Process:
        process = self._process = await self._spawn()
        try:
            async with asyncio.timeout(self.settings.start_s):
                up = await _handshake(process, self._orders())
        except TimeoutError:
            await _end(process)
            raise self._start_error(f"it did not answer within {self.settings.start_s:g} s") from None
        except BaseException:
            await _end(process)
            raise
        if up is None:
            raise self._start_error(f"the child ended with code {await process.wait()}")
        self._port, self.load_s, self.last_error = up.port, up.load_s, ""
        self._up.set()
        return process

    async def _spawn(self) -> Process:
        log = self.settings.log
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        child = Path(__file__).with_name("child.py")
        with _own_file(log, fresh=not self.restarts) as sink:
            # A session of its own: Ctrl-C in a terminal is for the parent, which then ends the child in its own time.
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-u", str(child)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=sink,
                start_new_session=True,
            )

    def _orders(self) -> bytes:
        """The child's first line. It goes through its standard input, where other users cannot read the key."""
        settings = self.settings
        orders: dict[str, Any] = {
            "model": str(settings.model.absolute()),
            "alias": settings.alias,
            "port": self._port,
            "api_key": self.api_key,
            "parent_pid": os.getpid(),
            "pool": msgspec.to_builtins(settings.pool) | {"is_shared": settings.pool.is_shared},
            "threads": settings.threads,
            "http_threads": settings.pool.slots + 32,  # a request that waits for a slot holds one
            "prompt_cache_mib": settings.prompt_cache_bytes >> 20,
            "log": str(settings.log.absolute()),
            "log_bytes_max": settings.log_bytes_max,
            "verbosity": settings.verbosity,
        }
        return json.dumps(orders).encode() + b"\n"

    def _start_error(self, why: str) -> StartFailed:
        self.last_error = f"{self.settings.model.name} could not be started: {why}\n{_tail(self.settings.log)}"
        return StartFailed(self.last_error)

    async def _read_context_size(self) -> int:
        session = aiohttp.ClientSession(headers=_bearer(self.api_key), raise_for_status=True)
        async with session, session.get(f"{self.base_url}/models") as answer:
            models: Any = await answer.json()
        return int(models["data"][0]["meta"]["n_ctx"])


async def _handshake(process: Process, orders: bytes) -> _Up | None:
    """What the child says once it answers; None when it ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(orders)
        await process.stdin.drain()
    line = await process.stdout.readline()
    return msgspec.json.decode(line, type=_Up) if line.endswith(b"\n") else None


async def _end(process: Process) -> None:
    """Closes the child's standard input, which ends it; kills it when it does not heed that. Waits for its end."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _own_file(log: Path, *, fresh: bool) -> BinaryIO:
    """The log, for its owner alone; ``fresh``: without what an earlier version may have written."""
    if fresh:
        log.with_name(log.name + ".1").unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if fresh else 0)
    handle = os.open(log, flags, 0o600)
    if os.name == "posix":
        os.fchmod(handle, 0o600)
    return os.fdopen(handle, "ab")


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")


def _bearer(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


async def speed(base_url: str, api_key: str = "", *, limit_s: float = 2.0) -> Speed:
    """How fast the model reads and writes, from the server's own timings of one short request.

    Writing is measured over at most 16 tokens and ``limit_s`` from the first; reading over about 50 tokens.

    Raises:
        aiohttp.ClientError: the server did not answer.
        ValueError: it gave no timings.
    """
    words = " ".join(secrets.choice(("red", "blue", "green", "black")) for _ in range(24))
    body = {
        "messages": [{"role": "user", "content": words}],
        "max_tokens": 16,
        "stream": True,
        "timings_per_token": True,
        "cache_prompt": False,
        "ignore_eos": True,
    }
    latest: dict[str, float] = {}
    async with (
        aiohttp.ClientSession(headers=_bearer(api_key), raise_for_status=True) as session,
        session.post(f"{base_url}/chat/completions", json=body) as answer,
        contextlib.aclosing(_timings(answer, limit_s)) as timings,
    ):
        async for timing in timings:
            latest = timing
    if not latest:
        raise ValueError("the server gave no timings")
    return Speed(read=latest["prompt_per_second"], write=latest["predicted_per_second"])


async def _timings(answer: aiohttp.ClientResponse, limit_s: float) -> AsyncGenerator[dict[str, float], None]:
    until = None
    async for line in answer.content:
        if not line.startswith(b"data: {"):
            continue
        timings = json.loads(line[6:]).get("timings")
        if timings is None:
            continue
        yield timings
        until = until or time.monotonic() + limit_s
        if time.monotonic() > until:
            return
