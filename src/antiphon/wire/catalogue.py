"""The models as agents want them described: what ``GET /v1/models?client_version=…`` answers.

Source: the catalogue of the Codex CLI, which asks for it before it starts, and goes by it: by the context window when
it compacts, by the instructions and tools when it makes its prompt. What is said here is true of the model; the
instructions are short, because those that Codex brings for a model it does not know fill a small model's window.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from antiphon.wire import Json
from antiphon.wire.lists import Model

INSTRUCTIONS: Final = """You are Codex, a coding agent that works in the user's folder, on the user's machine.

Do the task to its end: look at the files that matter before you change them, make the smallest change that does what
was asked, run or test what you changed, and mend what fails. Do not guess what a file holds; read it. Never undo
changes that the user made.

Run commands with your tool for commands; search with rg where it is there, else with grep. Edit files with the tool
apply_patch, whose text looks like this:

*** Begin Patch
*** Add File: new.py
+print("hello")
*** Update File: old.py
@@
 a line before
-the line to replace
+the line that replaces it
*** Delete File: gone.py
*** End Patch

When you are done, say in a few sentences what you did and how you know that it works. If you could not do something,
say so."""

_OUTPUT_TOKENS_MAX: Final = 10_000
_OUTPUT_SHARE: Final = 8


class TruncationPolicy(msgspec.Struct, frozen=True):
    """How much of a tool's output the agent shows."""

    limit: int
    mode: Literal["tokens", "bytes"] = "tokens"


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A model, as the agent's catalogue describes it.

    Attributes:
        slug: the name that requests give.
        context_window: tokens; None where nobody knows.
        priority: its place in the list.
    """

    slug: str
    display_name: str
    context_window: int | None
    max_context_window: int | None
    truncation_policy: TruncationPolicy
    input_modalities: list[Literal["text", "image"]]
    priority: int
    description: str = ""
    base_instructions: str = INSTRUCTIONS
    shell_type: str = "unified_exec"
    apply_patch_tool_type: str = "freeform"
    visibility: str = "list"
    supported_in_api: bool = True
    support_verbosity: bool = True
    supported_reasoning_levels: list[Json] = []
    experimental_supported_tools: list[Any] = []


class ModelCatalogue(msgspec.Struct, frozen=True):
    """The models, listed as everywhere and described."""

    data: list[Model]
    models: list[CatalogueEntry]
    object: Literal["list"] = "list"


def catalogue_entry(name: str, place: int, context_tokens: int | None, *, sees: bool) -> CatalogueEntry:
    """The description of a model; ``sees``: whether it is shown images."""
    limit = min(_OUTPUT_TOKENS_MAX, (context_tokens or _OUTPUT_TOKENS_MAX * _OUTPUT_SHARE) // _OUTPUT_SHARE)
    return CatalogueEntry(
        slug=name,
        display_name=name,
        context_window=context_tokens,
        max_context_window=context_tokens,
        truncation_policy=TruncationPolicy(limit),
        input_modalities=["text", "image"] if sees else ["text"],
        priority=place,
    )
