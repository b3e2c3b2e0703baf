"""``apply_patch``: edits of files as V4A diffs, from models that were never trained on them.

A model is shown three plain functions. What it writes, a whole file, lines and what replaces them, a V4A or a unified
diff, becomes a valid V4A diff before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from antiphon.models import Function
from antiphon.tools import CallInvalid, ToolCall, call_item, output_item, v4a
from antiphon.tools.arguments import read_arguments
from antiphon.wire import Json

CREATE: Final = "create_file"
UPDATE: Final = "update_file"
DELETE: Final = "delete_file"
_PATH: Final[Json] = {"type": "string", "description": "path of the file, relative to the root of the project"}


def _schema(**properties: str) -> Json:
    texts: Json = {name: {"type": "string", "description": text} for name, text in properties.items()}
    members: Json = {"path": _PATH, **texts}
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


_FUNCTIONS: Final = (
    Function(CREATE, "Creates a file, or replaces a whole one.", _schema(content="all of the file's content")),
    Function(
        UPDATE,
        "Changes a file: lines that are in it now give way to others. Call it once for each place.",
        _schema(
            search="the lines to replace, exactly as they are in the file, with enough around them to be unique",
            replace="what shall stand there instead",
        ),
    ),
    Function(DELETE, "Deletes a file.", _schema()),
)


class _Arguments(msgspec.Struct, kw_only=True):
    """What models write: the members above, and what they write instead."""

    path: str
    content: str | None = None
    search: str | None = None
    replace: str = ""
    diff: str | None = None
    patch: str | None = None


class _Patch(msgspec.Struct, kw_only=True):
    """What models write that were trained on another ``apply_patch``: a patch that names its file."""

    input: str | None = None
    patch: str | None = None
    diff: str | None = None


class ApplyPatchTool:
    """See ``ClientTool``."""

    kinds = ("apply_patch",)
    items = ("apply_patch_call", "apply_patch_call_output")
    live = False

    def functions(self, spec: Json) -> Sequence[Function]:
        """Creating, updating and deleting a file."""
        return _FUNCTIONS

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """A call for each file, with one operation on it.

        Raises:
            CallInvalid: the edit cannot be written as a V4A diff.
        """
        if call.name in self.kinds:
            return [_call(call, each) for each in _operations(read_arguments(call, _Patch))]
        given = read_arguments(call, _Arguments)
        if not given.path.strip() or "\0" in given.path:
            raise CallInvalid("Error: `path` must name a file.")
        try:
            operations = _several(call.name, given) or [_operation(call.name, given)]
        except v4a.PatchInvalid as error:
            raise CallInvalid(f"Error: the edit of {given.path} cannot be made: {error}") from error
        return [_call(call, each) for each in operations]

    def lower(self, item: Json) -> Sequence[Json]:
        """The function's call in the form that it is shown in, and its log."""
        if item["type"] == "apply_patch_call_output":
            failed = item.get("status") == "failed"
            log = item.get("output") or ("The patch could not be applied." if failed else "Done.")
            return (output_item(item["call_id"], f"Error: {log}" if failed else log),)
        name, arguments = _to_call(item["operation"])
        return (call_item(item["call_id"], name, msgspec.json.encode(arguments).decode()),)


def _call(call: ToolCall, operation: Json) -> Json:
    return {"type": "apply_patch_call", "call_id": call.call_id, "operation": operation}


def _operations(given: _Patch) -> Sequence[Json]:
    try:
        found = v4a.operations(given.input or given.patch or given.diff or "")
    except v4a.PatchInvalid as error:
        raise CallInvalid(f"Error: the patch cannot be applied: {error}") from error
    return [_to_json(each) for each in found]


def _several(name: str, given: _Arguments) -> Sequence[Json]:
    """The operations of what is a patch of several files, although one is updated; none where it is not."""
    if name != UPDATE or given.search is not None:
        return ()
    try:
        found = v4a.operations(given.diff or given.patch or "")
    except v4a.PatchInvalid:
        return ()
    return [_to_json(each) for each in found] if len(found) > 1 else ()


def _to_json(operation: v4a.Operation) -> Json:
    diff = {} if operation.diff is None else {"diff": operation.diff}
    return {"type": operation.type, "path": operation.path, **diff}


def _operation(name: str, given: _Arguments) -> Json:
    diff = given.diff or given.patch
    match name:
        case "delete_file":
            return {"type": DELETE, "path": given.path}
        case "create_file":
            content = given.content if given.content is not None else diff
            if content is None:
                raise v4a.PatchInvalid("`content` is missing: give all of the file's content.")
            return {"type": CREATE, "path": given.path, "diff": v4a.creation(content)}
        case _ if given.search is not None:
            return {"type": UPDATE, "path": given.path, "diff": v4a.replacement(given.search, given.replace)}
        case _ if diff is not None:
            return {"type": UPDATE, "path": given.path, "diff": v4a.update(diff)}
        case _:
            raise v4a.PatchInvalid("`search` is missing: give the lines that are to be replaced.")


def _to_call(operation: Json) -> tuple[str, Json]:
    """The function and its arguments. A diff of one hunk is shown as what the model would write for it."""
    path, diff = operation.get("path", ""), str(operation.get("diff") or "")
    match operation.get("type"):
        case "delete_file":
            return DELETE, {"path": path}
        case "create_file":
            return CREATE, {"path": path, "content": _content(diff)}
        case _:
            return UPDATE, {"path": path, **_edit(diff)}


def _content(diff: str) -> str:
    try:
        return v4a.read_created_text(diff)
    except v4a.PatchInvalid:
        return diff


def _edit(diff: str) -> Json:
    try:
        hunks = v4a.parse(diff)
    except v4a.PatchInvalid:
        return {"diff": diff}
    if len(hunks) != 1:
        return {"diff": diff}
    before = list(hunks[0].expected)
    after = list(before)
    for change in reversed(hunks[0].changes):
        after[change.offset : change.offset + change.deleted] = change.inserted
    return {"search": "\n".join(before), "replace": "\n".join(after)}
