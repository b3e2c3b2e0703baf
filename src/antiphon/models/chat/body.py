"""Prompt -> the body of a chat-completions request. Pure.

Items become messages in their order, with one exception: outputs stand directly after the message that holds
their calls, because servers refuse anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from antiphon.models import Function, Prompt, answers
from antiphon.models.chat import bounds, carried, fenced, forced, json_grammar, written
from antiphon.models.chat.arguments import compact
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.control_tokens import neutralize, tokens_for
from antiphon.models.chat.references import name_root
from antiphon.wire import Json
from antiphon.wire.items import NO_ARGUMENTS, is_blank, is_system
from antiphon.wire.pairing import pair_calls

_ROLES: Final = {"assistant": "assistant", "system": "system", "developer": "developer"}
"""Any other role speaks as the user."""
_TEXT_FIELD: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "reasoning_text": "text",
    "summary_text": "text",
    "refusal": "refusal",
}
_WINDOW_TOKENS: Final = 8192
"""What a window is taken for that is not known."""
_ANSWER_SHARE: Final = 8
"""An answer that is held to a schema and has no limit has this part of the window."""
_TEMPLATE: Final = "chat_template_kwargs"
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def body(prompt: Prompt, config: ChatConfig, *, native_calls: bool = False, begun: str = "") -> Json:
    """The request's JSON.

    Args:
        begun: what is put into the model's mouth, for it to go on with.
        native_calls: whether required calls are left to the server although ``config`` says ``schema``.
    """
    assert not prompt.prefix or config.supports_prefill, "the model cannot continue an answer"
    whole: Json = {
        "model": config.model,
        "messages": messages(prompt, config, native_calls=native_calls),
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(prompt, config),
        **_calling(prompt, config, native_calls),
    }
    if begun:
        whole["messages"].append({"role": "assistant", "content": begun})
    if prompt.prefix and config.supports_prefill == "vllm":
        whole |= {"continue_final_message": True, "add_generation_prompt": False}
    for extra in (prompt.extra, config.extra):
        whole = _overlay(whole, extra) if extra else whole
    return whole


def with_n_probs(sent: Json) -> Json:
    """The request with llama.cpp's own name for probabilities: by the usual one they are refused beside tools."""
    fields = {name: value for name, value in sent.items() if name not in ("logprobs", "top_logprobs")}
    return fields | {"n_probs": sent["top_logprobs"]}


