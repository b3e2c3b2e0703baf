"""What is known about one model behind one chat-completions server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from antiphon.models import ToolFormat, ToolHelp
from antiphon.models.chat.control_tokens import Choice
from antiphon.wire import Json

ReasoningFormat: TypeAlias = Literal["never", "tags", "opened"]
"""How reasoning shows in the answer's text. ``tags``: perhaps ``<think>…</think>`` in front of it.
``opened``: the template opened the tag in the prompt, so that only ``</think>`` comes. ``never``: the text is
not looked at."""


Counter: TypeAlias = Literal["llamacpp", "vllm", "tokenizer", "probe", "estimate"]
"""``llamacpp`` and ``vllm``: by the endpoints that render and tokenize a prompt. ``tokenizer``: by the files of
``ChatConfig.tokenizer``. ``probe``: an answer of one token says what its prompt had. ``estimate``: by the length of the
text, which is marked as such."""


class ChatConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model. The defaults suit llama-server, vLLM, SGLang, LM Studio and Ollama alike.

    Attributes:
        base_url: where ``/chat/completions`` is found, such as ``http://127.0.0.1:8080/v1``.
        model: the server's own name for the model.
        name: the name shown to callers; ``model`` when empty.
        api_key: sent as a bearer token when not empty. Not in ``repr``, never logged.
        headers: sent with every request.
        supports_images: whether images are shown to it.
        context_tokens: its context window, None when unknown.
        forced_calls: how ``tool_choice: required`` is kept. ``schema``: the answer is held to a JSON schema,
            which every server named above enforces token by token. ``native``: the server's own
            ``tool_choice``, for hosted models.
        grammars: whose way of holding a whole answer to a grammar the server speaks; None when it does not.
        schemas: the field by which the server is told the schema of an answer. ``llguidance``: as a grammar, of
            llama.cpp and models that do not reason; it needs ``supports_prefill``.
        forced_several: whether several calls may be made where one is required and ``parallel_tool_calls`` allows it.
        bounds_schemas: whether what a schema leaves free is bound by the answer's tokens, and an answer that is held to
            one has a limit in any case.
        supports_prefill: whose way of continuing a begun answer the server speaks; None when it cannot.
        counter: how the tokens of a prompt are counted; None to find that out.
        tokenizer: a folder with the model's ``tokenizer.json`` and chat template, or that file; empty for none.
        effort: how reasoning effort is sent: as the field ``reasoning_effort``, to the ``template``, or not
            at all.
        reasoning_format: how reasoning shows in the answer's text.
        text_calls: whether calls written as plain text are recognised.
        tool_help: how much calls are helped.
        tool_format: how functions are shown. ``template``: as ``tools``, by the server's chat template. ``fenced``: in
            words, as JSON lines, and calls as fenced JSON blocks; for templates that show none, or show them badly.
        call_odds: from which odds on that its first token opens a call the model is made to write one, whatever token
            is the likeliest; None to leave that to the model. For ``fenced`` alone, and servers that can go on with a
            begun answer and say the odds of tokens.
        replays_reasoning: whether earlier reasoning is sent back, as ``reasoning_content``; found out where a server
            refuses a prompt without it.
        returns_asides: whether what came with a call is sent back with it (``carried``).
        signs_calls: whether the first of the calls in a message that came without a signature gets the stand-in that
            Google documents for it; found out like that.
        developer_role: whether the server's templates know ``developer``; otherwise it is sent as ``system``.
        one_system: whether all system texts in front are joined into one message; most templates take only
            one.
        late_system_role: the role of a system message that comes after the conversation began. Most templates
            take ``system`` there; those that raise an error need ``user``.
        control_tokens: texts that are not to be read as control tokens in what callers send. ``auto``: those of the
            model's family, told by its name, or of all families; or a list of them; or ``off``.
        max_tokens_field: the field that bounds an answer.
        sampling: fields of sampling that are sent where the request asks for none, such as ``{"temperature": 0.7}``.
        extra: fields laid over every request body, such as ``{"top_k": 20}`` or ``chat_template_kwargs``; null takes a
            field out.
        accepts: members of a request beside the API's own (``extra_body``) that the server knows and is given as they
            are, such as ``["top_k", "min_p", "seed", "stop"]``; others are ignored, and named to the caller.
        connections_max: connections open at once; 0 for no limit.
        connect_s: bound on making a connection.
        idle_s: bound on silence of the server, before its answer and within it.
        line_bytes_max: bound on one line of a stream, and on an answer that is not one.
        answer_bytes_max: bound on a whole answer as it is sent; a model that never ends is cut off.
        error_bytes_max: how much of an error's body is read.
    """

    base_url: str
    model: str
    name: str = ""
    api_key: str = ""
    headers: dict[str, str] = {}
    supports_images: bool = False
    context_tokens: int | None = None
    forced_calls: Literal["schema", "native"] = "schema"
    grammars: Literal["llamacpp", "vllm", "guided"] | None = None
    schemas: Literal["response_format", "guided_json", "llguidance"] = "response_format"
    forced_several: bool = True
    bounds_schemas: bool = False
    supports_prefill: Literal["llamacpp", "vllm"] | None = None
    counter: Counter | None = None
    tokenizer: str = ""
    effort: Literal["field", "template"] | None = None
    reasoning_format: ReasoningFormat = "tags"
    text_calls: bool = True
    tool_help: ToolHelp = "read"
    tool_format: ToolFormat = "template"
    call_odds: float | None = None
    replays_reasoning: bool = False
    returns_asides: bool = True
    signs_calls: bool = False
    developer_role: bool = False
    one_system: bool = True
    late_system_role: Literal["system", "user"] = "system"
    control_tokens: Choice = "auto"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    sampling: Json = {}
    extra: Json = {}
    accepts: Sequence[str] = ()
    connections_max: int = 0
    connect_s: float = 10.0
    idle_s: float = 600.0
    line_bytes_max: int = 16 * 1024 * 1024
    answer_bytes_max: int = 256 * 1024 * 1024
    error_bytes_max: int = 64 * 1024

    def __repr__(self) -> str:
        return f"ChatConfig(model={self.model!r}, name={self.name!r})"

    def __rich_repr__(self) -> Any:
        yield "model", self.model
        yield "name", self.name
