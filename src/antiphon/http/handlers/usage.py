"""``GET /v1/usage``, an extension of ours: what the caller's project used, per key and day."""

from __future__ import annotations

from datetime import date

from antiphon.http.exchange import Exchange
from antiphon.http.sse import ConnectionMonitor
from antiphon.store.keys import Key, Spent
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

DAYS = 30
ROWS_MAX = 1000


async def usage(exchange: Exchange, monitor: ConnectionMonitor) -> None:
    """``GET /v1/usage``: an extension; what the caller's project used, per key and UTC day."""
    query = dict(exchange.query)
    keyring = exchange.engine.keyring
    first = _day(query, "start_date", keyring.day(DAYS - 1))
    last = _day(query, "end_date", keyring.day())
    rows = await exchange.engine.maintenance.usage(exchange.project, first, last)
    key_id = query.get("key_id")
    priced = bool(exchange.engine.config.prices)
    listed = [_row(spent, key, priced) for spent, key in rows if key_id is None or spent.key_id == key_id]
    await exchange.reply({"object": "list", "data": listed[:ROWS_MAX], "has_more": len(listed) > ROWS_MAX})


def _day(query: dict[str, str], name: str, default: str) -> str:
    try:
        return date.fromisoformat(query[name]).isoformat() if name in query else default
    except ValueError as error:
        raise InvalidRequest(
            f"Invalid '{name}': expected a day as YYYY-MM-DD, but got '{query[name]}'.",
            code="invalid_value",
            param=name,
        ) from error


def _row(spent: Spent, key: Key | None, priced: bool) -> Json:
    return {
        "object": "antiphon.usage",
        "date": spent.day,
        "key_id": spent.key_id or None,
        "key_name": key.name if key else None,
        "requests": spent.requests,
        "requests_estimated": spent.estimated,
        "input_tokens": spent.input_tokens,
        "input_tokens_details": {"cached_tokens": spent.cached_tokens},
        "output_tokens": spent.output_tokens,
        "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
        "total_tokens": spent.tokens,
        "cost": spent.cost_micros / 1_000_000 if priced else None,
    }
