"""``/openapi.json``: the route table and the wire types, written out as an OpenAPI document."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from antiphon import __version__
from antiphon.http.route import Route
from antiphon.http.websocket.socket import METHOD as WEBSOCKET
from antiphon.wire import Json
from antiphon.wire.chat import ChatRequest
from antiphon.wire.errors import ErrorResponse
from antiphon.wire.request import CreateRequest


@functools.cache
def describe(routes: tuple[Route, ...]) -> Json:
    """The document of these routes."""
    # Where there is no body, any type does.
    bodies = [route.body or ErrorResponse for route in routes]
    (failure, *shapes), schemas = msgspec.json.schema_components(
        [ErrorResponse, *(route.answer for route in routes), *bodies], ref_template="#/components/schemas/{name}"
    )
    good, asked = shapes[: len(routes)], shapes[len(routes) :]
    paths: dict[str, dict[str, Json]] = {}
    for route, answer, request in zip(routes, good, asked, strict=True):
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
            "responses": {"200": _success(route, answer), "default": _json(failure, "What went wrong")},
            "security": [{"key": []}, {}] if path.startswith(("/v1/", "/antiphon/")) else [],
        }
        if route.body is not None or route.form:
            operation["requestBody"] = {"required": True, "content": _body(route, request)}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Antiphon", "version": __version__, "description": "A self-hosted Responses API."},
        "paths": paths,
        "components": {
            "schemas": {name: _open(schema) for name, schema in schemas.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_PARAMETERS: dict[str, Json] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "starting_after": {"type": "integer", "minimum": 0},
    "stream": {"type": "boolean"},
    "include_obfuscation": {"type": "boolean"},
    "order": {"type": "string", "enum": ["asc", "desc"]},
    "include": {"type": "array", "items": {"type": "string"}},
}
"""The query parameters that are not any text."""
_STREAMS = {"description": "Server-sent events."}


def _parameter(name: str, place: str) -> Json:
    schema = _PARAMETERS.get(name, {"type": "string"}) if place == "query" else {"type": "string"}
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _success(route: Route, answer: Json) -> Json:
    """A good answer, in the media types that it may have."""
    if route.answer is str:
        return {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if route.answer is bytes:
        file = {"schema": {"type": "string", "format": "binary"}}
        return {"description": "OK", "content": {"application/octet-stream": file}}
    described = _json(answer)
    if route.body is CreateRequest or route.body is ChatRequest or "stream" in route.query:
        described["content"]["text/event-stream"] = {"schema": _STREAMS}
    return described


def _body(route: Route, fields: Json) -> Json:
    """A request's body by its media type; a form has its file beside the fields."""
    if not route.form:
        return _json(fields)["content"]
    file: Json = {
        "type": "object",
        "properties": {route.form: {"type": "string", "format": "binary"}},
        "required": [route.form],
    }
    whole = file if route.body is None else {"allOf": [fields, file]}
    return {"multipart/form-data": {"schema": whole}}


def _open(schema: Json) -> Json:
    """The schema of a body as it is read: members that it does not name are accepted, and told in a header."""
    return {name: value for name, value in schema.items() if (name, value) != ("additionalProperties", False)}


def _json(schema: Any, description: str = "OK") -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
