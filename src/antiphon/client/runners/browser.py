"""A browser of its own, in an event loop of its own: one page at a time, behind a gate, with an empty profile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import os
import shutil
import threading
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from antiphon.client.runners import actions
from antiphon.client.runners.description import Screen
from antiphon.client.runners.gate import Gate, Origin, place

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium
    from playwright.async_api import BrowserContext, Dialog, Page, ProxySettings, ViewportSize

T = TypeVar("T")

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
_STEP_MS: Final = 10_000
_LOADED_MS: Final = 3_000
_SETTLED_S: Final = 0.1
_CLOSING_S: Final = 10.0
_DIALOGS_MAX: Final = 5
_ASKED_MAX: Final = 1_000


class BrowserMissing(RuntimeError):
    """There is no browser here, or it does not start; the text says what to install."""


def missing(executable: str | None = None) -> str | None:
    """Why there is no browser here; None if there seems to be one."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install 'antiphon[computer]'"
    if executable or program():
        return None
    return "there is no Chromium: install your system's, for example with apt-get install chromium"


def program() -> str | None:
    """The system's Chromium."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="antiphon-browser", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts work in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Ends the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_S)
        self._loop.close()


@contextlib.asynccontextmanager
async def launch(
    executable: str | None, *, headless: bool = True, sandbox: bool, proxy: ProxySettings
) -> AsyncGenerator[Chromium]:
    """A Chromium, all of whose requests go through the proxy.

    Raises:
        BrowserMissing: it does not start.
    """
    from playwright.async_api import Error, async_playwright

    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(
                executable_path=executable,
                headless=headless,
                chromium_sandbox=sandbox,
                args=list(_FLAGS),
                proxy=proxy,
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
        except Error as error:
            raise BrowserMissing(f"The browser does not start: {error.message}") from error
        async with browser:
            yield browser


class Browser:
    """A page in a browser. All of it is for the loop in which it was opened.

    Args:
        origins: what it may reach.
        width: pixels of the screen.
        height: the same.
        executable: the program; the system's Chromium if not given.
        headless: False to show it.
        sandbox: whether Chromium keeps its pages in a sandbox of its own.
    """

    def __init__(
        self,
        origins: Sequence[Origin],
        width: int,
        height: int,
        *,
        executable: str | None = None,
        headless: bool = True,
        sandbox: bool | None = None,
    ) -> None:
        self._gate = Gate(origins)
        self._size: ViewportSize = {"width": width, "height": height}
        self._executable = executable or program()
        self._headless = headless
        self._sandbox = os.geteuid() != 0 if sandbox is None else sandbox
        self._pages: list[Page] = []
        self._dialogs: list[str] = []
        self._asked: set[str] = set()
        self._left = contextlib.AsyncExitStack()

    async def open(self, url: str) -> None:
        """Starts it at a page.

        Raises:
            BrowserMissing: it does not start.
        """
        self._left.push_async_callback(self._gate.close)
        proxy: ProxySettings = {"server": await self._gate.open(), "bypass": "<-loopback>"}
        program = launch(self._executable, headless=self._headless, sandbox=self._sandbox, proxy=proxy)
        chromium = await self._left.enter_async_context(program)
        context = await chromium.new_context(
            viewport=self._size, accept_downloads=False, service_workers="block", proxy=proxy
        )
        self._left.push_async_callback(context.close)
        context.set_default_timeout(_STEP_MS)
        await self._enter(context, url)

    async def close(self) -> None:
        """Ends it, and its profile goes."""
        await self._left.aclose()

    async def act(self, action: Mapping[str, Any]) -> None:
        """Does one action.

        Raises:
            ActionRefused: the browser could not do it.
        """
        from playwright.async_api import Error

        try:
            await actions.act(self._page, action)
        except Error as error:
            raise actions.ActionRefused(error.message.split("\n")[0]) from error

    @property
    def url(self) -> str:
        """The page that it shows."""
        return self._page.url

    async def screenshot(self) -> str:
        """The screen, when the page has loaded or taken long enough, as a data URL."""
        from playwright.async_api import Error

        with contextlib.suppress(Error):
            await self._page.wait_for_load_state("load", timeout=_LOADED_MS)
        await asyncio.sleep(_SETTLED_S)
        shot = await self._page.screenshot(scale="css", animations="allow")
        return f"data:image/png;base64,{base64.b64encode(shot).decode()}"

    async def screen(self) -> Screen:
        """What there is to describe."""
        from playwright.async_api import Error

        page = self._page
        try:
            snapshot = await page.aria_snapshot(mode="ai", boxes=True)
            title = await page.title()
        except Error as error:
            snapshot, title = f"- text: It cannot be described: {error.message.splitlines()[0]}", ""
        return Screen(page.url, title, self._size["width"], self._size["height"], snapshot)

    def take_news(self) -> list[str]:
        """What the page did since the last time that a picture does not show."""
        news = [f"A dialog said {text!r} and was closed." for text in self._dialogs]
        blocked = self._asked.intersection(self._gate.blocked)  # the browser asks for more, of its own accord
        news += [f"The page asked for {where}, which this browser may not reach." for where in sorted(blocked)]
        self._dialogs.clear()
        self._asked.clear()
        self._gate.blocked.clear()
        return news

    @property
    def _page(self) -> Page:
        return self._pages[-1]

    async def _enter(self, context: BrowserContext, url: str) -> None:
        from playwright.async_api import Error

        context.on("page", self._follow)
        context.on("dialog", self._answer)
        context.on("request", lambda request: self._note(request.url))
        page = await context.new_page()
        with contextlib.suppress(Error):  # what is wrong with the page can be seen on it
            await page.goto(url, wait_until="load")

    def _follow(self, page: Page) -> None:
        """A page that opens is the one on the screen, until it closes."""
        self._pages.append(page)
        page.on("close", self._forget)
        page.on("websocket", lambda socket: self._note(socket.url))

    def _forget(self, page: Page) -> None:
        if len(self._pages) > 1:
            self._pages.remove(page)

    def _note(self, url: str) -> None:
        if len(self._asked) < _ASKED_MAX:
            self._asked.add(place(url))

    async def _answer(self, dialog: Dialog) -> None:
        if len(self._dialogs) < _DIALOGS_MAX:
            self._dialogs.append(dialog.message[:500])
        await (dialog.accept() if dialog.type in ("alert", "beforeunload") else dialog.dismiss())
