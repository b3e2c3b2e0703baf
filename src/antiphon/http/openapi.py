"""``/openapi.json``: the route table and the wire types, written out as an OpenAPI document."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon import __version__
from antiphon.http.exchange import Exchange
from antiphon.http.websocket.socket import METHOD as WEBSOCKET
from antiphon.wire import Json
from antiphon.wire.errors import ErrorResponse
from antiphon.wire.request import CreateRequest

if TYPE_CHECKING:
    from antiphon.http.sse import Pulse


async def document(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /openapi.json``."""
    await exchange.reply(_document())


@functools.cache
def _document() -> Json:
    from antiphon.http.app import ROUTES  # the table names this module's handler

    # Where there is no body, any type does.
    bodies = [route.body or ErrorResponse for route in ROUTES]
    (failure, *told), schemas = msgspec.json.schema_components(
        [ErrorResponse, *(route.answer for route in ROUTES), *bodies], ref_template="#/components/schemas/{name}"
    )
    good, asked = told[: len(ROUTES)], told[len(ROUTES) :]
    paths: dict[str, dict[str, Json]] = {}
    for route, answer, request in zip(ROUTES, good, asked, strict=True):
        if route.method == WEBSOCKET:
            continue  # OpenAPI has no word for it
        path = route.path.replace(":path}", "}")
        operation: Json = {
            "summary": (route.handler.__doc__ or "").strip().splitlines()[0],
            "operationId": route.handler.__name__,
            "parameters": [
                *(_parameter(name, "path") for name in route.pattern.groupindex),
                *(_parameter(name, "query") for name in route.query),
            ],
            "responses": {"200": _json(answer), "default": _json(failure, "What went wrong")},
            "security": [{"key": []}, {}] if path.startswith(("/v1/", "/antiphon/")) else [],
        }
        if route.body is not None:
            operation["requestBody"] = {"required": True, "content": _json(request)["content"]}
        if route.body is CreateRequest:
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Antiphon", "version": __version__, "description": "A self-hosted Responses API."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _parameter(name: str, place: str) -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


def _json(schema: Any, description: str = "OK") -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