def holds_to_schema(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether a call is required, and is had by holding the answer to a schema."""
    required = prompt.tool_choice.mode == "required" and bool(prompt.callable_functions)
    return required and config.forced_calls == "schema"


def held_function(prompt: Prompt, config: ChatConfig) -> Function | None:
    """The function that must be called and whose text the server holds to its grammar; None for any other prompt."""
    functions = prompt.callable_functions
    alone = functions[0] if len(functions) == 1 and holds_to_schema(prompt, config) else None
    return alone if alone is not None and alone.grammar is not None and config.grammars is not None else None


def allows_several(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether an answer that is held to the schema of calls may hold several of them."""
    return prompt.parallel_tool_calls and config.forced_several and len(prompt.tool_choice.names) != 1


def format_schema(prompt: Prompt, config: ChatConfig) -> Json | None:
    """The schema of an answer that llguidance holds to a format; None where it does not: its grammar leaves no room for
    a call.
    """
    if config.schemas != "llguidance" or prompt.format.type == "text" or prompt.callable_functions:
        return None
    return prompt.format.schema or {"type": "object"}


def put_in_mouth(prompt: Prompt, config: ChatConfig, *, forced: bool) -> str:
    """What the answer is begun with for the model, which is no part of it, or was said before.

    Args:
        forced: whether a call is had by a schema.
    """
    by_schema = forced and config.schemas == "llguidance" and held_function(prompt, config) is None
    return (json_grammar.FENCE if by_schema or format_schema(prompt, config) else "") + prompt.prefix


def shows_in_words(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether functions are told in words that the model may call; not where its answer is held to something else."""
    free = prompt.tool_choice.mode != "required" and prompt.format.type == "text"
    return config.tool_format == "fenced" and free and bool(prompt.callable_functions)


def is_bound(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether the answer is held to a schema that is bound by its tokens."""
    by_grammar = format_schema(prompt, config) is not None
    held = prompt.format.type == "json_schema" or holds_to_schema(prompt, config) or by_grammar
    return config.bounds_schemas and prompt.max_output_tokens is not None and held


def limit_answer(prompt: Prompt, config: ChatConfig) -> Prompt:
    """The prompt with a limit on an answer that is not free and has none, where schemas are bound: a share of the
    window, for a small model may well go on to its end.
    """
    if not config.bounds_schemas or prompt.max_output_tokens is not None or not answers.is_bound(prompt):
        return prompt
    tokens = (config.context_tokens or _WINDOW_TOKENS) // _ANSWER_SHARE
    return msgspec.structs.replace(prompt, max_output_tokens=tokens)


def _overlay(whole: Json, extra: Json) -> Json:
    """``extra`` wins, and ``null`` takes a field out; ``chat_template_kwargs`` of both sides are joined."""
    joined = {**whole, **extra}
    ours, theirs = whole.get(_TEMPLATE), extra.get(_TEMPLATE)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        joined[_TEMPLATE] = {**ours, **theirs}
    return {name: value for name, value in joined.items() if value is not None}


def _sampling(prompt: Prompt, config: ChatConfig) -> Json:
    asked = {"temperature": prompt.temperature, "top_p": prompt.top_p}
    fields: Json = {**config.sampling, **{name: value for name, value in asked.items() if value is not None}}
    if prompt.presence_penalty:
        fields["presence_penalty"] = prompt.presence_penalty
    if prompt.frequency_penalty:
        fields["frequency_penalty"] = prompt.frequency_penalty
    if prompt.max_output_tokens is not None:
        fields[config.max_tokens_field] = prompt.max_output_tokens
    if prompt.top_logprobs is not None:
        # Some servers take 0 for none at all.
        fields |= {"logprobs": True, "top_logprobs": max(1, prompt.top_logprobs)}
    if prompt.effort is not None:
        fields |= _effort(prompt.effort, config)
    return fields


def _effort(effort: str, config: ChatConfig) -> Json:
    match config.effort:
        case "field":
            return {"reasoning_effort": effort}
        case "template":
            # Templates read the one name or the other and ignore what they do not know.
            return {_TEMPLATE: {"reasoning_effort": effort, "enable_thinking": effort != "none"}}
        case None:
            return {}


def _calling(prompt: Prompt, config: ChatConfig, native_calls: bool) -> Json:
    """``tools`` and ``tool_choice``, and what holds the answer to a schema."""
    functions = prompt.callable_functions
    if not native_calls and holds_to_schema(prompt, config):
        if (held := held_function(prompt, config)) and held.grammar and config.grammars:
            return written.constraint(held.grammar, config.grammars)
        schema = _bound_schema(forced.schema(functions, several=allows_several(prompt, config)), prompt, config)
        if config.schemas == "llguidance":
            return {"grammar": json_grammar.whole(schema)}
        return _held_to("call", schema, config, strict=True)
    fields = _format(prompt, config)
    if not functions or shows_in_words(prompt, config):
        return fields
    tools = [_tool(function) for function in functions]
    fields["tools"] = neutralize(tools, tokens_for(config.model, config.control_tokens))
    if prompt.tool_choice.mode == "required":
        one = len(prompt.tool_choice.names) == 1
        fields["tool_choice"] = {"type": "function", "function": {"name": functions[0].name}} if one else "required"
    if not prompt.parallel_tool_calls:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(function: Function) -> Json:
    described: Json = {"name": function.name}
    if function.description is not None:
        described["description"] = function.description
    described["parameters"] = name_root(function.parameters or {"type": "object", "properties": {}})
    described["strict"] = function.strict
    return {"type": "function", "function": described}


def _bound_schema(schema: Json, prompt: Prompt, config: ChatConfig) -> Json:
    tokens = prompt.max_output_tokens
    return bounds.bound(schema, tokens) if config.bounds_schemas and tokens is not None else schema


def _format(prompt: Prompt, config: ChatConfig) -> Json:
    if schema := format_schema(prompt, config):
        tokens = prompt.max_output_tokens
        bounded = bounds.bound_lightly(schema, tokens) if config.bounds_schemas and tokens is not None else schema
        return {"grammar": json_grammar.whole(bounded)}
    wanted = prompt.format
    match wanted.type:
        case "text":
            return {}
        case "json_object":
            return _guided_field({"type": "object"}, config) or {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = _bound_schema(name_root(wanted.schema or {}), prompt, config)
            return _held_to(wanted.name, schema, config, strict=wanted.strict)


def _held_to(name: str, schema: Json, config: ChatConfig, *, strict: bool) -> Json:
    """The field that holds an answer to a schema."""
    named = {"name": name, "schema": schema, "strict": strict}
    return _guided_field(schema, config) or {"response_format": {"type": "json_schema", "json_schema": named}}


def _guided_field(schema: Json, config: ChatConfig) -> Json:
    """The same field of servers that know no other; empty for all others."""
    return {"guided_json": schema} if config.schemas == "guided_json" else {}


# Messages.


def messages(prompt: Prompt, config: ChatConfig, *, native_calls: bool = False) -> list[Json]:
    """The whole context as chat messages."""
    front, items = _front(prompt, config)
    if described := _describe_functions(prompt, config, native_calls):
        front.append(("system", described))
    if config.tool_format == "fenced":
        items = fenced.calls_to_messages(items)
    out = _system(front, config)
    out += _Conversation(items, config).messages()
    by_schema = holds_to_schema(prompt, config) and not native_calls
    if begun := put_in_mouth(prompt, config, forced=by_schema):
        out.append({"role": "assistant", "content": begun})
    if not out:  # some clients have a model loaded by an empty prompt, and most servers refuse an empty list
        out.append({"role": "user", "content": ""})
    return neutralize(out, tokens_for(config.model, config.control_tokens))


def _describe_functions(prompt: Prompt, config: ChatConfig, native_calls: bool) -> str:
    """What the model is told of its functions in words; empty where its template tells it, or there are none."""
    functions = prompt.callable_functions
    if holds_to_schema(prompt, config) and not native_calls:
        held, several = held_function(prompt, config), allows_several(prompt, config)
        return written.description(held) if held else forced.description(functions, several=several)
    if not shows_in_words(prompt, config):
        return ""
    looks = config.call_odds is not None and config.tool_help == "repair"
    return fenced.description(functions, parallel=prompt.parallel_tool_calls, words=looks)


def _front(prompt: Prompt, config: ChatConfig) -> tuple[list[tuple[str, str]], Sequence[Json]]:
    """Role and text of all that is said in front of the conversation, and the conversation."""
    texts = [("system", prompt.instructions)] if prompt.instructions else []
    n = 0
    while n < len(prompt.items) and is_system(prompt.items[n]):
        item = prompt.items[n]
        if text := _text(item.get("content")):
            texts.append((_system_role(item, config), text))
        n += 1
    return texts, prompt.items[n:]


def _system(texts: Sequence[tuple[str, str]], config: ChatConfig) -> list[Json]:
    if config.one_system and texts:
        return [{"role": texts[0][0], "content": "\n\n".join(text for _, text in texts)}]
    return [{"role": role, "content": text} for role, text in texts]


def _system_role(item: Json, config: ChatConfig) -> str:
    return "developer" if config.developer_role and item["role"] == "developer" else "system"


class _Conversation:
    """Turns the items after the front into messages."""

    def __init__(self, items: Sequence[Json], config: ChatConfig) -> None:
        self._items = items
        self._config = config
        self._outputs = {call: output for output, call in pair_calls(items).items()}
        self._calls_made = {item.get("call_id") for item in items if item.get("type") == "function_call"}
        self._out: list[Json] = []
        self._reasoning = ""

    def messages(self) -> list[Json]:
        n = 0
        while n < len(self._items):
            item = self._items[n]
            match item.get("type", "message"):
                case "message":
                    self._message(item)
                case "function_call":
                    end = self._calls_end(n)
                    self._calls(n, end)
                    n = end
                    continue
                case "function_call_output":
                    self._stray_output(item)
                case "reasoning":
                    self._reason(item)
                case _:
                    pass  # nothing that a chat message could say
            n += 1
        return self._out

    def _calls_end(self, n: int) -> int:
        while n < len(self._items) and self._items[n].get("type") == "function_call":
            n += 1
        return n

    def _reason(self, item: Json) -> None:
        """Kept for the assistant message that follows."""
        if self._config.replays_reasoning:
            self._reasoning += _text(item.get("content")) or _text(item.get("summary"))

    def _message(self, item: Json) -> None:
        role = _ROLES.get(item.get("role", "user"), "user")
        if is_system(item):
            late = self._config.late_system_role
            role = _system_role(item, self._config) if late == "system" else late
        content = item.get("content")
        shown: str | list[Json] = _text(content) if role != "user" else _content(content, self._config)
        if shown:
            self._out.append({"role": role, "content": shown, **self._reasoning_fields(role)})

    def _reasoning_fields(self, role: str) -> Json:
        thought, self._reasoning = self._reasoning, ""
        # Servers that ask for it do so for every answer, also where nothing was thought.
        return {"reasoning_content": thought} if self._config.replays_reasoning and role == "assistant" else {}

    def _calls(self, start: int, end: int) -> None:
        """One assistant message for calls that follow each other, then their outputs in the same order."""
        last = self._out[-1] if self._out else {}
        if last.get("role") != "assistant" or "tool_calls" in last:
            last = {"role": "assistant", "content": None, **self._reasoning_fields("assistant")}
            self._out.append(last)
        asides = [carried.unload(call.get("call_id") or "") for call in self._items[start:end]]
        if not self._config.returns_asides:
            asides = [(call_id, carried.Aside()) for call_id, _ in asides]
        if self._config.signs_calls and not any(aside for _, aside in asides):
            asides[0] = (asides[0][0], carried.STAND_IN)
        pairs = zip(self._items[start:end], asides, strict=True)
        last["tool_calls"] = [_tool_call(call, call_id, aside) for call, (call_id, aside) in pairs]
        if signatures := [one for _, aside in asides for one in aside.reasoning_details or ()]:
            last["reasoning_details"] = signatures
        pictures: list[Json] = []
        for n in range(start, end):
            if n in self._outputs:
                pictures += self._output(self._items[self._outputs[n]])
        if pictures:
            # A tool's message is text for nearly every server.
            self._out.append({"role": "user", "content": pictures})

    def _output(self, item: Json) -> list[Json]:
        output = item.get("output")
        call_id, _ = carried.unload(item.get("call_id") or "")
        self._out.append({"role": "tool", "tool_call_id": call_id, "content": _text(output)})
        return _pictures(output, self._config)

    def _stray_output(self, item: Json) -> None:
        """An output whose call is not in the context, which servers refuse as such. What answers a call a second time
        says nothing new.
        """
        if item.get("call_id") in self._calls_made:
            return
        text = _text(item.get("output"))
        self._out.append({"role": "user", "content": f"Output of an earlier function call:\n{text}"})


def _tool_call(item: Json, call_id: str, aside: carried.Aside) -> Json:
    """A call as its server made it; ``aside``: what came with it."""
    named = {"name": item.get("name") or "", "arguments": object_text(item.get("arguments"))}
    made = {"id": call_id, "type": "function", "function": named}
    return {**made, "extra_content": aside.extra_content} if aside.extra_content else made


def object_text(arguments: Any) -> str:
    """``arguments`` as the text of a JSON object: as it is when it is one, else wrapped as ``{"_raw": …}``.

    Servers parse it for their templates and answer 500 when they cannot, which would end a conversation for
    good because a model once wrote a call badly.
    """
    if isinstance(arguments, dict):
        return compact(arguments)
    if is_blank(arguments) or not isinstance(arguments, str):
        return NO_ARGUMENTS
    text = arguments
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return compact({"_raw": text})
    return text


# Content parts.


def _parts(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return [cast(Json, part) for part in cast(list[Any], content) if isinstance(part, dict)]
    return []


def _part_text(part: Json) -> str:
    """The text of a part; empty when it has none."""
    kind = part.get("type", "")
    text: Any = part.get(_TEXT_FIELD.get(kind, ""))
    return text if isinstance(text, str) else ""


def _text(content: Any) -> str:
    """All text of some content. An answer's parts follow each other directly; parts of input are set on lines."""
    parts = _parts(content)
    texts = [text for part in parts if (text := _part_text(part))]
    answer = len(texts) > 1 and all(part.get("type") in ("output_text", "refusal") for part in parts)
    return ("" if answer else "\n").join(texts)


def _content(content: Any, config: ChatConfig) -> str | list[Json]:
    """What a user says: plain text, as long as it is nothing else, because not every template takes a list."""
    parts = _parts(content)
    if not config.supports_images or not any(_picture(part, config) for part in parts):
        return _text(content)
    return [shown for part in parts for shown in _to_part(part, config)]


def _to_part(part: Json, config: ChatConfig) -> Iterable[Json]:
    if picture := _picture(part, config):
        return (picture,)
    text = _part_text(part)
    return ({"type": "text", "text": text},) if text else ()


def _pictures(content: Any, config: ChatConfig) -> list[Json]:
    return [picture for part in _parts(content) if (picture := _picture(part, config))]


def _picture(part: Json, config: ChatConfig) -> Json | None:
    url = part.get("image_url")
    if not config.supports_images or part.get("type") != "input_image" or not isinstance(url, str):
        return None
    detail = part.get("detail")
    # ``original`` is newer than chat completions.
    known = {"detail": detail} if detail in ("low", "high", "auto") else {}
    return {"type": "image_url", "image_url": {"url": url, **known}}
