"""Request -> Plan: every default, alias, limit and refusal of ``POST /responses``, once.

Pure: the clock and the ids are passed in, so that one body gives one plan. ``wire.request`` says what a body may hold,
``wire.items`` what an item becomes, ``tools.selection`` what the model may call; here is what the members mean
together.

Source: the API's reference and its error codes. Where this server refuses what the API documents, the text says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

import msgspec

from antiphon.models import Prompt, TextFormat
from antiphon.tools.selection import read_choice, toolset
from antiphon.tools.specs import flat, flat_choice
from antiphon.tools.toolbox import Toolbox
from antiphon.tools.unknown import checkable, find_ignored, find_ignored_of_items
from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.items import Ids, content_texts, empty_input_error, expand_short_form, normal
from antiphon.wire.request import CreateRequest, PromptCacheOptions, conversation_id
from antiphon.wire.response import Response
from antiphon.wire.schema import refuse_unusable
from antiphon.wire.validation import IGNORED_MAX, check, find_undocumented, missing, plain, too_long, too_many
from antiphon.wire.values import TEXT_CHARS_MAX, JsonObjectFormat, JsonSchemaFormat

__all__ = ["Defaults", "Ids", "Plan", "plan"]

_PRIORITIES: Final = {"soonest": 0, "2h": -1, "8h": -2}
"""Of ``background_options.completion_window``: a wider window lets others go first, and promises no time."""
OFFICIAL_OUTPUT_TOKENS_MIN: Final = 16
LOGPROBS: Final = "message.output_text.logprobs"
ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the server's configuration decides about requests.

    Attributes:
        strict: whether an undocumented member is an error; else it is ignored and listed.
        model: the model of a request that names none; None makes the name mandatory.
        input_chars_max: bound on each text of the input, in characters.
        items_max: bound on the number of input items.
        temperature, top_p: what a response says of them when the request gives none.
        toolbox: the tools that models may call here.
    """

    strict: bool = False
    model: str | None = None
    input_chars_max: int = TEXT_CHARS_MAX
    items_max: int = 10_000
    temperature: float = 1.0
    top_p: float = 1.0
    toolbox: Toolbox = Toolbox()


class Extra(msgspec.Struct, frozen=True):
    """What a request in another dialect has beside what this API has; bounds of its own hold there.

    Attributes:
        known: the names of those that the server of every model knows, because it speaks that dialect.
    """

    members: Json
    known: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request.

    Attributes:
        response: the template: ``in_progress``, every echo filled, no output.
        prompt: what the model is asked; ``items`` are this request's own, without the history in front.
        input: this request's items in normal form, each with an id: what is stored and listed.
        generate: whether the model is asked; else the response only prepares what continues it.
        include: the optional data that the caller wants to see.
        obfuscate: whether stream deltas are padded.
        ignored: JSON paths of undocumented members that were passed over, those in ``prompt.extra`` too: see
            ``offer_extra``.
        conversation_id: the conversation that the response continues, and that its items are added to.
        background: whether it runs in the background.
        priority: of those that wait, the higher come first: 0 as soon as there is room, less for a later window.
        compacts: whether the response is nothing but a compaction of its context.
        compact_threshold: how many tokens of context are compacted in the middle of the response; 0 leaves that to the
            server, None for never.
        tools: the request's tools that this server runs, whole.
        known: the members of ``prompt.extra`` that every model is given.
    """

    response: Response
    prompt: Prompt
    stream: bool
    generate: bool
    include: frozenset[str]
    obfuscate: bool
    ignored: tuple[str, ...]
    priority: int = 0
    tools: tuple[Json, ...] = ()
    compacts: bool = False
    compact_threshold: int | None = None
    known: tuple[str, ...] = ()

    @property
    def input(self) -> tuple[Json, ...]:
        """The request's own items."""
        return self.prompt.items

    @property
    def store(self) -> bool:
        """Whether the response is kept."""
        return self.response.store

    @property
    def background(self) -> bool:
        """Whether its caller does not wait for it."""
        return self.response.background

    @property
    def previous_response_id(self) -> Id | None:
        """The response that it continues."""
        return self.response.previous_response_id

    @property
    def conversation_id(self) -> Id | None:
        """The conversation that it continues, and that its items are added to."""
        return None if self.response.conversation is None else self.response.conversation["id"]

    def offer_extra(self, accepts: Collection[str]) -> Plan:
        """The same for a model that accepts those undocumented members of the request."""
        if not self.prompt.extra:
            return self
        extra = {name: value for name, value in self.prompt.extra.items() if name in accepts or name in self.known}
        return msgspec.structs.replace(
            self,
            prompt=msgspec.structs.replace(self.prompt, extra=extra),
            ignored=tuple(path for path in self.ignored if path not in extra),
        )

    def settle_tools(self, settled: Mapping[int, Json]) -> Plan:
        """The same with members that ``tools`` have settled of themselves, by the place of each among the request's."""
        if not any(settled.values()):
            return self
        echo = [tool | settled.get(place, {}) for place, tool in enumerate(self.response.tools)]
        tools = tuple(tool | more for tool, more in zip(self.tools, settled.values(), strict=True))
        return msgspec.structs.replace(self, response=msgspec.structs.replace(self.response, tools=echo), tools=tools)

    def with_input(self, items: tuple[Json, ...]) -> Plan:
        """The same with other items of its own."""
        return msgspec.structs.replace(self, prompt=msgspec.structs.replace(self.prompt, items=items))


