"""Who writes to which conversation, for stores that one process owns: the claims end with it."""

from __future__ import annotations

from antiphon.store import Claim, ConversationLocked
from antiphon.wire import Id


class Claims:
    """All claims of one store. Belongs to one event loop, which makes a look and a change one step."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Id], Claim] = {}

    def take(self, owner: str, id: Id) -> Claim:
        """Claim the conversation.

        Raises:
            ConversationLocked: it is claimed already.
        """
        key = (owner, id)
        if key in self._held:
            raise ConversationLocked(id)
        claim = self._held[key] = _Held(self._held, key)
        return claim


class _Held:
    """A claim until it is released; a later one of the same conversation is another object."""

    def __init__(self, held: dict[tuple[str, Id], Claim], key: tuple[str, Id]) -> None:
        self._held = held
        self._key = key

    async def release(self) -> None:
        """See ``Claim.release``."""
        if self._held.get(self._key) is self:
            del self._held[self._key]
