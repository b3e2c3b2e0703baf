"""Which model answers to which name, where an upstream server lists its own."""

from __future__ import annotations

import asyncio
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
        fetch: asks the server for its model names; None where it lists none, and any may be its.
        make: the model of one name.
        aliases: names of ours for names of the server's.
        fallback: the name whose model answers for names that nobody has; empty for none.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Sequence[str] | None]],
        make: Callable[[str], Model],
        aliases: Mapping[str, str],
        close: Callable[[], Awaitable[None]],
        fallback: str = "",
    ) -> None:
        self._fetch = fetch
        self._make = make
        self._aliases = aliases
        self._close = close
        self._fallback = aliases.get(fallback, fallback)
        self._models: dict[str, Model] = {}
        self._lists = True
        self._asked = -_FRESH_S
        self._refreshing: asyncio.Task[None] | None = None
        self._failure: ApiError | None = None

    async def find(self, name: str) -> Model:
        """See ``Roster.find``. A name that is known is answered at once, also while the list is old."""
        real = self._aliases.get(name, name)
        if real not in self._models:
            await self._refresh_once()
        elif time.monotonic() - self._asked > _FRESH_S:
            self._refresh()
        if real in self._models:
            return self._models[real]
        if self._failure is None and not self._lists:
            return self._make(real)
        if self._failure is not None or self._fallback not in self._models:
            raise self._failure or not_found(name)
        return self._models[self._fallback]

    async def names(self) -> Sequence[str]:
        """The server's own names and our aliases of them."""
        await self._refresh_once()
        if self._failure is not None and not self._models:
            raise self._failure
        return [*self._models, *(alias for alias, real in self._aliases.items() if real in self._models)]

    async def ready(self) -> bool:
        """Whether the server lists its models now."""
        await self._refresh_once()
        return self._failure is None and (bool(self._models) or not self._lists)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._close()

    async def _refresh_once(self) -> None:
        """Asks the server, at most once a second and once for all who wait."""
        if self._refreshing is not None or time.monotonic() - self._asked > _ASK_AGAIN_S:
            await asyncio.shield(self._refresh())

    def _refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._ask())
        return self._refreshing

    async def _ask(self) -> None:
        try:
            names = await self._fetch()
            self._lists = names is not None
            self._models = {name: self._models.get(name) or self._make(name) for name in names or ()}
            self._failure = None
        except ApiError as error:
            self._failure = error
        finally:
            self._asked = time.monotonic()
            self._refreshing = None