def plan(
    body: object, *, defaults: Defaults, ids: Ids, now: int, generate: bool = True, extra: Extra | None = None
) -> Plan:
    """What to do for ``body``, the decoded JSON of a create request.

    Args:
        ids: makes a fresh id of a prefix; called for the response first, then for items in order.
        now: Unix seconds.
        generate: False for a request that only prepares, which may be empty.
        extra: members that are no part of this API; None for a request in this API's own form.

    Raises:
        InvalidRequest: the first thing wrong, with the official code and the JSON path.
    """
    raw = _canonical(body, defaults)
    _refuse_missing(raw)
    _refuse_long_input(raw, defaults)
    request, ignored = check(_drop_unknown_tools(raw, defaults), CreateRequest, strict=defaults.strict)
    _refuse_conflicts(request)
    if defaults.strict and extra is None:
        _refuse_small_bound(request)
    _refuse_unsupported(request)
    conversation_id(request)
    id = ids("resp")
    items = _items(raw, ids, defaults)
    if not items and raw.get("input") == "" and not defaults.strict and not _continues(request):
        # What clients send to see whether anybody is there.
        items = normal([{"type": "message", "role": "user", "content": ""}], ids, chars_max=0)
    if generate:
        _refuse_empty(request, items)
    response, prompt = _answer(request, raw, items, id, now, defaults)
    beside = {**(find_undocumented(raw, CreateRequest) if ignored else {}), **(extra.members if extra else {})}
    if beside:
        prompt = msgspec.structs.replace(prompt, extra=beside)
    options = request.stream_options
    window = request.background_options and request.background_options.completion_window
    return Plan(
        response=response,
        prompt=prompt,
        stream=bool(request.stream),
        generate=generate,
        include=frozenset(request.include or ()),
        obfuscate=options is None or options.include_obfuscation is not False,
        ignored=tuple(dict.fromkeys((*ignored, *map(plain, beside), *_find_ignored_tools(raw, items, defaults)))),
        priority=_PRIORITIES[window] if window else 0,
        tools=tuple(tool for tool in raw.get("tools", ()) if defaults.toolbox.serves(tool["type"])),
        compacts=bool(items) and items[-1]["type"] == "compaction_trigger",
        compact_threshold=_threshold(request),
        known=extra.known if extra else (),
    )


# --- the body's one form ---------------------------------------------------------------------------------------------


def _canonical(body: object, defaults: Defaults) -> Json:
    """The body without its nulls and short forms. ``null`` means absent, but for ``model`` and ``input``."""
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    given = cast(Json, body)
    raw = {key: value for key, value in given.items() if value is not None or key in ("model", "input")}
    if "model" not in raw and defaults.model is not None:
        raw["model"] = defaults.model
    for key, canonical in _CANONICAL.items():
        if key in raw:
            raw[key] = canonical(raw[key])
    return raw


def _input_form(value: Any) -> Any:
    if isinstance(value, dict):
        return [expand_short_form(value)]
    return [expand_short_form(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _tools_form(value: Any) -> Any:
    return [flat(tool) for tool in cast("list[Any]", value)] if isinstance(value, list) else value


_CANONICAL: Final = {"input": _input_form, "tools": _tools_form, "tool_choice": flat_choice}


def _drop_unknown_tools(raw: Json, defaults: Defaults) -> Json:
    """The body as it is checked."""
    tools: Any = raw.get("tools")
    if not isinstance(tools, list):
        return raw
    return {**raw, "tools": checkable(cast("list[Any]", tools), defaults.toolbox, strict=defaults.strict)}


def _find_ignored_tools(raw: Json, items: Sequence[Json], defaults: Defaults) -> tuple[str, ...]:
    """The tools that are accepted, and that no model is offered here.

    Raises:
        InvalidRequest: an item brought along what no document knows, and the server is strict.
    """
    named = (
        *find_ignored(raw.get("tools", ()), defaults.toolbox),
        *find_ignored_of_items(items, defaults.toolbox, strict=defaults.strict),
    )
    return tuple(map(plain, islice(named, IGNORED_MAX)))


def _items(raw: Json, ids: Ids, defaults: Defaults) -> tuple[Json, ...]:
    given: str | list[Json] = raw.get("input", "")
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}] if given else []
    return normal(given, ids, chars_max=defaults.input_chars_max)


