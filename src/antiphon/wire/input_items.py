"""Input items and their content parts: what a caller may send as ``input``, kind by kind.

The structs check; they do not carry: an item stays the JSON object it came as, because a client that sends an item back
must get it back unchanged. So members that nothing reads here (results, actions, environments) are checked for presence
and JSON type only. Ids are optional wherever the server can make one, and a member that only the output types document
is known on input too.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.values import (
    FILE_DATA_CHARS_MAX,
    IMAGE_URL_CHARS_MAX,
    TEXT_CHARS_MAX,
    CallId,
    Count,
    Effort,
    Execution,
    ItemId,
    JsonSchemaFormat,
    Label,
    LongText,
    PlainFormat,
    Role,
    Status,
    StrictStruct,
)


class Part(StrictStruct, tag_field="type"):
    """One part of a message's, or of a tool output's, content."""

    prompt_cache_breakpoint: Json | None = None


class InputText(Part, tag="input_text", kw_only=True):
    text: LongText


class InputImage(Part, tag="input_image", kw_only=True):
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: str | None = None
    image_url: Annotated[str, Meta(max_length=IMAGE_URL_CHARS_MAX)] | None = None


class InputFile(Part, tag="input_file", kw_only=True):
    detail: Literal["auto", "low", "high"] | None = None
    file_data: Annotated[str, Meta(max_length=FILE_DATA_CHARS_MAX)] | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None


class OutputText(Part, tag="output_text", kw_only=True):
    text: LongText
    annotations: list[Json] | None = None
    logprobs: list[Json] | None = None


class RefusalPart(Part, tag="refusal", kw_only=True):
    refusal: LongText


class SummaryText(Part, tag="summary_text", kw_only=True):
    text: LongText


class ReasoningText(Part, tag="reasoning_text", kw_only=True):
    text: LongText


class Screenshot(Part, tag="computer_screenshot", kw_only=True):
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: str | None = None
    image_url: Annotated[str, Meta(max_length=IMAGE_URL_CHARS_MAX)] | None = None


InputPart: TypeAlias = InputText | InputImage | InputFile
MessagePart: TypeAlias = InputText | InputImage | InputFile | OutputText | RefusalPart

# --- input items -----------------------------------------------------------------------------------------------------


class Item(StrictStruct, tag_field="type"):
    """What every input item may carry: its id, and the marks of whoever made it."""

    id: ItemId | None = None
    created_by: Any = None
    agent: Json | None = None


class Message(Item, tag="message", kw_only=True):
    role: Role
    content: LongText | list[MessagePart]
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Item, tag="function_call", kw_only=True):
    """``arguments`` is whatever text the model wrote; it need not be JSON."""

    arguments: LongText
    call_id: CallId
    name: Label
    asynchronous: bool | None = msgspec.field(name="async", default=None)
    caller: Json | None = None
    namespace: str | None = None
    status: Status | None = None


class FunctionCallOutput(Item, tag="function_call_output", kw_only=True):
    output: LongText | list[InputPart]
    call_id: CallId | None = None
    caller: Json | None = None
    name: str | None = None
    namespace: str | None = None
    status: Status | None = None


class Reasoning(Item, tag="reasoning", kw_only=True):
    summary: list[SummaryText]
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class ItemReference(Item, tag="item_reference", kw_only=True):
    id: ItemId  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


class Compaction(Item, tag="compaction", kw_only=True):
    encrypted_content: Annotated[str, Meta(max_length=IMAGE_URL_CHARS_MAX)]


class CompactionTrigger(Item, tag="compaction_trigger"):
    pass


class CustomToolCall(Item, tag="custom_tool_call", kw_only=True):
    call_id: CallId
    input: LongText
    name: Label
    asynchronous: bool | None = msgspec.field(name="async", default=None)
    caller: Json | None = None
    namespace: str | None = None
    status: Status | None = None


class CustomToolCallOutput(Item, tag="custom_tool_call_output", kw_only=True):
    call_id: CallId
    output: LongText | list[InputPart]
    caller: Json | None = None
    name: str | None = None
    status: Status | None = None


class FileSearchCall(Item, tag="file_search_call", kw_only=True):
    queries: list[str]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"]
    results: list[Json] | None = None
    x_shown: Json | None = None


class WebSearchCall(Item, tag="web_search_call", kw_only=True):
    action: Json | None = None
    status: Literal["in_progress", "searching", "completed", "failed", "incomplete"]


class ComputerCall(Item, tag="computer_call", kw_only=True):
    call_id: CallId
    status: Status
    pending_safety_checks: list[Json]
    action: Json | None = None
    actions: list[Json] | None = None


class ComputerCallOutput(Item, tag="computer_call_output", kw_only=True):
    """``output`` was an image's own part before there was one for screenshots."""

    call_id: CallId
    output: Screenshot | InputImage
    acknowledged_safety_checks: list[Json] | None = None
    current_url: str | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] | None = None


class ToolSearchCall(Item, tag="tool_search_call", kw_only=True):
    arguments: Any
    call_id: CallId | None = None
    execution: Execution | None = None
    status: Status | None = None


class ToolSearchOutput(Item, tag="tool_search_output", kw_only=True):
    tools: list[Json]
    call_id: CallId | None = None
    execution: Execution | None = None
    status: Status | None = None


