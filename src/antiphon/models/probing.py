"""What a model says of a prompt when it answers with one token."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.models import PROBED, Delta, Finish, Model, Prompt, Usage


async def probe(model: Model, prompt: Prompt) -> int | None:
    """How many tokens the prompt has by the usage that an answer of one token reports; None where it reports none. What
    that costs is put down in ``PROBED``.

    Raises:
        antiphon.models.ContextTooLong: the prompt does not fit.
        antiphon.wire.errors.ApiError: the model failed.
    """
    async with model.sample(msgspec.structs.replace(prompt, max_output_tokens=1)) as batches:
        async for batch in batches:
            if (usage := note_usage(batch)) is not None:
                return usage.input
    return None


def note_usage(batch: Sequence[Delta]) -> Usage | None:
    """What a sample that nobody is shown used, if the batch ends it and says so. It is put down in ``PROBED``."""
    finish = batch[-1]
    if not isinstance(finish, Finish) or finish.usage is None:
        return None
    if (probed := PROBED.get()) is not None:
        probed.append(finish.usage)
    return finish.usage
