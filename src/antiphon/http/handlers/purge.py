"""``POST /antiphon/purge``: how ``antiphon purge`` has the server delete that owns the folder. No part of the API."""

from __future__ import annotations

import hmac

import msgspec

from antiphon.http.auth import bearer_token
from antiphon.http.exchange import Exchange
from antiphon.store import Purge
from antiphon.wire.errors import InvalidRequest, Unauthorized


async def purge(exchange: Exchange) -> None:
    """``POST /antiphon/purge``: for the command ``antiphon purge``, which knows the token in the data folder."""
    _refuse_strangers(exchange)
    try:
        asked = msgspec.convert(await exchange.json(), Purge)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Invalid purge: {error}.", code="invalid_type") from error
    await exchange.reply(await exchange.engine.maintenance.purge(asked))


def _refuse_strangers(exchange: Exchange) -> None:
    token, given = exchange.engine.token, bearer_token(exchange.header(b"authorization")) or ""
    if not token or not hmac.compare_digest(token.encode(), given.encode()):
        raise Unauthorized("Only a process that can read the server's data folder may do this: use antiphon purge.")
