"""How a response looks to people: in a terminal, with Rich, in a notebook."""

import html.parser
import io
from typing import Any

from openai.types.responses import Response as OfficialResponse
from rich.console import Console

from antiphon.client.sdk.results import Response, extend

EVIL = "<script>alert('x')</script> & [red]not markup[/red] \x1b[31mred\x1b[0m"


def response_of(*output: Any, **fields: Any) -> Response:
    body: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 10, "model": "m", "status": "completed"}
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 42,
    }
    made: Any = OfficialResponse.construct(
        **{**body, "completed_at": 13, "usage": usage, **fields}, output=list(output)
    )
    return extend(made)


def message(text: str, kind: str = "output_text", key: str = "text") -> dict[str, Any]:
    part = {"type": kind, key: text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c",
    "name": "f",
    "arguments": '{"a":1}',
    "status": "completed",
}
PATCH = {
    "type": "apply_patch_call",
    "id": "p",
    "call_id": "d",
    "status": "completed",
    "operation": {"type": "create_file", "path": "a.py", "diff": "+x"},
}
SEARCH = {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed", "results": None}


def test_print_shows_what_it_is_its_items_and_what_it_took() -> None:
    response = response_of(REASONING, SEARCH, message("Two\nlines."), CALL, PATCH)
    assert str(response) == (
        "resp_1 · completed · m\n"
        "[reasoning] hm\n"
        "[file_search_call] queries=['q']\n"
        "Two\nlines.\n"
        '[call] f({"a":1})\n'
        "[patch] *** Add File: a.py\n+x\n"
        "12 in (4 cached) + 30 out (20 reasoning) = 42 tokens · 3 s"
    )
    assert repr(response).startswith("Response(id='resp_1'")


def test_each_call_for_the_caller_is_a_call() -> None:
    shell = {"type": "shell_call", "id": "s", "call_id": "e", "status": "completed", "action": {"commands": ["ls"]}}
    search = {"type": "tool_search_call", "id": "t", "call_id": "e", "status": "completed", "arguments": {"q": 1}}
    assert str(response_of(shell, search)).split("\n")[1:3] == [
        "[call] shell: {'commands': ['ls']}",
        "[tool_search_call] arguments={'q': 1}, call_id=e",
    ]


def test_how_it_ended_is_said() -> None:
    cut = response_of(message("Once"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert str(cut).startswith("resp_1 · incomplete (max_output_tokens) · m\nOnce\n")
    failed = response_of(
        status="failed", error={"code": "server_error", "message": "gone"}, usage=None, completed_at=None
    )
    assert str(failed) == "resp_1 · failed (gone) · m\n"
    assert str(response_of(message("No.", "refusal", "refusal"))).split("\n")[1] == "[refusal] No."


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in str(response_of(message(EVIL)))
    assert EVIL in response_of(message(EVIL)).output_text


def test_everything_but_the_answer_is_short() -> None:
    shown = str(
        response_of({**REASONING, "content": [{"type": "reasoning_text", "text": "x" * 9999}]}, message("y" * 9999))
    )
    assert "x" * 500 + " …" in shown
    assert "x" * 501 not in shown
    assert "y" * 9999 in shown


class Tags(html.parser.HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.said += data


def test_html_escapes_whatever_a_model_or_a_server_says() -> None:
    fields: dict[str, Any] = {"model": EVIL, "id": EVIL, "status": "failed", "error": {"code": "x", "message": EVIL}}
    call = {**CALL, "name": EVIL, "arguments": EVIL}
    page = response_of(message(EVIL), call, {**SEARCH, "queries": [EVIL]}, **fields)._repr_html_()
    read = Tags(page)
    assert read.tags <= {"div", "details", "summary"}
    assert "<script>alert('x')</script>" in read.said
    assert "\x1b" not in page
    assert "42 tokens · 3 s" in read.said


def test_rich_shows_a_panel_in_which_nothing_is_markup() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(response_of(REASONING, message("[red]not markup[/red]"), CALL))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]not markup[/red]" in shown
    assert 'call f({"a":1})' in shown
    assert "resp_1 · completed · m" in shown
    assert "42 tokens · 3 s" in shown


def test_an_item_that_nobody_knows_is_shown_by_its_name() -> None:
    response = response_of(message("x"))
    response.output.append(type(response.output[0]).construct(type="future_call", id="f", words="new"))  # type: ignore[arg-type]
    assert "[future_call] words=new" in str(response)
