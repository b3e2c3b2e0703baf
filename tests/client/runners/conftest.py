"""One Chromium for many computers: each has a context of its own in it, with its own profile and its own gate."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from antiphon.client.runners import browser, computer
from antiphon.client.runners.browser import Loop, launch, missing, program


class _Shared(Loop):
    """A loop that outlives the computers that use it."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[tuple[_Shared, Any]]:
    """A browser that runs, and its loop."""
    if missing():
        pytest.skip(f"no browser here: {missing()}")
    loop, left = _Shared(), contextlib.AsyncExitStack()
    proxy: Any = {"server": "http://127.0.0.1:9"}  # each context has another
    started = left.enter_async_context(launch(program(), sandbox=os.geteuid() != 0, proxy=proxy))
    try:
        yield loop, loop.submit(started).result(60)
    finally:
        loop.submit(left.aclose()).result(60)
        loop.end()


@pytest.fixture
def shared(chromium: tuple[_Shared, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Computers of this test share the module's browser, unless they name one."""
    loop, running = chromium

    @contextlib.asynccontextmanager
    async def found(executable: str | None, **options: Any) -> AsyncIterator[Any]:
        if executable == program():
            yield running
        else:
            async with launch(executable, **options) as own:
                yield own

    monkeypatch.setattr(browser, "launch", found)
    monkeypatch.setattr(computer, "Loop", lambda: loop)
