"""How many tokens a prompt has for the model's own server: by its template and tokenizer where it lends them to us,
else by having it answer with one token and reading what it says of the prompt. Never by a guess, unless told to.

A server that lends them may render a prompt otherwise there than where it answers, or be another one than it looks
like. So the first count of a way that was found out is held against such an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from antiphon.models import ContextTooLong, Model, Prompt
from antiphon.models.chat.body import body
from antiphon.models.chat.config import ChatConfig, Counter
from antiphon.models.chat.template import NoTemplate, load_tokenizer
from antiphon.models.probing import probe
from antiphon.models.tokens import estimate_prompt, shows_images
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, RateLimited, Unavailable, UpstreamTimeout

Ask = Callable[[str, Json], Awaitable[Json]]
"""Posts JSON to a URL and gives the JSON that comes back."""

_RENDERED: Final = (
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)
"""What of a request a template may render; the rest is about sampling."""
_PASSING: Final = (RateLimited, Unavailable, UpstreamTimeout)
"""Errors that say nothing about what a server can do."""


class TokenCounter:
    """Counts for one model; finds out once which way its server knows, where ``config`` does not say.

    Attributes:
        config: what is known of the model, which may become more.
    """

    def __init__(self, config: ChatConfig, ask: Ask, model: Model) -> None:
        self.config = config
        self._root = config.base_url.rstrip("/").removesuffix("/v1")
        self._ask = ask
        self._model = model
        self._found: Counter | None = config.counter

    async def count(self, prompt: Prompt, *, native_calls: bool) -> int:
        """Tokens of the prompt, as its sample would report them; see ``Model.count``."""
        if self._found == "estimate":
            return estimate_prompt(prompt)
        if shows_images(prompt):
            # What an image is worth, a tokenizer does not tell.
            return await self._probe(prompt)
        shown = _select_rendered(body(prompt, self.config, native_calls=native_calls))
        match self._found:
            case "llamacpp":
                return await self._by_llamacpp(shown)
            case "vllm":
                return await self._by_vllm(shown)
            case "tokenizer":
                return await self._by_files_or_probe(prompt, shown)
            case "probe":
                return await self._probe(prompt)
            case None:
                return await self._find_out(prompt, shown)

    async def _find_out(self, prompt: Prompt, shown: Json) -> int:
        found = await self._first_way(shown)
        if found is None:
            tokens = await self._probe(prompt)
            self._found = "probe"
            return tokens
        name, counted = found
        if counted > (self.config.context_tokens or counted):
            return counted
        try:
            reported = await self._probe(prompt)
        except (ContextTooLong, InvalidRequest):
            # It is too long to be answered, or its server says nothing of it: the next prompt may tell.
            return counted
        self._found = name if counted == reported else "probe"
        return reported

    async def _first_way(self, shown: Json) -> tuple[Counter, int] | None:
        ways: tuple[tuple[Counter, Callable[[], Awaitable[int]]], ...] = (
            ("tokenizer", lambda: self._by_files(shown)),
            ("llamacpp", lambda: self._by_llamacpp(shown)),
            ("vllm", lambda: self._by_vllm(shown)),
        )
        for name, count in ways:
            try:
                tokens = await count()
            except _PASSING:
                raise
            except ApiError:
                continue
            return name, tokens
        return None

    async def _by_llamacpp(self, shown: Json) -> int:
        rendered = await self._ask(f"{self._root}/apply-template", shown)
        text = {"content": _member(rendered, "prompt", str), "add_special": True, "parse_special": True}
        return len(_member(await self._ask(f"{self._root}/tokenize", text), "tokens", list))

    async def _by_vllm(self, shown: Json) -> int:
        answer = await self._ask(f"{self._root}/tokenize", {"model": self.config.model, **shown})
        return _member(answer, "count", int)

    async def _by_files(self, shown: Json) -> int:
        if not self.config.tokenizer:
            raise _uncountable(self._model.name)
        try:
            return await asyncio.to_thread(load_tokenizer(self.config.tokenizer).count, shown)
        except NoTemplate as error:
            raise _uncountable(self._model.name) from error

    async def _by_files_or_probe(self, prompt: Prompt, shown: Json) -> int:
        """A template may show one prompt and refuse the next one."""
        try:
            return await self._by_files(shown)
        except InvalidRequest:
            return await self._probe(prompt)

    async def _probe(self, prompt: Prompt) -> int:
        tokens = await probe(self._model, prompt)
        if tokens is None:
            raise _uncountable(self._model.name)
        return tokens


def _select_rendered(whole: Json) -> Json:
    return {name: whole[name] for name in _RENDERED if name in whole}


def _member(answer: Json, name: str, kind: type) -> Any:
    if not isinstance(value := answer.get(name), kind):
        raise _uncountable(name)
    return value


def _uncountable(name: str) -> InvalidRequest:
    text = f"The server of the model {name!r} does not say how many tokens a prompt has."
    return InvalidRequest(text, code="unsupported_operation")
