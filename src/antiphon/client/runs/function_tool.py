"""``FunctionTool``: a Python function as a tool that a model can call.

Its schema comes from the signature and the type hints, its words from the docstring (Google, NumPy or reST style), or
from ``Annotated[int, "what it is"]``. What the model sends is validated against the same types before the function is
called; what is wrong is said to the model, so that it can mend it.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import pydantic
from pydantic.json_schema import PydanticJsonSchemaWarning

from antiphon.client.sdk.strict_schema import make_strict
from antiphon.client.sdk.tool_calls import ToolCall
from antiphon.client.sdk.typed_dict import adapt_type
from antiphon.wire.strict import refusal

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_VAR_POSITIONAL: Final = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD: Final = inspect.Parameter.VAR_KEYWORD
_POSITIONAL_ONLY: Final = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD


class ArgumentsRefused(ValueError):
    """A model's arguments do not fit the function. The text is for the model."""


class FunctionTool:
    """A function that a model can call; usable in ``client.run(tools=[…])``, and its ``tool`` in any request.

    Args:
        function: any callable with hints that Pydantic understands: models, dataclasses, ``TypedDict``s, enums,
            ``Literal``, ``Optional``. A parameter without a hint takes anything. It may be a coroutine function.
        name: what the model calls it; its own name if not given.
        description: what the model is told; the docstring without its parameters if not given.
        strict: True to insist on a strict schema, False not to ask for one; by default strict where the schema can be.
            In a strict schema every parameter is required: for one with a default, null means the default.

    Attributes:
        kind: ``"function"``.
        name: see above.
        tool: what goes into a request's ``tools``: ``{"type", "name", "description", "parameters", "strict"}``.

    Raises:
        TypeError: no schema can be made of a parameter, or no strict one although ``strict``.
        ValueError: the name is not 1–64 letters, digits, ``_`` and ``-``.
    """

    kind = "function"

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool | None = None,
    ) -> None:
        self._function = function
        self.name = _tool_name(function, name)
        self._parameters = inspect.signature(function).parameters
        docstring = _Docstring(function)
        self._model, self._fields = _model(self.name, self._parameters, _type_hints(function), docstring)
        self._null_means_default = {
            parameter.name
            for parameter in self._parameters.values()
            if parameter.default is not parameter.empty and not _admits_none(self._model, self._fields[parameter.name])
        }
        parameters, is_strict = self._build_schema(strict)
        self.tool: dict[str, Any] = {
            "type": "function",
            "name": self.name,
            "description": docstring.description if description is None else description,
            "parameters": parameters,
            "strict": is_strict,
        }

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function."""
        call = getattr(self._function, "__call__", None)  # noqa: B004 - an object may be called by a coroutine method
        return inspect.iscoroutinefunction(self._function) or inspect.iscoroutinefunction(call)

    def run(self, call: ToolCall) -> Any:
        """Calls the function with the call's arguments; a coroutine function's coroutine is returned, to be awaited.

        Raises:
            ArgumentsRefused: the arguments do not fit.
        """
        return self(call.input)

    def __call__(self, arguments: str) -> Any:
        """Calls the function with arguments as JSON text; see ``run``."""
        positional, named = self.arguments(arguments)
        return self._function(*positional, **named)

    def arguments(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """Arguments as JSON text, validated and made into what the hints say: positional and named.

        Raises:
            ArgumentsRefused: they are no JSON object, or do not fit.
        """
        try:
            members = json.loads(text or "{}")
            if not isinstance(members, dict):
                raise ArgumentsRefused(f"Invalid arguments for {self.name}: expected a JSON object.")
            sent = cast("dict[str, Any]", members)
            kept = {k: value for k, value in sent.items() if value is not None or k not in self._null_means_default}
            return self._bind(self._model.model_validate(kept))
        except pydantic.ValidationError as error:
            raise ArgumentsRefused(f"Invalid arguments for {self.name}: {_describe_errors(error)}") from error
        except json.JSONDecodeError as error:
            raise ArgumentsRefused(f"Invalid arguments for {self.name}: not JSON: {error}") from error

    def _bind(self, values: pydantic.BaseModel) -> tuple[list[Any], dict[str, Any]]:
        """What was sent, where the function wants it; for the rest its own defaults hold."""
        positional: list[Any] = []
        named: dict[str, Any] = dict(values.model_extra or {})
        starred = any(parameter.kind is _VAR_POSITIONAL for parameter in self._parameters.values())
        for parameter in self._parameters.values():
            field = self._fields[parameter.name]
            if parameter.kind is _VAR_POSITIONAL:
                positional += getattr(values, field)
            elif parameter.kind is _POSITIONAL_ONLY or (starred and parameter.kind is _POSITIONAL_OR_KEYWORD):
                positional.append(getattr(values, field))
            elif field in values.model_fields_set:
                named[parameter.name] = getattr(values, field)
        return positional, named

    def _build_schema(self, strict: bool | None) -> tuple[dict[str, Any], bool]:
        schema = _json_schema(self._model)
        schema.pop("title", None)
        properties = cast("dict[str, dict[str, Any]]", schema.setdefault("properties", {}))
        for shown in properties.values():
            shown.pop("title", None)
        if strict is False:
            return schema, False
        widened = {**schema, "properties": {n: self._allow_null(n, shown) for n, shown in properties.items()}}
        closed, is_strict = make_strict(widened)
        if strict and not is_strict:
            raise TypeError(f"The schema of {self.name} cannot be strict: {refusal(closed)}")
        return (closed, True) if is_strict else (schema, False)

    def _allow_null(self, name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter with a default, which a strict schema must require: null stands for the default."""
        if name not in self._null_means_default:
            return dict(shown)
        inner = {key: value for key, value in shown.items() if key not in ("description", "default")}
        default = f"Null for the default, {json.dumps(shown.get('default'), default=str, ensure_ascii=False)}."
        description = f"{shown['description']} {default}" if "description" in shown else default
        return {"anyOf": [inner, {"type": "null"}], "description": description}


