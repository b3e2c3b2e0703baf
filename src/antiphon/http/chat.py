"""Chat completions as a dialect: a request becomes one of ``/v1/responses``, and what comes of that is told in it.

Source: the official SDK's types; ``reasoning_content`` is what model servers call reasoning there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, assert_never

import msgspec

from antiphon.wire import Json
from antiphon.wire.chat import (
    AssistantMessage,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Choice,
    CustomCall,
    DeveloperMessage,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    ObjectFormat,
    RefusalText,
    SchemaFormat,
    SystemMessage,
    TextFormat,
    TextPart,
    ToolMessage,
    UserMessage,
    UserPart,
)
from antiphon.wire.errors import ApiError, InvalidRequest, NotFound
from antiphon.wire.items import NO_ARGUMENTS
from antiphon.wire.kinds import call_and_output
from antiphon.wire.response import Response

_SAME: Final = (
    "model",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "verbosity",
    "metadata",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
    "stream",
)
"""Members that mean the same in both."""
EXTRA: Final = ("stop", "seed", "logit_bias", "modalities", "audio", "prediction", "web_search_options")
"""Members that the other has not."""
KNOWN: Final = ("stop", "seed", "logit_bias")
"""Those that whoever speaks this dialect knows, as the servers of all models do."""
_PARAMS: Final = {
    "input": "messages",
    "max_output_tokens": "max_completion_tokens",
    "text.format": "response_format.json_schema",
    "text": "response_format",
}
"""What this dialect calls the members of a request, by what ``/v1/responses`` calls them; the first that fits."""
_CUSTOM, _CUSTOM_OUTPUT = call_and_output("custom")
_CALLS: Final = ("function_call", _CUSTOM.type)
"""Kinds of item that a completion holds as calls."""
_UNCALLABLE: Final = frozenset(
    ("apply_patch", "shell", "local_shell", "computer", "computer_use", "computer_use_preview", "tool_search")
)
_NESTED: Final = ("function", "custom")
"""Kinds of tool whose members are nested here, under that name."""
_OF_ITEM: Final = re.compile(r"input\[(\d+)\]")
_OF_TOOL: Final = re.compile(r"(tools\[(\d+)\]|tool_choice)(?=\.(?!(?:type|function|custom)\b))")


# A request


def to_responses(request: ChatRequest) -> Json:
    """The body of a request to ``/v1/responses``.

    Raises:
        InvalidRequest: more than one answer is asked for, or a schema is missing.
    """
    if request.n not in (None, 1):
        text = f"Invalid 'n': this server gives one answer a request, but got {request.n}."
        raise InvalidRequest(text, code="unsupported_value", param="n")
    body: Json = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    _refuse_uncallable(request.tools or ())
    customs = frozenset(call.id for call in _calls_made(request.messages) if isinstance(call, CustomCall))
    body["input"] = [item for message in request.messages for item in _items(message, customs)]
    # Here nothing is kept unless that is asked for.
    body["store"] = bool(request.store)
    bound = request.max_completion_tokens or request.max_tokens
    if bound is not None:
        body["max_output_tokens"] = bound
    if request.response_format is not None:
        body["text"] = {"format": _format(request)}
    if request.logprobs:
        body |= {"include": ["message.output_text.logprobs"], "top_logprobs": request.top_logprobs or 0}
    return body


def _format(request: ChatRequest) -> Json:
    match request.response_format:
        case SchemaFormat(json_schema=given):
            if given.schema is None:
                text = "Missing required parameter: 'response_format.json_schema.schema'."
                raise InvalidRequest(
                    text, code="missing_required_parameter", param="response_format.json_schema.schema"
                )
            named: Json = {"type": "json_schema", "name": given.name, "schema": given.schema}
            return named | {"description": given.description, "strict": given.strict}
        case ObjectFormat():
            return {"type": "json_object"}
        case TextFormat() | None:
            return {"type": "text"}


def _refuse_uncallable(tools: Sequence[Json]) -> None:
    """A completion can hold calls of functions and custom tools; others would be lost.

    Raises:
        InvalidRequest: the caller would have to run another tool.
    """
    for index, tool in enumerate(tools):
        kind = tool.get("type")
        if isinstance(kind, str) and kind in _UNCALLABLE:
            text = f"Unsupported value: '{kind}'. Calls of this tool can be made over /v1/responses only."
            raise InvalidRequest(text, code="unsupported_value", param=f"tools[{index}].type")


def _calls_made(messages: Sequence[Message]) -> Iterator[FunctionCall | CustomCall]:
    for message in messages:
        if isinstance(message, AssistantMessage):
            yield from message.tool_calls or ()


def _items(message: Message, customs: frozenset[str]) -> Iterator[Json]:
    """The items of a message; ``customs``: the calls of custom tools."""
    match message:
        case SystemMessage() | DeveloperMessage():
            role = str(message.__struct_config__.tag)
            yield {"type": "message", "role": role, "content": _texts(message.content)}
        case UserMessage(content=content):
            parts = content if isinstance(content, str) else [_part(part) for part in content]
            yield {"type": "message", "role": "user", "content": parts}
        case AssistantMessage():
            yield from _assistant_items(message)
        case ToolMessage(tool_call_id=call_id, content=content):
            kind = _CUSTOM_OUTPUT.type if call_id in customs else "function_call_output"
            yield {"type": kind, "call_id": call_id, "output": _output(content)}
        case _:
            assert_never(message)


def _texts(content: str | Sequence[TextPart]) -> str | list[Json]:
    return content if isinstance(content, str) else [{"type": "input_text", "text": part.text} for part in content]


def _output(content: str | Sequence[UserPart] | None) -> str | list[Json]:
    """What a function returned: one text, unless there is more than text in it."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = [part.text for part in content if isinstance(part, TextPart)]
    return "\n".join(texts) if len(texts) == len(content) else [_part(part) for part in content]


