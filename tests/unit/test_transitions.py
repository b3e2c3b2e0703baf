"""The one table of run statuses, and the page that shows it."""

from pathlib import Path

from antiphon.store.transitions import RUN_STATUSES, TRANSITIONS, UNFINISHED, render_markdown

PAGE = Path(__file__).parents[2] / "docs/reference/run-statuses.md"


def test_the_page_shows_the_table() -> None:
    assert render_markdown() in PAGE.read_text()


def test_every_status_is_reached_and_left() -> None:
    assert {each.after for each in TRANSITIONS} == {*RUN_STATUSES, None}
    assert {status for each in TRANSITIONS for status in each.before} == set(RUN_STATUSES)


def test_what_has_finished_never_runs_again() -> None:
    back = [each for each in TRANSITIONS if set(each.before) - UNFINISHED and each.after in UNFINISHED]
    assert back == []
