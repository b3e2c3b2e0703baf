"""Antiphon: a self-hosted Responses API for models of your own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiphon.client import Antiphon, AsyncAntiphon, AsyncOpenAI, EngineError, OpenAI

__version__ = "0.1.0"

__all__ = ["Antiphon", "AsyncAntiphon", "AsyncOpenAI", "EngineError", "OpenAI", "__version__"]


def __getattr__(name: str) -> object:
    """The clients, brought in when they are first named: the server has no use for them."""
    if name in __all__:
        return getattr(importlib.import_module("antiphon.client"), name)
    raise AttributeError(f"module 'antiphon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
