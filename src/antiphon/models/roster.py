"""Which model answers to which name, where an upstream server lists its own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from antiphon.models import Model
from antiphon.wire.errors import ApiError, InvalidRequest

_FRESH_S = 60.0
_ASK_AGAIN_S = 1.0


def not_found(name: str) -> InvalidRequest:
    """The documented error for a model that nobody has."""
    return InvalidRequest(f"The requested model '{name}' does not exist.", code="model_not_found", param="model")


class UpstreamModels:
    """The models that a server lists, asked again when an unknown name comes or the list is a minute old.

    Args:
        fetch: asks the server for its model names.
        make: the model of one name.
        aliases: names of ours for names of the server's.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Sequence[str]]],
        make: Callable[[str], Model],
        aliases: Mapping[str, str],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._fetch = fetch
        self._make = make
        self._aliases = aliases
        self._close = close
        self._models: dict[str, Model] = {}
        self._asked = -_FRESH_S

    async def find(self, name: str) -> Model:
        """See ``Roster.find``."""
        real = self._aliases.get(name, name)
        if real not in self._models or time.monotonic() - self._asked > _FRESH_S:
            await self._refresh(needed=real not in self._models)
        if real not in self._models:
            raise not_found(name)
        return self._models[real]

    async def names(self) -> Sequence[str]:
        """The server's own names and our aliases of them."""
        await self._refresh(needed=not self._models)
        return [*self._models, *(alias for alias, real in self._aliases.items() if real in self._models)]

    async def ready(self) -> bool:
        """Whether the server lists its models."""
        try:
            await self._refresh(needed=True)
        except ApiError:
            return False
        return bool(self._models)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._close()

    async def _refresh(self, *, needed: bool) -> None:
        if time.monotonic() - self._asked < _ASK_AGAIN_S:
            return
        try:
            names = await self._fetch()
        except ApiError:
            if needed:
                raise
            return
        self._asked = time.monotonic()
        self._models = {name: self._models.get(name) or self._make(name) for name in names}
