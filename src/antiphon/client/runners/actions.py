"""The actions of a computer call, done on a page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, cast

if TYPE_CHECKING:
    from playwright.async_api import Page

WAIT_S: Final = 1.0
TEXT_CHARS_MAX: Final = 10_000
_POINTS_MAX: Final = 1_000
_STEPS: Final = 5

_BUTTONS: Final[dict[str, Literal["left", "middle", "right"]]] = {"left": "left", "right": "right", "wheel": "middle"}
_KEYS: Final = {
    "alt": "Alt", "option": "Alt", "control": "Control", "ctrl": "Control", "shift": "Shift",
    "meta": "Meta", "cmd": "Meta", "command": "Meta", "super": "Meta", "win": "Meta", "windows": "Meta",
    "enter": "Enter", "return": "Enter", "esc": "Escape", "escape": "Escape", "tab": "Tab", "space": " ",
    "backspace": "Backspace", "delete": "Delete", "del": "Delete", "insert": "Insert", "capslock": "CapsLock",
    "home": "Home", "end": "End", "pageup": "PageUp", "page_up": "PageUp", "pagedown": "PageDown",
    "page_down": "PageDown", "up": "ArrowUp", "down": "ArrowDown", "left": "ArrowLeft", "right": "ArrowRight",
    "arrowup": "ArrowUp", "arrowdown": "ArrowDown", "arrowleft": "ArrowLeft", "arrowright": "ArrowRight",
    "plus": "+", "minus": "-", **{f"f{number}": f"F{number}" for number in range(1, 13)},
}  # fmt: skip
_MODIFIERS: Final = frozenset(("Alt", "Control", "Meta", "Shift"))


class ActionRefused(ValueError):
    """An action that cannot be done. The text is for the model."""


def check(action: Mapping[str, Any], width: int, height: int) -> None:
    """Looks at an action before any of its batch is done.

    Raises:
        ActionRefused: there is no such action, a point is outside the display, a text too long, or a key unknown.
    """
    kind = str(action.get("type"))
    if kind not in _ACTIONS:
        raise ActionRefused(f"There is no action {kind!r}.")
    path = cast("Sequence[Mapping[str, Any]]", action.get("path") or ())
    if kind == "drag" and not 2 <= len(path) <= _POINTS_MAX:
        raise ActionRefused(f"A drag needs a path of 2 to {_POINTS_MAX} points.")
    points = path if kind == "drag" else [action] if kind in ("click", "double_click", "move", "scroll") else []
    for point in points:
        x, y = point.get("x"), point.get("y")
        if not isinstance(x, int) or not isinstance(y, int) or not (0 <= x < width and 0 <= y < height):
            raise ActionRefused(f"({x}, {y}) is outside the display, which is {width} by {height}.")
    if kind == "type" and len(str(action.get("text", ""))) > TEXT_CHARS_MAX:
        raise ActionRefused(f"The text has more than {TEXT_CHARS_MAX} characters.")
    if kind == "click" and action.get("button", "left") not in (*_BUTTONS, "back", "forward"):
        raise ActionRefused(f"There is no button {action.get('button')!r}.")
    names = keys(action.get("keys") or ())
    if kind == "keypress" and not names:
        raise ActionRefused("A keypress needs keys.")


async def act(page: Page, action: Mapping[str, Any]) -> None:
    """Does one action that was checked.

    Raises:
        playwright.async_api.Error: the browser could not.
    """
    await _ACTIONS[str(action["type"])](page, action)


def keys(names: Iterable[str]) -> list[str]:
    """The keys as Playwright names them.

    Raises:
        ActionRefused: there is no such key.
    """
    parts = [part for name in names for part in (name.split("+") if len(name) > 1 and "+" in name else [name]) if part]
    found = [_KEYS.get(part.lower(), part) for part in parts]
    for key, part in zip(found, parts, strict=True):
        if len(key) != 1 and key not in _KEYS.values():
            raise ActionRefused(f"There is no key {part!r}.")
    if _MODIFIERS.intersection(found) - {"Shift"}:
        found = [key.lower() if len(key) == 1 else key for key in found]
    return found


@contextlib.asynccontextmanager
async def _held(page: Page, action: Mapping[str, Any]) -> AsyncGenerator[None]:
    """Holds the keys that an action of the mouse names."""
    held = keys(action.get("keys") or ())
    for key in held:
        await page.keyboard.down(key)
    try:
        yield
    finally:
        for key in reversed(held):
            await page.keyboard.up(key)


async def _click(page: Page, action: Mapping[str, Any]) -> None:
    match action.get("button", "left"):
        case "back":
            await page.go_back(wait_until="commit")
        case "forward":
            await page.go_forward(wait_until="commit")
        case button:
            async with _held(page, action):
                await page.mouse.click(action["x"], action["y"], button=_BUTTONS[button])


async def _double_click(page: Page, action: Mapping[str, Any]) -> None:
    async with _held(page, action):
        await page.mouse.dblclick(action["x"], action["y"])


async def _drag(page: Page, action: Mapping[str, Any]) -> None:
    first, *rest = action["path"]
    async with _held(page, action):
        await page.mouse.move(first["x"], first["y"])
        await page.mouse.down()
        try:
            for point in rest:
                await page.mouse.move(point["x"], point["y"], steps=_STEPS)
        finally:
            await page.mouse.up()


async def _keypress(page: Page, action: Mapping[str, Any]) -> None:
    *held, last = keys(action["keys"])
    async with _held(page, {"keys": held}):
        await page.keyboard.press(last)


async def _move(page: Page, action: Mapping[str, Any]) -> None:
    async with _held(page, action):
        await page.mouse.move(action["x"], action["y"])


async def _scroll(page: Page, action: Mapping[str, Any]) -> None:
    async with _held(page, action):
        await page.mouse.move(action["x"], action["y"])
        await page.mouse.wheel(action.get("scroll_x") or 0, action.get("scroll_y") or 0)


async def _type(page: Page, action: Mapping[str, Any]) -> None:
    await page.keyboard.type(str(action.get("text", "")))


async def _wait(page: Page, action: Mapping[str, Any]) -> None:
    await asyncio.sleep(WAIT_S)


async def _screenshot(page: Page, action: Mapping[str, Any]) -> None:
    """Each call ends with one."""


_ACTIONS: Final = {
    "click": _click,
    "double_click": _double_click,
    "drag": _drag,
    "keypress": _keypress,
    "move": _move,
    "screenshot": _screenshot,
    "scroll": _scroll,
    "type": _type,
    "wait": _wait,
}
