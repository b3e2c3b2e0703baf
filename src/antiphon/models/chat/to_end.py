"""Answers that are held to a JSON schema come to their end within their tokens, whatever the model repeats.

Tokens are kept back for that. Where an answer breaks off without them, it is gone on with under a grammar of what is
missing, and again with what that left; the server has read it already.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec

from antiphon.models import Delta, Finish, Prompt, Text
from antiphon.models.answers import fits_format
from antiphon.models.chat import closing, json_grammar
from antiphon.models.chat.choice import Batches, Open
from antiphon.models.chat.shortest import Endless
from antiphon.wire import Json
from antiphon.wire.errors import ApiError

_SHARE_MAX: Final = 2
"""No more than this part of the tokens is kept back."""
_TIMES_MAX: Final = 3
"""How often an answer is gone on with."""


@asynccontextmanager
async def sample_to_end(open: Open, prompt: Prompt, schema: Json) -> AsyncGenerator[Batches]:
    """Sample once; see ``Model.sample``. The prompt has a limit.

    Args:
        schema: what the answer is held to.
    """
    tokens = prompt.max_output_tokens or 0
    try:
        kept = min(closing.tokens_for_end(schema), tokens // _SHARE_MAX)
    except Endless:
        kept = 0
    async with AsyncExitStack() as stack:
        first = msgspec.structs.replace(prompt, max_output_tokens=tokens - kept)
        batches = await stack.enter_async_context(open(first, ""))
        yield _read_to_end(stack, open, prompt, schema, batches) if kept else batches


async def _read_to_end(
    stack: AsyncExitStack, open: Open, prompt: Prompt, schema: Json, batches: Batches
) -> AsyncGenerator[Sequence[Delta]]:
    written = ""
    end: Finish | None = None
    for times in range(_TIMES_MAX + 1):
        try:
            async for batch in batches:
                written += "".join(delta.text for delta in batch if isinstance(delta, Text))
                if isinstance(last := batch[-1], Finish):
                    end = _join(prompt, written, end, last)
                    batch = batch[:-1]
                if batch:
                    yield batch
            if end is None or end.reason != "length" or times == _TIMES_MAX:
                break
            await stack.aclose()
            rest = _go_on(prompt, schema, written, end)
            if rest is None:
                break
            batches = await stack.enter_async_context(open(rest, ""))
        except ApiError:
            if end is None:
                raise
            break
    if end is not None:
        yield [end]


def _go_on(prompt: Prompt, schema: Json, written: str, cut: Finish) -> Prompt | None:
    """What is asked for behind what was written; None where nothing can be."""
    if cut.usage is None:
        return None
    try:
        parts, tokens = closing.find_end(schema, written, (prompt.max_output_tokens or 0) - cut.usage.output)
    except Endless:
        return None
    if not parts or tokens < 1:
        return None
    grammar = {"grammar": json_grammar.sequence(parts)}
    return msgspec.structs.replace(prompt, prefix=written, max_output_tokens=tokens, extra=prompt.extra | grammar)


def _join(prompt: Prompt, written: str, before: Finish | None, last: Finish) -> Finish:
    """The end of all samples so far. The prompt was read once: what is read again is not counted."""
    reason, usage = last.reason, last.usage
    if reason == "length" or (reason == "stop" and before is not None):
        # Its last token may be the last that it had; and what is gone on with need not fit.
        reason = "stop" if fits_format(prompt.format, written) else "length"
    if before is None:
        return msgspec.structs.replace(last, reason=reason)
    if before.usage is not None and usage is not None:
        usage = msgspec.structs.replace(before.usage, output=before.usage.output + usage.output)
    return Finish(reason, usage or before.usage, before.helps)
