"""How a response looks to a person: in a terminal, with Rich, in a notebook.

All three show the same: one line of what it is, its items in order, one line of what it took. What a model wrote is
shown as text and never interpreted: as HTML it is escaped, for Rich it is no markup, and control characters cannot
reach the terminal.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from antiphon.client.sdk.content import join_text
from antiphon.client.sdk.tool_calls import ToolCall
from antiphon.wire.kinds import KINDS

if TYPE_CHECKING:
    from openai.types.responses import Response
    from rich.console import RenderableType

ASIDE_CHARS_MAX: Final = 500
"""Of everything but the answer itself (reasoning, calls, searches) no more than this is shown."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_STYLE: Final = (
    "font-family:system-ui,sans-serif;font-size:0.9em;border:1px solid #8884;border-radius:6px;padding:0.6em 0.8em"
)


class Row(NamedTuple):
    """One item.

    Attributes:
        label: what it is; '' for the answer.
        text: what it says.
    """

    label: str
    text: str


def to_text(response: Response) -> str:
    """For ``print``: plain lines."""
    lines = [_header(response)]
    lines += [f"[{row.label}] {row.text}" if row.label else row.text for row in rows(response)]
    return "\n".join(_CONTROL.sub("�", line) for line in [*lines, footer(response)])


def to_rich(response: Response) -> RenderableType:
    """For Rich's ``print``: a panel."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    lines = [
        Text.assemble((f"{row.label} ", "bold cyan"), (row.text, "dim")) if row.label else Text(row.text)
        for row in rows(response)
    ]
    return Panel(Group(*lines), title=Text(_header(response)), subtitle=Text(footer(response)), title_align="left")


def to_html(response: Response) -> str:
    """For notebooks: a fragment of HTML, without scripts, everything from the response escaped."""
    body = "".join(map(_row_to_html, rows(response)))
    return (
        f'<div style="{_STYLE}"><div style="opacity:0.7">{_escape(_header(response))}</div>{body}'
        f'<div style="opacity:0.7">{_escape(footer(response))}</div></div>'
    )


def _row_to_html(row: Row) -> str:
    shown = f'<div style="white-space:pre-wrap;margin:0.4em 0">{_escape(row.text)}</div>'
    if not row.label:
        return shown
    return f'<details style="margin:0.4em 0"><summary>{_escape(row.label)}</summary>{shown}</details>'


def _escape(content: str) -> str:
    return markup.escape(_CONTROL.sub("�", content))


def rows(response: Response) -> Iterator[Row]:
    """The items of its output, as a person would name them."""
    for item in response.output or ():
        label, content = _describe(item)
        yield Row(label, content if not label else _shorten(content))


def _shorten(content: str) -> str:
    return content if len(content) <= ASIDE_CHARS_MAX else f"{content[:ASIDE_CHARS_MAX]} …"


def _describe(item: Any) -> tuple[str, str]:
    """The label and the text of an item of any kind, those of newer servers included."""
    kind = KINDS.get(item.type)
    if kind is not None and kind.asks:
        return _describe_call(ToolCall("", kind.asks, item))
    if kind is None or not kind.parts:
        return _describe_members(item)
    parts = next((parts for name in kind.lists if (parts := getattr(item, name, None))), ())
    if item.type != "message":
        return item.type, "\n".join(part.text for part in parts)
    return "refusal" if any(part.type == "refusal" for part in parts) else "", join_text(parts)


def _describe_call(call: ToolCall) -> tuple[str, str]:
    match call.type:
        case "function":
            return "call", f"{call.name}({call.input})"
        case "apply_patch":
            return "patch", call.input
        case _ if call.type == "custom" or call.input:
            return "call", f"{call.name}: {call.input}"
        case _:
            return _describe_members(call.item)


def _describe_members(item: Any) -> tuple[str, str]:
    members = item.to_dict(exclude_none=True)
    content = ", ".join(f"{key}={value}" for key, value in members.items() if key not in ("id", "type", "status"))
    return item.type, content


def _header(response: Response) -> str:
    return " · ".join(part for part in (response.id, _describe_status(response), response.model) if part)


def _describe_status(response: Response) -> str:
    if response.incomplete_details is not None and response.status == "incomplete":
        return f"incomplete ({response.incomplete_details.reason})"
    if response.error is not None:
        return f"{response.status} ({response.error.message})"
    return response.status or ""


def footer(response: Response) -> str:
    """What it took: its usage in tokens, its time in seconds."""
    parts: list[str] = []
    if response.usage is not None:
        used = response.usage
        cached, reasoned = used.input_tokens_details.cached_tokens, used.output_tokens_details.reasoning_tokens
        read = f"{used.input_tokens} in" + (f" ({cached} cached)" if cached else "")
        wrote = f"{used.output_tokens} out" + (f" ({reasoned} reasoning)" if reasoned else "")
        parts.append(f"{read} + {wrote} = {used.total_tokens} tokens")
    if response.completed_at is not None:
        parts.append(f"{response.completed_at - response.created_at:.0f} s")
    return " · ".join(parts)
