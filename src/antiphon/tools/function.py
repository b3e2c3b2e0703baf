"""Functions of the caller's: the call is the item, and grows while the model writes it."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.models import Function
from antiphon.tools import SpecInvalid, ToolCall
from antiphon.tools.specs import qualified_name
from antiphon.wire import Json
from antiphon.wire.schema_size import excess
from antiphon.wire.strict import refusal


class FunctionTool:
    """See ``ClientTool``."""

    kinds = ("function",)
    items = ("function_call", "function_call_output")
    live = True

    def functions(self, spec: Json) -> Sequence[Function]:
        """The function itself. ``strict`` left out means: strict if the schema can be. Said outright, it must be.

        Raises:
            SpecInvalid: the parameters are no usable schema.
        """
        name, wanted, parameters = spec["name"], spec.get("strict"), spec.get("parameters")
        strict = bool(wanted)
        if parameters is not None:
            fault = _unusable(parameters)
            loose = fault or refusal(parameters) if wanted is not False else None
            fault = fault or (loose if strict else None)
            if fault:
                text = f"Invalid schema for function '{name}': {fault}"
                raise SpecInvalid(text, "invalid_function_parameters", "parameters")
            strict = wanted is not False and loose is None
        return [Function(qualified_name(spec), spec.get("description"), parameters, strict)]

    def to_items(self, call: ToolCall, spec: Json) -> Sequence[Json]:
        """The call itself, by the name that the caller gave."""
        doc: Json = {"type": "function_call", "call_id": call.call_id, "name": spec.get("name", call.name)}
        if "namespace" in spec:
            doc["namespace"] = spec["namespace"]
        return [{**doc, "arguments": call.arguments}]

    def lower(self, item: Json) -> Sequence[Json]:
        """The item itself, by the name that the model knows."""
        return ({**item, "name": qualified_name(item)},) if item.get("namespace") and "name" in item else (item,)


def _unusable(schema: Json) -> str | None:
    kind = schema.get("type", "object")
    if kind != "object":
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{str(kind)[:64]}\"'."
    if not isinstance(schema.get("properties", {}), dict):
        return "'properties' must be an object."
    return excess(schema)
