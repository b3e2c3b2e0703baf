"""``ApplyPatch``: applies a model's patches to the files below a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from antiphon.client.runners.files import PatchRefused, Root
from antiphon.client.sdk.tool_calls import Patch, ToolCall
from antiphon.tools import v4a

_BOM: Final = "\ufeff"


class ApplyPatch:
    """Runs the calls of ``apply_patch``: creates, updates and deletes files below a folder, one file a call.

    A call is done whole or not at all. What is updated keeps its line endings, its byte order mark, its mode, and bytes
    that are no UTF-8; a file that is created where there is one replaces it and keeps the same. Refused, with a log for
    the model and nothing changed, are: names that are absolute, that contain ``..``, or that lead out of the folder by
    a link; what is no regular file or no text; files of the version control; more than 10 MiB.

    Args:
        root: the folder; it must exist.

    Raises:
        OSError: there is no such folder.
    """

    kind = "apply_patch"
    in_order = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Root(root)
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """The folder, as an absolute path."""
        return str(self._root.path)

    def run(self, call: ToolCall) -> str:
        """Applies one operation, and says what was done.

        Raises:
            PatchRefused: it was not, and nothing has changed; the text is the log for the model.
        """
        patch = call.apply_patch or Patch()
        perform = _OPERATIONS.get(str(patch.get("type")))
        if perform is None:
            raise PatchRefused(f"There is no operation {patch.get('type')!r}.")
        with self._lock:
            return perform(self._root, str(patch.get("path", "")), str(patch.get("diff") or ""))


class _Text(NamedTuple):
    """A file's text, and whether a byte order mark stood before it."""

    text: str
    mark: str

    def encode(self, text: str) -> bytes:
        """Another text as bytes, with the same mark."""
        return (self.mark + text.removeprefix(_BOM if self.mark else "")).encode("utf-8", "surrogateescape")


def _create(root: Root, name: str, diff: str) -> str:
    text = _apply(name, v4a.read_created_text, diff)
    try:
        before = _decode(name, root.read(name))
    except PatchRefused:  # nothing is there that could be kept; what forbids to write says so when it is written
        root.write(name, text.encode("utf-8", "surrogateescape"))
        return f"Created {name} ({_count_lines(text)})."
    root.write(name, before.encode(_with_endings_of(before.text, text)))
    return f"Replaced {name}, which existed ({_count_lines(text)})."


def _update(root: Root, name: str, diff: str) -> str:
    before = _decode(name, root.read(name))
    text = _apply(name, lambda: v4a.apply(before.text, diff))
    if text == before.text:
        return f"The diff changes nothing: {name} is as it was."
    root.write(name, before.encode(text))
    return f"Updated {name}."


def _delete(root: Root, name: str, diff: str) -> str:
    root.delete(name)
    return f"Deleted {name}."


_OPERATIONS: Final[dict[str, Callable[[Root, str, str], str]]] = {
    "create_file": _create,
    "update_file": _update,
    "delete_file": _delete,
}


def _apply(name: str, apply: Callable[..., str], *given: str) -> str:
    try:
        return apply(*given)
    except v4a.PatchInvalid as error:
        raise PatchRefused(f"{name} is as it was. {error}") from error


def _decode(name: str, content: bytes) -> _Text:
    if b"\0" in content:
        raise PatchRefused(f"{name} is not a text file.")
    text = content.decode("utf-8", "surrogateescape")
    return _Text(text.removeprefix(_BOM), _BOM if text.startswith(_BOM) else "")


def _with_endings_of(before: str, text: str) -> str:
    """A text that replaces another; where all lines of that ended in CRLF, so do its own."""
    if "\r\n" not in before or before.count("\r\n") != before.count("\n"):
        return text
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _count_lines(text: str) -> str:
    count = len(text.splitlines())
    return f"{count} line" if count == 1 else f"{count} lines"
