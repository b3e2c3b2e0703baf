"""The body of ``POST /responses``: what a caller may send, type by type, with every bound the types can say.

Source: the official SDK's parameter types (openai 3.54) with the bounds of the OpenAPI document. The structs check;
they do not carry: an item stays the JSON object it came as, because a client that sends an item back must get it back
whole. So members that nothing reads here (results, environments) are checked for presence and JSON type only.

Three leniences, each because clients rely on it: every optional member may be null; ids are optional wherever the
server can make one; a member that only the output types document is known on input too.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

TEXT_CHARS_MAX = 10_485_760
IMAGE_URL_CHARS_MAX = 20_971_520
FILE_DATA_CHARS_MAX = 73_400_320
INT_MAX = 2_147_483_647
TOOLS_MAX = 1024

LongText: TypeAlias = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
CALL_ID_CHARS_MAX: Final = 4096
"""Model servers make ids far longer than the 64 characters that the API documents; what left us is taken back."""
CallId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CALL_ID_CHARS_MAX)]
ItemId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]
Label: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
# The lookahead: Python's ``$`` also matches before a last newline. Both dialects that read this know it.
FunctionName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_-]+$(?!\n)")]
FormatName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$(?!\n)")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=INT_MAX)]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=INT_MAX)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]
Role: TypeAlias = Literal["user", "assistant", "system", "developer"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Summary: TypeAlias = Literal["auto", "concise", "detailed"]
Verbosity: TypeAlias = Literal["low", "medium", "high"]
Tier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
Execution: TypeAlias = Literal["server", "client"]
Callers: TypeAlias = list[Literal["direct", "programmatic"]]
Include: TypeAlias = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
INCLUDE: frozenset[str] = frozenset(get_args(Include))

Metadata: TypeAlias = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class StrictStruct(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object all of whose documented members are listed."""


# --- content parts ---------------------------------------------------------------------------------------------------


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

# --- tools -----------------------------------------------------------------------------------------------------------


class Tool(StrictStruct, tag_field="type"):
    """One entry of ``tools``, told apart by ``type``."""


class FunctionTool(Tool, tag="function", kw_only=True):
    name: FunctionName
    parameters: Json | None = None
    strict: bool | None = None
    description: str | None = None
    allowed_callers: Callers | None = None
    asynchronous: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None
    output_schema: Json | None = None


class FileSearchTool(Tool, tag="file_search", kw_only=True):
    vector_store_ids: list[str] | None = None
    filters: Json | None = None
    max_num_results: Positive | None = None
    ranking_options: Json | None = None


class ComputerTool(Tool, tag="computer"):
    pass


class ComputerUsePreviewTool(Tool, tag="computer_use_preview", kw_only=True):
    """``display_number`` comes from the alias ``computer_use`` and means nothing to a remote screen."""

    display_height: Positive
    display_width: Positive
    environment: Literal["windows", "mac", "linux", "ubuntu", "browser"]
    display_number: Count | None = None


class WebSearchTool(Tool, tag="web_search", kw_only=True):
    external_web_access: bool | None = None
    filters: Json | None = None
    search_context_size: Verbosity | None = None
    user_location: Json | None = None
    search_content_types: list[Literal["text", "image"]] | None = None


class WebSearch20250826(WebSearchTool, tag="web_search_2025_08_26"):
    pass


class WebSearchPreview(WebSearchTool, tag="web_search_preview"):
    pass


class WebSearchPreview20250311(WebSearchTool, tag="web_search_preview_2025_03_11"):
    pass


class McpTool(Tool, tag="mcp", kw_only=True):
    server_label: Label
    allowed_callers: Callers | None = None
    allowed_tools: list[str] | Json | None = None
    authorization: str | None = None
    connector_id: str | None = None
    defer_loading: bool | None = None
    headers: dict[str, str] | None = None
    require_approval: Literal["always", "never"] | Json | None = None
    server_description: str | None = None
    server_url: str | None = None
    tunnel_id: str | None = None


class CodeInterpreterTool(Tool, tag="code_interpreter", kw_only=True):
    container: str | Json
    allowed_callers: Callers | None = None


class ProgrammaticTool(Tool, tag="programmatic_tool_calling"):
    pass


