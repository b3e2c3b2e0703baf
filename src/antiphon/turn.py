"""One turn: sample until the model is finished; bounded.

A prompt that is too long is shortened and tried again where the request allows it (``truncation: auto``). Nothing else
is tried twice once a reader may have seen a part of it.
"""

from __future__ import annotations

import msgspec

from antiphon.assembler import Assembler
from antiphon.context import shorten
from antiphon.log import Log
from antiphon.meter import Watch
from antiphon.models import ContextTooLong, Finish, Model, Prompt, TextFormat
from antiphon.state import State
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest, UpstreamError
from antiphon.wire.schema import violation

SHORTENINGS_MAX = 8
"""How often a prompt is shortened before the request is refused; each time by a quarter or as much as is known."""

_KEEP = 0.75
_ANY_OBJECT: Json = {"type": "object"}


async def take_turn(
    model: Model, prompt: Prompt, assembler: Assembler, log: Log, *, truncate: bool, watch: Watch
) -> Finish:
    """Sample ``prompt`` into items and return how the model finished.

    Raises:
        InvalidRequest: ``context_length_exceeded``.
        antiphon.wire.errors.ApiError: what the model raised.
    """
    for _ in range(SHORTENINGS_MAX if truncate else 1):
        try:
            return await _sample(model, prompt, assembler, log, watch)
        except ContextTooLong as error:
            shorter = shorten(prompt, _share(error)) if truncate and assembler.silent else None
            if shorter is None:
                break
            prompt = shorter
    raise InvalidRequest(
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        code="context_length_exceeded",
        param="input",
    )


def _share(error: ContextTooLong) -> float:
    if error.prompt_tokens and error.context_tokens:
        return min(_KEEP, _KEEP * error.context_tokens / error.prompt_tokens)
    return _KEEP


async def _sample(model: Model, prompt: Prompt, assembler: Assembler, log: Log, watch: Watch) -> Finish:
    watch.ask()
    async with model.sample(prompt) as batches:
        async for batch in batches:
            if not watch.spoke:
                watch.hear()
            assembler.feed(batch)
            await log.flush()
    watch.finish()
    if assembler.finish is None:
        raise UpstreamError("The model's answer ended in the middle.", code="upstream_ended")
    return assembler.finish


def check_answer(prompt: Prompt, state: State) -> None:
    """See that a finished answer is what was asked for: a call where one is required, else the ``text.format``.

    Raises:
        UpstreamError: ``invalid_tool_call``: a call was required and none came. ``invalid_output``: the answer is not
            JSON, or breaks the schema; a refusal is exempt.
    """
    required = prompt.tool_choice.mode == "required"
    if prompt.format.type == "text" and not required:
        return
    output = state.output
    if any(item["type"] == "function_call" for item in output):
        return
    if required:
        raise UpstreamError("The model did not call a function, although it had to.", code="invalid_tool_call")
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    if any(part["type"] == "refusal" for part in parts):
        return
    for text in [part["text"] for part in parts] or [""]:
        _check_text(prompt.format, text)


def _check_text(format: TextFormat, text: str) -> None:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _invalid(f"it is not JSON ({error})") from error
    wrong = violation(format.schema or _ANY_OBJECT, value)
    if wrong is not None:
        raise _invalid(wrong)


def _invalid(why: str) -> UpstreamError:
    return UpstreamError(f"The model's answer does not keep to text.format: {why}.", code="invalid_output")
