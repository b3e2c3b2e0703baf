"""``Computer``: does a model's clicks and keystrokes in a browser of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

from antiphon.client.runners.actions import ActionRefused, check
from antiphon.client.runners.browser import Browser, BrowserMissing, Loop, missing
from antiphon.client.runners.description import describe
from antiphon.client.runners.gate import Origin
from antiphon.client.runs.runners import Answer
from antiphon.client.sdk.tool_calls import ToolCall

WIDTH: Final = 1024
HEIGHT: Final = 768
ACTIONS_MAX: Final = 500
SESSION_S: Final = 1800.0
CALL_S: Final = 60.0
DESCRIPTION_CHARS_MAX: Final = 8_000
_OPENING_S: Final = 60.0
_CLOSING_S: Final = 20.0
_PICTURE_S: Final = 20.0

SafetyCheck = Mapping[str, Any]
"""``{"id", "code", "message"}``: why a server wants somebody to look before a call is done."""


class ComputerStopped(RuntimeError):
    """The computer does no more: it was stopped or closed, or has done as much as it may."""


class SafetyCheckPending(RuntimeError):
    """A call that was not done, since nobody acknowledged what the server says of it.

    Attributes:
        checks: what it says.
    """

    def __init__(self, checks: Sequence[SafetyCheck]) -> None:
        reasons = "; ".join(str(check.get("message") or check.get("code") or check.get("id")) for check in checks)
        super().__init__(f"The call was not done: {reasons}. Give the computer acknowledge= to decide about that.")
        self.checks = checks


class Computer:
    """Runs the calls of ``computer`` and ``computer_use_preview`` in a browser: the system's Chromium, with no window.

    The browser starts with the first call, has an empty profile, which goes with it, and reaches the allowed origins
    and nothing else, whatever a page asks for. It shows one page at a time; one that opens takes the place of the last.
    Each call ends with a screenshot of just the declared size. An action that cannot be done ends its call, and the
    model is told why in a message behind the screenshot.

    With ``describe`` the model is told in words what the screenshot shows, with the points to click, from the page's
    accessibility tree: so a model that does not see can use it too.

    Close it, or use it as a context manager. Needs ``pip install 'antiphon[computer]'`` and a Chromium.

    Args:
        url: where it starts: ``http`` or ``https``.
        origins: what it may reach besides, such as ``https://shop.example``, ``https://*.example``, ``*`` for all.
        width: pixels of the display.
        height: the same.
        describe: whether the model is told what the screenshots show.
        acknowledge: asked about each pending safety check; a call is done if it says True of all. Without it such a
            call ends the run.
        kind: the tool to declare. ``computer`` takes actions in batches, ``computer_use_preview`` says how large the
            display is.
        executable: the browser's program.
        headless: False to show its window.
        sandbox: whether Chromium uses its own sandbox; by default unless this process is root's, where it has none.
        actions_max: actions in all.
        session_s: seconds in all, from the first call.
        call_s: seconds for one call.

    Raises:
        ValueError: ``url`` or an origin is none, or a bound is not above 0.
        BrowserMissing: Playwright or Chromium is not there.
    """

    in_order = True

    def __init__(
        self,
        url: str,
        *,
        origins: Iterable[str] = (),
        width: int = WIDTH,
        height: int = HEIGHT,
        describe: bool = False,
        acknowledge: Callable[[SafetyCheck], bool] | None = None,
        kind: Literal["computer", "computer_use_preview"] = "computer_use_preview",
        executable: str | None = None,
        headless: bool = True,
        sandbox: bool | None = None,
        actions_max: int = ACTIONS_MAX,
        session_s: float = SESSION_S,
        call_s: float = CALL_S,
    ) -> None:
        if min(width, height, actions_max, session_s, call_s) <= 0:
            raise ValueError("width, height, actions_max, session_s and call_s must be above 0.")
        allowed = [Origin.of(origin) for origin in (url, *origins)]
        if reason := missing(executable):
            raise BrowserMissing(f"A computer needs a browser, but {reason}.")
        self.kind: Final = kind
        self._url = url
        self._size = (width, height)
        self._describes = describe
        self._acknowledge = acknowledge
        self._browser = Browser(allowed, width, height, executable=executable, headless=headless, sandbox=sandbox)
        self._actions_left = actions_max
        self._session_s = session_s
        self._call_s = call_s
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._deadline = 0.0
        self._doing: Future[Answer] | None = None
        self._stopped: str | None = None

    @property
    def tool(self) -> Mapping[str, Any]:
        """The entry for a request's ``tools``."""
        if self.kind == "computer":
            return {"type": "computer"}
        width, height = self._size
        return {"type": self.kind, "display_width": width, "display_height": height, "environment": "browser"}

    def run(self, call: ToolCall) -> Answer:
        """Does the actions of a call, in order, and gives the screenshot.

        Raises:
            ComputerStopped: it was stopped, or has done as much as it may.
            SafetyCheckPending: nobody acknowledged a safety check.
            BrowserMissing: the browser does not start.
        """
        asked = call.computer_use or {}
        checks = cast("Sequence[SafetyCheck]", asked.get("pending_safety_checks") or ())
        # Which pages it may act on, its user has said: it reaches no others.
        open_checks = [check for check in checks if check.get("code") != "irrelevant_domain"]
        if open_checks and not (self._acknowledge and all(self._acknowledge(check) for check in open_checks)):
            raise SafetyCheckPending(open_checks)
        actions = cast("Sequence[Mapping[str, Any]]", asked.get("actions") or [asked.get("action") or {}])
        with self._lock:
            loop = self._open()
            self._doing = loop.submit(self._perform(actions, checks))
        try:
            return self._doing.result(self._call_s + 2 * _PICTURE_S)
        except CancelledError:
            raise ComputerStopped(self._stopped or "The computer was stopped.") from None

    def look(self) -> str:
        """The screen in words, with the points to click: for the text of a task, so that the model need not ask first.

        Raises:
            ComputerStopped: it was stopped, or has done as much as it may.
            BrowserMissing: the browser does not start.
        """
        with self._lock:
            return self._open().submit(self._describe()).result(2 * _PICTURE_S)

    def stop(self) -> None:
        """Stops at once what is being done, and does nothing any more. Any thread may call it."""
        self._stopped = self._stopped or "The computer was stopped."
        if self._doing is not None:
            self._doing.cancel()

    def close(self) -> None:
        """Stops, and ends the browser."""
        self.stop()
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                try:
                    loop.submit(self._browser.close()).result(_CLOSING_S)
                finally:
                    loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self) -> Loop:
        """The browser's loop; it is opened with the first call.

        Raises:
            ComputerStopped: there is nothing more to be done.
        """
        if self._stopped is None and self._loop is not None and time.monotonic() > self._deadline:
            self._stopped = f"The computer has worked for {self._session_s:g} s, which is its limit."
        if self._stopped is not None:
            raise ComputerStopped(self._stopped)
        if self._loop is None:
            self._loop = Loop()
            self._deadline = time.monotonic() + self._session_s
            try:
                self._loop.submit(self._browser.open(self._url)).result(_OPENING_S)
            except BaseException:
                self._stopped = "The browser did not start."
                raise
        return self._loop

    async def _perform(self, actions: Sequence[Mapping[str, Any]], checks: Sequence[SafetyCheck]) -> Answer:
        trouble = await self._act(actions)
        async with asyncio.timeout(_PICTURE_S):
            output = {"output": {"type": "computer_screenshot", "image_url": await self._browser.screenshot()}}
        notes = [*trouble, *self._browser.take_news()]
        if self._describes:
            notes.append(await self._describe())
        acknowledged = {"acknowledged_safety_checks": [dict(check) for check in checks]} if checks else {}
        return Answer({**output, **acknowledged, "current_url": self._browser.url}, "\n".join(notes))

    async def _describe(self) -> str:
        async with asyncio.timeout(_PICTURE_S):
            return describe(await self._browser.screen(), DESCRIPTION_CHARS_MAX)

    async def _act(self, actions: Sequence[Mapping[str, Any]]) -> list[str]:
        """Does them; says what is wrong, if something is."""
        try:
            for action in actions:
                check(action, *self._size)
        except ActionRefused as refused:
            return [f"Nothing was done: {refused}"]
        doing = ""
        try:
            async with asyncio.timeout(min(self._call_s, max(self._deadline - time.monotonic(), 0))):
                for number, action in enumerate(actions, 1):
                    doing = f"Action {number} ({action['type']})"
                    self._count()
                    await self._browser.act(action)
        except TimeoutError:
            return [f"{doing} took too long; it and what follows may not have been done."]
        except ActionRefused as refused:
            return [f"{doing} was not done, nor any after it: {refused}"]
        return []

    def _count(self) -> None:
        if self._actions_left == 0:
            self._stopped = "The computer has reached its limit of actions."
            raise ComputerStopped(self._stopped)
        self._actions_left -= 1