class ImageGenerationTool(Tool, tag="image_generation", kw_only=True):
    action: Literal["generate", "edit", "auto"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    complexity: Verbosity | None = None
    frame_count: Count | None = None
    frame_duration_ms: Count | None = None
    input_fidelity: Literal["high", "low"] | None = None
    input_image_mask: Json | None = None
    model: str | None = None
    moderation: Literal["auto", "low"] | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    output_format: Literal["png", "webp", "jpeg", "gif", "svg"] | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto"] | None = None
    size: str | None = None
    svg: Json | None = None


class LocalShellTool(Tool, tag="local_shell"):
    pass


class ShellTool(Tool, tag="shell", kw_only=True):
    allowed_callers: Callers | None = None
    environment: Json | None = None


class CustomTool(Tool, tag="custom", kw_only=True):
    name: Label
    allowed_callers: Callers | None = None
    asynchronous: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None
    description: str | None = None
    format: Json | None = None


class NamespaceTool(Tool, tag="namespace", kw_only=True):
    description: str
    name: Label
    tools: list[Json]


class ToolSearchTool(Tool, tag="tool_search", kw_only=True):
    description: str | None = None
    execution: Execution | None = None
    parameters: Any = None


class ApplyPatchTool(Tool, tag="apply_patch", kw_only=True):
    allowed_callers: Callers | None = None


ToolSpec: TypeAlias = (
    FunctionTool
    | FileSearchTool
    | ComputerTool
    | ComputerUsePreviewTool
    | WebSearchTool
    | WebSearch20250826
    | WebSearchPreview
    | WebSearchPreview20250311
    | McpTool
    | CodeInterpreterTool
    | ProgrammaticTool
    | ImageGenerationTool
    | LocalShellTool
    | ShellTool
    | CustomTool
    | NamespaceTool
    | ToolSearchTool
    | ApplyPatchTool
)

TOOL_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(ToolSpec))
"""The types of tool that the API documents."""

# --- tool_choice -----------------------------------------------------------------------------------------------------

ChoiceMode: TypeAlias = Literal["none", "auto", "required"]


class Choice(StrictStruct, tag_field="type"):
    """``tool_choice`` as an object: one tool forced, or several allowed."""


class FunctionChoice(Choice, tag="function", kw_only=True):
    name: Label


class AllowedTools(Choice, tag="allowed_tools", kw_only=True):
    mode: Literal["auto", "required"]
    tools: list[Json]


class CustomChoice(Choice, tag="custom", kw_only=True):
    name: Label


class McpChoice(Choice, tag="mcp", kw_only=True):
    server_label: Label
    name: str | None = None


class FileSearchChoice(Choice, tag="file_search"):
    pass


class WebSearchChoice(Choice, tag="web_search"):
    """Not in the SDK's list; the current name of the preview below, and sent by clients."""


class WebSearchPreviewChoice(Choice, tag="web_search_preview"):
    pass


class WebSearchPreview20250311Choice(Choice, tag="web_search_preview_2025_03_11"):
    pass


class ComputerChoice(Choice, tag="computer"):
    pass


class ComputerUsePreviewChoice(Choice, tag="computer_use_preview"):
    pass


class ComputerUseChoice(Choice, tag="computer_use"):
    pass


class ImageGenerationChoice(Choice, tag="image_generation"):
    pass


class CodeInterpreterChoice(Choice, tag="code_interpreter"):
    pass


class ProgrammaticChoice(Choice, tag="programmatic_tool_calling"):
    pass


class ApplyPatchChoice(Choice, tag="apply_patch"):
    pass


class ShellChoice(Choice, tag="shell"):
    pass


HostedChoice: TypeAlias = (
    FileSearchChoice
    | WebSearchChoice
    | WebSearchPreviewChoice
    | WebSearchPreview20250311Choice
    | ComputerChoice
    | ComputerUsePreviewChoice
    | ComputerUseChoice
    | ImageGenerationChoice
    | CodeInterpreterChoice
    | ProgrammaticChoice
    | ApplyPatchChoice
    | ShellChoice
)
ToolChoiceSpec: TypeAlias = FunctionChoice | AllowedTools | CustomChoice | McpChoice | HostedChoice

