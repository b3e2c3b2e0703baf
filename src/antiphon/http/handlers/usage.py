"""``GET /v1/usage``, an extension of ours: what the caller's project used and what that cost, per key and day, per
model or per response.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from antiphon.http.exchange import Exchange
from antiphon.store.keys import ChargeQuery, Key, Spent
from antiphon.wire import Json
from antiphon.wire.errors import InvalidRequest

DAYS = 30
ROWS_MAX = 1000
QUERY: Final = ("start_date", "end_date", "key_id", "group_by", "response_id", "after", "limit")
_GROUPS: Final = ("day", "model", "response")


async def usage(exchange: Exchange) -> None:
    """``GET /v1/usage``: an extension; what the caller's project used, per key and UTC day, model or response."""
    query = dict(exchange.query)
    keyring = exchange.engine.keyring
    chosen = ChargeQuery(
        project=exchange.project,
        first_day=_day(query, "start_date", keyring.day(DAYS - 1)),
        last_day=_day(query, "end_date", keyring.day()),
        key_id=query.get("key_id"),
        response_id=query.get("response_id"),
        after=query.get("after"),
    )
    limit = _limit(query)
    rows = await _rows(exchange, _group(query), chosen, limit)
    await exchange.reply({"object": "list", "data": rows[:limit], "has_more": len(rows) > limit})


async def _rows(exchange: Exchange, group: str, query: ChargeQuery, limit: int) -> list[Json]:
    """The rows, and one more where there is one."""
    maintenance, priced = exchange.engine.maintenance, bool(exchange.engine.config.prices)
    match group:
        case "response":
            return [
                {
                    **_row(charge.spent, key, priced),
                    "response_id": charge.response_id,
                    "model": charge.model,
                    "settled_at": charge.settled_at,
                }
                for charge, key in await maintenance.charges(query, limit + 1)
            ]
        case "model":
            used = await maintenance.usage_of_models(query)
            return [_row(spent, key, priced) | {"model": model} for model, spent, key in used]
        case _:
            days = await maintenance.usage(query.project, query.first_day, query.last_day)
            return [
                _row(spent, key, priced) for spent, key in days if query.key_id is None or spent.key_id == query.key_id
            ]


def _group(query: dict[str, str]) -> str:
    """What a row is about; a response that is asked for by its id is a row of its own."""
    group = query.get("group_by", "response" if "response_id" in query else "day")
    if group not in _GROUPS:
        raise _invalid("group_by", f"expected one of {', '.join(_GROUPS)}", group)
    return group


def _limit(query: dict[str, str]) -> int:
    text = query.get("limit", str(ROWS_MAX))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= ROWS_MAX):
        raise _invalid("limit", f"expected an integer from 1 to {ROWS_MAX}", text)
    return int(text)


def _day(query: dict[str, str], name: str, default: str) -> str:
    try:
        return date.fromisoformat(query[name]).isoformat() if name in query else default
    except ValueError as error:
        raise _invalid(name, "expected a day as YYYY-MM-DD", query[name]) from error


def _invalid(name: str, expected: str, got: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{name}': {expected}, but got '{got}'.", code="invalid_value", param=name)


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
