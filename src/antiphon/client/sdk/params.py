"""What a caller may write, put as the official API has it, before a request leaves: so it holds with every server.

Taken beyond the official forms: one message as ``input``, ``reasoning_effort=``, ``verbosity=``, functions in the
nested form of chat completions, ``"in-memory"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, TypedDict, cast

from openai import NotGiven, Omit, pydantic_responses_function_tool
from openai.types.responses import (
    ResponseIncludable,
    ResponseInputItemParam,
    ResponsePromptParam,
    ResponseTextConfigParam,
    ToolParam,
    response_compact_params,
    response_create_params,
)
from openai.types.responses.service_tier import ServiceTier
from openai.types.shared_params import Metadata, Reasoning

if TYPE_CHECKING:
    import httpx2

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity: TypeAlias = Literal["low", "medium", "high"]
Tool: TypeAlias = ToolParam | Mapping[str, Any]
Item: TypeAlias = ResponseInputItemParam | Mapping[str, Any]
Input: TypeAlias = str | Item | Iterable[Item | Any]
"""A text, one item or message, or several; the output items of a response are items."""
Arguments: TypeAlias = dict[str, Any]


class CallOptions(TypedDict, total=False):
    """What every method takes beside its parameters, as in the official SDK. ``timeout`` is in seconds."""

    extra_headers: Mapping[str, str | Omit] | None
    extra_query: Mapping[str, object] | None
    extra_body: object | None
    timeout: float | httpx2.Timeout | NotGiven | None


class RequestOptions(CallOptions, total=False):
    """The official parameters of ``create`` but for ``input``, ``model``, ``tools`` and ``stream``, and two short ones:
    ``reasoning_effort`` stands for ``reasoning["effort"]``, ``verbosity`` for ``text["verbosity"]``.
    """

    access_programs: response_create_params.AccessPrograms | Omit
    background: bool | Omit | None
    background_options: response_create_params.BackgroundOptions | Omit
    context_management: Iterable[response_create_params.ContextManagement] | Omit | None
    conversation: response_create_params.Conversation | Mapping[str, Any] | Omit | None
    image: response_create_params.Image | Omit
    include: list[ResponseIncludable] | Omit | None
    instructions: str | Omit | None
    max_output_tokens: int | Omit | None
    max_tool_calls: int | Omit | None
    metadata: Metadata | Omit | None
    moderation: response_create_params.Moderation | Omit | None
    parallel_tool_calls: bool | Omit | None
    previous_response_id: str | Omit | None
    prompt: ResponsePromptParam | Mapping[str, Any] | Omit | None
    prompt_cache_key: str | Omit | None
    prompt_cache_options: response_create_params.PromptCacheOptions | Omit
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | Omit | None
    reasoning: Reasoning | Mapping[str, Any] | Omit | None
    reasoning_effort: Effort | Omit | None
    safety_identifier: str | Omit | None
    service_tier: ServiceTier | Omit | None
    store: bool | Omit | None
    stream_options: response_create_params.StreamOptions | Mapping[str, Any] | Omit | None
    temperature: float | Omit | None
    text: ResponseTextConfigParam | Mapping[str, Any] | Omit | None
    tool_choice: response_create_params.ToolChoice | Mapping[str, Any] | Omit | None
    top_logprobs: int | Omit | None
    top_p: float | Omit | None
    truncation: Literal["auto", "disabled"] | Omit | None
    user: str | Omit | None
    verbosity: Verbosity | Omit | None


class CreateParams(RequestOptions, total=False):
    """The parameters that ``create``, ``stream`` and ``parse`` share. ``input`` may be one message too."""

    input: Input | Omit | None
    model: str | Omit | None
    tools: Iterable[Tool] | Omit | None


class RetrieveParams(CallOptions, total=False):
    """The official parameters of ``retrieve``, but for ``stream``."""

    include: list[ResponseIncludable] | Omit
    include_obfuscation: bool | Omit
    starting_after: int | Omit


class CompactParams(CallOptions, total=False):
    """The official parameters of ``compact``; ``input`` in any form that ``create`` takes."""

    input: Input | Omit | None
    model: Required[str | None]
    image: response_create_params.Image | Omit
    instructions: str | Omit | None
    previous_response_id: str | Omit | None
    prompt_cache_key: str | Omit | None
    prompt_cache_options: response_compact_params.PromptCacheOptions | Omit | None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | Omit | None
    service_tier: Literal["auto", "default", "fast", "flex", "priority"] | Omit | None


class CountParams(CallOptions, total=False):
    """The official parameters of ``input_tokens.count``; ``input`` in any form that ``create`` takes."""

    input: Input | Omit | None
    conversation: response_create_params.Conversation | Mapping[str, Any] | Omit | None
    instructions: str | Omit | None
    model: str | Omit | None
    parallel_tool_calls: bool | Omit | None
    personality: str | Omit
    previous_response_id: str | Omit | None
    reasoning: Reasoning | Mapping[str, Any] | Omit | None
    text: ResponseTextConfigParam | Mapping[str, Any] | Omit | None
    tool_choice: response_create_params.ToolChoice | Mapping[str, Any] | Omit | None
    tools: Iterable[Tool] | Omit | None
    truncation: Literal["auto", "disabled"] | Omit


def is_given(value: object) -> bool:
    """Whether it was passed: neither left out nor the SDK's ``omit``. None was passed."""
    return not isinstance(value, Omit | NotGiven)


