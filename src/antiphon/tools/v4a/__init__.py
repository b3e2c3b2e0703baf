"""V4A, the diffs of ``apply_patch``: read them, apply them, write them. Pure: texts in, texts out.

A diff is about one file. Of a file that is created it holds every line, each behind a ``+``. Of a file that is updated
it holds hunks::

    @@ class Account:
    @@     def close(self):
             self.open = False
    -        self.log("close")
    +        self.log("closed")

A hunk's headers (``@@``, ``@@ line``) move the search for it behind the lines they name; then come context (`` ``),
deleted (``-``) and inserted (``+``) lines, and ``*** End of File`` where it must stand at the end. Hunks are in the
order of the file. What they expect is looked for from the end of the hunk before: exactly, then without spaces at the
ends of lines, then without spaces around them. What is applied and what is refused is what the official appliers do;
beyond them, each line keeps its own line ending, and a refusal says what stands in the file instead.

A text that ends in a newline ends in an empty line here, so that a diff can add and take away the final newline.
"""

from antiphon.tools.v4a.applying import apply, read_created_text
from antiphon.tools.v4a.forms import creation, operations, replacement, update
from antiphon.tools.v4a.grammar import Change, Hunk, PatchInvalid, parse, write
from antiphon.tools.v4a.naming import Operation
from antiphon.tools.v4a.writing import create, diff

__all__ = [
    "Change",
    "Hunk",
    "Operation",
    "PatchInvalid",
    "apply",
    "create",
    "creation",
    "diff",
    "operations",
    "parse",
    "read_created_text",
    "replacement",
    "update",
    "write",
]
