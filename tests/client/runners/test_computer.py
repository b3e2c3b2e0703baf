"""A real browser on local pages: each action, what it may reach, its bounds, and what is told besides its screen."""

import base64
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from antiphon.client.runners import BrowserMissing, Computer, ComputerStopped, SafetyCheckPending, actions
from antiphon.client.runners.browser import missing
from antiphon.client.runs.runners import Answer, output_item
from antiphon.client.sdk.tool_calls import ToolCall

BROWSER = pytest.mark.skipif(missing() is not None, reason=f"no browser here: {missing()}")
Asked = Callable[..., ToolCall]


@pytest.fixture
def opened(shared: None) -> Iterator[Callable[..., Computer]]:
    """Makes computers, and closes them."""
    made: list[Computer] = []

    def make(url: str, **options: Any) -> Computer:
        made.append(Computer(url, **{"describe": True, "width": 800, "height": 600, **options}))
        return made[-1]

    yield make
    for computer in made:
        computer.close()


def do(computer: Computer, asked: Asked, *actions: dict[str, Any], checks: Any = ()) -> str:
    """Does actions and gives what the model is told besides the screenshot."""
    call = asked("computer_call", actions=list(actions), pending_safety_checks=list(checks))
    answer = computer.run(call)
    item = output_item(call, answer.output, 1000)
    TypeAdapter(ResponseInputItemParam).validate_python(item)
    assert item["output"]["image_url"].startswith("data:image/png;base64,")
    return answer.note


def size(answer: Answer) -> tuple[int, int]:
    png = base64.b64decode(answer.output["output"]["image_url"].partition(",")[2])
    return struct.unpack(">II", png[16:24])


CLICK = {"type": "click", "button": "left", "x": 150, "y": 120}