def _part(part: UserPart) -> Json:
    match part:
        case TextPart(text=text):
            return {"type": "input_text", "text": text}
        case ImagePart(image_url=image):
            return {"type": "input_image", "image_url": image.url, "detail": image.detail or "auto"}
        case FilePart(file=file):
            given = msgspec.to_builtins(file)
            return {"type": "input_file", **{name: value for name, value in given.items() if value is not None}}


def _assistant_items(message: AssistantMessage) -> Iterator[Json]:
    content = message.content
    given: Sequence[TextPart | RefusalText]
    if isinstance(content, str):
        # Clients send an empty text along with calls.
        given = [TextPart(text=content)] if content or not message.tool_calls else ()
    else:
        given = content or ()
    parts: list[Json] = [
        {"type": "output_text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "refusal", "refusal": part.refusal}
        for part in given
    ]
    if message.refusal is not None:
        parts.append({"type": "refusal", "refusal": message.refusal})
    if message.reasoning_content:
        text = {"type": "reasoning_text", "text": message.reasoning_content}
        yield {"type": "reasoning", "summary": [], "content": [text]}
    if parts:
        yield {"type": "message", "role": "assistant", "content": parts}
    for call in message.tool_calls or ():
        match call:
            case FunctionCall(function=function):
                named = {"name": function.name, "arguments": function.arguments or NO_ARGUMENTS}
                yield {"type": "function_call", "call_id": call.id, **named}
            case CustomCall(custom=custom):
                yield {"type": _CUSTOM.type, "call_id": call.id, "name": custom.name, "input": custom.input}


def name_in_chat(path: str, request: ChatRequest) -> str:
    """What this dialect calls a member of the request that ``/v1/responses`` calls ``path``."""
    if (item := _OF_ITEM.match(path)) is not None:
        return f"messages[{_find_message(request, int(item[1]))}]{path[item.end() :]}"
    if (tool := _OF_TOOL.match(path)) is not None:
        given = request.tool_choice if tool[2] is None else (request.tools or ())[int(tool[2])]
        kind = given.get("type")
        return f"{tool[0]}.{kind}{path[tool.end() :]}" if kind in _NESTED and "name" not in given else path
    for ours, theirs in _PARAMS.items():
        if path == ours or path.startswith((f"{ours}.", f"{ours}[")):
            return theirs + path[len(ours) :]
    return path


def _find_message(request: ChatRequest, item: int) -> int:
    """The place of the message that became that item among others."""
    places = [place for place, message in enumerate(request.messages) for _ in _items(message, frozenset())]
    return places[item] if item < len(places) else item


def to_chat_error(error: ApiError, request: ChatRequest) -> ApiError:
    """The error of the request as this dialect has it: its status, and parameters by their names here."""
    if error.code == "model_not_found":
        error.status = NotFound.status
    given = error.param or ""
    param = name_in_chat(given, request)
    if param != given:
        error.message, error.param = error.message.replace(f"'{given}", f"'{param}"), param
    error.message = error.message.replace("'text.format'", "'response_format'")
    return error


# An answer


def to_completion(response: Response) -> ChatCompletion:
    """A response that has ended, as one completion."""
    parts = [part for item in response.output if item["type"] == "message" for part in item["content"]]
    text = "".join(part["text"] for part in parts if part["type"] == "output_text")
    refusal = "".join(part["refusal"] for part in parts if part["type"] == "refusal")
    calls = [_call(item) for item in response.output if item["type"] in _CALLS]
    thought = "".join(
        part["text"] for item in response.output if item["type"] == "reasoning" for part in item.get("content") or ()
    )
    message: Json = {
        "role": "assistant",
        "content": None if (calls or refusal) and not text else text,
        "refusal": refusal or None,
        "annotations": [],
    }
    if calls:
        message["tool_calls"] = calls
    if thought:
        message["reasoning_content"] = thought
    logprobs = [entry for part in parts for entry in part.get("logprobs") or ()]
    return ChatCompletion(
        id=completion_id(response),
        created=response.created_at,
        model=response.model,
        choices=[Choice(message=message, finish_reason=finish_reason(response), logprobs=to_logprobs(logprobs))],
        usage=to_usage(response),
        service_tier=response.service_tier,
    )


def completion_id(response: Response) -> str:
    """``chatcmpl-…``, with what is random in the response's own id."""
    return f"chatcmpl-{response.id.partition('_')[2] or response.id}"


def finish_reason(response: Response) -> str:
    """Why the answer ended: ``stop``, ``length``, ``content_filter`` or ``tool_calls``."""
    if response.incomplete_details is not None:
        return "length" if response.incomplete_details["reason"] == "max_output_tokens" else "content_filter"
    return "tool_calls" if any(item["type"] in _CALLS for item in response.output) else "stop"


def to_usage(response: Response) -> ChatUsage | None:
    """What was used; None where the model did not say."""
    usage = response.usage
    if usage is None:
        return None
    return ChatUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details={"cached_tokens": usage.input_tokens_details.cached_tokens, "audio_tokens": 0},
        completion_tokens_details={
            "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    )


def to_logprobs(entries: Sequence[Json]) -> Json | None:
    """The log probabilities of some text."""
    return {"content": list(entries), "refusal": None} if entries else None


def _call(item: Json) -> Json:
    if item["type"] == _CUSTOM.type:
        custom = {"name": item["name"], "input": item["input"]}
        return {"id": item["call_id"], "type": "custom", "custom": custom}
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


class Chunks:
    """Turns the events of a response into chunks of a completion.

    Args:
        include_usage: whether a last chunk tells what was used, and the others that they do not.
    """

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head: Json = {}
        self._calls: dict[int, int] = {}

    def of(self, event: Json) -> Iterator[Json]:
        """The chunks that say what an event says; an error is told as it is, in the place of a chunk."""
        match event["type"]:
            case "response.created":
                response: Response = event["response"]
                head = {"id": completion_id(response), "object": "chat.completion.chunk"}
                self._head = {**head, "created": response.created_at, "model": response.model}
                self._head |= {"service_tier": response.service_tier, "system_fingerprint": None}
                yield self._chunk({"role": "assistant", "content": "", "refusal": None})
            case "response.in_progress" if event["sequence_number"] > 1:
                # It is silent, and says that it goes on: clients count chunks too.
                yield self._chunk({})
            case "response.completed" | "response.incomplete":
                yield from self._end(event["response"])
            case "error":
                yield {"error": event["error"]}
            case _:
                if (delta := self._delta(event)) is not None:
                    yield self._chunk(delta, logprobs=to_logprobs(event.get("logprobs") or ()))

    def _delta(self, event: Json) -> Json | None:
        match event["type"]:
            case "response.output_text.delta":
                return {"content": event["delta"]}
            case "response.refusal.delta":
                return {"refusal": event["delta"]}
            case "response.reasoning_text.delta":
                return {"reasoning_content": event["delta"]}
            case "response.output_item.added" if event["item"]["type"] in _CALLS:
                index = self._calls[event["output_index"]] = len(self._calls)
                return {"tool_calls": [{"index": index, **_call(event["item"])}]}
            case "response.function_call_arguments.delta":
                index = self._calls[event["output_index"]]
                return {"tool_calls": [{"index": index, "function": {"arguments": event["delta"]}}]}
            case "response.custom_tool_call_input.delta":
                index = self._calls[event["output_index"]]
                return {"tool_calls": [{"index": index, "custom": {"input": event["delta"]}}]}
            case _:
                return None

    def _end(self, response: Response) -> Iterator[Json]:
        yield self._chunk({}, finish_reason=finish_reason(response))
        if self._include_usage:
            usage = to_usage(response)
            yield {**self._head, "choices": [], "usage": None if usage is None else msgspec.to_builtins(usage)}

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, logprobs: Any = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk: Json = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk
