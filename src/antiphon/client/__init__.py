"""The official clients, over HTTP or with the whole engine in this process."""

from antiphon.client.clients import Antiphon, AsyncAntiphon, AsyncOpenAI, OpenAI
from antiphon.client.host import EngineError

__all__ = ["Antiphon", "AsyncAntiphon", "AsyncOpenAI", "EngineError", "OpenAI"]
