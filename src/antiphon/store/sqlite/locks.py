"""Who writes to which conversation, for a store that one process owns: the locks end with it."""

from __future__ import annotations

from antiphon.store.conversations import ConversationLock
from antiphon.store.errors import ConversationLocked
from antiphon.wire import Id


class Locks:
    """All locks of one store. Belongs to one event loop, which makes a look and a change one step."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Id], ConversationLock] = {}

    def take(self, project: str, id: Id) -> ConversationLock:
        """Lock the conversation.

        Raises:
            ConversationLocked: it is locked already.
        """
        key = (project, id)
        if key in self._held:
            raise ConversationLocked(id)
        lock = self._held[key] = _Held(self._held, key)
        return lock


class _Held:
    """A lock until it is released; a later one of the same conversation is another object."""

    def __init__(self, held: dict[tuple[str, Id], ConversationLock], key: tuple[str, Id]) -> None:
        self._held = held
        self._key = key

    async def release(self) -> None:
        """See ``ConversationLock.release``."""
        if self._held.get(self._key) is self:
            del self._held[self._key]