# --- refusals --------------------------------------------------------------------------------------------------------

_MESSAGES = (
    "Unsupported parameter: 'messages'. In the Responses API, this parameter has moved to 'input'. "
    "Try again with the new parameter. See the API documentation for more information: "
    "https://platform.openai.com/docs/api-reference/responses/create."
)
_SOURCES: Final = ("previous_response_id", "conversation", "prompt")


def _refuse_missing(raw: Json) -> None:
    if "model" not in raw:
        raise missing(("model",)).error()
    if "messages" in raw:
        raise InvalidRequest(_MESSAGES, code="unsupported_parameter", param="messages")
    if "input" not in raw and not any(source in raw for source in _SOURCES):
        raise missing(("input",)).error()


def _refuse_long_input(raw: Json, defaults: Defaults) -> None:
    given = raw.get("input")
    if isinstance(given, str) and len(given) > defaults.input_chars_max:
        raise too_long(("input",), len(given), defaults.input_chars_max).error()
    if isinstance(given, list):
        count = len(cast("list[Any]", given))
        if count > defaults.items_max:
            raise too_many(("input",), count, defaults.items_max).error()


def _refuse_conflicts(request: CreateRequest) -> None:
    if request.previous_response_id is not None and request.conversation is not None:
        text = (
            "Mutually exclusive parameters. Ensure you are only providing one of: "
            "'previous_response_id' or 'conversation'."
        )
        raise InvalidRequest(text, code="mutually_exclusive_parameters", param="previous_response_id")
    if request.stream_options is not None and not request.stream:
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(text, code="invalid_value", param="stream_options")
    reasoning, text = request.reasoning, request.text
    _refuse_both("reasoning_effort", request.reasoning_effort, "reasoning.effort", reasoning and reasoning.effort)
    _refuse_both("verbosity", request.verbosity, "text.verbosity", text and text.verbosity)


def _refuse_both(alias: str, given: object, name: str, value: object) -> None:
    if given is not None and value is not None and given != value:
        text = f"Mutually exclusive parameters. '{alias}' and '{name}' differ; provide one of them."
        raise InvalidRequest(text, code="mutually_exclusive_parameters", param=alias)


_UNSERVED: Final = {
    "prompt": ("unsupported_parameter", "Unsupported parameter: 'prompt'. This server keeps no hosted prompts."),
    "multi_agent": ("unsupported_parameter", "Unsupported parameter: 'multi_agent'. One request runs one agent here."),
}
"""What the API documents and this server does not do: code and text by member."""


def _refuse_unsupported(request: CreateRequest) -> None:
    for name, (code, text) in _UNSERVED.items():
        if getattr(request, name) not in (None, False):
            raise InvalidRequest(text, code=code, param=name)
    window = request.background_options and request.background_options.completion_window
    if window in ("2h", "8h") and (request.stream or not request.background):
        text = f"Invalid value: '{window}'. This completion window needs 'background' to be true, and no 'stream'."
        raise InvalidRequest(text, code="invalid_value", param="background_options.completion_window")


def _threshold(request: CreateRequest) -> int | None:
    given = request.context_management
    return None if given is None else given[0].compact_threshold or 0


def _refuse_empty(request: CreateRequest, items: Sequence[Json]) -> None:
    if not items and not _continues(request):
        raise empty_input_error()


def _continues(request: CreateRequest) -> bool:
    return request.previous_response_id is not None or request.conversation is not None


def _refuse_small_bound(request: CreateRequest) -> None:
    """What the official API asks for; clients that probe a server ask for one token."""
    bound = request.max_output_tokens
    if bound is not None and bound < OFFICIAL_OUTPUT_TOKENS_MIN:
        text = (
            "Invalid 'max_output_tokens': integer below minimum value. "
            f"Expected a value >= {OFFICIAL_OUTPUT_TOKENS_MIN}, but got {bound} instead."
        )
        raise InvalidRequest(text, code="integer_below_min_value", param="max_output_tokens")


# --- the plan's parts ------------------------------------------------------------------------------------------------


