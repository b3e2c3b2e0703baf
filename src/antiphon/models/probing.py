"""What a model says of a prompt when it answers with one token."""

from __future__ import annotations

import msgspec

from antiphon.models import PROBED, Finish, Model, Prompt


async def probe(model: Model, prompt: Prompt) -> int | None:
    """How many tokens the prompt has by the usage that an answer of one token reports; None where it reports none. What
    that costs is put down in ``PROBED``.

    Raises:
        antiphon.models.ContextTooLong: the prompt does not fit.
        antiphon.wire.errors.ApiError: the model failed.
    """
    async with model.sample(msgspec.structs.replace(prompt, max_output_tokens=1)) as batches:
        async for batch in batches:
            if isinstance(finish := batch[-1], Finish) and finish.usage is not None:
                if (probed := PROBED.get()) is not None:
                    probed.append(finish.usage)
                return finish.usage.input
    return None