@BROWSER
def test_the_screen_is_shown_and_described(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/")
    assert '- button "Press me" (150, 120)' in computer.look(), "before anything is asked"
    answer = computer.run(asked("computer_call", action={"type": "screenshot"}, pending_safety_checks=[]))
    assert size(answer) == (800, 600)
    assert "Page: Start <http://127.0.0.1" in answer.note
    assert '- button "Press me" (150, 120)' in answer.note
    assert '- textbox "Name" (20' in answer.note
    assert '- link "Next page" (' in answer.note
    assert '- button "Inner" (650, 120)' in answer.note, "in a frame, in the coordinates of the screen"
    assert "Down there" not in answer.note
    assert "Below the screen, to be scrolled to: 2." in answer.note
    assert "[ref=" not in answer.note
    assert "box=" not in answer.note


@BROWSER
def test_each_action_is_done(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/", kind="computer")
    at = {"x": 150, "y": 120}
    assert "click0@150,120;" in do(computer, asked, CLICK)
    assert "contextmenu2@150,120;" in do(computer, asked, {**CLICK, "button": "right"})
    assert "auxclick1@150,120;" in do(computer, asked, {**CLICK, "button": "wheel"})
    assert "click0+shift@150,120;" in do(computer, asked, {**CLICK, "keys": ["SHIFT"]})
    assert "dblclick0@150,120;" in do(computer, asked, {"type": "double_click", **at})
    assert "over;" in do(computer, asked, {"type": "move", "x": 320, "y": 320})
    path = [{"x": 320, "y": 320}, {"x": 400, "y": 330}, {"x": 550, "y": 350}]
    assert "dropped;" in do(computer, asked, {"type": "drag", "path": path})
    typed = do(computer, asked, {**CLICK, "y": 210}, {"type": "type", "text": "Ada é"})
    assert '- textbox "Name"' in typed
    assert "Ada é" in typed
    assert "ctrl+a;" in do(computer, asked, {"type": "keypress", "keys": ["CTRL", "A"]})
    assert "Ada é" not in do(computer, asked, {"type": "keypress", "keys": ["Backspace"]})
    assert "Enter;" in do(computer, asked, {"type": "keypress", "keys": ["ENTER"]})
    began = time.monotonic()
    do(computer, asked, {"type": "wait"})
    assert time.monotonic() - began >= 1
    scrolled = do(computer, asked, {"type": "scroll", **at, "scroll_x": 0, "scroll_y": 2700})
    assert "Down there" in scrolled
    assert "Above the screen, to be scrolled to: " in scrolled


@BROWSER
def test_pages_are_left_and_come_back(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/")
    assert "The next page" in do(computer, asked, {**CLICK, "x": 110, "y": 410})
    assert "Press me" in do(computer, asked, {**CLICK, "button": "back"})
    assert "The next page" in do(computer, asked, {**CLICK, "button": "forward"})


@BROWSER
def test_a_page_that_opens_is_the_one_on_the_screen(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/popup")
    do(computer, asked, {**CLICK, "x": 20, "y": 20})
    assert "The next page" in do(computer, asked, {"type": "wait"})


@BROWSER
def test_what_a_dialog_says_is_reported(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/dialog", describe=False)
    assert do(computer, asked, {**CLICK, "x": 15, "y": 15}) == "A dialog said 'Hello there' and was closed."
    assert do(computer, asked, {**CLICK, "x": 300, "y": 300}) == "", "nothing is said where there is nothing to say"


@BROWSER
def test_only_allowed_origins_are_reached(opened: Any, site: str, other: Any, asked: Asked) -> None:
    seen, url = other
    seen.clear()
    computer = opened(f"{site}/leave")
    told = do(computer, asked, {"type": "wait"})
    assert f"The page asked for {url.removeprefix('http://')}, which this browser may not reach." in told
    assert "Not allowed" in do(computer, asked, {**CLICK, "x": 15, "y": 15})
    computer.close()
    redirected = opened(f"{site}/redirect")
    assert "This browser may not go to" in do(redirected, asked, {"type": "screenshot"})
    assert seen == []


@BROWSER
def test_what_is_allowed_besides_is_reached(opened: Any, site: str, other: Any, asked: Asked) -> None:
    seen, url = other
    seen.clear()
    do(opened(f"{site}/leave", origins=[url]), asked, {"type": "wait"})
    assert {"/img", "/fetch"} <= set(seen)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"type": "click", "button": "left", "x": 800, "y": 10}, "(800, 10) is outside the display, which is 800 by 600"),
    ({"type": "drag", "path": [{"x": 1, "y": 1}]}, "A drag needs a path of 2"),
    ({"type": "drag", "path": [{"x": 1, "y": 1}, {"x": -1, "y": 1}]}, "(-1, 1) is outside"),
    ({"type": "keypress", "keys": ["HYPER"]}, "There is no key 'HYPER'"),
    ({"type": "keypress", "keys": []}, "A keypress needs keys"),
    ({"type": "type", "text": "x" * 10_001}, "more than 10000 characters"),
]


@BROWSER
def test_what_cannot_be_done_is_told_and_nothing_of_it_is_done(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/")
    for action, why in IMPOSSIBLE:
        told = do(computer, asked, CLICK, action)
        assert why in told
        assert told.startswith("Nothing was done: ")
        assert "click0" not in told


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ({"type": "click", "button": "nose", "x": 1, "y": 1}, "There is no button 'nose'"),
        ({"type": "click", "button": "left", "x": "1", "y": 1}, "(1, 1) is outside"),
        ({"type": "fly"}, "There is no action 'fly'"),
        ({}, "There is no action 'None'"),
    ],
)
def test_what_no_official_server_asks_for_is_refused_too(action: dict[str, Any], why: str) -> None:
    with pytest.raises(actions.ActionRefused) as refused:
        actions.check(action, 800, 600)
    assert why in str(refused.value)


def test_keys_are_named_as_the_browser_names_them() -> None:
    assert actions.keys(["CTRL", "C"]) == ["Control", "c"]
    assert actions.keys(["ctrl+shift+t"]) == ["Control", "Shift", "t"]
    assert actions.keys(["SHIFT", "A"]) == ["Shift", "A"]
    assert actions.keys(["ARROWLEFT", "PageDown", "ESC", "F12", "+", " ", "é"]) == [
        "ArrowLeft", "PageDown", "Escape", "F12", "+", " ", "é",
    ]  # fmt: skip


# Bounds


@BROWSER
def test_an_action_that_takes_too_long_is_reported(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/", describe=False, call_s=0.5)
    do(computer, asked, {"type": "screenshot"})
    told = do(computer, asked, {"type": "wait"}, CLICK)
    assert told == "Action 1 (wait) took too long; it and what follows may not have been done."


@BROWSER
def test_so_many_actions_and_no_more(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/", actions_max=3)
    do(computer, asked, CLICK, CLICK)
    for _ in range(2):
        with pytest.raises(ComputerStopped, match="limit of actions"):
            do(computer, asked, CLICK, CLICK)


@BROWSER
def test_so_long_and_no_longer(opened: Any, site: str, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = opened(f"{site}/", session_s=60)
    do(computer, asked, CLICK)
    monkeypatch.setattr(computer, "_deadline", time.monotonic() - 1)
    with pytest.raises(ComputerStopped, match="worked for 60 s"):
        do(computer, asked, CLICK)


@BROWSER
def test_stop_stops_at_once_and_for_good(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/")
    do(computer, asked, CLICK)
    threading.Timer(0.3, computer.stop).start()
    began = time.monotonic()
    with pytest.raises(ComputerStopped, match="The computer was stopped"):
        do(computer, asked, *[{"type": "wait"}] * 10)
    assert time.monotonic() - began < 3
    with pytest.raises(ComputerStopped):
        do(computer, asked, CLICK)


def test_a_closed_computer_starts_no_browser(asked: Asked) -> None:
    if missing():
        pytest.skip(f"no browser here: {missing()}")
    computer = Computer("http://127.0.0.1:9/")
    computer.close()
    with pytest.raises(ComputerStopped):
        do(computer, asked, CLICK)


@BROWSER
def test_one_with_a_browser_of_its_own_leaves_nothing_of_it(site: str, asked: Asked) -> None:
    before = set(threading.enumerate())
    with Computer(f"{site}/", describe=True) as computer:
        assert "Press me" in do(computer, asked, {"type": "screenshot"})
    assert [thread.name for thread in set(threading.enumerate()) - before if thread.name == "antiphon-browser"] == []


# Safety checks

CHECK = {"id": "cu_sc_1", "code": "sensitive_input", "message": "A card number would be typed."}


@BROWSER
def test_a_check_that_nobody_acknowledges_ends_it(opened: Any, site: str, asked: Asked) -> None:
    with pytest.raises(SafetyCheckPending, match=r"A card number would be typed\.") as pending:
        do(opened(f"{site}/"), asked, CLICK, checks=[CHECK])
    assert [check["id"] for check in pending.value.checks] == ["cu_sc_1"]
    with pytest.raises(SafetyCheckPending):
        do(opened(f"{site}/", acknowledge=lambda check: False), asked, CLICK, checks=[CHECK])


@BROWSER
def test_a_check_that_is_acknowledged_is_said_to_be(opened: Any, site: str, asked: Asked) -> None:
    computer = opened(f"{site}/", acknowledge=lambda check: check["code"] == "sensitive_input")
    call = asked("computer_call", actions=[CLICK], pending_safety_checks=[CHECK])
    answer = computer.run(call)
    assert answer.output["acknowledged_safety_checks"] == [CHECK]
    assert answer.output["current_url"] == f"{site}/"
    assert "click0@150,120" in answer.note
    TypeAdapter(ResponseInputItemParam).validate_python(output_item(call, answer.output, 100))


@BROWSER
def test_on_which_pages_it_acts_its_user_has_said_already(opened: Any, site: str, asked: Asked) -> None:
    check = {"id": "cu_sc_1", "code": "irrelevant_domain", "message": "The task did not name the page."}
    call = asked("computer_call", actions=[{"type": "screenshot"}], pending_safety_checks=[check])
    assert opened(f"{site}/").run(call).output["acknowledged_safety_checks"] == [check]


# What it needs, and what it declares


@BROWSER
def test_it_declares_its_tool() -> None:
    assert Computer("http://a.example/").tool == {
        "type": "computer_use_preview",
        "display_width": 1024,
        "display_height": 768,
        "environment": "browser",
    }
    assert Computer("http://a.example/", kind="computer").tool == {"type": "computer"}


def test_what_is_no_page_or_bound_is_refused() -> None:
    for url in ("file:///etc/passwd", "about:blank", "a.example", "javascript:1"):
        with pytest.raises(ValueError, match="is not an origin"):
            Computer(url)
    with pytest.raises(ValueError, match="is not an origin"):
        Computer("http://a.example/", origins=["b.example"])
    with pytest.raises(ValueError, match="must be above 0"):
        Computer("http://a.example/", actions_max=0)


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        BrowserMissing, match=r"A computer needs a browser, but (there is no Chromium|Playwright is not)"
    ):
        Computer("http://a.example/")


@BROWSER
def test_a_program_that_is_no_browser_is_reported(opened: Any, asked: Asked) -> None:
    computer = opened("http://a.example/", executable="/bin/false")
    with pytest.raises(BrowserMissing, match="The browser does not start"):
        do(computer, asked, CLICK)
    with pytest.raises(ComputerStopped, match="The browser did not start"):
        do(computer, asked, CLICK)
