"""The handlers of ``/v1/models`` and of the server's own health."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from antiphon.http.exchange import Exchange
from antiphon.models import Roster
from antiphon.models.roster import not_found
from antiphon.wire.catalogue import CatalogueEntry, ModelCatalogue, catalogue_entry
from antiphon.wire.errors import NotFound, Unavailable
from antiphon.wire.lists import Health, Model, ModelList

READY_S: Final = 0.8
"""How long the model may take to say that it is there: whoever asks wants to know it now."""


async def list_models(exchange: Exchange) -> None:
    """``GET /v1/models``; agents that say their ``client_version`` are told more of each."""
    names = await exchange.engine.roster.names()
    listed = [Model(name) for name in names]
    if dict(exchange.query).get("client_version"):
        await exchange.reply(ModelCatalogue(listed, await _describe(exchange.engine.roster, names)))
    else:
        await exchange.reply(ModelList(listed))


async def _describe(roster: Roster, names: Sequence[str]) -> list[CatalogueEntry]:
    models = [await roster.find(name) for name in names]
    return [
        catalogue_entry(name, place, model.context_tokens, sees=model.supports_images)
        for place, (name, model) in enumerate(zip(names, models, strict=True), start=1)
    ]


async def retrieve_model(exchange: Exchange) -> None:
    """``GET /v1/models/{model}``."""
    name = exchange.params["model"]
    if name not in await exchange.engine.roster.names():
        error = not_found(name)
        raise NotFound(error.message, code=error.code, param=error.param)
    await exchange.reply(Model(name))


async def health(exchange: Exchange) -> None:
    """``GET /health``: the process answers."""
    await exchange.reply(Health("ok"))


async def ready(exchange: Exchange) -> None:
    """``GET /readyz``: a request would find a model."""
    try:
        async with asyncio.timeout(READY_S):
            is_ready = await exchange.engine.roster.ready()
    except TimeoutError:
        is_ready = False
    if not is_ready:
        raise Unavailable("The model is not ready.", code="model_not_ready")
    await exchange.reply(Health("ready"))
