"""The small model for everyone here: fetched through our own code, served by our own child process."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.models.embedded.catalogue import Entry, find, load
from antiphon.models.embedded.download import fetch
from antiphon.models.embedded.llamacpp import EmbeddedServer, Settings
from antiphon.models.embedded.pool import Pool

SMALL = "smollm2-135m-instruct"


def small_settings(entry: Entry, model: Path, log: Path, *, slots: int) -> Settings:
    """Its whole window for every slot, and one thread."""
    window = entry.context_tokens
    pool = Pool(window_tokens=window, tokens=slots * window, slots=slots)
    return Settings(model=model, log=log, alias=entry.name, pool=pool)


@pytest.fixture(scope="session")
def small_entry() -> Entry:
    entry = find(load(), SMALL)
    assert entry is not None
    return entry


@pytest.fixture(scope="session")
def small_model_path(small_entry: Entry) -> Path:
    """The file; the first run on a machine fetches it (98 MB)."""
    return fetch(small_entry)


@pytest.fixture(scope="session")
def small_server(
    small_entry: Entry, small_model_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    """A running server. Read its ``base_url``, ``api_key`` and ``context_tokens``; do not await its methods.

    It lives in a thread with a loop of its own, because each test has its own loop. One thread computes: llama.cpp
    waits for its slowest thread at every step, which on a busy machine costs far more than the second one brings.
    """
    log = tmp_path_factory.mktemp("llamacpp") / "llamacpp.log"
    server = EmbeddedServer(small_settings(small_entry, small_model_path, log, slots=2))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(timeout=300)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