def _answer(
    request: CreateRequest, raw: Json, items: tuple[Json, ...], id: Id, now: int, defaults: Defaults
) -> tuple[Response, Prompt]:
    """The response's template and the prompt, which share most of their values."""
    offered = toolset(request.tools or (), raw.get("tools", ()), items, defaults.toolbox)
    choice = read_choice(request.tool_choice, offered)
    format, format_echo = _format(request, items)
    verbosity = request.verbosity or (request.text and request.text.verbosity) or None
    reasoning = _reasoning(request)
    prompt = Prompt(
        items=items,
        instructions=request.instructions,
        functions=offered.offers.functions,
        tool_choice=choice,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        format=format,
        verbosity=verbosity,
        temperature=request.temperature,
        top_p=request.top_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        max_output_tokens=request.max_output_tokens,
        top_logprobs=(request.top_logprobs or 0) if LOGPROBS in (request.include or ()) else None,
        effort=reasoning["effort"],
        user=request.user,
        streamed=bool(request.stream or request.background),
    )
    response = Response(
        id=id,
        created_at=now,
        background=bool(request.background),
        frequency_penalty=prompt.frequency_penalty,
        instructions=prompt.instructions,
        max_output_tokens=prompt.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        model=request.model,
        parallel_tool_calls=prompt.parallel_tool_calls,
        presence_penalty=prompt.presence_penalty,
        conversation=_conversation_echo(request),
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        prompt_cache_retention=_retention(request.prompt_cache_retention),
        reasoning=reasoning,
        safety_identifier=request.safety_identifier,
        store=request.store is not False,
        temperature=defaults.temperature if request.temperature is None else request.temperature,
        text={"format": format_echo, "verbosity": verbosity or "medium"},
        tool_choice=raw.get("tool_choice", "auto"),
        tools=offered.echo,
        top_logprobs=request.top_logprobs or 0,
        top_p=defaults.top_p if request.top_p is None else request.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
    )
    _echo_optional(response, request)
    return response, prompt


def _conversation_echo(request: CreateRequest) -> Json | None:
    id = conversation_id(request)
    return None if id is None else {"id": id}


def _retention(value: str | None) -> str | None:
    return "in_memory" if value == "in-memory" else value  # The hyphen is how SDKs before 2.34 spelled it.


def _echo_optional(response: Response, request: CreateRequest) -> None:
    """The members that a response shows only when the request had them."""
    if request.image is not None:
        # ``auto`` is for the server to decide, and it never compresses.
        response.image = {"context_compression": "disabled"}
    if request.prompt_cache_options is not None:
        response.prompt_cache_options = _cache_options(request.prompt_cache_options)
    if request.access_programs is not None:
        response.access_programs = {"cyber": request.access_programs.cyber}


def _cache_options(options: PromptCacheOptions) -> Json:
    echo: Json = {"mode": options.mode or "implicit", "ttl": options.ttl or "30m"}
    if options.comparison_response_id is not None:
        echo["comparison_response_id"] = options.comparison_response_id
    return echo


def _reasoning(request: CreateRequest) -> Json:
    """``{effort, summary}`` always; ``mode`` and ``context`` when given."""
    given = request.reasoning
    if given is None:
        return {"effort": request.reasoning_effort, "summary": None}
    echo: Json = {
        "effort": given.effort or request.reasoning_effort,
        "summary": given.summary or given.generate_summary,
    }
    if given.mode is not None:
        echo["mode"] = given.mode
    if given.context is not None:
        echo["context"] = given.context
    return echo


def _format(request: CreateRequest, items: Sequence[Json]) -> tuple[TextFormat, Json]:
    """``text.format`` for the model, and as the response shows it."""
    match request.text and request.text.format:
        case JsonSchemaFormat(name=name, schema=schema, description=description, strict=strict):
            refuse_unusable(name, schema, strict=bool(strict), param="text.format.schema")
            echo: Json = {"type": "json_schema", "name": name, "description": description, "schema": schema}
            return TextFormat("json_schema", name, schema, bool(strict)), {**echo, "strict": bool(strict)}
        case JsonObjectFormat():
            _require_json_mention(request, items)
            return TextFormat("json_object"), {"type": "json_object"}
        case _:
            return TextFormat(), {"type": "text"}


def _require_json_mention(request: CreateRequest, items: Sequence[Json]) -> None:
    """A model not told to write JSON may write blanks for ever. What is stored is not known here."""
    if request.previous_response_id is not None or request.conversation is not None:
        return
    if "json" in (request.instructions or "").lower() or any(item["type"] == "item_reference" for item in items):
        return
    contents = (item.get(member) for item in items for member in ("content", "output"))
    if not any("json" in text.lower() for content in contents for text in content_texts(content)):
        text = (
            "Response input messages must contain the word 'json' in some form to use 'text.format' "
            "of type 'json_object'."
        )
        raise InvalidRequest(text, code="invalid_value", param="input")