# --- the rest of the body --------------------------------------------------------------------------------------------


class Format(StrictStruct, tag_field="type"):
    """``text.format``."""


class PlainFormat(Format, tag="text"):
    pass


class JsonObjectFormat(Format, tag="json_object"):
    pass


class JsonSchemaFormat(Format, tag="json_schema", kw_only=True):
    name: FormatName
    schema: Json
    description: str | None = None
    strict: bool | None = None


class TextOptions(StrictStruct, kw_only=True):
    format: PlainFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Verbosity | None = None


class ReasoningOptions(StrictStruct, kw_only=True):
    """``generate_summary`` is the old name of ``summary``."""

    effort: Effort | None = None
    summary: Summary | None = None
    mode: str | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    generate_summary: Summary | None = None


class StreamOptions(StrictStruct, kw_only=True):
    include_obfuscation: bool | None = None


class BackgroundOptions(StrictStruct, kw_only=True):
    completion_window: Literal["soonest", "2h", "8h"] | None = None
    continuation_id: str | None = None


class ContextManagement(StrictStruct, kw_only=True):
    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1000, le=INT_MAX)] | None = None


class ConversationRef(StrictStruct, kw_only=True):
    id: ItemId


class PromptCacheOptions(StrictStruct, kw_only=True):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m", "12h"] | None = None
    prewarm: Any = None
    comparison_response_id: str | None = None


class Moderation(StrictStruct, kw_only=True):
    model: str
    policy: Json | None = None


class ImageOptions(StrictStruct, kw_only=True):
    context_compression: Literal["auto", "enabled", "disabled"] | None = None


class AccessPrograms(StrictStruct, kw_only=True):
    cyber: Literal["standard", "daybreak_blue", "daybreak_red"]


class CreateRequest(StrictStruct, kw_only=True):
    """The whole body, in the order in which its members are checked (API semantics: third-party probe of the order).

    ``reasoning_effort`` and top-level ``verbosity`` are aliases. ``prompt`` and ``multi_agent`` are typed loosely
    because they are refused anyway.
    """

    model: Annotated[str, Meta(min_length=1, max_length=512)]
    input: str | list[InputItem] = ""
    previous_response_id: ItemId | None = None
    conversation: ItemId | ConversationRef | None = None
    prompt: Json | None = None
    moderation: Moderation | None = None
    include: list[Include] | None = None
    tools: Annotated[list[ToolSpec], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: ChoiceMode | ToolChoiceSpec | None = None
    metadata: Metadata | None = None
    text: TextOptions | None = None
    verbosity: Verbosity | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    background_options: BackgroundOptions | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=INT_MAX)] | None = None
    max_tool_calls: Positive | None = None
    reasoning: ReasoningOptions | None = None
    reasoning_effort: Effort | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=64)] | None = None
    prompt_cache_retention: Literal["in_memory", "24h", "in-memory"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    instructions: LongText | None = None
    store: bool | None = None
    service_tier: Tier | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    context_management: Annotated[list[ContextManagement], Meta(min_length=1)] | None = None
    image: ImageOptions | None = None
    access_programs: AccessPrograms | None = None
    multi_agent: Json | None = None


def conversation_id(request: CreateRequest) -> str | None:
    """The id of the conversation, in whichever of its two forms it came.

    Raises:
        InvalidRequest: it is no conversation's id.
    """
    given = request.conversation
    id, param = (given.id, "conversation.id") if isinstance(given, ConversationRef) else (given, "conversation")
    if id is not None and not id.startswith("conv_"):
        text = f"Invalid '{param}': '{id}'. Expected an ID that begins with 'conv_'."
        raise InvalidRequest(text, code="invalid_value", param=param)
    return id


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of a listing: items after the id ``after``; ``limit`` is a count of items, 1 to 100."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    include: list[Include] = []


class RetrieveQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of one response: its stream behind event number ``starting_after`` instead of the object, with padded
    deltas unless ``include_obfuscation`` is false.
    """

    include: list[Include] = []
    stream: bool = False
    starting_after: Annotated[int, Meta(ge=-1, le=INT_MAX)] = -1
    include_obfuscation: bool = True
