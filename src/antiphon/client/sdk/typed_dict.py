"""``admitted``: a type as Pydantic takes it on every Python.

Pydantic refuses ``typing.TypedDict`` before Python 3.12, where it does not say which keys are required; the same type
is made anew with ``typing_extensions``, also where it stands inside another type.
"""

from __future__ import annotations

import sys
import types
import typing
from typing import Any, get_args, get_origin

import typing_extensions


def adapt_type(kind: Any) -> Any:
    """The type itself, or one equal to it that Pydantic takes."""
    return kind if sys.version_info >= (3, 12) else _adapt(kind, {})


def _adapt(kind: Any, remade: dict[Any, Any]) -> Any:
    if typing_extensions.is_typeddict(kind):
        return _remake(kind, remade)
    arguments = get_args(kind)
    if not arguments or get_origin(kind) is typing.Literal:
        return kind
    changed = tuple(_adapt(argument, remade) for argument in arguments)
    if changed == arguments:
        return kind
    if isinstance(kind, types.UnionType):
        return typing.Union[changed]  # noqa: UP007 - built, not written
    if get_origin(kind) is typing.Annotated:
        return typing.Annotated[(changed[0], *kind.__metadata__)]
    return kind.copy_with(changed) if hasattr(kind, "copy_with") else get_origin(kind)[changed]


def _remake(kind: Any, remade: dict[Any, Any]) -> Any:
    """Made anew if it is ``typing``'s own. A recursive one refers to itself by name, which Pydantic resolves."""
    if type(kind).__module__ != "typing":
        return kind
    if kind not in remade:
        remade[kind] = kind  # a type that leads back to itself stays what it is there
        hints = typing_extensions.get_type_hints(kind, include_extras=True)
        keys = {
            name: _mark_key(_adapt(_strip_marker(hint), remade), name in kind.__required_keys__)
            for name, hint in hints.items()
        }
        remade[kind] = typing_extensions.TypedDict(kind.__name__, keys)  # pyright: ignore
        remade[kind].__doc__ = kind.__doc__
        remade[kind].__module__ = kind.__module__
    return remade[kind]


def _strip_marker(hint: Any) -> Any:
    """Without the ``Required`` or ``NotRequired`` around it."""
    marked = get_origin(hint) in (typing_extensions.Required, typing_extensions.NotRequired)
    return get_args(hint)[0] if marked else hint


def _mark_key(hint: Any, required: bool) -> Any:
    return typing_extensions.Required[hint] if required else typing_extensions.NotRequired[hint]
