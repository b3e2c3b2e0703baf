"""``tools`` and ``tool_choice``: what a caller may send of each type of tool."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from antiphon.wire import Json
from antiphon.wire.values import Callers, Count, Execution, FunctionName, Label, Positive, StrictStruct, Verbosity


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


class Environment(StrictStruct, tag_field="type"):
    """Where a shell runs."""


class LocalEnvironment(Environment, tag="local", kw_only=True):
    skills: list[Json] | None = None


class ContainerAuto(Environment, tag="container_auto", kw_only=True):
    file_ids: list[str] | None = None
    memory_limit: Literal["1g", "4g", "16g", "64g"] | None = None
    network_policy: Json | None = None
    skills: list[Json] | None = None


class ContainerReference(Environment, tag="container_reference", kw_only=True):
    container_id: str


class ShellTool(Tool, tag="shell", kw_only=True):
    allowed_callers: Callers | None = None
    environment: LocalEnvironment | ContainerAuto | ContainerReference | None = None


class TextFormat(StrictStruct, tag_field="type", tag="text"):
    """A custom tool's text is free."""


class GrammarFormat(StrictStruct, tag_field="type", tag="grammar", kw_only=True):
    """It matches a grammar."""

    syntax: Literal["lark", "regex"]
    definition: str


class CustomTool(Tool, tag="custom", kw_only=True):
    name: FunctionName
    allowed_callers: Callers | None = None
    asynchronous: bool | None = msgspec.field(name="async", default=None)
    defer_loading: bool | None = None
    description: str | None = None
    format: TextFormat | GrammarFormat | None = None


class NamespaceTool(Tool, tag="namespace", kw_only=True):
    description: str
    name: FunctionName
    tools: list[FunctionTool | CustomTool]


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
