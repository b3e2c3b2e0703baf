"""``Form``: the shape an answer must have, as a schema for the server and as a reader of what comes back.

A shape is a Pydantic model, a dataclass, a ``TypedDict``, any other type that Pydantic can validate (``list[Point]``,
``Literal["yes", "no"]``, ``Cat | Dog`` …), or a JSON schema as a dict. An answer must be a JSON object; a type that is
none travels in an object with the one key ``value``, and comes out of it again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import jsonschema_rs
import pydantic
from openai import Omit
from typing_extensions import TypeVar

from antiphon.client.runs.tighten import tightened
from antiphon.client.sdk.typed import admitted

T = TypeVar("T", default=Any)

Shape: TypeAlias = Any
"""A type, or a JSON schema as a mapping."""

ShapeOf: TypeAlias = type[T] | Mapping[str, Any] | Omit | None
"""The same as a caller gives it, or nothing; the answer is read as a ``T``."""

VALUE: Final = "value"
"""The key under which an answer that is no object travels."""

NAME_CHARS_MAX: Final = 64


class WrongShape(ValueError):
    """An answer that breaks the JSON schema it was asked to have. (Types raise ``pydantic.ValidationError``.)"""


@dataclass(frozen=True)
class Form:
    """A shape, ready for use.

    Attributes:
        format: ``text.format`` of a request: ``{"type": "json_schema", "name", "schema", "strict"}``. ``strict`` unless
            the schema needs what the strict subset does not have, such as keys that are not known in advance.
        read: JSON text in, the value out. Raises ``pydantic.ValidationError`` or, for a JSON schema, ``WrongShape``.
    """

    format: dict[str, Any]
    read: Callable[[str], Any]


def form_of(shape: Shape) -> Form:
    """The form of a shape.

    Raises:
        TypeError: no schema can be made of it.
    """
    if isinstance(shape, Mapping):
        return _of_schema(cast("Mapping[str, Any]", shape))
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(admitted(shape))
        schema = adapter.json_schema()
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"Unable to make a JSON schema of {shape!r} for text_format: {error.message}") from error
    name = getattr(shape, "__name__", None) or str(shape)
    if _is_object(schema):
        return _form(name, schema, adapter.validate_json)
    wrapped = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE], "additionalProperties": False}
    if definitions := schema.pop("$defs", None):
        wrapped["$defs"] = definitions
    return _form(name, wrapped, lambda said: adapter.validate_python(_unwrapped(said)))


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Whether what it describes is an object; a recursive type's schema is a reference to one of its definitions."""
    if "$ref" in schema:
        return _is_object(schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}))
    return schema.get("type") == "object"


def _unwrapped(said: str) -> Any:
    members = pydantic.TypeAdapter(dict[str, Any]).validate_json(said)
    return members.get(VALUE)


def _of_schema(schema: Mapping[str, Any]) -> Form:
    if schema.get("type") == "json_schema" and isinstance(schema.get("schema"), Mapping):
        given = dict(schema)
        return Form({"name": "answer", **given}, _reader(given["schema"]))
    return _form(str(schema.get("title") or "answer"), dict(schema), _reader(schema))


def _reader(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    validator = jsonschema_rs.validator_for(dict(schema))

    def read(said: str) -> Any:
        try:
            value = json.loads(said)
            validator.validate(value)
        except (ValueError, jsonschema_rs.ValidationError) as error:
            text = getattr(error, "message", str(error))
            raise WrongShape(f"The answer does not have the shape that was asked for: {text}") from error
        return value

    return read


def _form(name: str, schema: dict[str, Any], read: Callable[[str], Any]) -> Form:
    schema, strict = tightened(schema)
    named = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:NAME_CHARS_MAX] or "answer"
    return Form({"type": "json_schema", "name": named, "schema": schema, "strict": strict}, read)
