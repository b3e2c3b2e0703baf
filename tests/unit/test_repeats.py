"""Which calls a model is not to make again."""

from typing import Any

import pytest

from antiphon.models.outcome import outcome_of
from antiphon.tools import ToolCall, call_item, output_item
from antiphon.tools.repeats import calls_just_made, find_repeat
from antiphon.wire import Json


def asked(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def repeats(*items: Json, call: Any = ("mail", '{"to": "a"}')) -> bool:
    return find_repeat(ToolCall(*call, "c9"), calls_just_made(items)) is not None


MAIL = call_item("c1", "mail", '{"to":"a"}')
SENT = output_item("c1", "sent")


def test_a_call_straight_after_its_success_is_a_repeat() -> None:
    assert repeats(asked("Mail Ann."), MAIL, SENT)
    assert not repeats(asked("Mail Ann."), MAIL, SENT, call=("mail", '{"to": "b"}'))


def test_a_call_is_known_again_however_its_arguments_are_written() -> None:
    made = call_item("c1", "f", '{"a": 1, "b": [2]}')
    assert repeats(asked("Go."), made, output_item("c1", "x"), call=("f", '{"b":[2],"a":1}'))
    assert repeats(asked("Go."), call_item("c1", "f", ""), output_item("c1", "x"), call=("f", "{}"))


@pytest.mark.parametrize(
    "said",
    [
        "Error: timed out",
        "Error 503",
        '{"error": "rate limit"}',
        "Error: the file is locked",
        '{"status": "running"}',
        "12 %",
        '{"done": false}',
    ],
)
def test_what_may_pass_or_is_not_over_may_be_called_again(said: str) -> None:
    assert not repeats(asked("Go."), MAIL, output_item("c1", said))


def test_what_a_system_says_in_between_changes_nothing() -> None:
    note: Json = {"type": "message", "role": "developer", "content": "Hush."}
    assert repeats(asked("Go."), MAIL, SENT, note)
    assert repeats(asked("Go."), MAIL, note, SENT)


@pytest.mark.parametrize("said", ["Error: no such folder. There is /srv.", '{"error": "no user 900"}'])
def test_what_failed_for_good_has_to_be_changed(said: str) -> None:
    fault = find_repeat(
        ToolCall("mail", '{"to":"a"}', "c9"), calls_just_made([asked("Go."), MAIL, output_item("c1", said)])
    )
    assert fault is not None
    assert fault.remedy == "change"
    assert not repeats(asked("Go."), MAIL, output_item("c1", said), call=("mail", '{"to": "b"}'))


@pytest.mark.parametrize("said", ["Check until it is done.", "Do it three times.", "Nochmal!"])
def test_what_the_user_wants_repeated_may_be_called_again(said: str) -> None:
    assert not repeats(asked(said), MAIL, SENT)


def test_only_what_was_made_last_is_a_repeat() -> None:
    other = call_item("c2", "look", "{}"), output_item("c2", "x")
    assert not repeats(asked("Go."), MAIL, SENT, *other)
    assert not repeats(asked("Go."), MAIL, SENT, asked("And now mail him."))
    assert repeats(asked("Go."), MAIL, other[0], SENT, other[1])


def test_an_id_that_is_used_again_is_of_the_latest_call() -> None:
    again = call_item("c1", "mail", '{"to":"b"}')
    assert not repeats(asked("Go."), MAIL, SENT, again, SENT)
    assert repeats(asked("Go."), MAIL, SENT, again, SENT, call=("mail", '{"to":"b"}'))


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("sent", "done"),
        ("", "done"),
        ('{"errors": []}', "done"),
        ("The errors of the log: none", "done"),
        ("Error: no such file", "failed"),
        ('{"ok": false}', "failed"),
        ("pending", "unfinished"),
        ("A long report. " * 20 + "It is still running.", "done"),
    ],
)
def test_what_an_output_says_of_its_call(said: str, outcome: str) -> None:
    assert outcome_of(said) == outcome
