"""The handlers of ``/v1/models`` and of the server's own health."""

from __future__ import annotations

import asyncio
from typing import Final

from antiphon.http.exchange import Exchange
from antiphon.http.sse import Pulse
from antiphon.models.roster import not_found
from antiphon.wire.errors import NotFound, Unavailable
from antiphon.wire.lists import Health, Model, ModelList

READY_S: Final = 0.8
"""How long the model may take to say that it is there: whoever asks wants to know it now."""


async def list_models(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /v1/models``."""
    names = await exchange.engine.roster.names()
    await exchange.reply(ModelList([Model(name) for name in names]))


async def retrieve_model(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /v1/models/{model}``."""
    name = exchange.params["model"]
    if name not in await exchange.engine.roster.names():
        error = not_found(name)
        raise NotFound(error.message, code=error.code, param=error.param)
    await exchange.reply(Model(name))


async def health(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /health``: the process answers."""
    await exchange.reply(Health("ok"))


async def ready(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /readyz``: a request would find a model."""
    try:
        async with asyncio.timeout(READY_S):
            is_ready = await exchange.engine.roster.ready()
    except TimeoutError:
        is_ready = False
    if not is_ready:
        raise Unavailable("The model is not ready.", code="model_not_ready")
    await exchange.reply(Health("ready"))
