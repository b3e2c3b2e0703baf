"""``/openapi.json``: the route table and the wire types, written out as an OpenAPI document."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon import __version__
from antiphon.http.exchange import Exchange
from antiphon.wire import Json
from antiphon.wire.request import CreateRequest
from antiphon.wire.response import Response

if TYPE_CHECKING:
    from antiphon.http.sse import Pulse


async def document(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /openapi.json``."""
    await exchange.reply(_document())


@functools.cache
def _document() -> Json:
    from antiphon.http import ROUTES  # the table names this module's handler

    (request, response), schemas = msgspec.json.schema_components(
        [CreateRequest, Response], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Json]] = {}
    for route in ROUTES:
        path = route.path.replace(":path}", "}")
        operation: Json = {
            "summary": (route.handler.__doc__ or "").strip().splitlines()[0],
            "operationId": route.handler.__name__,
            "parameters": [_parameter(name) for name in route.pattern.groupindex],
            "responses": {"200": _json(response if path.startswith("/v1/responses") else {})},
            "security": [{"key": []}, {}] if path.startswith("/v1/") else [],
        }
        if route.method == "POST":
            operation["requestBody"] = {"required": True, **_json(request)}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Antiphon", "version": __version__, "description": "A self-hosted Responses API."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _json(schema: Any) -> Json:
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}
