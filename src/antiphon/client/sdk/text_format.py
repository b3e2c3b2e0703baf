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

from antiphon.client.sdk.strict_schema import make_strict
from antiphon.client.sdk.typed_dict import adapt_type

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
class TextFormat:
    """A shape, ready for use.

    Attributes:
        format: ``text.format`` of a request: ``{"type": "json_schema", "name", "schema", "strict"}``. ``strict`` unless
            the schema needs what the strict subset does not have, such as keys that are not known in advance.
        read: JSON text in, the value out. Raises ``pydantic.ValidationError`` or, for a JSON schema, ``WrongShape``.
    """

    format: dict[str, Any]
    read: Callable[[str], Any]


def make_text_format(shape: Shape) -> TextFormat:
    """The form of a shape.

    Raises:
        TypeError: no schema can be made of it.
    """
    if isinstance(shape, Mapping):
        return _from_schema(cast("Mapping[str, Any]", shape))
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(adapt_type(shape))
        schema = adapter.json_schema()
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"Unable to make a JSON schema of {shape!r} for text_format: {error.message}") from error
    name = getattr(shape, "__name__", None) or str(shape)
    if _is_object(schema):
        return _build(name, schema, adapter.validate_json)
    wrapped = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE], "additionalProperties": False}
    if definitions := schema.pop("$defs", None):
        wrapped["$defs"] = definitions
    return _build(name, wrapped, lambda text: adapter.validate_python(_unwrap(text)))


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Whether what it describes is an object; a recursive type's schema is a reference to one of its definitions."""
    if "$ref" in schema:
        return _is_object(schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {}))
    return schema.get("type") == "object"


def _unwrap(text: str) -> Any:
    members = pydantic.TypeAdapter(dict[str, Any]).validate_json(text)
    return members.get(VALUE)


def _from_schema(schema: Mapping[str, Any]) -> TextFormat:
    if schema.get("type") == "json_schema" and isinstance(schema.get("schema"), Mapping):
        given = dict(schema)
        return TextFormat({"name": "answer", **given}, _schema_reader(given["schema"]))
    return _build(str(schema.get("title") or "answer"), dict(schema), _schema_reader(schema))


def _schema_reader(schema: Mapping[str, Any]) -> Callable[[str], Any]:
    validator = jsonschema_rs.validator_for(dict(schema))

    def read(text: str) -> Any:
        try:
            value = json.loads(text)
            validator.validate(value)
        except (ValueError, jsonschema_rs.ValidationError) as error:
            text = getattr(error, "message", str(error))
            raise WrongShape(f"The answer does not have the shape that was asked for: {text}") from error
        return value

    return read


def _build(name: str, schema: dict[str, Any], read: Callable[[str], Any]) -> TextFormat:
    schema, strict = make_strict(schema)
    named = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:NAME_CHARS_MAX] or "answer"
    return TextFormat({"type": "json_schema", "name": named, "schema": schema, "strict": strict}, read)