class _Docstring:
    """What a docstring says: of the whole, and of each parameter."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import docstring_parser

        parsed = docstring_parser.parse(inspect.getdoc(_unwrap(function)) or "")
        parts = (parsed.short_description, parsed.long_description)
        self.description = "\n\n".join(part for part in parts if part)
        self.of = {param.arg_name.lstrip("*"): param.description for param in parsed.params if param.description}


def _unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    return _unwrap(function.func) if isinstance(function, functools.partial) else function


def _tool_name(function: Callable[..., Any], name: str | None) -> str:
    bare: Any = _unwrap(function)
    given = name or getattr(bare, "__name__", type(bare).__name__)
    if not _NAME.fullmatch(given):
        raise ValueError(f"{given!r} cannot be a function's name for a model: pass name=, of 1-64 of a-z A-Z 0-9 _ -")
    return given


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    bare: Any = _unwrap(function)
    hinted = bare if inspect.isroutine(bare) else bare.__init__ if inspect.isclass(bare) else bare.__call__
    return typing.get_type_hints(hinted, include_extras=True)


def _model(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], docstring: _Docstring
) -> tuple[type[pydantic.BaseModel], dict[str, str]]:
    """A model of the parameters, whose fields have names of ours: a parameter may be called as Pydantic's own are."""
    fields = {parameter: f"p{index}" for index, parameter in enumerate(parameters)}
    open_ended = any(parameter.kind is _VAR_KEYWORD for parameter in parameters.values())
    config = pydantic.ConfigDict(extra="allow" if open_ended else "forbid", arbitrary_types_allowed=False)
    definitions: dict[str, Any] = {
        fields[key]: _field(parameter, adapt_type(hints.get(key, Any)), docstring.of.get(key))
        for key, parameter in parameters.items()
        if parameter.kind is not _VAR_KEYWORD
    }
    try:
        model = pydantic.create_model(name, __config__=config, **definitions)
        _json_schema(model)
    except pydantic.PydanticUserError as error:
        raise TypeError(f"No schema can be made of the parameters of {name}: {error.message}") from error
    return model, fields


def _json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Its schema; a default that JSON cannot say is not shown, and holds all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        return model.model_json_schema()


def _field(parameter: inspect.Parameter, hint: Any, text: str | None) -> tuple[Any, Any]:
    """A parameter's type and its field; a word in ``Annotated`` describes it where the docstring does not."""
    extras: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    text = text or next((extra for extra in extras if isinstance(extra, str)), None)
    default = ... if parameter.default is parameter.empty else parameter.default
    if parameter.kind is _VAR_POSITIONAL:
        return list[hint], pydantic.Field([], alias=parameter.name, description=text)
    described: dict[str, Any] = {"description": text} if text else {}
    return hint, pydantic.Field(default, alias=parameter.name, **described)


def _admits_none(model: type[pydantic.BaseModel], field: str) -> bool:
    hint: Any = model.model_fields[field].annotation
    try:
        pydantic.TypeAdapter(hint).validate_python(None)
    except pydantic.ValidationError:
        return False
    return True


def _describe_errors(error: pydantic.ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults)