def to_official(arguments: Mapping[str, Any]) -> Arguments:
    """The same request in the official form, without what was not given.

    Raises:
        TypeError: ``reasoning_effort`` and ``reasoning["effort"]``, or ``verbosity`` and ``text["verbosity"]``, differ.
    """
    params = {key: value for key, value in arguments.items() if is_given(value)}
    _apply_alias(params, "reasoning_effort", "reasoning", "effort")
    _apply_alias(params, "verbosity", "text", "verbosity")
    for name, change in (("input", _input), ("tools", _tools), ("tool_choice", _choice), ("text", _text)):
        if name in params:
            params[name] = change(params[name])
    if params.get("prompt_cache_retention") == "in-memory":
        params["prompt_cache_retention"] = "in_memory"
    return params


def _apply_alias(params: Arguments, alias: str, name: str, key: str) -> None:
    """An alias's value to where it belongs."""
    value = params.pop(alias, None)
    if value is None:
        return
    members = dict(params.get(name) or {})
    if members.get(key, value) != value:
        raise TypeError(f"{alias}={value!r} and {name}[{key!r}]={members[key]!r} differ; pass one of them.")
    params[name] = {**members, key: value}


def input_items(input: Any) -> list[Any]:
    """An ``input`` of any form as a list of items; text is a message of the user's."""
    listed = _input(input)
    return [{"role": "user", "content": listed}] if isinstance(listed, str) else list(listed or ())


def _input(input: Any) -> Any:
    return [input] if isinstance(input, Mapping) else input


def _text(text: Any) -> Any:
    return {} if text is None else text


def _tools(tools: Iterable[Any] | None) -> list[Any] | None:
    return None if tools is None else [_flatten_function(tool) for tool in tools]


def _flatten_function(tool: Any) -> Any:
    """A function as this API writes it; one that the SDK made of a Pydantic model still reads its arguments with it."""
    match tool:
        case {"type": "function", "function": Mapping()}:
            function = cast("Mapping[str, Any]", tool["function"])
            rest = {key: value for key, value in cast(Arguments, tool).items() if key != "function"}
            flat = cast(Any, {**function, **rest})
            model = getattr(function, "model", None)
            return flat if model is None else _read_by_model(model, flat)
        case _:
            return tool


def _read_by_model(model: Any, flat: Arguments) -> Any:
    """The function, as the SDK marks one whose arguments it reads with a model."""
    marked = cast(Any, pydantic_responses_function_tool(model))
    marked.clear()
    marked.update(flat)
    return marked


def _choice(choice: Any) -> Any:
    match choice:
        case {"type": "function", "function": {"name": name}}:
            return {"type": "function", "name": name}
        case _:
            return choice