class AdditionalTools(Item, tag="additional_tools", kw_only=True):
    role: Literal["developer"]
    tools: list[Json]


class UpdatedReasoning(StrictStruct, kw_only=True):
    effort: Effort | None = None


class UpdatedText(StrictStruct, kw_only=True):
    format: PlainFormat | JsonSchemaFormat


class ConfigurationUpdate(Item, tag="configuration_update", kw_only=True):
    reasoning: UpdatedReasoning | None = None
    text: UpdatedText | None = None


class ImageGenerationCall(Item, tag="image_generation_call", kw_only=True):
    status: Literal["in_progress", "completed", "generating", "failed"]
    result: str | None = None
    action: str | None = None
    background: str | None = None
    error: Json | None = None
    output_format: str | None = None
    quality: str | None = None
    revised_prompt: str | None = None
    size: str | None = None
    svg_usage: Json | None = None


class CodeInterpreterCall(Item, tag="code_interpreter_call", kw_only=True):
    container_id: str
    status: Literal["in_progress", "completed", "incomplete", "interpreting", "failed"]
    code: str | None = None
    outputs: list[Json] | None = None


class ExecAction(StrictStruct, tag_field="type", tag="exec", kw_only=True):
    command: list[LongText]
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class LocalShellCall(Item, tag="local_shell_call", kw_only=True):
    action: ExecAction
    call_id: CallId
    status: Status


class LocalShellCallOutput(Item, tag="local_shell_call_output", kw_only=True):
    """``call_id``: in older SDKs the join key; today ``id`` is."""

    output: LongText
    call_id: CallId | None = None
    status: Status | None = None


class ShellAction(StrictStruct, kw_only=True):
    commands: list[LongText]
    max_output_length: int | None = None
    timeout_ms: int | None = None


class ShellCall(Item, tag="shell_call", kw_only=True):
    action: ShellAction
    call_id: CallId
    caller: Json | None = None
    environment: Json | None = None
    status: Status | None = None


class Exited(StrictStruct, tag_field="type", tag="exit", kw_only=True):
    exit_code: int


class TimedOut(StrictStruct, tag_field="type", tag="timeout"):
    pass


class ShellResult(StrictStruct, kw_only=True):
    stdout: LongText
    stderr: LongText
    outcome: Exited | TimedOut
    created_by: Any = None


class ShellCallOutput(Item, tag="shell_call_output", kw_only=True):
    call_id: CallId
    output: list[ShellResult]
    caller: Json | None = None
    max_output_length: Count | None = None
    status: Status | None = None


class PatchOperation(StrictStruct, tag_field="type", kw_only=True):
    path: Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]


class CreateFile(PatchOperation, tag="create_file", kw_only=True):
    diff: LongText


class UpdateFile(PatchOperation, tag="update_file", kw_only=True):
    diff: LongText


class DeleteFile(PatchOperation, tag="delete_file", kw_only=True):
    diff: LongText | None = None


class ApplyPatchCall(Item, tag="apply_patch_call", kw_only=True):
    call_id: CallId
    operation: CreateFile | UpdateFile | DeleteFile
    status: Literal["in_progress", "completed"]
    caller: Json | None = None


class ApplyPatchCallOutput(Item, tag="apply_patch_call_output", kw_only=True):
    call_id: CallId
    status: Literal["completed", "failed"]
    caller: Json | None = None
    output: LongText | None = None


class McpListTools(Item, tag="mcp_list_tools", kw_only=True):
    server_label: str
    tools: list[Json]
    error: Any = None


class McpApprovalRequest(Item, tag="mcp_approval_request", kw_only=True):
    arguments: LongText
    name: Label
    server_label: str


class McpApprovalResponse(Item, tag="mcp_approval_response", kw_only=True):
    approval_request_id: ItemId
    approve: bool
    reason: str | None = None


class McpCall(Item, tag="mcp_call", kw_only=True):
    """``error`` is an object today and was a string before SDK 3."""

    arguments: LongText
    name: Label
    server_label: str
    approval_request_id: ItemId | None = None
    error: Any = None
    output: LongText | None = None
    status: Literal["in_progress", "completed", "incomplete", "calling", "failed"] | None = None


class Program(Item, tag="program", kw_only=True):
    call_id: CallId
    code: LongText
    fingerprint: str


class ProgramOutput(Item, tag="program_output", kw_only=True):
    call_id: CallId
    result: LongText
    status: Literal["completed", "incomplete"]


InputItem: TypeAlias = (
    Message
    | FunctionCall
    | FunctionCallOutput
    | Reasoning
    | ItemReference
    | Compaction
    | CompactionTrigger
    | CustomToolCall
    | CustomToolCallOutput
    | FileSearchCall
    | WebSearchCall
    | ComputerCall
    | ComputerCallOutput
    | ToolSearchCall
    | ToolSearchOutput
    | AdditionalTools
    | ConfigurationUpdate
    | ImageGenerationCall
    | CodeInterpreterCall
    | LocalShellCall
    | LocalShellCallOutput
    | ShellCall
    | ShellCallOutput
    | ApplyPatchCall
    | ApplyPatchCallOutput
    | McpListTools
    | McpApprovalRequest
    | McpApprovalResponse
    | McpCall
    | Program
    | ProgramOutput
)
